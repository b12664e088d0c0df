"""A good answer whose reader stopped early said nothing of its server: in sync code a half-open breaker never closed,
and the few failures among such calls opened a closed one. And the pauses of readers counted as slowness of the
server."""

from __future__ import annotations

import asyncio

import pytest

import resilient.httpx
from resilient import Bulkhead, CircuitBreaker, Pipeline
from resilient.testing import ManualClock, Origin, answer
from tests.http.calls import Caller, both

LARGE = answer(200, b"x" * 300_000)


@both
def test_it_is_a_success(mode: str, manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(count=50, minimum_calls=50)
    pipeline = Pipeline(breaker, Bulkhead(1), name="svc", clock=manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        origin.always(LARGE)

        async def begin() -> None:
            async with caller.client.stream("GET", "/") as response:
                async for _ in response.aiter_raw():
                    break

        for _ in range(3):
            if mode == "async":
                caller.run(begin())
            else:
                with caller.client.stream("GET", "/") as response:
                    next(response.iter_raw())
            assert pipeline["bulkhead"].in_flight == 0
        assert breaker.totals() == (3, 0, 0)


def test_the_pauses_of_a_reader_are_not_slow(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(slow_after=1.0, count=50, minimum_calls=50)
    pipeline = Pipeline(breaker, name="svc", clock=manual_clock)

    async def main() -> None:
        with Origin(clock=manual_clock) as origin:
            origin.always(LARGE)
            async with (
                resilient.httpx.async_client("svc", base_url=origin.url, policies=pipeline) as client,
                client.stream("GET", "/") as response,
            ):
                async for _ in response.aiter_raw():
                    await asyncio.sleep(0.5)

    manual_clock.run(main())
    assert breaker.totals() == (1, 0, 0)
    assert manual_clock.monotonic() > 1.0
    with pytest.raises(ZeroDivisionError):  # a function's own time counts as ever
        pipeline.call(lambda: manual_clock.advance(2.0) or 1 / 0)
    assert breaker.totals() == (2, 1, 1)
