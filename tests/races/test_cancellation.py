"""Cancellation by asyncio at the moments that matter: queued, reserved, at the grant, twice; nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    Fallback,
    Pipeline,
    RateLimit,
    Retry,
    Timeout,
    Verdict,
    Wait,
)
from resilient.testing import ManualClock


async def ticks(count: int) -> None:
    """Let the loop turn ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def ended(task: asyncio.Task[Any]) -> str:
    """How a task ended: ``cancelled``, ``done``, or its exception's class name."""
    await asyncio.wait([task])
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return "done" if error is None else type(error).__name__


class Queued:
    """A bulkhead with one place, taken, and a task that waits for it."""

    def __init__(self, clock: ManualClock) -> None:
        self.bulkhead = Bulkhead(1, queue=10, max_wait=5.0)
        self.holder = self.bulkhead.admit(clock.monotonic())
        self.ran = 0
        self.call = Pipeline(self.bulkhead, clock=clock)(self.work)

    async def work(self) -> None:
        self.ran += 1
        await asyncio.sleep(0)

    def leave(self) -> None:
        self.bulkhead.record(self.holder, Verdict.SUCCESS, 0.0, 0.0)  # type: ignore[arg-type]


def test_cancelled_while_queued() -> None:
    clock = ManualClock()

    async def main() -> None:
        queued = Queued(clock)
        task = asyncio.ensure_future(queued.call())
        await ticks(2)
        assert queued.bulkhead.waiting == 1
        task.cancel()
        assert await ended(task) == "cancelled"
        assert (queued.bulkhead.waiting, queued.bulkhead.in_flight, queued.ran) == (0, 1, 0)
        queued.leave()
        assert queued.bulkhead.in_flight == 0

    clock.run(main())


@pytest.mark.parametrize("ticks_between", range(4))
@pytest.mark.parametrize("cancel_first", [True, False])
def test_cancelled_around_the_moment_of_the_grant(cancel_first: bool, ticks_between: int) -> None:
    """The permit goes to the waiter and comes back, or goes to the next one; whatever comes first."""
    clock = ManualClock()

    async def main() -> None:
        queued = Queued(clock)
        task, behind = asyncio.ensure_future(queued.call()), asyncio.ensure_future(queued.call())
        await ticks(2)
        assert queued.bulkhead.waiting == 2
        first, second = (task.cancel, queued.leave) if cancel_first else (queued.leave, task.cancel)
        first()
        await ticks(ticks_between)
        second()
        assert await ended(task) in ("cancelled", "done")
        assert await ended(behind) == "done", "who stands behind is served, at once"
        assert clock.monotonic() == 0.0
        assert (queued.bulkhead.waiting, queued.bulkhead.in_flight) == (0, 0)

    clock.run(main())


def test_cancelled_when_the_wait_runs_out() -> None:
    clock = ManualClock()

    async def main() -> None:
        queued = Queued(clock)
        task = asyncio.ensure_future(queued.call())
        asyncio.get_running_loop().call_later(5.0, task.cancel)
        asyncio.get_running_loop().call_later(5.0, queued.leave)
        assert await ended(task) in ("cancelled", "done", "BulkheadFull")
        assert (queued.bulkhead.waiting, queued.bulkhead.in_flight) == (0, 0)

    clock.run(main())


def test_one_permit_passed_through_a_queue_in_which_every_second_is_cancelled() -> None:
    clock = ManualClock()

    async def main() -> None:
        queued = Queued(clock)
        tasks = [asyncio.ensure_future(queued.call()) for _ in range(10)]
        await ticks(2)
        with pytest.raises(BulkheadFull):
            await queued.call()
        queued.leave()
        for task in tasks[::2]:
            task.cancel()
        assert [await ended(task) for task in tasks] == ["cancelled", "done"] * 5
        assert (queued.bulkhead.waiting, queued.bulkhead.in_flight, queued.ran) == (0, 0, 5)

    clock.run(main())


def test_cancelled_while_reserved() -> None:
    """The token that was reserved for the waiter is there for the next one."""
    clock = ManualClock()

    async def main() -> None:
        limit = RateLimit("1/second", burst=1, max_wait=5.0)
        ran: list[float] = []

        @Pipeline(limit, clock=clock)
        async def work() -> None:
            ran.append(clock.monotonic())

        await work()
        first = asyncio.ensure_future(work())
        await ticks(2)
        waits = limit.admit(0.0)
        assert isinstance(waits, Wait)
        assert waits.ready_at == 2.0, "the first waiter has the second at 1.0"
        limit.abandon(waits, 0.0)
        first.cancel()
        assert await ended(first) == "cancelled"
        await work()
        assert ran == [0.0, 1.0]

    clock.run(main())


def drivers() -> dict[str, Callable[[], Pipeline]]:
    return {
        "gate": lambda: Pipeline(Bulkhead(1)),
        "row": lambda: Pipeline(CircuitBreaker(), Bulkhead(1)),
        "retry": lambda: Pipeline(Retry(on=Exception, wait=0)),
        "timeout": lambda: Pipeline(Timeout(9.0)),
        "fallback": lambda: Pipeline(Fallback("instead")),
        "all": lambda: Pipeline(
            Fallback("instead"),
            Timeout(9.0),
            Retry(on=Exception),
            CircuitBreaker(),
            Bulkhead(1),
            Timeout(2.0),
        ),
    }


@pytest.mark.parametrize("driver", drivers())
def test_cancelled_twice(driver: str) -> None:
    """The second one comes while the function still cleans up after the first."""
    clock = ManualClock()

    async def main() -> None:
        cleaned: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(1.0)
            finally:
                try:
                    await asyncio.sleep(1.0)
                finally:
                    cleaned.append("up")

        pipeline = drivers()[driver]()
        pipeline = Pipeline(*pipeline, clock=clock)
        task = asyncio.ensure_future(pipeline(work)())
        await ticks(3)
        task.cancel()
        await ticks(3)
        task.cancel()
        assert await ended(task) == "cancelled"
        assert cleaned == ["up"]
        assert task.cancelling() == 2
        if "bulkhead" in pipeline:
            assert pipeline["bulkhead"].in_flight == 0
        if "breaker" in pipeline:
            assert pipeline["breaker"].totals() == (0, 0, 0)

    clock.run(main())


@pytest.mark.parametrize("driver", drivers())
def test_cancelled_before_it_began(driver: str) -> None:
    clock = ManualClock()

    async def main() -> None:
        async def work() -> None:
            raise AssertionError("it never runs")

        pipeline = Pipeline(*drivers()[driver](), clock=clock)
        task = asyncio.ensure_future(pipeline(work)())
        task.cancel()
        assert await ended(task) == "cancelled"
        if "bulkhead" in pipeline:
            assert pipeline["bulkhead"].in_flight == 0

    clock.run(main())


@pytest.mark.parametrize("driver", drivers())
def test_a_coroutine_that_is_closed_gives_back_what_it_took(driver: str) -> None:
    """As the interpreter does with tasks that are left when a loop is closed: GeneratorExit, with no loop around."""
    clock = ManualClock()
    pipeline = Pipeline(*drivers()[driver](), clock=clock)

    async def work() -> None:
        await asyncio.sleep(60.0)

    call: Any = pipeline(work)

    async def main() -> Any:
        coro = call()
        coro.send(None)
        return coro

    clock.run(main()).close()
    if "bulkhead" in pipeline:
        assert pipeline["bulkhead"].in_flight == 0
    if "breaker" in pipeline:
        assert pipeline["breaker"].totals() == (0, 0, 0)


def test_a_member_of_a_task_group_is_cancelled_when_another_one_fails() -> None:
    clock = ManualClock()

    async def main() -> None:
        bulkhead, breaker = Bulkhead(5, queue=5, max_wait=9.0), CircuitBreaker()

        @Pipeline(Timeout(9.0), Retry(on=Exception), breaker, bulkhead, Timeout(2.0), clock=clock)
        async def work(seconds: float) -> None:
            await asyncio.sleep(seconds)

        async def fails() -> None:
            await asyncio.sleep(0.5)
            raise LookupError("the other one")

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(work(1.0))
                group.create_task(fails())
        assert [type(each) for each in caught.value.exceptions] == [LookupError]
        assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
        assert breaker.totals() == (0, 0, 0)

    clock.run(main())
