"""What the tests of gRPC share: a client for both APIs, a server that does what it is told, and one that breaks off."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any, Self

import grpc
import grpc.aio
import h2.config
import h2.connection
import h2.events
import pytest

import resilient.grpc
from resilient import Budget, Pipeline, Policy, Retry, Timeout
from resilient.core.outcome import Report, report_of

Code = grpc.StatusCode
both = pytest.mark.parametrize("mode", ["sync", "async"])
kinds = pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])


def policies(
    *more: Policy, attempts: int = 3, total: float = 10.0, attempt: float | None = None, name: str = "svc"
) -> Pipeline:
    """A total time-out, retries that hardly wait, and a time-out for each attempt where asked."""
    budget = Budget(ratio=10.0, floor=1000.0, stock=1_000_000)
    inner: list[Policy] = [] if attempt is None else [Timeout(attempt)]
    retry = Retry(attempts, wait=0, idempotent=False, budget=budget)
    return Pipeline(Timeout(total), retry, *more, *inner, name=name)


def report(exc: BaseException) -> Report:
    """The report on an error."""
    found = report_of(exc)
    assert found is not None
    return found


class Client:
    """A channel of either API; calls wait for all that comes."""

    def __init__(self, mode: str, target: str | int, *, bare: bool = False, **given: Any) -> None:
        self.mode = mode
        target = f"127.0.0.1:{target}" if isinstance(target, int) else target
        self._runner = asyncio.Runner() if mode == "async" else None
        if not bare:
            given.setdefault("policies", policies())
        if self._runner is None:
            make: Any = grpc.insecure_channel if bare else resilient.grpc.channel
            self.channel = make(target, **given) if bare else make("svc", target, **given)
        else:

            async def made() -> Any:
                if bare:
                    return grpc.aio.insecure_channel(target, **given)
                return resilient.grpc.async_channel("svc", target, **given)

            try:
                self.channel = self._runner.run(made())
            except BaseException:
                self._runner.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._runner is None:
            self.channel.close()
        else:
            self._runner.run(self.channel.close(None))
            self._runner.close()

    def __call__(self, name: str, request: Any = b"x", *, kind: str = "unary_unary", **given: Any) -> Any:
        """The answer, or a list of them."""
        callable_ = getattr(self.channel, kind)(f"/shop.{kind}/{name}")
        if self._runner is None:
            answer = callable_(request, **given)
            return list(answer) if kind.endswith("stream") else answer

        async def call() -> Any:
            made = callable_(request, **given)
            return [each async for each in made] if kind.endswith("stream") else await made

        return self._runner.run(call(), context=contextvars.copy_context())

    def run(self, work: Callable[[Any], Any]) -> Any:
        """For what is of one API alone."""
        assert self._runner is not None
        return self._runner.run(work(self.channel))


Step = grpc.StatusCode | Callable[[grpc.ServicerContext], None] | None


class Server(grpc.GenericRpcHandler):  # type: ignore[misc]  # the stubs know it as untyped
    """A real server. What each call comes to is said beforehand, by the name of its method: a status, or a function of
    the context; then, and where nothing is said, it echoes.

    Attributes:
        calls: metadata and seconds left of each call, by name.
        effects: how often something was done, by key.
        parts: what is answered before the echo where a stream of answers is asked for.
        hears_out: whether all messages are heard before anything is done.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple[dict[str, Any], float | None]]] = {}
        self.effects: Counter[str] = Counter()
        self.steps: dict[str, list[Step]] = {}
        self.parts: tuple[bytes, ...] = (b"1", b"2")
        self.hears_out = False
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((self,))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(0).wait()

    def count(self, name: str) -> int:
        """How many calls came."""
        return len(self.calls.get(name, ()))

    def service(self, handler_call_details: Any) -> Any:
        kind, name = handler_call_details.method.removeprefix("/shop.").split("/")
        streams = kind.startswith("stream")

        def begin(context: Any) -> None:
            metadata = dict(context.invocation_metadata())
            self.calls.setdefault(name, []).append((metadata, context.time_remaining()))
            steps = self.steps.get(name)
            step = steps.pop(0) if steps else None
            if isinstance(step, grpc.StatusCode):
                context.abort(step, "as told")
            if step is not None:
                step(context)
            self.effects[metadata.get("idempotency-key", "no key")] += 1

        def one(request: Any, context: Any) -> bytes:
            request = list(request) if streams and self.hears_out else request
            begin(context)
            return b"".join(request) if streams else bytes(request)

        def many(request: Any, context: Any) -> Iterator[bytes]:
            request = list(request) if streams and self.hears_out else request
            begin(context)
            yield from request if streams else (*self.parts, bytes(request))

        handler = many if kind.endswith("_stream") else one
        return getattr(grpc, f"{kind}_rpc_method_handler")(handler)


# ----------------------------------------------------------------------------------------------- servers that break off
Fault = Callable[["Connection", int], bool]
"""What is done with a request; whether the connection is over."""


class Connection:
    """A connection of a server that speaks just enough HTTP/2."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def serve(self, on_request: Callable[[int], bool]) -> None:
        while data := self.sock.recv(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.StreamEnded) and on_request(event.stream_id):
                    return
            self.flush()


def reset_stream(code: int) -> Fault:
    """RST_STREAM with a code."""

    def fault(connection: Connection, stream: int) -> bool:
        connection.h2.reset_stream(stream, code)
        return False

    return fault


def goaway(last: int, code: int = 0) -> Fault:
    """GOAWAY, and the end of the connection."""

    def fault(connection: Connection, stream: int) -> bool:
        connection.h2.close_connection(code, last_stream_id=last)
        connection.flush()
        return True

    return fault


def close(connection: Connection, stream: int) -> bool:
    """The connection ends without a word."""
    return True


def reset(connection: Connection, stream: int) -> bool:
    """The connection is reset."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return True


def head_then(fault: Fault) -> Fault:
    """The head of an answer, with metadata, and then a fault."""

    def both(connection: Connection, stream: int) -> bool:
        head = [(":status", "200"), ("content-type", "application/grpc"), ("x-begun", "1")]
        connection.h2.send_headers(stream, head)
        connection.flush()
        return fault(connection, stream)

    return both


def trailers(*more: tuple[str, str], status: int = 14) -> Fault:
    """A status without anything before it."""

    def fault(connection: Connection, stream: int) -> bool:
        head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", str(status)), *more]
        connection.h2.send_headers(stream, head, end_stream=True)
        return False

    return fault


def answer(connection: Connection, stream: int) -> bool:
    """An answer, ``ok``."""
    head = [(":status", "200"), ("content-type", "application/grpc")]
    connection.h2.send_headers(stream, head)
    connection.h2.send_data(stream, b"\0\0\0\0\2ok")
    connection.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    return False


def silence(connection: Connection, stream: int) -> bool:
    """Nothing."""
    return False


def no_grpc(connection: Connection, stream: int) -> bool:
    """What a proxy says that lost its upstream."""
    connection.h2.send_headers(stream, [(":status", "503"), ("content-type", "text/plain")], end_stream=True)
    return False


@contextmanager
def faulty(*faults: Fault) -> Iterator[tuple[int, list[Fault]]]:
    """A server that does these, one for each request, the last one again and again; its port, and what it did."""
    listener = socket.create_server(("127.0.0.1", 0))
    did: list[Fault] = []
    open_: list[socket.socket] = []

    def serve(sock: socket.socket) -> None:
        with sock:
            try:
                connection = Connection(sock)

                def on_request(stream: int) -> bool:
                    fault = faults[min(len(did), len(faults) - 1)]
                    did.append(fault)
                    return fault(connection, stream)

                connection.serve(on_request)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            open_.append(sock)
            thread = threading.Thread(target=serve, args=(sock,), daemon=True)
            threads.append(thread)
            thread.start()

    threads: list[threading.Thread] = []
    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1], did
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for sock in open_:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in threads:
            thread.join(5)


@contextmanager
def nobody() -> Iterator[int]:
    """A port on which nobody listens, and nobody else will."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def messages(kind: str, parts: Iterable[bytes] = (b"a", b"b")) -> Any:
    """A request of a kind of RPC, which can be sent again."""
    return list(parts) if kind.startswith("stream") else b"x"


def echoed(kind: str) -> Any:
    """What the server answers to that."""
    return {
        "unary_unary": b"x",
        "unary_stream": [b"1", b"2", b"x"],
        "stream_unary": b"ab",
        "stream_stream": [b"a", b"b"],
    }[kind]
