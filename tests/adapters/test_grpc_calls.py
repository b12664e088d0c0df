"""What the policies do around each kind of RPC: attempts, deadlines, keys, permits, what is caught as what."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import resilient.grpc
from resilient import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Fallback,
    OutcomeUnknown,
    Pipeline,
    PolicyError,
    RateLimit,
    RateLimited,
    Retry,
    TimedOut,
    Timeout,
    When,
    criticality,
    deadline,
)
from resilient.core.outcome import Evidence
from resilient.grpc.assembly import options_of
from resilient.http.profiles import Profile, Signal
from tests.adapters.grpc_sides import (
    Client,
    Code,
    Server,
    both,
    close,
    echoed,
    faulty,
    kinds,
    messages,
    nobody,
    policies,
    report,
    silence,
)

EVERY = lambda method: True  # noqa: E731 - an argument


@both
@kinds
def test_every_kind_is_tried_again(mode: str, kind: str) -> None:
    with Server() as server, Client(mode, server.port, idempotent=EVERY) as client:
        server.steps["Get"] = [Code.UNAVAILABLE, Code.UNAVAILABLE]
        assert client("Get", messages(kind), kind=kind) == echoed(kind)
        assert server.count("Get") == 3


@both
@kinds
def test_every_kind_gives_up(mode: str, kind: str) -> None:
    with Server() as server, Client(mode, server.port, idempotent=EVERY) as client:
        server.steps["Get"] = [Code.UNAVAILABLE] * 3
        with pytest.raises(grpc.RpcError) as raised:
            client("Get", messages(kind), kind=kind)
        assert report(raised.value).attempts == 3
        assert server.count("Get") == 3


@both
@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
def test_a_request_that_can_be_read_once_is_sent_once(mode: str, kind: str) -> None:
    with Server() as server, Client(mode, server.port, idempotent=EVERY) as client:
        assert client("Get", iter([b"a", b"b"]), kind=kind) == echoed(kind)
        server.steps["Put"] = [Code.UNAVAILABLE]
        with pytest.raises(grpc.RpcError) as raised:
            client("Put", iter([b"a", b"b"]), kind=kind)
        assert server.count("Put") == 1
        assert report(raised.value).why_not_retried == "body"


@both
@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
def test_a_request_that_was_not_read_can_be_sent(mode: str, kind: str) -> None:
    def give() -> Iterator[bytes]:
        read.append(True)
        yield b"a"

    read: list[bool] = []
    with nobody() as port, Client(mode, port) as client, pytest.raises(grpc.RpcError) as raised:
        client("Put", give(), kind=kind)
    assert (report(raised.value).evidence, report(raised.value).attempts) == (Evidence.NOT_SENT, 3)
    assert read == []


@both
@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_a_stream_is_not_begun_again_once_it_gave_something(mode: str, kind: str) -> None:
    def break_off(context: grpc.ServicerContext) -> None:
        context.add_callback(lambda: None)

    with Server() as server, Client(mode, server.port, idempotent=EVERY) as client:

        class Broken(grpc.GenericRpcHandler):  # type: ignore[misc]  # the stubs know it as untyped
            def service(self, details: Any) -> Any:
                def many(request: Any, context: Any) -> Iterator[bytes]:
                    server.calls.setdefault("Break", []).append(({}, None))
                    yield b"1"
                    context.abort(Code.UNAVAILABLE, "in the middle")

                return getattr(grpc, f"{kind}_rpc_method_handler")(many)

        server._server.add_generic_rpc_handlers((Broken(),))
        server.service = lambda details: None  # type: ignore[method-assign]  # the other handler is asked then
        with pytest.raises(grpc.RpcError, match="in the middle") as raised:
            client("Break", messages(kind), kind=kind)
        assert not isinstance(raised.value, OutcomeUnknown)
        assert report(raised.value).why_not_retried == "begun"
        assert server.count("Break") == 1


# ------------------------------------------------------------------------------------------------------------ deadlines
@both
def test_the_server_is_told_the_time_of_the_attempt(mode: str) -> None:
    with Server() as server, Client(mode, server.port, policies=policies(attempt=2.0)) as client:
        client("Place")
        client("Place", timeout=0.9)
        with deadline(0.5):
            client("Place")
        left = [seconds or 0.0 for _, seconds in server.calls["Place"]]
        assert 1.5 < left[0] <= 2.01
        assert 0.5 < left[1] <= 0.91
        assert 0.2 < left[2] <= 0.51


@both
@kinds
def test_an_attempt_that_takes_too_long_is_tried_again(mode: str, kind: str) -> None:
    with Server() as server:
        given = {"policies": policies(attempt=0.3), "idempotent": EVERY}
        with Client(mode, server.port, **given) as client:
            gone = threading.Event()
            server.steps["Get"] = [lambda context: gone.wait(5)]  # type: ignore[list-item]  # what it gives is not looked at
            assert client("Get", messages(kind), kind=kind) == echoed(kind)
            gone.set()
        assert server.count("Get") == 2


@both
@kinds
@pytest.mark.parametrize("by", ["attempt", "total", "caller", "scope"])
def test_time_that_runs_out(mode: str, kind: str, by: str) -> None:
    of = (
        policies(attempts=1, attempt=0.2)
        if by == "attempt"
        else policies(total=0.2 if by == "total" else 9.0)
    )
    with faulty(silence) as (port, did), Client(mode, port, policies=of) as client:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown) as raised:
            if by == "scope":
                with deadline(0.2):
                    client("Place", messages(kind), kind=kind)
            else:
                client("Place", messages(kind), kind=kind, timeout=0.2 if by == "caller" else None)
        assert time.monotonic() - began < 2.0
        error: Any = raised.value
        assert error.code() is Code.DEADLINE_EXCEEDED
        assert type(error.__cause__).__name__ == ("TimedOut" if by == "attempt" else "DeadlineExceeded")
        assert isinstance(error.__cause__, TimedOut)
        assert report(error).evidence is Evidence.UNKNOWN
        assert len(did) == 1


@both
def test_a_deadline_that_is_over_sends_nothing(mode: str) -> None:
    with Server() as server, Client(mode, server.port) as client:
        with pytest.raises(DeadlineExceeded) as raised:
            client("Place", timeout=0)
        assert raised.value.code() is Code.DEADLINE_EXCEEDED  # type: ignore[attr-defined]  # it is gRPC's too
        assert report(raised.value).evidence is Evidence.NOT_SENT
        assert server.count("Place") == 0


# ------------------------------------------------------------------------------------------------------------- metadata
@both
@kinds
def test_one_key_on_every_attempt(mode: str, kind: str) -> None:
    with Server() as server, Client(mode, server.port, profile="supported") as client:
        server.steps["Place"] = [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED]
        client("Place", messages(kind), kind=kind, metadata=(("x-caller", "1"),))
        calls = [metadata for metadata, _ in server.calls["Place"]]
        assert len(calls) == 3
        assert len({each["idempotency-key"] for each in calls}) == 1
        assert [each.get("resilient-attempt") for each in calls] == [None, "2/3", "3/3"]
        assert all(each["x-caller"] == "1" for each in calls)


@both
def test_the_callers_own_key_is_the_key(mode: str) -> None:
    with Server() as server, Client(mode, server.port) as client:
        server.steps["Place"] = [Code.UNAVAILABLE]
        with pytest.raises(OutcomeUnknown) as raised:
            client("Place", metadata=(("idempotency-key", "order-7"),))
        assert raised.value.idempotency_key == "order-7"
        assert server.calls["Place"][0][0]["idempotency-key"] == "order-7"


@both
def test_a_business_key_is_the_same_in_every_process(mode: str) -> None:
    keyed = Pipeline(
        Timeout(5.0), Retry(wait=0, idempotency_key=lambda rpc: rpc.request.decode()), name="svc"
    )
    with Server() as server, Client(mode, server.port, policies=keyed) as client:
        client("Place", b"order 7")
        client("Place", b"order 7")
        client("Place", b"order 8")
        keys = [metadata["idempotency-key"] for metadata, _ in server.calls["Place"]]
        assert keys[0] == keys[1] != keys[2]


@both
def test_methods_that_may_be_repeated_need_no_key(mode: str) -> None:
    with Server() as server, Client(mode, server.port, idempotent={"/shop.unary_unary/Get"}) as client:
        client("Get")
        client("Place")
        assert "idempotency-key" not in server.calls["Get"][0][0]
        assert "idempotency-key" in server.calls["Place"][0][0]


@both
def test_a_service_that_takes_no_keys_gets_none(mode: str) -> None:
    with Server() as server, Client(mode, server.port, profile="none") as client:
        client("Place")
        assert "idempotency-key" not in server.calls["Place"][0][0]


@both
def test_criticality_is_told_to_our_own(mode: str) -> None:
    with Server() as server, Client(mode, server.port) as client:
        with criticality("sheddable"):
            client("Place")
        client("Place")
        told = [metadata.get("resilient-criticality") for metadata, _ in server.calls["Place"]]
        assert told == ["sheddable", None]


@pytest.mark.parametrize(
    ("target", "ours"),
    [
        ("payments:50051", True),
        ("dns:///payments.shop.svc:50051", True),
        ("dns://10.0.0.2/payments.shop.svc.cluster.local:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("[::1]:50051", True),
        ("unix:/run/payments.sock", True),
        ("payments.example.com:443", False),
        ("dns:///pubsub.googleapis.com", False),
        ("ipv4:203.0.113.7:50051,203.0.113.8:50051", False),
        (None, False),
    ],
)
def test_whom_we_tell_of_ourselves(target: str | None, ours: bool) -> None:
    assert resilient.grpc.interceptor("svc", target=target, policies=policies()).dependency.ours is ours


# ---------------------------------------------------------------------------------------------------- errors as gRPC's
@both
@kinds
def test_what_a_policy_refuses_is_an_rpc_error(mode: str, kind: str) -> None:
    breaker, limit = CircuitBreaker(), RateLimit("1/hour", burst=1)
    cases: list[tuple[Any, type[Exception], Code]] = [
        (breaker, CircuitOpen, Code.UNAVAILABLE),
        (limit, RateLimited, Code.RESOURCE_EXHAUSTED),
    ]
    breaker.force_open()
    limit.call(lambda: None)
    with Server() as server:
        for policy, error, code in cases:
            with Client(mode, server.port, policies=policies(policy)) as client:
                with pytest.raises(error) as raised:
                    client("Place", messages(kind), kind=kind)
                found: Any = raised.value
                assert isinstance(found, grpc.RpcError if mode == "sync" else grpc.aio.AioRpcError)
                assert found.code() is code
                assert found.details()
                assert tuple(found.trailing_metadata()) == ()
                assert (report(found).evidence, report(found).attempts) == (Evidence.NOT_SENT, 0)
                assert found.operation == f"shop.{kind}/Place"
        assert server.count("Place") == 0


@both
def test_what_is_not_known_survives_pickle(mode: str) -> None:
    def say(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("x-why", "shutdown"),))
        context.abort(Code.DEADLINE_EXCEEDED, "they gave up")

    with Server() as server, Client(mode, server.port) as client:
        server.steps["Place"] = [say]
        with pytest.raises(OutcomeUnknown) as raised:
            client("Place")
    for error in (raised.value, pickle.loads(pickle.dumps(raised.value))):
        assert isinstance(error, OutcomeUnknown)
        assert isinstance(error, grpc.RpcError)
        found: Any = error
        assert found.code() is Code.DEADLINE_EXCEEDED
        assert found.details() == "they gave up"
        assert ("x-why", "shutdown") in [tuple(each) for each in found.trailing_metadata()]
        assert (error.dependency, error.operation, error.attempts) == ("svc", "shop.unary_unary/Place", 1)
        assert abs((error.first_sent or 0.0) - time.time()) < 60
        assert error.idempotency_key is not None
        assert "may have happened (DEADLINE_EXCEEDED)" in str(error)


@both
def test_a_rejection_after_something_may_have_happened_says_so(mode: str) -> None:
    breaker = CircuitBreaker(consecutive=1)
    with (
        Server() as server,
        Client(mode, server.port, policies=policies(breaker), profile="supported") as client,
    ):
        server.steps["Place"] = [Code.UNAVAILABLE]
        with pytest.raises(OutcomeUnknown) as raised:
            client("Place")
        assert isinstance(raised.value.__cause__, CircuitOpen)
        assert server.count("Place") == 1


# ------------------------------------------------------------------------------------------------------ other policies
@both
def test_a_fallback_gives_a_message(mode: str) -> None:
    with Server() as server:
        of = Pipeline(Fallback(lambda rpc: b"for " + rpc.method.encode()), Timeout(5.0), Retry(1), name="svc")
        with Client(mode, server.port, policies=of) as client:
            server.steps["Get"] = [Code.INTERNAL]
            assert client("Get") == b"for /shop.unary_unary/Get"
        with Client(mode, server.port, policies=Pipeline(Fallback([b"9"]), Retry(1), name="svc")) as client:
            server.steps["List"] = [Code.INTERNAL] * 2
            assert client("List", kind="unary_stream") == [b"9"]
            assert client("List", [b"a"], kind="stream_stream") == [b"9"]


@both
def test_results_are_the_messages(mode: str) -> None:
    again = Retry(3, on=When(result=lambda message: message == b"pending"), wait=0)
    with (
        Server() as server,
        Client(mode, server.port, policies=Pipeline(again, name="svc"), idempotent=EVERY) as client,
    ):
        assert client("Get", b"pending") == b"pending"
        assert client("Get", b"done") == b"done"
        assert server.count("Get") == 4


@both
@kinds
def test_a_permit_is_held_until_the_end(mode: str, kind: str) -> None:
    bulkhead = Bulkhead(1)
    with Server() as server, Client(mode, server.port, policies=policies(bulkhead)) as client:
        inside: list[int] = []
        server.steps["Get"] = [lambda context: inside.append(bulkhead.in_flight)]
        client("Get", messages(kind), kind=kind)
        assert inside == [1]
        for _ in range(20):
            client("Get", messages(kind), kind=kind)
        server.steps["Get"] = [Code.INTERNAL]
        with pytest.raises(grpc.RpcError):
            client("Get", messages(kind), kind=kind)
        assert bulkhead.in_flight == 0


def test_a_bulkhead_is_full_while_a_stream_is_read() -> None:
    bulkhead = Bulkhead(1)
    with Server() as server, Client("sync", server.port, policies=policies(bulkhead)) as client:
        watch = client.channel.unary_stream("/shop.unary_stream/Watch")
        stream = watch(b"x")
        assert next(stream) == b"1"
        with pytest.raises(BulkheadFull):
            client("Get")
        assert list(stream) == [b"2", b"x"]
        assert client("Get") == b"x"


def test_a_stream_that_is_dropped_gives_its_permit_back() -> None:
    bulkhead = Bulkhead(1)
    with Server() as server, Client("sync", server.port, policies=policies(bulkhead)) as client:
        stream = client.channel.unary_stream("/shop.unary_stream/Watch")(b"x")
        assert next(stream) == b"1"
        assert bulkhead.in_flight == 1
        del stream
        assert bulkhead.in_flight == 0


def test_the_breaker_learns_of_a_stream_that_breaks() -> None:
    breaker = CircuitBreaker(consecutive=1)
    of = policies(breaker, attempts=1)
    with (
        faulty(close) as (port, _),
        Client("sync", port, policies=of) as client,
        pytest.raises(OutcomeUnknown),
    ):
        client("Watch", kind="unary_stream")
    assert breaker.state == "open"


# ------------------------------------------------------------------------------------------- retries of gRPC's own
RETRYING = (
    "grpc.service_config",
    '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s", '
    '"maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}',
)


def test_retries_of_grpcs_own_would_multiply() -> None:
    own = resilient.grpc.interceptor("svc", policies=policies(), idempotent=EVERY)
    with Server() as server:
        server.steps["Get"] = [Code.UNAVAILABLE] * 9
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=[RETRYING]) as plain:
            channel = grpc.intercept_channel(plain, own)
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/shop.unary_unary/Get")(b"x")
        assert server.count("Get") == 9


@both
def test_so_they_are_refused(mode: str) -> None:
    with pytest.raises(PolicyError, match="retryPolicy"):
        Client(mode, "127.0.0.1:1", options=[RETRYING])
    with Server() as server:
        options = [RETRYING, ("grpc.enable_retries", 0)]
        with Client(mode, server.port, options=options, idempotent=EVERY) as client:
            server.steps["Get"] = [Code.UNAVAILABLE] * 9
            with pytest.raises(grpc.RpcError):
                client("Get")
            assert server.count("Get") == 3


@pytest.mark.parametrize(
    ("target", "options", "off"),
    [
        ("payments.shop.svc:50051", [], False),
        ("xds:///payments", [], True),
        ("payments.shop.svc:50051", [("grpc.service_config_disable_resolution", 0)], True),
        ("payments.shop.svc:50051", [("grpc.service_config_disable_resolution", 1)], False),
        ("payments.shop.svc:50051", [("grpc.service_config", "what is this?")], False),
    ],
)
def test_those_that_a_resolver_may_bring_are_switched_off(
    target: str, options: list[tuple[str, Any]], off: bool
) -> None:
    assert options_of(target, options) == (*options, *([("grpc.enable_retries", 0)] if off else []))


# ------------------------------------------------------------------------------------------------------------ arguments
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": ""}, "write 'payments'"),
        ({"target": 7}, "write 'payments.shop.svc:50051'"),
        ({"idempotent": "/shop.Catalog/Get"}, r"write idempotent=\{"),
        ({"idempotent": ["Get"]}, "write '/package.Service/Method'"),
        ({"idempotent": 7}, r"write idempotent=\{"),
        ({"profile": "sure"}, "profile='unknown'"),
        ({"profile": Profile(honours=True, in_progress=Signal(409))}, "in_progress="),
        ({"profile": Profile(header="Key-Bin")}, "header='idempotency-key'"),
        ({"policies": Pipeline(Retry(), name="other")}, "give both the same"),
        ({"policies": Pipeline(Retry(idempotent=True), name="svc")}, "idempotent= of the interceptor"),
        ({"policies": Timeout(1.0, walk_away=True)}, "walk_away"),
        ({"policies": Retry(idempotency_key=str), "profile": "none"}, "profile='unknown'"),
    ],
)
def test_arguments_that_mean_nothing(given: dict[str, Any], said: str) -> None:
    given = {"name": "svc", **given}
    with pytest.raises(PolicyError, match=said):
        resilient.grpc.interceptor(given.pop("name"), **given)


def test_an_async_fallback_on_a_sync_channel() -> None:
    async def stale(rpc: object) -> bytes:
        return b""

    with pytest.raises(PolicyError, match="write a sync fallback"):
        resilient.grpc.interceptor("svc", policies=Pipeline(Fallback(stale), Retry()))
