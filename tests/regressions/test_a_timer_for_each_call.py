"""Calls that are not decorated left a timer each on the loop, until the time-out would have ended: a thousand calls a
second under a time-out of a minute kept sixty thousand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient import Pipeline, Timeout, standard
from resilient.testing import ManualClock


@pytest.mark.parametrize(
    ("make", "timers"),
    [
        (lambda clock: Pipeline(Timeout(60.0), clock=clock), 1),
        (lambda clock: standard("svc", deadline=60.0, clock=clock), 2),
    ],
)
def test_all_calls_share_one(make: Any, timers: int, manual_clock: ManualClock) -> None:
    policy = make(manual_clock)

    async def work() -> None: ...

    async def main() -> None:
        armed = []
        loop = asyncio.get_running_loop()
        call_later = loop.call_later
        loop.call_later = lambda *given: armed.append(given) or call_later(*given)  # type: ignore[method-assign,func-returns-value]
        for _ in range(100):
            await policy.acall(work)
        assert len(armed) == timers

    manual_clock.run(main())
    manual_clock.run(policy.acall(work))  # another loop has its own
