"""Whose cancellation is it? A time limit of ours, the caller's, or both at once; and one timer serves them all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resilient import DeadlineExceeded, Pipeline, Retry, TimedOut, Timeout, deadline
from resilient.testing import ManualClock


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def limited(clock: ManualClock, kind: str, seconds: float) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Three ways in which ours ends a call after ``seconds``: by the shared timer, and by the one of a deadline."""

    def decorate(work: Callable[[], Awaitable[Any]]) -> Any:
        if kind == "attempt":
            return Pipeline(Timeout(seconds), clock=clock)(work)
        if kind == "total":
            return Pipeline(Timeout(seconds), Retry(on=Exception), clock=clock)(work)
        inner = Pipeline(Timeout(seconds + 5.0), clock=clock)(work)

        async def call() -> Any:
            with deadline(seconds, clock=clock):
                return await inner()

        return call

    return decorate


KINDS = {"attempt": TimedOut, "total": DeadlineExceeded, "inherited": DeadlineExceeded}
each_kind = pytest.mark.parametrize("kind", KINDS)


async def forever() -> None:
    await asyncio.sleep(600.0)


async def outcome(awaitable: Awaitable[Any]) -> str:
    try:
        await awaitable
    except asyncio.CancelledError:
        return "cancelled"
    except Exception as exc:
        return type(exc).__name__
    return "done"


@each_kind
def test_its_own_expiry_is_a_time_out_and_leaves_no_cancellation_behind(kind: str) -> None:
    clock = ManualClock()

    async def main() -> None:
        call = limited(clock, kind, 1.0)(forever)
        for n in range(3):
            with pytest.raises(TimedOut) as caught:
                await call()
            assert type(caught.value) is KINDS[kind]
            assert clock.monotonic() == pytest.approx(n + 1.0)
            assert this_task().cancelling() == 0
            await asyncio.sleep(0)  # and nothing is thrown at the next suspension

    clock.run(main())


@each_kind
@pytest.mark.parametrize(("after", "ends"), [(-0.001, "cancelled"), (0.0, "cancelled"), (0.001, "time-out")])
@pytest.mark.parametrize("cancel_is_scheduled", ["before the call", "inside the call"])
def test_cancelled_by_the_caller_just_before_at_and_after_the_expiry(
    kind: str, after: float, ends: str, cancel_is_scheduled: str
) -> None:
    """At the same moment both want it ended: then the caller's cancellation is what must come out."""
    clock = ManualClock()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task: asyncio.Task[Any]

        async def work() -> None:
            if cancel_is_scheduled == "inside the call":
                loop.call_at(1.0 + after, task.cancel)
            await asyncio.sleep(60.0)

        call = limited(clock, kind, 1.0)(work)

        async def caller() -> str:
            with pytest.raises(TimedOut):
                await call()
            return "time-out"

        task = asyncio.ensure_future(caller())
        if cancel_is_scheduled == "before the call":
            loop.call_at(1.0 + after, task.cancel)
        await asyncio.wait([task])
        assert ("cancelled" if task.cancelled() else task.result()) == ends
        assert task.cancelling() == (ends == "cancelled")

    clock.run(main())


@each_kind
def test_cancelled_by_the_caller_while_it_cleans_up_after_its_own_expiry(kind: str) -> None:
    clock = ManualClock()

    async def main() -> None:
        async def work() -> None:
            try:
                await asyncio.sleep(60.0)
            finally:
                await asyncio.sleep(1.0)

        task = asyncio.ensure_future(limited(clock, kind, 1.0)(work)())
        asyncio.get_running_loop().call_at(1.5, task.cancel)
        assert await outcome(task) == "cancelled"
        assert task.cancelling() == 1

    clock.run(main())


@each_kind
def test_its_own_expiry_while_it_cleans_up_after_the_callers_cancellation(kind: str) -> None:
    clock = ManualClock()

    async def main() -> None:
        async def work() -> None:
            try:
                await asyncio.sleep(60.0)
            finally:
                await asyncio.sleep(1.0)

        task = asyncio.ensure_future(limited(clock, kind, 1.0)(work)())
        asyncio.get_running_loop().call_at(0.5, task.cancel)
        assert await outcome(task) == "cancelled"
        assert task.cancelling() == 1

    clock.run(main())


@each_kind
def test_a_function_that_swallows_the_cancellation_has_its_result_returned(kind: str) -> None:
    clock = ManualClock()

    async def main() -> None:
        async def work() -> str:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                pass
            return "late"

        assert await limited(clock, kind, 1.0)(work)() == "late"
        assert this_task().cancelling() == 0
        await asyncio.sleep(0)

    clock.run(main())


@each_kind
def test_a_function_that_fails_while_it_is_ended_raises_its_own_error(kind: str) -> None:
    clock = ManualClock()

    async def main() -> None:
        async def work() -> None:
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                raise LookupError("its own") from None

        assert await outcome(limited(clock, kind, 1.0)(work)()) == "LookupError"
        assert this_task().cancelling() == 0
        await asyncio.sleep(0)

    clock.run(main())


@each_kind
@pytest.mark.parametrize(("theirs", "ends"), [(0.5, "TimeoutError"), (1.0, "either"), (2.0, "ours")])
def test_inside_asyncio_timeout(kind: str, theirs: float, ends: str) -> None:
    clock = ManualClock()

    async def main() -> None:
        call = limited(clock, kind, 1.0)(forever)

        async def both() -> None:
            async with asyncio.timeout(theirs):
                await call()

        ended = await outcome(both())
        assert ended in {"TimeoutError": ["TimeoutError"], "ours": [KINDS[kind].__name__]}.get(
            ends, ["TimeoutError", KINDS[kind].__name__]
        )
        assert this_task().cancelling() == 0
        await asyncio.sleep(0)

    clock.run(main())


@each_kind
@pytest.mark.parametrize("theirs", [0.5, 1.0, 2.0])
def test_around_asyncio_timeout(kind: str, theirs: float) -> None:
    clock = ManualClock()

    async def main() -> None:
        async def work() -> None:
            async with asyncio.timeout(theirs):
                await asyncio.sleep(60.0)

        # A TimeoutError of the function's own is its failure; a time-out of ours says which.
        ended = await outcome(limited(clock, kind, 1.0)(work)())
        if theirs < 1.0:
            assert ended in ("TimeoutError", "DeadlineExceeded")
        elif theirs > 1.0:
            assert ended == KINDS[kind].__name__
        assert this_task().cancelling() == 0
        await asyncio.sleep(0)

    clock.run(main())


@each_kind
def test_in_a_task_that_is_being_cancelled_already(kind: str) -> None:
    """Clean-up code may be limited too: the count of cancellations is afterwards what it was."""
    clock = ManualClock()

    async def main() -> None:
        call = limited(clock, kind, 1.0)(forever)
        cleaned: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(60.0)
            finally:
                cleaned.append(await outcome(call()))
                assert this_task().cancelling() == 1

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.5)
        task.cancel()
        assert await outcome(task) == "cancelled"
        assert cleaned == [KINDS[kind].__name__]

    clock.run(main())


def test_nested_limits_of_one_moment_end_as_the_outer_one() -> None:
    clock = ManualClock()

    async def main() -> None:
        inner = Timeout(1.0)
        outer = Timeout(1.0)

        async def work() -> None:
            await asyncio.sleep(60.0)

        call = Pipeline(outer, clock=clock)(Pipeline(inner, clock=clock)(work))
        assert await outcome(call()) in ("TimedOut", "DeadlineExceeded")
        assert clock.monotonic() == 1.0
        assert this_task().cancelling() == 0
        await asyncio.sleep(0)

    clock.run(main())


def test_expiry_inside_a_task_group_ends_the_group_with_our_error() -> None:
    clock = ManualClock()

    async def main() -> None:
        call = Pipeline(Timeout(1.0), clock=clock)(forever)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(call())
                group.create_task(forever())
        assert [type(each) for each in caught.value.exceptions] == [TimedOut]

    clock.run(main())


def test_a_task_group_inside_is_ended_with_all_its_tasks() -> None:
    clock = ManualClock()

    async def main() -> None:
        members: list[asyncio.Task[None]] = []

        @Pipeline(Timeout(1.0), clock=clock)
        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                members.extend(group.create_task(asyncio.sleep(60.0)) for _ in range(3))

        with pytest.raises(TimedOut):
            await work()
        assert [each.cancelled() for each in members] == [True] * 3
        assert this_task().cancelling() == 0

    clock.run(main())


def test_limits_of_one_duration_expire_in_order_by_one_timer() -> None:
    clock = ManualClock()
    ended: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call = Pipeline(Timeout(1.0), clock=clock)(forever)

        async def one(n: int) -> None:
            await asyncio.sleep(n / 1_000)
            with pytest.raises(TimedOut):
                await call()
            assert clock.monotonic() == pytest.approx(1.0 + n / 1_000)
            ended.append(n)

        tasks = [asyncio.ensure_future(one(n)) for n in range(200)]
        await asyncio.sleep(0.5)
        ours = [each for each in loop._scheduled if "_tick" in repr(each)]  # type: ignore[attr-defined]
        assert len(ours) == 1
        await asyncio.gather(*tasks)
        assert ended == list(range(200))

    clock.run(main())


def test_calls_that_end_in_time_leave_neither_timers_nor_limits_behind() -> None:
    clock = ManualClock()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call = Pipeline(Timeout(1.0), clock=clock)(short)
        for _ in range(50):
            await asyncio.gather(*(call() for _ in range(20)))
        assert len(loop._scheduled) <= 1  # type: ignore[attr-defined]
        await asyncio.sleep(3.0)
        assert len(loop._scheduled) == 0  # type: ignore[attr-defined]

    async def short() -> None:
        await asyncio.sleep(0.01)

    clock.run(main())


def test_one_function_in_several_loops_one_after_the_other_and_at_once() -> None:
    """Each loop has its own timer, whichever loop the function ran on before."""
    call = Timeout(0.05)(_sleeps)

    async def main() -> None:
        assert await outcome(call(0.0)) == "done"
        assert await outcome(call(60.0)) == "TimedOut"

    for _ in range(3):
        asyncio.run(main())
    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10.0)
        assert not each.is_alive()


async def _sleeps(seconds: float) -> None:
    await asyncio.sleep(seconds)
