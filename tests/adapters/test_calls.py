"""What one call through an adapter is: its connections, its deadline, its key, its body, its answer."""

from __future__ import annotations

import asyncio
import io
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

import resilient.aiohttp
import resilient.requests
from resilient import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    InProgress,
    KeyReused,
    OutcomeUnknown,
    Pipeline,
    PolicyError,
    RateLimit,
    RateLimited,
    Retry,
    TimedOut,
    Timeout,
    criticality,
    deadline,
)
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import IGNORED, Evidence
from resilient.http.profiles import Profile, Signal
from resilient.testing import (
    ManualClock,
    Origin,
    answer,
    close_without_answer,
    drip_body,
    drip_head,
    reset_mid_body,
    retry_later,
    slow,
    stale,
    truncated,
)
from resilient.testing.exchange import Exchange
from tests.adapters.calls import BASE, SENT, TIMEOUT, Caller, each, report
from tests.http.calls import Bank, policies, seen_keys, told, wait_until_left
from tests.telemetry.collected import collecting

BIND: dict[str, Any] = {"requests": resilient.requests, "aiohttp": resilient.aiohttp}


def clock_of(kind: str, clock: ManualClock) -> Any:
    """Sockets of sync code wait in real time."""
    return SYSTEM_CLOCK if kind == "requests" else clock


# ------------------------------------------------------------------------------------------------ connections
@each
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("profile", ["none", "unknown", "supported", "required"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_stale_keep_alive(
    method: str, profile: str, ending: Any, kind: str, manual_clock: ManualClock
) -> None:
    # The server closes when the next request has come: nobody can know that it did not execute it.
    again = method == "GET" or profile in ("supported", "required")
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.script(stale(ending=ending))
        assert caller.send("GET", "/first").status == 200
        if again:
            outcome = caller.send(method, "/second")
            assert outcome.status == 200
            assert report(outcome).attempts == 2
            assert [request.target for request in origin.requests] == ["/first", "/second"]
        else:
            exc = caller.fails(method, "/second")
            assert isinstance(exc, OutcomeUnknown)
            assert isinstance(exc, SENT[kind])
            assert report(exc).evidence is Evidence.UNKNOWN
            assert report(exc).attempts == 1
            assert report(exc).verdict is IGNORED  # it is the connection's age that is to blame
            assert [request.target for request in origin.requests] == ["/first"]


@each
def test_a_stale_connection_costs_no_attempt_and_no_wait(kind: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=policies(manual_clock, attempts=1)) as caller,
    ):
        origin.script(stale())
        caller.send("GET")
        assert caller.send("GET").status == 200
        assert manual_clock.sleeps == []
        assert origin.connections == 2


@each
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_the_library_itself_sends_nothing_again(method: str, kind: str, manual_clock: ManualClock) -> None:
    # aiohttp's session repeats what is idempotent and met a broken connection, outside of its middlewares.
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            kind, origin.url, manual_clock, policies=policies(manual_clock, attempts=1), profile="none"
        ) as caller,
    ):
        caller.send("GET")
        origin.always(close_without_answer())
        exc = caller.fails(method, data=b"12")
        assert isinstance(exc, SENT[kind])
        assert report(exc).attempts == (1 if method == "POST" else 2)  # the second on a fresh connection
        assert len(origin.requests) == 1 + report(exc).attempts
        caller.fails(method, data=b"12")
        assert len(origin.requests) == 2 + report(exc).attempts


@each
def test_many_retries_take_one_connection(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script(answer(503, b"busy"), answer(503, b"x" * 50_000, chunked=True))
        assert report(caller.send("GET")).attempts == 3
        assert origin.connections == 1


# -------------------------------------------------------------------------------------------------- deadlines
@each
@pytest.mark.parametrize("what", ["hang", "head", "body", "chunked body", "slow"])
def test_the_whole_call(what: str, kind: str, manual_clock: ManualClock) -> None:
    steps: dict[str, Any] = {
        "hang": "hang",
        "head": drip_head(0.03),
        "body": drip_body(0.03),
        "chunked body": drip_body(0.03, answer(200, b"x" * 1000, chunked=True)),
        "slow": slow(5.0),
    }
    clock = clock_of(kind, manual_clock)
    with (
        Origin(steps[what], clock=None if kind == "requests" else manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=policies(clock, total=0.3)) as caller,
    ):
        began = clock.monotonic()
        exc = caller.fails("GET")
        assert 0.25 <= clock.monotonic() - began < 1.5
        assert isinstance(exc, DeadlineExceeded if "body" not in what or what == "body" else TimedOut)
        assert isinstance(exc, TIMEOUT[kind])
        assert exc.dependency == "svc"  # type: ignore[attr-defined]  # of both
        assert len(origin.requests) == 1


@each
def test_a_post_whose_time_is_over_may_have_happened(kind: str, manual_clock: ManualClock) -> None:
    clock = clock_of(kind, manual_clock)
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=policies(clock, total=0.2)) as caller,
    ):
        exc = caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, TIMEOUT[kind])
        assert len(origin.requests) == 1


@each
def test_the_callers_deadline_comes_first(kind: str, manual_clock: ManualClock) -> None:
    clock = clock_of(kind, manual_clock)
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=policies(clock)) as caller,
        deadline(0.2, clock=clock),
    ):
        exc = caller.fails("GET")
    assert isinstance(exc, DeadlineExceeded)


@each
def test_the_sdks_own_timeouts_still_hold(kind: str, manual_clock: ManualClock) -> None:
    given: Any = (
        {"timeout": (5, 0.2)} if kind == "requests" else {"timeout": aiohttp.ClientTimeout(sock_read=0.2)}
    )
    clock = clock_of(kind, manual_clock)
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=policies(clock)) as caller,
    ):
        exc = caller.fails("GET", **given)
        assert isinstance(exc, TIMEOUT[kind])
        assert not isinstance(exc, TimedOut)
        assert report(exc).attempts == 3
        assert len(origin.requests) == 3


@each
def test_what_is_left_is_told(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script(503)
        with criticality("sheddable"):
            caller.send("GET")
        first, second = origin.requests
        assert 9_000 < int(first.header("resilient-timeout-ms") or 0) <= 10_000
        assert first.header("resilient-attempt") is None
        assert second.header("resilient-attempt") == "2/3"
        assert first.header("resilient-criticality") == second.header("resilient-criticality") == "sheddable"
        assert len([name for name, _ in second.headers if name.lower() == "resilient-timeout-ms"]) == 1


@each
def test_a_stream_is_cut_too(kind: str, manual_clock: ManualClock) -> None:
    clock = clock_of(kind, manual_clock)
    body = drip_body(0.02, answer(200, b"x" * 1000, chunked=True))
    with (
        Origin(body, clock=None if kind == "requests" else manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=policies(clock, total=0.3)) as caller,
    ):
        seen = bytearray()
        error: Exception | None = None

        async def read() -> None:
            async with caller.session.get("/") as response:
                async for chunk in response.content.iter_any():
                    seen.extend(chunk)

        try:
            if kind == "requests":
                for chunk in caller.session.get(origin.url, stream=True).iter_content(1):
                    seen.extend(chunk)
            else:
                caller.run(read())
        except BASE[kind] as exc:
            error = exc
        assert 0 < len(seen) < 100
        assert isinstance(error, TimedOut)
        assert isinstance(error, TIMEOUT[kind])
        caller.close()
        manual_clock.advance(1.0)  # the server's next piece is due
        wait_until_left(origin)


# ------------------------------------------------------------------------------------------- keys and redirects
@each
@pytest.mark.parametrize(("status", "method", "keyed"), [(303, "GET", False), (307, "POST", True)])
def test_a_redirect_is_the_same_call(
    status: int, method: str, keyed: bool, kind: str, manual_clock: ManualClock
) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script(answer(status, headers={"Location": "/there"}), 503 if method == "GET" else 429)
        outcome = caller.send("POST", "/here", data=b"12")
        assert outcome.status == 200
        assert outcome.history == 1
        assert report(outcome).attempts == 3
        first, *hops = origin.requests
        assert [hop.target for hop in hops] == ["/there", "/there"]
        assert [hop.method for hop in hops] == [method, method]
        key = first.header("idempotency-key")
        assert key is not None
        assert seen_keys(hops) == [key if keyed else None] * 2
        assert [hop.body for hop in hops] == [b"12" if keyed else b""] * 2
        # The deadline of the whole call, and not a new one.
        left = [int(request.header("resilient-timeout-ms") or 0) for request in origin.requests]
        assert left == sorted(left, reverse=True)


@each
def test_redirects_share_the_deadline(kind: str, manual_clock: ManualClock) -> None:
    clock = clock_of(kind, manual_clock)
    with (
        Origin(clock=None if kind == "requests" else manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=policies(clock, total=0.5)) as caller,
    ):
        origin.always(slow(0.15, answer(302, headers={"Location": "/again"})))
        exc = caller.fails("GET")
        assert isinstance(exc, DeadlineExceeded)
        assert "whole call took longer than" in str(exc)
        assert 3 <= len(origin.requests) <= 4


@each
def test_elsewhere_only_the_deadline_holds(kind: str, manual_clock: ManualClock) -> None:
    clock = clock_of(kind, manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Origin(clock=manual_clock) as stranger,
        Caller(kind, origin.url, manual_clock, policies=policies(clock, total=0.3)) as caller,
    ):
        origin.always(answer(307, headers={"Location": f"{stranger.url}/there"}))
        stranger.script(503)
        outcome = caller.send("POST", data=b"12")
        assert outcome.status == 503  # no retry of ours
        (request,) = stranger.requests
        assert request.body == b"12"
        assert not [
            name for name, _ in request.headers if name.lower().startswith(("idempotency", "resilient"))
        ]
        stranger.always("hang")
        exc = caller.fails("GET")
        assert isinstance(exc, TimedOut)
        assert isinstance(exc, TIMEOUT[kind])


@each
def test_the_next_call_has_a_key_of_its_own(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script(answer(303, headers={"Location": "/there"}), 200, 503)
        caller.send("POST", "/one", data=b"1")
        caller.send("POST", "/two", data=b"2")
        caller.send("POST", "/three", data=b"3", headers={"Idempotency-Key": "mine"})
        keys = [key for key in seen_keys(origin.requests) if key is not None]
        assert len(keys) == len(set(keys)) == 3
        assert keys[-1] == "mine"


# ---------------------------------------------------------------------------------------------------- options
@each
def test_what_is_said_of_one_request(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect")
        outcome = caller.send("POST", said={"idempotent": True, "idempotency_key": "order-7"})
        assert report(outcome).attempts == 2
        assert seen_keys(origin.requests) == ["order-7", "order-7"]
        origin.script("reset_after_effect")
        exc = caller.fails("POST", said={"operation": "search", "criticality": "sheddable"})
        assert isinstance(exc, OutcomeUnknown)
        assert exc.operation == "search"
        assert origin.requests[-1].header("resilient-criticality") == "sheddable"


@each
def test_what_is_said_is_for_one_request(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:

        async def twice() -> None:
            with resilient.aiohttp.options(idempotency_key="order-7"):
                async with caller.session.post("/"):
                    pass
                await caller.session.post("/")

        with pytest.raises(PolicyError, match=r"options\(\.\.\.\) is for one request"):
            if kind == "aiohttp":
                caller.run(twice())
            else:
                with resilient.requests.options(idempotency_key="order-7"):
                    caller.session.post(origin.url)
                    caller.session.post(origin.url)
        assert seen_keys(origin.requests) == ["order-7"]
        with pytest.raises(PolicyError, match="has no 'opertion'"), BIND[kind].options(opertion="search"):
            pass


# ----------------------------------------------------------------------------------------------------- bodies
def rows() -> Iterator[bytes]:
    yield b"1"
    yield b"2"


async def arows() -> AsyncIterator[bytes]:
    yield b"1"
    yield b"2"


def bodies(what: str, kind: str, path: Path) -> Any:
    made: Any = rows if kind == "requests" else arows
    if what == "bytes":
        return b"12"
    if what == "file":
        path.write_bytes(b"012")
        file = path.open("rb")
        file.seek(1)
        return file
    if what == "in memory":
        return io.BytesIO(b"12")
    if what == "made anew":
        return BIND[kind].made_anew(made)
    if what == "kept":
        return BIND[kind].buffered(made())
    return made()


@each
@pytest.mark.parametrize("fault", ["reset_before_effect", "429"])
@pytest.mark.parametrize("what", ["bytes", "file", "in memory", "made anew", "kept"])
def test_bodies_that_can_be_sent_again(
    what: str, fault: str, kind: str, manual_clock: ManualClock, tmp_path: Path
) -> None:
    bank = Bank(honours=True)
    with (
        Origin(bank.charge, clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(int(fault) if fault.isdigit() else fault, retry_later(0, 503))
        body = bodies(what, kind, tmp_path / "body")
        outcome = caller.send("POST", data=body)
        assert outcome.status == 201
        assert report(outcome).attempts == 3
        assert [request.body for request in origin.requests] == [b"12"] * 3
        assert len(set(seen_keys(origin.requests))) == 1
        if what == "file":
            body.close()


@each
@pytest.mark.parametrize("fault", ["reset_before_effect", 429])
def test_a_body_that_can_be_sent_once(
    fault: Any, kind: str, manual_clock: ManualClock, tmp_path: Path
) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(fault)
        given = {"data": bodies("a generator", kind, tmp_path)}
        if fault == 429:
            outcome: Any = caller.send("POST", **given)
            assert outcome.status == 429
        else:
            outcome = caller.fails("POST", **given)
            assert isinstance(outcome, OutcomeUnknown)
            assert "body" in told(outcome)
        assert report(outcome).why_not_retried == "body"
        assert report(outcome).attempts == 1
        assert len(origin.requests) == 1


@each
def test_a_body_whose_making_fails(kind: str, manual_clock: ManualClock) -> None:
    # It is the caller's own failure: neither retried nor held against the service.
    def broken() -> Iterator[bytes]:
        yield b"1"
        raise LookupError("no row 2")

    async def abroken() -> AsyncIterator[bytes]:
        yield b"1"
        raise LookupError("no row 2")

    breaker = CircuitBreaker(consecutive=1)
    pipeline = Pipeline(Timeout(10.0), Retry(3, wait=0.0), breaker, name="svc", clock=manual_clock)
    made = BIND[kind].made_anew(broken if kind == "requests" else abroken)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=pipeline, profile="supported") as caller,
    ):
        exc = caller.fails("POST", data=made)
        assert "no row 2" in str(exc) or "no row 2" in str(exc.__cause__)
        assert report(exc).attempts == 1
        assert breaker.state == "closed"


# ---------------------------------------------------------------------------------------------------- answers
@each
def test_retry_after_is_waited_for(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script(retry_later(3, 429))
        began = manual_clock.monotonic()
        outcome = caller.send("POST")
        assert report(outcome).attempts == 2
        assert manual_clock.monotonic() - began >= 3.0


@each
def test_an_empty_quota_holds_the_rate_limit(kind: str, manual_clock: ManualClock) -> None:
    pipeline = Pipeline(Timeout(10.0), RateLimit("100/second"), name="svc", clock=manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            kind, origin.url, manual_clock, policies=pipeline, profile=Profile(quota="X-RateLimit")
        ) as caller,
    ):
        origin.script(answer(200, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "5"}))
        assert caller.send("GET").status == 200
        exc = caller.fails("GET")
        assert isinstance(exc, RateLimited)
        assert len(origin.requests) == 1


@each
def test_an_open_breaker_sends_nothing(kind: str, manual_clock: ManualClock) -> None:
    pipeline = Pipeline(Timeout(10.0), CircuitBreaker(consecutive=2), name="svc", clock=manual_clock)
    with (
        Origin(500, clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        assert [caller.send("GET").status for _ in range(2)] == [500, 500]
        exc = caller.fails("POST")
        assert isinstance(exc, CircuitOpen)
        assert isinstance(exc, BASE[kind])
        assert not isinstance(exc, OutcomeUnknown)
        assert exc.dependency == "svc"
        assert exc.reason
        assert report(exc).evidence is Evidence.NOT_SENT
        copied = pickle.loads(pickle.dumps(exc))
        assert type(copied) is type(exc)
        assert str(copied) == str(exc)
        assert len(origin.requests) == 2


@each
def test_the_servers_word_on_a_key(kind: str, manual_clock: ManualClock) -> None:
    theirs: Any = requests.HTTPError if kind == "requests" else aiohttp.ClientResponseError
    profile = Profile(honours=True, reused=Signal(422, "key-reused"))
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.always(answer(422, b'{"type": "key-reused"}'))
        reused = caller.fails("POST")
        assert isinstance(reused, KeyReused)
        origin.always(answer(409, headers={"Idempotency-Key-Status": "in-progress"}))
        running = caller.fails("POST")
        assert isinstance(running, InProgress)
        assert running.attempts == 3
        for exc, status in ((reused, 422), (running, 409)):
            assert isinstance(exc, theirs)
            answered: Any = exc.response  # type: ignore[attr-defined]  # of ours
            assert status == (answered.status_code if kind == "requests" else answered.status)
            assert type(pickle.loads(pickle.dumps(exc))) is type(exc)
        origin.always(answer(422, b'{"type": "another"}'))
        plain = caller.send("POST")
        assert plain.status == 422
        assert plain.body == b'{"type": "another"}'


@each
def test_a_stream_holds_its_permit(kind: str, manual_clock: ManualClock) -> None:
    bulkhead = Bulkhead(1)
    pipeline = Pipeline(Timeout(10.0), bulkhead, name="svc", clock=manual_clock)
    large = answer(200, b"x" * 300_000)
    with (
        Origin(large, clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=pipeline) as caller,
    ):

        def in_flight(n: int) -> None:
            assert bulkhead.in_flight == n

        async def main() -> None:
            response = await caller.session.get("/")
            in_flight(1)
            assert len(await response.read()) == 300_000
            in_flight(0)
            response = await caller.session.get("/")
            in_flight(1)
            response.close()
            in_flight(0)
            async with caller.session.get("/") as response:
                in_flight(1)
                await response.content.read(10)
            in_flight(0)
            await caller.session.get("/")  # dropped: its connection holds it, until the deadline
            await asyncio.sleep(10.0)
            in_flight(0)

        if kind == "aiohttp":
            caller.run(main())
        else:
            get = caller.session.get
            response = get(origin.url, stream=True)
            in_flight(1)
            assert len(response.content) == 300_000
            in_flight(0)
            response = get(origin.url, stream=True)
            in_flight(1)
            response.close()
            in_flight(0)
            with get(origin.url, stream=True) as response:
                assert len(response.raw.read(10)) == 10
                in_flight(1)
            in_flight(0)
            del response
            get(origin.url, stream=True)  # dropped
            in_flight(0)
            assert len(get(origin.url).content) == 300_000
            in_flight(0)


@each
def test_a_stream_that_breaks_is_a_failure(kind: str, manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1)
    pipeline = Pipeline(Timeout(10.0), breaker, name="svc", clock=manual_clock)
    for fault in ("reset_mid_body", "truncated"):
        with (
            Origin(clock=manual_clock) as origin,
            Caller(kind, origin.url, manual_clock, policies=pipeline) as caller,
        ):
            make = {"reset_mid_body": reset_mid_body, "truncated": truncated}[fault]
            origin.script(make(then=answer(200, b"x" * 200_000)))
            exc = caller.fails("GET")
            assert isinstance(exc, SENT[kind])
            assert breaker.state == "open", fault
            breaker.reset()


@each
def test_bytes_after_the_answer_do_not_become_the_next_one(kind: str, manual_clock: ManualClock) -> None:
    def two(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )

    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script(two)
        assert caller.send("GET").body == b"ok"
        assert caller.send("GET").body == b""


# ----------------------------------------------------------------------------------------------------- traces
@each
def test_each_attempt_has_a_span(kind: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock) as caller,
        collecting() as seen,
    ):
        origin.script(503)
        assert caller.send("GET", "/a").status == 200
        parents = [request.header("traceparent") for request in origin.requests]
    assert len(set(parents)) == 2
    assert None not in parents
    assert [span.attributes["http.response.status_code"] for span in seen.spans()] == [503, 200]
    assert {span.attributes["url.full"] for span in seen.spans()} == {f"{origin.url}/a"}
    assert seen.spans()[1].attributes["http.request.resend_count"] == 1
