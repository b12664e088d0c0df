"""Whatever happens on the way: one key per logical call, at most one effect, and one where the caller saw success; an
error says what may have happened. So it is too where the server is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import OutcomeUnknown
from resilient.core.outcome import Evidence
from tests.adapters.grpc_sides import Client, Code, Server, both, policies, report

CODES = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.ABORTED)
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Ledger:
    """A server that does a thing, or once per key, and then says something else."""

    def __init__(self, server: Server, *, honours: bool) -> None:
        self.done: list[str] = []
        self.keys: set[str] = set()
        self._server = server
        self._honours = honours

    def schedule(self, faults: list[tuple[bool, Code]], kind: str) -> None:
        self._server.steps["Place"] = [
            *(self._step(done, code) for done, code in faults),
            *[self._step(True, None)] * 3,
        ]

    def _step(self, done: bool, code: Code | None) -> Any:
        def run(context: grpc.ServicerContext) -> None:
            key = dict(context.invocation_metadata())["idempotency-key"]
            self.keys.add(key)
            if done and not (self._honours and key in self.done):
                self.done.append(key)
            if code is not None:
                context.abort(code, "as told")

        return run


# RESOURCE_EXHAUSTED says that nothing was done: a server that did it all the same does not say that.
faults = st.lists(
    st.tuples(st.booleans(), st.sampled_from(CODES)).filter(
        lambda each: not (each[0] and each[1] is Code.RESOURCE_EXHAUSTED)
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def server() -> Any:
    with Server() as running:
        yield running


@both
@pytest.mark.parametrize("honours", [True, False])
def test_for_any_schedule_of_faults(mode: str, honours: bool, server: Server) -> None:
    profile = "supported" if honours else "unknown"
    with Client(mode, server.port, profile=profile, policies=policies(attempts=3)) as client:

        @settings(max_examples=60)
        @given(faults=faults, kind=st.sampled_from(KINDS))
        def check(faults: list[tuple[bool, Code]], kind: str) -> None:
            ledger = Ledger(server, honours=honours)
            ledger.schedule(faults, kind)
            server.calls.clear()
            request = [b"a"] if kind.startswith("stream") else b"a"
            error: Any = None
            try:
                client("Place", request, kind=kind)
            except grpc.RpcError as exc:
                error = exc
            if error is None:
                assert len(ledger.done) == 1
            else:
                assert len(ledger.done) <= 1
                evidence = report(error).evidence
                if evidence.proves_nothing_happened:
                    assert ledger.done == []
                if evidence is Evidence.UNKNOWN and error.code() in (
                    Code.UNAVAILABLE,
                    Code.DEADLINE_EXCEEDED,
                ):
                    assert isinstance(error, OutcomeUnknown)
                    assert {error.idempotency_key} == ledger.keys
            assert len(ledger.keys) == 1
            assert server.count("Place") <= 3

        check()


SERVER = """
    import os, signal, sys
    from concurrent import futures
    import grpc

    ledger, when = sys.argv[1], sys.argv[2]

    def place(request, context):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        with open(ledger, "a") as file:
            print(dict(context.invocation_metadata())["idempotency-key"], file=file)
        if when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return b"ok"

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(place)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[3]}")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()
"""


class Process:
    """A server in a process of its own."""

    def __init__(self, ledger: Path, when: str, port: int = 0) -> None:
        command = [sys.executable, "-c", textwrap.dedent(SERVER), str(ledger), when, str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@both
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_is_killed(mode: str, when: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    server = Process(ledger, when)
    try:
        with Client(mode, server.port) as client, pytest.raises(OutcomeUnknown) as raised:
            client("Place")
        done = ledger.read_text().split()
        assert done == ([] if when == "before" else [raised.value.idempotency_key])
        assert raised.value.attempts == 1
    finally:
        server.stop()


@both
def test_a_server_that_is_gone_and_comes_back(mode: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    first = Process(ledger, "never")
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
    with Client(mode, first.port, options=options) as client:
        assert client("Place") == b"ok"
        first.stop()
        with pytest.raises(grpc.RpcError) as raised:
            client("Place")
        assert raised.value.code() is Code.UNAVAILABLE
        before = len(ledger.read_text().split())
        assert before == 1
        second = Process(ledger, "never", first.port)
        try:
            assert client("Place", wait_for_ready=True) == b"ok"
            assert len(ledger.read_text().split()) == before + 1
        finally:
            second.stop()
