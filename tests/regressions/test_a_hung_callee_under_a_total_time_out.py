"""In async code a callee that hung was nobody's failure where the time-out stood outside the breaker: that saw a
cancellation, and never opened."""

from __future__ import annotations

import asyncio

import pytest

from resilient import CircuitBreaker, DeadlineExceeded, Pipeline, Retry, Timeout
from resilient.testing import ManualClock


def test_it_opens(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=3)
    pipeline = Pipeline(Timeout(1.0), Retry(2), breaker, clock=manual_clock)

    @pipeline
    async def hang() -> None:
        await asyncio.sleep(99.0)

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await hang()

    manual_clock.run(main())
    assert breaker.state == "open"


def test_the_callers_own_cancellation_says_nothing(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1)
    pipeline = Pipeline(Timeout(1.0), Retry(2), breaker, clock=manual_clock)

    async def main() -> None:
        task = asyncio.ensure_future(pipeline.acall(asyncio.sleep, 99.0))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    manual_clock.run(main())
    assert breaker.state == "closed"
    assert breaker.totals().calls == 0
