"""What a call of the sync API gives its caller works as that of a bare channel; and what is let go leaves nothing."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

import resilient.grpc
from resilient import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    OutcomeUnknown,
    Pipeline,
    Retry,
    Timeout,
)
from resilient.core.call import CURRENT, put_back
from resilient.core.outcome import Evidence
from resilient.grpc import connection
from resilient.grpc.logical import PATIENCE, Rpc, _Details
from resilient.testing import ManualClock
from tests.adapters.grpc_sides import Client, Code, Server, faulty, nobody, policies, report, silence

bare_or_not = pytest.mark.parametrize("bare", [True, False], ids=["bare", "ours"])
THREADS = "resilient-grpc-"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(5)
            assert not thread.is_alive()


class Gate:
    """Holds a call at the server until it is let go, or its caller is gone.

    Attributes:
        gone: the server learned that its caller is.
    """

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.gone = threading.Event()

    def __call__(self, context: grpc.ServicerContext) -> None:
        context.add_callback(self._over)
        self.entered.set()
        self.open.wait(10)

    def _over(self) -> None:
        self.gone.set()
        self.open.set()


def say(context: grpc.ServicerContext) -> None:
    context.send_initial_metadata((("x-head", "1"),))
    context.set_trailing_metadata((("x-tail", "2"),))


def has(metadata: Any, key: str, value: str) -> bool:
    return (key, value) in [tuple(each) for each in metadata]


@bare_or_not
@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
def test_with_call(bare: bool, kind: str) -> None:
    with Server() as server, Client("sync", server.port, bare=bare) as client:
        server.steps["Get"] = [say]
        get = getattr(client.channel, kind)(f"/shop.{kind}/Get")
        answer, call = get.with_call(iter([b"x"]) if kind.startswith("stream") else b"x", timeout=5)
        assert answer == b"x"
        assert call.code() is Code.OK
        assert has(call.initial_metadata(), "x-head", "1")
        assert has(call.trailing_metadata(), "x-tail", "2")


@bare_or_not
@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
def test_a_future(bare: bool, kind: str) -> None:
    with Server() as server, Client("sync", server.port, bare=bare) as client:
        gate = Gate()
        server.steps["Get"] = [lambda context: (say(context), gate(context))]  # type: ignore[list-item, func-returns-value]  # both are to be called
        get = getattr(client.channel, kind)(f"/shop.{kind}/Get")
        future = get.future(iter([b"x"]) if kind.startswith("stream") else b"x", timeout=5)
        assert gate.entered.wait(5)
        assert future.running()
        assert future.is_active()
        assert not future.done()
        assert not future.cancelled()
        assert 0 < future.time_remaining() <= 5.01
        with pytest.raises(grpc.FutureTimeoutError):
            future.result(timeout=0.01)
        with pytest.raises(grpc.FutureTimeoutError):
            future.exception(timeout=0.01)
        told: list[Any] = []
        over = threading.Event()
        future.add_done_callback(told.append)
        assert future.add_callback(over.set)
        gate.open.set()
        assert future.result(timeout=5) == b"x"
        assert future.exception() is None
        assert future.traceback() is None
        assert (future.code(), future.done(), future.running()) == (Code.OK, True, False)
        assert not future.is_active()
        assert has(future.initial_metadata(), "x-head", "1")
        assert has(future.trailing_metadata(), "x-tail", "2")
        assert over.wait(5)
        assert told == [future]
        future.add_done_callback(told.append)
        assert told == [future, future]
        assert not future.add_callback(over.set)
        assert not future.cancel()


@bare_or_not
def test_a_future_that_fails(bare: bool) -> None:
    with Server() as server, Client("sync", server.port, bare=bare) as client:

        def fail(context: grpc.ServicerContext) -> None:
            say(context)
            context.abort(Code.NOT_FOUND, "no such order")

        server.steps["Get"] = [fail]
        future = client.channel.unary_unary("/shop.unary_unary/Get").future(b"x")
        with pytest.raises(grpc.RpcError, match="no such order") as raised:
            future.result(timeout=5)
        assert raised.value.code() is Code.NOT_FOUND
        assert future.exception().code() is Code.NOT_FOUND
        assert future.traceback() is not None
        assert (future.code(), future.details()) == (Code.NOT_FOUND, "no such order")
        assert has(future.initial_metadata(), "x-head", "1")
        assert has(future.trailing_metadata(), "x-tail", "2")
        assert (future.done(), future.cancelled()) == (True, False)


@bare_or_not
def test_a_future_that_is_cancelled(bare: bool) -> None:
    with Server() as server, Client("sync", server.port, bare=bare) as client:
        gate = Gate()
        server.steps["Get"] = [gate]
        future = client.channel.unary_unary("/shop.unary_unary/Get").future(b"x")
        told: list[Any] = []
        future.add_done_callback(told.append)
        assert gate.entered.wait(5)
        assert future.cancel()
        assert future.cancelled()
        assert future.done()
        assert future.code() is Code.CANCELLED
        with pytest.raises(grpc.FutureCancelledError):
            future.result(timeout=5)
        with pytest.raises(grpc.FutureCancelledError):
            future.exception(timeout=5)
        assert gate.gone.wait(5)
        assert server.count("Get") == 1


@bare_or_not
def test_a_future_that_is_dropped_is_cancelled(bare: bool) -> None:
    with Server() as server, Client("sync", server.port, bare=bare) as client:
        gate = Gate()
        server.steps["Get"] = [gate]
        future = client.channel.unary_unary("/shop.unary_unary/Get").future(b"x")
        assert gate.entered.wait(5)
        del future
        gc.collect()
        assert gate.gone.wait(5)


@bare_or_not
@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_a_stream(bare: bool, kind: str) -> None:
    with Server() as server, Client("sync", server.port, bare=bare) as client:
        server.steps["Get"] = [say]
        get = getattr(client.channel, kind)(f"/shop.{kind}/Get")
        stream = get(iter([b"1", b"2", b"x"]) if kind.startswith("stream") else b"x", timeout=5)
        assert has(stream.initial_metadata(), "x-head", "1")
        assert next(stream) == b"1"
        assert not stream.done()
        assert stream.is_active()
        assert list(stream) == [b"2", b"x"]
        assert stream.code() is Code.OK
        assert has(stream.trailing_metadata(), "x-tail", "2")
        assert stream.done()
        with pytest.raises(StopIteration):
            next(stream)


@bare_or_not
def test_a_stream_whose_first_answer_is_not_read_runs_all_the_same(bare: bool) -> None:
    with Server() as server, Client("sync", server.port, bare=bare) as client:
        gate = Gate()
        server.steps["Watch"] = [gate]
        stream = client.channel.unary_stream("/shop.unary_stream/Watch")(b"x")
        assert gate.entered.wait(5)
        gate.open.set()
        assert list(stream) == [b"1", b"2", b"x"]


@bare_or_not
@pytest.mark.parametrize("read", [0, 1])
def test_a_stream_that_is_cancelled(bare: bool, read: int) -> None:
    gate = Gate()

    class Slow(grpc.GenericRpcHandler):  # type: ignore[misc]  # the stubs know it as untyped
        def service(self, details: Any) -> Any:
            def many(request: bytes, context: Any) -> Iterator[bytes]:
                if read:
                    yield b"1"
                gate(context)

            return grpc.unary_stream_rpc_method_handler(many)

    with Server() as server, Client("sync", server.port, bare=bare) as client:
        server.service = lambda details: None  # type: ignore[method-assign]  # the other handler is asked then
        server._server.add_generic_rpc_handlers((Slow(),))
        stream = client.channel.unary_stream("/shop.Slow/Watch")(b"x")
        assert [next(stream) for _ in range(read)] == [b"1"] * read
        assert gate.entered.wait(5)
        assert stream.cancel()
        assert stream.cancelled()
        assert stream.code() is Code.CANCELLED
        with pytest.raises(grpc.RpcError) as raised:
            next(stream)
        assert raised.value.code() is Code.CANCELLED
        assert gate.gone.wait(5)


@bare_or_not
def test_a_conversation_in_which_each_message_hangs_on_the_answer_before(bare: bool) -> None:
    heard: list[bytes] = []
    turn = threading.Semaphore(1)

    def ask() -> Iterator[bytes]:
        for number in range(5):
            assert turn.acquire(timeout=5)
            yield b"%d" % number

    with Server() as server, Client("sync", server.port, bare=bare) as client:
        for answer in client.channel.stream_stream("/shop.stream_stream/Talk")(ask()):
            heard.append(answer)
            turn.release()
    assert heard == [b"0", b"1", b"2", b"3", b"4"]


# ----------------------------------------------------------------------------------------------- what is let go of
def test_whoever_cancels_during_a_backoff_gets_his_way_at_once() -> None:
    bulkhead = Bulkhead(1)
    of = Pipeline(Timeout(30.0), Retry(3, wait=0.2), bulkhead, name="svc")
    with (
        Server() as server,
        Client("sync", server.port, policies=of, idempotent={"/shop.unary_unary/Get"}) as client,
    ):
        failed = threading.Event()

        def fail(context: grpc.ServicerContext) -> None:
            failed.set()
            context.abort(Code.UNAVAILABLE, "not now")

        server.steps["Get"] = [fail]
        future = client.channel.unary_unary("/shop.unary_unary/Get").future(b"x")
        assert failed.wait(5)
        assert future.cancel()
        assert future.done()
        for thread in threading.enumerate():
            if thread.name.startswith(THREADS):
                thread.join(5)
        assert server.count("Get") == 1
        assert bulkhead.in_flight == 0


@pytest.mark.parametrize("let_go", ["cancel", "drop", "close"])
def test_no_permit_is_lost(let_go: str) -> None:
    bulkhead = Bulkhead(50)
    with Server() as server:
        with Client("sync", server.port, policies=policies(bulkhead)) as client:
            watch = client.channel.unary_stream("/shop.unary_stream/Watch")
            get = client.channel.unary_unary("/shop.unary_unary/Get")
            held: list[Any] = []
            for number in range(30):
                held.append(watch(b"x") if number % 2 else get.future(b"x"))
                if number % 3 == 0 and number % 2:
                    next(held[-1])
            if let_go == "close":
                client.channel.close()
            for each in held:
                if let_go == "cancel":
                    each.cancel()
            del each
            held.clear()
            gc.collect()
            for thread in threading.enumerate():
                if thread.name.startswith(THREADS):
                    thread.join(5)
        until = time.monotonic() + 5
        while bulkhead.in_flight and time.monotonic() < until:
            threading.Event().wait(0.005)
        assert bulkhead.in_flight == 0


def test_a_fallback_is_a_call_that_is_over() -> None:
    of = Pipeline(Fallback(b"stale"), Retry(1), name="svc")
    with Server() as server, Client("sync", server.port, policies=of) as client:
        server.steps["Get"] = [Code.INTERNAL] * 2
        get = client.channel.unary_unary("/shop.unary_unary/Get")
        answer, call = get.with_call(b"x")
        assert (answer, call.code(), call.details(), call.trailing_metadata()) == (b"stale", Code.OK, "", ())
        future = get.future(b"x")
        assert (future.result(), future.exception(), future.code()) == (b"stale", None, Code.OK)
        assert (future.done(), future.cancel(), future.cancelled()) == (True, False, False)


def test_the_context_of_the_caller_goes_with_a_future() -> None:
    with Server() as server, Client("sync", server.port) as client:
        with resilient.criticality("sheddable"):
            future = client.channel.unary_unary("/shop.unary_unary/Get").future(b"x")
        assert future.result() == b"x"
        assert server.calls["Get"][0][0]["resilient-criticality"] == "sheddable"


def test_interceptors_inside_see_attempts_and_those_outside_calls() -> None:
    class Counting(grpc.UnaryUnaryClientInterceptor):
        def __init__(self) -> None:
            self.seen = 0

        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            self.seen += 1
            return continuation(client_call_details, request)

    inside, outside = Counting(), Counting()
    ours = resilient.grpc.interceptor("svc", policies=policies(), idempotent={"/shop.unary_unary/Get"})
    with Server() as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as plain:
        channel = grpc.intercept_channel(plain, outside, ours, inside)
        server.steps["Get"] = [Code.UNAVAILABLE] * 2
        assert channel.unary_unary("/shop.unary_unary/Get")(b"x") == b"x"
        assert channel.unary_unary("/shop.unary_unary/Get").future(b"x").result() == b"x"
    assert (outside.seen, inside.seen, server.count("Get")) == (2, 4, 4)


@pytest.mark.parametrize("by", ["call", "with_call", "future"])
def test_interceptors_outside_are_given_what_failed_as_a_call(by: str) -> None:
    # One that measures, like OpenTelemetry's, asks it for its code, and gives it back for gRPC to ask for its result.
    told: list[Any] = []

    class Measuring(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            call = continuation(client_call_details, request)
            call.add_done_callback(lambda over: told.append(over.code()))
            return call

    of = policies(breaker := CircuitBreaker())
    breaker.force_open()
    ours = resilient.grpc.interceptor("svc", policies=of)
    with Server() as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as plain:
        get = grpc.intercept_channel(plain, Measuring(), ours).unary_unary("/shop.unary_unary/Get")
        with pytest.raises(CircuitOpen) as raised:
            if by == "call":
                get(b"x")
            elif by == "with_call":
                get.with_call(b"x")
            else:
                get.future(b"x").result()
        error: Any = raised.value
        assert told == [Code.UNAVAILABLE]
        assert (error.exception(), error.done(), error.running(), error.cancelled()) == (
            error,
            True,
            False,
            False,
        )
        assert error.traceback() is error.__traceback__
        assert not error.cancel()


def test_an_interceptor_inside_that_gives_a_future_which_is_cancelled() -> None:
    class Cancelling(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            future = plain.unary_unary("/shop.unary_unary/Get").future(request)
            future.cancel()
            return future

    bulkhead = Bulkhead(1)
    ours = resilient.grpc.interceptor("svc", policies=policies(bulkhead))
    with faulty(silence) as (port, _), grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        get = grpc.intercept_channel(plain, ours, Cancelling()).unary_unary("/shop.unary_unary/Get")
        with pytest.raises(grpc.FutureCancelledError):
            get(b"x")
        assert bulkhead.in_flight == 0


def test_a_future_that_is_dropped_takes_no_lock() -> None:
    # The collector may come at any time, also while this thread settles the call.
    with faulty(silence) as (port, did), Client("sync", port) as client:
        future = client.channel.unary_unary("/shop.unary_unary/Get").future(b"x")
        until = time.monotonic() + 5
        while not did and time.monotonic() < until:
            threading.Event().wait(0.005)
        progress = future._progress

        def drop() -> None:
            nonlocal future
            with progress._lock:
                del future

        dropping = threading.Thread(target=drop, daemon=True)
        dropping.start()
        dropping.join(5)
        assert not dropping.is_alive()
        assert progress.wait(5)


def test_an_interceptor_inside_that_gives_a_generator() -> None:
    class Upper(grpc.UnaryStreamClientInterceptor):
        def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            yield from continuation(client_call_details, request)

    bulkhead = Bulkhead(1)
    ours = resilient.grpc.interceptor(
        "svc", policies=policies(bulkhead), idempotent={"/shop.unary_stream/Get"}
    )
    with Server() as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as plain:
        get = grpc.intercept_channel(plain, ours, Upper()).unary_stream("/shop.unary_stream/Get")
        server.steps["Get"] = [Code.UNAVAILABLE]
        assert list(get(b"x")) == [b"1", b"2", b"x"]
        stream = get(b"x")
        assert next(stream) == b"1"
        assert bulkhead.in_flight == 1
        del stream
        assert bulkhead.in_flight == 0


def test_who_outside_gives_details_of_his_own_is_understood() -> None:
    class Details(grpc.ClientCallDetails):
        method = "/shop.unary_unary/Get"
        timeout = 5.0
        metadata = (("x-own", "1"),)

    class Own(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            return continuation(Details(), request)

    ours = resilient.grpc.interceptor("svc", policies=policies())
    with Server() as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as plain:
        channel = grpc.intercept_channel(plain, Own(), ours)
        assert channel.unary_unary("/shop.unary_unary/Get")(b"x") == b"x"
        metadata, left = server.calls["Get"][0]
        assert metadata["x-own"] == "1"
        assert left is not None
        assert left <= 5.01


# ------------------------------------------------------------------------------------------- the connection
def test_an_interceptor_alone_cannot_know_that_nothing_was_sent() -> None:
    ours = resilient.grpc.interceptor("svc", policies=policies())
    with nobody() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as plain:
        with pytest.raises(OutcomeUnknown) as raised:
            grpc.intercept_channel(plain, ours).unary_unary("/shop.unary_unary/Place")(b"x")
        assert report(raised.value).attempts == 1
        assert report(raised.value).evidence is Evidence.UNKNOWN


def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    server = Server()
    port = server.port
    server._server.stop(0).wait()
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
    with Client("sync", port, options=options) as client:
        with pytest.raises(grpc.RpcError, match="nothing was sent"):
            client("Place")
        again = grpc.server(futures.ThreadPoolExecutor(2))
        again.add_generic_rpc_handlers((server,))
        assert again.add_insecure_port(f"127.0.0.1:{port}") == port
        again.start()
        try:
            assert client("Place", wait_for_ready=True) == b"x"
            assert server.count("Place") == 1
        finally:
            again.stop(0).wait()


@pytest.mark.parametrize(
    ("wait_for_ready", "timeout", "seconds"),
    [(None, None, 1.0), (None, 0.4, 0.4), (True, 7.0, 7.0), (True, 0.4, 0.4), (True, None, PATIENCE)],
)
def test_how_long_a_connection_is_waited_for(
    wait_for_ready: bool | None, timeout: float | None, seconds: float
) -> None:
    dependency = resilient.grpc.interceptor("svc", clock=ManualClock()).dependency  # connects within 1 s
    rpc = Rpc(
        None, _Details("/shop.Orders/Place", timeout, wait_for_ready=wait_for_ready), b"", streams=False
    )  # type: ignore[arg-type]  # nothing is sent
    token = CURRENT.set(dependency.prepare(rpc))
    try:
        assert dependency.patience(rpc) == (seconds, bool(wait_for_ready))
    finally:
        put_back(token)


def test_whoever_cancels_while_there_is_no_connection_sends_nothing() -> None:
    asked = threading.Event()
    state = connection.State.TRANSIENT_FAILURE

    class Core:
        def check_connectivity_state(self, try_to_connect: bool) -> int:
            asked.set()
            return int(state.value[0])

    bulkhead = Bulkhead(1)
    with Server() as server, Client("sync", server.port, policies=policies(bulkhead)) as client:
        interceptor = client.channel._interceptor
        interceptor.dependency.connection = connection.SyncConnection(Core())
        future = client.channel.unary_unary("/shop.unary_unary/Place").future(b"x", wait_for_ready=True)
        assert asked.wait(5)
        assert bulkhead.in_flight == 1
        assert future.cancel()
        for thread in threading.enumerate():
            if thread.name.startswith(THREADS):
                thread.join(5)
                assert not thread.is_alive()
        assert bulkhead.in_flight == 0
        state = connection.READY
        client("Other")
        assert server.count("Place") == 0


def test_the_deadline_ends_the_wait_for_a_connection() -> None:
    with nobody() as port, Client("sync", port) as client:
        with pytest.raises(resilient.DeadlineExceeded) as raised:
            client("Place", wait_for_ready=True, timeout=0.2)
        assert report(raised.value).evidence is Evidence.NOT_SENT


def test_a_channel_that_was_instrumented_is_asked_all_the_same() -> None:
    plain = grpc.insecure_channel("127.0.0.1:1")
    wrapped = grpc.intercept_channel(plain, resilient.grpc.interceptor("svc", policies=policies()))
    assert connection.core_of(plain) is connection.core_of(wrapped) is not None
    assert connection.core_of(object()) is None
    plain.close()


def test_where_the_core_is_not_found_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilient.grpc, "core_of", lambda channel: None)
    with nobody() as port, Client("sync", port) as client, pytest.raises(OutcomeUnknown):
        client("Place")


def test_ctrl_c_while_an_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bulkhead = Bulkhead(1)
    with faulty(silence) as (port, _), Client("sync", port, policies=policies(bulkhead)) as client:

        def press(*args: object) -> None:
            raise KeyboardInterrupt

        old = signal.signal(signal.SIGALRM, press)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with pytest.raises(KeyboardInterrupt):
                client("Place")
        finally:
            signal.signal(signal.SIGALRM, old)
        assert bulkhead.in_flight == 0
