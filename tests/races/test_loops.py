"""The same policies under uvloop and under trio, in the time of those loops."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
import uvloop

from resilient import (
    Budget,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    DeadlineExceeded,
    Pipeline,
    RateLimit,
    RateLimited,
    Retry,
    TimedOut,
    Timeout,
    Verdict,
    current_call,
    deadline,
    standard,
)


class TrioClock:
    """The clock of the trio loop that runs, for pipelines."""

    monotonic = staticmethod(trio.current_time)
    time = staticmethod(trio.current_time)

    def sleep(self, seconds: float, /) -> None:
        raise AssertionError("async code must not block")

    def acquire(self, lock: Any, timeout: float, /) -> bool:
        raise AssertionError("async code must not block")


def run_trio(main: Callable[[TrioClock], Any]) -> None:
    """In virtual time: an idle loop jumps to its next timer."""
    trio.run(main, TrioClock(), clock=trio.testing.MockClock(autojump_threshold=0))


# -------------------------------------------------------------------------------------------------------- trio
def test_trio_retry_sleeps_on_trio() -> None:
    async def main(clock: TrioClock) -> None:
        began = trio.current_time()
        answers = itertools.chain([ConnectionError(), ConnectionError()], itertools.repeat("done"))

        @Pipeline(Retry(attempts=3, wait=10.0), clock=clock)
        async def work() -> str:
            await trio.lowlevel.checkpoint()
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert await work() == "done"
        assert trio.current_time() - began == pytest.approx(20.0)

    run_trio(main)


@pytest.mark.parametrize("kind", ["attempt", "total", "inherited"])
def test_trio_timeout(kind: str) -> None:
    async def main(clock: TrioClock) -> None:
        policies = {"attempt": [Timeout(1.0)], "total": [Timeout(1.0), Retry()], "inherited": [Timeout(5.0)]}[
            kind
        ]
        call = Pipeline(*policies, clock=clock)(trio.sleep_forever)
        began = trio.current_time()
        with pytest.raises(TimedOut) as caught:
            if kind == "inherited":
                with deadline(1.0, clock=clock):
                    await call()
            else:
                await call()
        assert type(caught.value) is (TimedOut if kind == "attempt" else DeadlineExceeded)
        assert trio.current_time() - began == pytest.approx(1.0)
        assert current_call().deadline is None

    run_trio(main)


def test_trio_a_scope_of_the_caller_is_not_taken_for_the_timeout() -> None:
    async def main(clock: TrioClock) -> None:
        bulkhead, breaker = Bulkhead(1), CircuitBreaker()
        call = Pipeline(Timeout(5.0), breaker, bulkhead, clock=clock)(trio.sleep_forever)
        with trio.move_on_after(1.0) as scope:
            await call()
        assert scope.cancelled_caught
        assert bulkhead.in_flight == 0
        assert breaker.totals() == (0, 0, 0)

    run_trio(main)


def test_trio_bulkhead_queue() -> None:
    async def main(clock: TrioClock) -> None:
        bulkhead, order, began = Bulkhead(2, queue=10, max_wait=100.0), [], trio.current_time()

        @Pipeline(bulkhead, clock=clock)
        async def work(n: int) -> None:
            order.append(n)
            await trio.sleep(1.0)

        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(work, n)
                await trio.testing.wait_all_tasks_blocked()
        pairs = [set(order[i : i + 2]) for i in range(0, 8, 2)]  # trio runs tasks of one moment in any order
        assert pairs == [{0, 1}, {2, 3}, {4, 5}, {6, 7}], "in the order of arrival"
        assert trio.current_time() - began == pytest.approx(4.0)
        assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)

    run_trio(main)


def test_trio_bulkhead_queue_that_runs_out_or_is_cancelled() -> None:
    async def main(clock: TrioClock) -> None:
        bulkhead = Bulkhead(1, queue=10, max_wait=2.0)
        permit = bulkhead.admit(trio.current_time())
        call = Pipeline(bulkhead, clock=clock)(trio.sleep_forever)
        began = trio.current_time()
        with pytest.raises(BulkheadFull):
            await call()
        assert trio.current_time() - began == pytest.approx(2.0)
        with trio.move_on_after(1.0) as scope:
            await call()
        assert scope.cancelled_caught
        assert bulkhead.waiting == 0
        # granted and cancelled in one tick
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
                bulkhead.record(permit, Verdict.SUCCESS, 0.0, 0.0)  # type: ignore[arg-type]
                scope.cancel()
        assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)

    run_trio(main)


def test_trio_a_thread_wakes_who_waits_in_the_queue() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(1, queue=10, max_wait=20.0)
        permit = bulkhead.admit(0.0)

        @bulkhead
        async def work() -> str:
            return "served"

        def leave() -> None:
            bulkhead.record(permit, Verdict.SUCCESS, 0.0, 0.0)  # type: ignore[arg-type]

        async with trio.open_nursery() as nursery:

            async def waits() -> None:
                assert await work() == "served"

            nursery.start_soon(waits)
            await trio.testing.wait_all_tasks_blocked()
            assert bulkhead.waiting == 1
            await trio.to_thread.run_sync(leave)
        assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)

    trio.run(main)


def test_trio_limiter_wait() -> None:
    async def main(clock: TrioClock) -> None:
        limit, times = RateLimit("1/second", burst=1, max_wait=10.0), []
        began = trio.current_time()

        @Pipeline(limit, clock=clock)
        async def work() -> None:
            times.append(trio.current_time() - began)

        for _ in range(3):
            await work()
        assert times == pytest.approx([0.0, 1.0, 2.0])
        with trio.move_on_after(0.5):
            await work()
        await work()
        assert times == pytest.approx([0.0, 1.0, 2.0, 3.0]), "the token of who was cancelled came back"
        with deadline(0.5, clock=clock), pytest.raises(RateLimited) as caught:
            await work()
        assert caught.value.reason == "deadline"

    run_trio(main)


def test_trio_cancelled_in_the_backoff_pays_no_retry() -> None:
    async def main(clock: TrioClock) -> None:
        budget = Budget(stock=10, cost=5)

        @Pipeline(Retry(attempts=3, wait=10.0, budget=budget), clock=clock)
        async def work() -> None:
            await trio.lowlevel.checkpoint()
            raise ConnectionError

        with trio.move_on_after(5.0) as scope:
            await work()
        assert scope.cancelled_caught
        assert budget.remaining(trio.current_time()) == 2
        assert current_call().attempt == 1

    run_trio(main)


def test_trio_standard_pipeline() -> None:
    async def main(clock: TrioClock) -> None:
        answers = itertools.chain([ConnectionError()], itertools.repeat("done"))

        @standard("under-trio", rate="10/second", idempotent=True, clock=clock)
        async def work() -> str:
            await trio.lowlevel.checkpoint()
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert await work() == "done"

    run_trio(main)


# ------------------------------------------------------------------------------------------------------ uvloop
def run_uvloop(main: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_uvloop_timeout_and_the_callers_cancellation() -> None:
    async def main() -> None:
        call = Timeout(0.02)(sleeps)
        task = asyncio.current_task()
        assert task is not None
        for _ in range(3):
            with pytest.raises(TimedOut):
                await call(60.0)
            assert task.cancelling() == 0
        await call(0.0)
        other = asyncio.ensure_future(Timeout(60.0)(sleeps)(60.0))
        await asyncio.sleep(0)
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        with pytest.raises(TimedOut), deadline(0.02):
            await Timeout(60.0)(sleeps)(60.0)
        assert task.cancelling() == 0

    run_uvloop(main)


def test_uvloop_limits_expire_in_order() -> None:
    async def main() -> None:
        call, ended = Timeout(0.03)(sleeps), []

        async def one(n: int) -> None:
            with pytest.raises(TimedOut):
                await call(60.0)
            ended.append(n)

        await asyncio.gather(*(one(n) for n in range(50)))
        assert ended == list(range(50))

    run_uvloop(main)


def test_uvloop_queue_backoff_and_reservation() -> None:
    async def main() -> None:
        bulkhead = Bulkhead(2, queue=50, max_wait=20.0)
        limit = RateLimit("1000/second", burst=5, max_wait=20.0)

        @Pipeline(Timeout(20.0), Retry(wait=0.001, budget=Budget(stock=1_000)), limit, bulkhead)
        async def work() -> str:
            await asyncio.sleep(0)
            if current_call().attempt == 1:
                raise ConnectionError
            return "done"

        assert await asyncio.gather(*(work() for _ in range(10))) == ["done"] * 10
        assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)

    run_uvloop(main)


async def sleeps(seconds: float) -> None:
    await asyncio.sleep(seconds)
