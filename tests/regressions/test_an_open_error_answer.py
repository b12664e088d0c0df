"""The permit of a streamed error answer came back with its head, while the body was still being read: a bulkhead of
one let two in. A stand-in for such an answer left it open."""

from __future__ import annotations

import httpx
import pytest

import resilient.httpx
from resilient import Bulkhead, CircuitBreaker, Fallback, Pipeline, Retry
from resilient.testing import ManualClock, Origin, answer
from tests.http.calls import Caller, both

LARGE = b"x" * 100_000


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
def test_it_keeps_its_permit_until_its_end(status: int, manual_clock: ManualClock) -> None:
    pipeline = Pipeline(CircuitBreaker(), Bulkhead(1), name="svc", clock=manual_clock)
    breaker, bulkhead = pipeline["breaker"], pipeline["bulkhead"]
    with (
        Origin(clock=manual_clock) as origin,
        resilient.httpx.client("svc", base_url=origin.url, policies=pipeline) as client,
    ):
        origin.script(answer(status, LARGE))
        with client.stream("GET", "/") as response:
            assert response.status_code == status
            assert (bulkhead.in_flight, breaker.totals().calls) == (1, 0)
            assert response.read() == LARGE
            assert bulkhead.in_flight == 0
        assert bulkhead.in_flight == 0
        assert breaker.totals() == (0 if status == 429 else 1, int(status >= 500), 0)


@both
def test_each_that_is_retried_gives_it_back(mode: str, manual_clock: ManualClock) -> None:
    pipeline = Pipeline(Retry(3, wait=0), CircuitBreaker(), Bulkhead(1), name="svc", clock=manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        origin.script(answer(503, LARGE), answer(503, LARGE, chunked=True), answer(200, b"ok"))
        assert caller.get().content == b"ok"
        assert pipeline["bulkhead"].in_flight == caller.pool.in_use == 0
        assert pipeline["breaker"].totals() == (3, 2, 0)


@both
def test_a_stand_in_lets_it_go(mode: str, manual_clock: ManualClock) -> None:
    fallback = Fallback(lambda request: httpx.Response(200, text="stand-in"))
    pipeline = Pipeline(fallback, Retry(1), Bulkhead(1), name="svc", clock=manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        origin.always(answer(500, LARGE))
        for _ in range(3):
            assert caller.get().text == "stand-in"
            assert pipeline["bulkhead"].in_flight == caller.pool.in_use == 0


@both
def test_a_predicate_that_fails_lets_it_go(mode: str, manual_clock: ManualClock) -> None:
    def bug(exc: Exception) -> bool:
        raise KeyError("a bug")

    pipeline = Pipeline(Retry(3, on=bug, wait=0), Bulkhead(1), name="svc", clock=manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        origin.always(answer(500, LARGE))
        for _ in range(3):
            assert type(caller.fails()) is KeyError
            assert pipeline["bulkhead"].in_flight == caller.pool.in_use == 0
