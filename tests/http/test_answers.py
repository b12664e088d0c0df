"""Answers: which are asked for again and when, what the caller gets, and what becomes of connection and permits."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import pytest

from resilient import Bulkhead, CircuitBreaker, Pipeline, Retry, Timeout
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import Evidence
from resilient.testing import (
    ManualClock,
    Origin,
    answer,
    drip_body,
    reset_mid_body,
    retry_later,
    truncated,
)
from tests.http.calls import Caller, both, policies, report
from tests.http.sdk import httpx


@both
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "status", [200, 204, 304, 400, 401, 403, 404, 408, 409, 422, 425, 429, 500, 501, 502, 503, 504]
)
def test_which_are_asked_for_again(status: int, method: str, mode: str, manual_clock: ManualClock) -> None:
    anybody, safe = {425, 429}, {408, 500, 502, 503, 504}
    again = status in anybody or (status in safe and method == "GET")
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(answer(status), 299)
        response = caller.send(method)
        assert response.status_code == (299 if again else status)
        assert len(origin.requests) == (2 if again else 1)
        assert report(response).attempts == len(origin.requests)


@both
def test_the_last_error_answer_is_returned_and_readable(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(503, 503, answer(503, b"come back", {"X-Why": "busy"}))
        response = caller.get()
        assert response.status_code == 503
        assert response.text == "come back"
        assert response.headers["x-why"] == "busy"
        assert report(response).attempts == 3
        assert report(response).why_not_retried == "attempts"
        assert report(response).evidence is Evidence.ANSWERED
        assert report(response).endpoint == f"127.0.0.1:{origin.port}"
        with pytest.raises(httpx.HTTPStatusError):
            response.raise_for_status()
        assert caller.pool.in_use == 0


@both
def test_a_large_last_error_answer_is_readable(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.always(answer(500, b"x" * 300_000, chunked=True))
        assert len(caller.get().content) == 300_000
        assert caller.pool.in_use == 0


@both
def test_gzip_is_unpacked_as_ever(mode: str, manual_clock: ManualClock) -> None:
    import gzip

    packed = gzip.compress(b"hello" * 1000)
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.always(answer(200, packed, {"Content-Encoding": "gzip"}))
        assert caller.get().content == b"hello" * 1000


# -------------------------------------------------------------------------------------------------- Retry-After
@both
@pytest.mark.parametrize("as_date", [False, True])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(status: int, as_date: bool, mode: str, manual_clock: ManualClock) -> None:
    long = policies(manual_clock, total=60.0)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=long) as caller,
    ):
        origin.script(retry_later(7.0, status, as_date=as_date))
        assert caller.get().status_code == 200
        # Never shortened, a little more so that not all come at once.
        assert 7.0 <= manual_clock.monotonic() <= 7.0 * 1.1 + 0.01


@both
@pytest.mark.parametrize("after", [31.0, 3600.0, 1e12])
def test_a_retry_after_too_long_returns_the_answer(
    after: float, mode: str, manual_clock: ManualClock
) -> None:
    long = policies(manual_clock, total=60.0)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=long) as caller,
    ):
        origin.script(answer(429, b"later", {"Retry-After": f"{after:.0f}"}))
        response = caller.get()
        assert (response.status_code, response.text) == (429, "later")
        assert response.headers["retry-after"] == f"{after:.0f}"
        assert report(response).why_not_retried == "retry_after"
        assert report(response).retry_after == after
        assert report(response).evidence is Evidence.DECLINED
        assert manual_clock.monotonic() == 0.0


@both
def test_a_retry_after_past_the_deadline_returns_the_answer_now(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(retry_later(11.0))
        response = caller.get()
        assert response.status_code == 503
        assert report(response).why_not_retried == "deadline"
        assert manual_clock.monotonic() == 0.0


@both
@pytest.mark.parametrize("value", ["soon", "-5", "", "nan", formatdate(0, usegmt=True)])
def test_a_retry_after_that_is_nonsense_or_past(value: str, mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(retry_later(value))
        assert caller.get().status_code == 200
        assert manual_clock.monotonic() < 0.1


@both
def test_a_server_that_says_no(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(answer(503, headers={"Stripe-Should-Retry": "false"}))
        response = caller.get()
        assert response.status_code == 503
        assert report(response).why_not_retried == "server"


# ------------------------------------------------------------------------- connections over retried answers
@both
@pytest.mark.parametrize("body", [b"", b"x" * 500, b"x" * 60_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_retries_on_keep_alive_use_one_connection(
    chunked: bool, body: bytes, mode: str, manual_clock: ManualClock
) -> None:
    eight = policies(manual_clock, attempts=8)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=eight) as caller,
    ):
        origin.script(*[answer(503, body, chunked=chunked)] * 7)
        assert caller.get().status_code == 200
        assert len(origin.requests) == 8
        assert origin.connections == 1
        assert caller.pool.opened == 1


@both
def test_a_large_answer_that_is_retried_is_not_read(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(answer(503, b"x" * 5_000_000))
        assert caller.get().status_code == 200
        assert origin.connections == 2
        assert caller.pool.in_use == 0
        assert caller.pool.idle == 1


@both
def test_a_slow_answer_that_is_retried_is_not_waited_for(mode: str, manual_clock: ManualClock) -> None:
    clock = manual_clock if mode == "async" else SYSTEM_CLOCK
    with (
        Origin(clock=manual_clock if mode == "async" else None) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(clock)) as caller,
    ):
        origin.script(drip_body(60.0, answer(503, b"x" * 1000, chunked=True)))
        assert caller.get().status_code == 200
        assert origin.connections == 2
        assert caller.pool.in_use == 0
        if mode == "async":
            assert manual_clock.monotonic() <= 0.06


# ------------------------------------------------------------------------------------------------- small bodies
@both
@pytest.mark.parametrize("fault", [reset_mid_body, truncated])
@pytest.mark.parametrize("size", [100, 65_536])
def test_a_small_body_that_breaks_is_a_failed_attempt(
    size: int, fault: Callable[..., Any], mode: str, manual_clock: ManualClock
) -> None:
    whole = answer(200, b"x" * size)
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.always(whole)
        origin.script(fault(then=whole))
        response = caller.get()
        assert response.content == b"x" * size
        assert report(response).attempts == 2


@both
@pytest.mark.parametrize(
    "whole", [answer(200, b"x" * 65_537), answer(200, b"x" * 100, chunked=True)], ids=["large", "chunked"]
)
def test_another_body_that_breaks_is_the_callers(whole: Any, mode: str, manual_clock: ManualClock) -> None:
    # Its head was handed over: what of it was used, only the caller knows.
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(reset_mid_body(then=whole))
        exc = caller.fails("GET")
        assert isinstance(exc, (httpx.ReadError, httpx.RemoteProtocolError))
        assert len(origin.requests) == 1
        assert caller.pool.in_use == 0
        assert caller.get().status_code == 200


# ----------------------------------------------------------------------------------------------------- streams
class Streaming:
    """A client whose permits and verdicts are looked at while streams are open."""

    def __init__(self, mode: str, origin: Origin, clock: ManualClock) -> None:
        self.bulkhead = Bulkhead(2)
        self.breaker = CircuitBreaker(consecutive=1)
        pipeline = Pipeline(
            Timeout(10.0),
            Retry(3, wait=0.0, idempotent=False),
            self.breaker,
            self.bulkhead,
            name="svc",
            clock=clock,
        )
        self.caller = Caller(mode, origin.url, clock, policies=pipeline)

    def run(self, sync: Callable[[Any], None], async_: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        with self.caller as caller:
            if caller.mode == "sync":
                sync(caller.client)
            else:
                caller.run(async_(caller.client))
            assert self.bulkhead.in_flight == 0
            assert caller.pool.in_use == 0


LARGE = answer(200, b"x" * 300_000)


@both
def test_permit_and_verdict_end_with_the_stream(mode: str, manual_clock: ManualClock) -> None:
    with Origin(LARGE, clock=manual_clock) as origin:
        streaming = Streaming(mode, origin, manual_clock)

        def looked_at(when: str) -> None:
            running, successes = (1, 0) if when == "open" else (0, 1)
            assert streaming.bulkhead.in_flight == running
            assert streaming.breaker.totals().calls == successes
            assert streaming.caller.pool.in_use == running

        def sync(client: httpx.Client) -> None:
            with client.stream("GET", "/") as response:
                looked_at("open")
                assert len(response.read()) == 300_000
            looked_at("closed")

        async def async_(client: httpx.AsyncClient) -> None:
            async with client.stream("GET", "/") as response:
                looked_at("open")
                assert len(await response.aread()) == 300_000
            looked_at("closed")

        streaming.run(sync, async_)
        assert streaming.caller.pool.opened == 1


@both
def test_a_stream_that_breaks_opens_the_breaker(mode: str, manual_clock: ManualClock) -> None:
    with Origin(reset_mid_body(then=LARGE), clock=manual_clock) as origin:
        streaming = Streaming(mode, origin, manual_clock)

        def sync(client: httpx.Client) -> None:
            with client.stream("GET", "/") as response, pytest.raises(httpx.ReadError):
                response.read()

        async def async_(client: httpx.AsyncClient) -> None:
            async with client.stream("GET", "/") as response:
                with pytest.raises(httpx.ReadError):
                    await response.aread()

        streaming.run(sync, async_)
        assert streaming.breaker.state == "open"


@both
@pytest.mark.parametrize("how", ["unread", "half read", "closed by hand", "left by an error"])
def test_a_stream_that_is_left_early(how: str, mode: str, manual_clock: ManualClock) -> None:
    class Oops(Exception):
        pass

    with Origin(answer(200, b"x" * 5_000_000), clock=manual_clock) as origin:
        streaming = Streaming(mode, origin, manual_clock)

        def sync(client: httpx.Client) -> None:
            try:
                with client.stream("GET", "/") as response:
                    if how == "half read":
                        next(response.iter_bytes())
                    elif how == "closed by hand":
                        response.close()
                        response.close()
                    elif how == "left by an error":
                        raise Oops
            except Oops:
                pass

        async def async_(client: httpx.AsyncClient) -> None:
            try:
                async with client.stream("GET", "/") as response:
                    if how == "half read":
                        async for _ in response.aiter_bytes():
                            break
                    elif how == "closed by hand":
                        await response.aclose()
                        await response.aclose()
                    elif how == "left by an error":
                        raise Oops
            except Oops:
                pass

        streaming.run(sync, async_)
        # The caller wanted no more: that says nothing against the callee.
        assert streaming.breaker.state == "closed"
        assert streaming.caller.pool.idle == 0


@pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning"
)  # and rightly: nobody closed the response
def test_a_stream_that_is_forgotten_gives_everything_back(manual_clock: ManualClock) -> None:
    with Origin(LARGE, clock=manual_clock) as origin:
        streaming = Streaming("sync", origin, manual_clock)
        with streaming.caller as caller:
            response = caller.client.send(caller.client.build_request("GET", "/"), stream=True)
            assert streaming.bulkhead.in_flight == 1
            del response
            gc.collect()
            assert streaming.bulkhead.in_flight == 0
            assert caller.pool.in_use == 0


@both
def test_an_error_answer_as_a_stream(mode: str, manual_clock: ManualClock) -> None:
    with Origin(answer(500, b"x" * 300_000), clock=manual_clock) as origin:
        streaming = Streaming(mode, origin, manual_clock)

        def sync(client: httpx.Client) -> None:
            with client.stream("POST", "/") as response:
                assert response.status_code == 500
                assert len(response.read()) == 300_000

        async def async_(client: httpx.AsyncClient) -> None:
            async with client.stream("POST", "/") as response:
                assert response.status_code == 500
                assert len(await response.aread()) == 300_000

        streaming.run(sync, async_)
        assert streaming.breaker.state == "open"
