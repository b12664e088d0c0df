"""A guard object that was used a second time told the end of the first block again, and never that of the second: a
probe stayed out until its lease ended."""

from __future__ import annotations

import asyncio

import pytest

from resilient import Bulkhead, CircuitBreaker
from resilient.testing import ManualClock


def test_each_block_is_told_by_itself(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1, open_for=1.0, probes=2)
    guard = breaker.guard(clock=manual_clock)
    with pytest.raises(ConnectionError), guard:
        raise ConnectionError
    assert breaker.state == "open"
    manual_clock.advance(1.0)
    for state in ("half_open", "closed"):
        with guard:
            pass
        assert breaker.state == state


def test_inside_itself_and_side_by_side(manual_clock: ManualClock) -> None:
    bulkhead = Bulkhead(5)
    guard = bulkhead.guard()
    with guard, guard:
        assert bulkhead.in_flight == 2

    async def work() -> None:
        async with guard:
            await asyncio.sleep(1.0)

    async def main() -> None:
        await asyncio.gather(*[work() for _ in range(5)])

    manual_clock.run(main())
    assert bulkhead.in_flight == 0
