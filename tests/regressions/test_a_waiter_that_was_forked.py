"""In a child process a task that had waited for a bulkhead in the parent ended with `ValueError: ... not in deque`.

The child begins with an empty queue, as those who wait do so in the parent. But a task forks with all tasks of its
loop, and each that waited leaves the queue when it is cancelled, or when its time is over."""

from __future__ import annotations

import asyncio

import pytest

from resilient import Bulkhead, BulkheadFull, Pipeline
from resilient.testing import ManualClock


@pytest.mark.parametrize("end", ["cancelled", "time over"])
def test_it_leaves_quietly(end: str) -> None:
    clock, bulkhead = ManualClock(), Bulkhead(1, queue=5, max_wait=3.0)

    @Pipeline(bulkhead, clock=clock)
    async def work() -> None:
        await asyncio.sleep(60.0)

    async def main() -> None:
        running = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        assert bulkhead.waiting == 1
        bulkhead.after_fork()
        if end == "cancelled":
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError if end == "cancelled" else BulkheadFull):
            await waiting
        await running
        assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)

    clock.run(main())
