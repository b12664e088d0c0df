"""The seam to asyncio and trio: sleep, wake-ups, time limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import trio
import trio.testing

from resilient.core import loops
from resilient.core.loops import Limits, begin_limit
from resilient.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_it_sleeps_on_the_loop_that_runs(clock: ManualClock) -> None:
    clock.run(loops.sleep(3.0))
    assert clock.monotonic() == 3.0

    async def in_trio() -> float:
        assert loops.in_trio()
        await loops.sleep(3.0)
        return trio.current_time()

    mock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(in_trio, clock=mock) == pytest.approx(3.0)

    async def in_asyncio() -> bool:
        return loops.in_trio()

    assert clock.run(in_asyncio()) is False


@pytest.mark.parametrize(
    ("wake_after", "timeout", "ends"), [(1.0, 5.0, 1.0), (9.0, 5.0, 5.0), (1.0, float("inf"), 1.0)]
)
def test_who_waits_is_woken_or_goes_on_when_the_time_is_over(
    clock: ManualClock, wake_after: float, timeout: float, ends: float
) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        def arm(wake: Callable[[], None]) -> bool:
            loop.call_later(wake_after, wake)
            loop.call_later(wake_after, wake)  # twice does no harm
            return True

        await loops.wait_for_wake(arm, timeout)
        return clock.monotonic()

    assert clock.run(main()) == ends


def test_where_there_is_nothing_to_wait_for_nobody_waits(clock: ManualClock) -> None:
    clock.run(loops.wait_for_wake(lambda wake: False, 5.0))
    assert clock.monotonic() == 0.0
    mock = trio.testing.MockClock(autojump_threshold=0)

    async def in_trio() -> float:
        began = trio.current_time()
        await loops.wait_for_wake(lambda wake: False, 5.0)
        return trio.current_time() - began

    assert trio.run(in_trio, clock=mock) == pytest.approx(0.0)


def test_to_wake_a_loop_that_is_closed_does_nothing(clock: ManualClock) -> None:
    wakes: list[Callable[[], None]] = []

    def arm(wake: Callable[[], None]) -> bool:
        wakes.append(wake)
        return True

    clock.run(loops.wait_for_wake(arm, 1.0))
    wakes[0]()

    async def in_trio() -> None:
        await loops.wait_for_wake(arm, 0.0)

    trio.run(in_trio)
    wakes[1]()


def test_one_timer_serves_all_limits_of_one_duration(clock: ManualClock) -> None:
    ended: list[tuple[str, float]] = []

    async def limited(limits: Limits, name: str, takes: float) -> None:
        limit = limits.begin(clock.monotonic() + limits.duration)
        assert limit is not None
        try:
            await asyncio.sleep(takes)
            ended.append((name, clock.monotonic()))
        except asyncio.CancelledError:
            assert limit.is_own()
            ended.append((f"{name} cut", clock.monotonic()))
        finally:
            limit.task = None

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limits = Limits(loop, 2.0, clock.monotonic)
        tasks = []
        for name, takes in (("a", 9.0), ("b", 1.0), ("c", 9.0), ("d", 1.9)):
            tasks.append(asyncio.ensure_future(limited(limits, name, takes)))
            await asyncio.sleep(0.5)
        await asyncio.gather(*tasks)
        again = asyncio.ensure_future(limited(limits, "e", 9.0))
        await again

    clock.run(main())
    assert ended == [("b", 1.5), ("a cut", 2.0), ("c cut", 3.0), ("d", 3.4), ("e cut", 5.4)]


def test_limits_are_of_one_loop(clock: ManualClock) -> None:
    limits: list[Limits] = []

    async def make() -> None:
        limits.append(Limits(asyncio.get_running_loop(), 2.0, clock.monotonic))
        assert limits[0].begin(2.0) is not None

    async def use() -> None:
        assert limits[0].begin(2.0) is None

    clock.run(make())
    clock.run(use())


def test_a_limit_of_its_own_knows_its_own_cancellation(clock: ManualClock) -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        owns = []
        for seconds in (1.0, 5.0):
            limit, timer = begin_limit(loop, seconds)
            task = asyncio.current_task()
            assert task is not None
            loop.call_later(3.0, lambda task=task: task.cancel() if seconds == 5.0 else None)  # noqa: B023
            try:
                await asyncio.sleep(9.0)
            except asyncio.CancelledError:
                owns.append(limit.is_own())
                if not owns[-1]:
                    task.uncancel()
            timer.cancel()
        return owns

    assert clock.run(main()) == [True, False]
