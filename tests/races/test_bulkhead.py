"""A bulkhead under threads and event loops at once: never more than its limit, and no permit is ever lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from resilient import Bulkhead, BulkheadFull, Pipeline, RateLimit, Retry
from tests.races.racing import Room, Tally, dawdle, race

THREADS = 16
CALLS = 1_200


def empty(bulkhead: Bulkhead) -> bool:
    """Nobody in it, nobody waits, and every permit can be had: no more and no less than the limit."""
    limit = bulkhead.options.limit
    permits = [bulkhead.admit(0.0) for _ in range(limit)]
    full = bulkhead.in_flight == limit
    for permit in permits:
        bulkhead.cancel(permit, 0.0)
    return full and bulkhead.in_flight == 0 and bulkhead.waiting == 0


@pytest.mark.parametrize(
    "bulkhead",
    [
        pytest.param(lambda: Bulkhead(4), id="without a queue"),
        pytest.param(lambda: Bulkhead(4, queue=THREADS, max_wait=20.0), id="queue with room for all"),
        pytest.param(
            lambda: Bulkhead(2, queue=3, max_wait=0.0003), id="queue too short, and wait that runs out"
        ),
    ],
)
def test_never_more_than_the_limit_and_no_permit_lost(bulkhead: Callable[[], Bulkhead]) -> None:
    bulkhead_, room, tally = bulkhead(), Room(), Tally()

    @bulkhead_
    def work() -> None:
        with room:
            dawdle()
        if random.random() < 0.1:
            raise ValueError("some calls fail")

    def caller() -> None:
        for _ in range(CALLS):
            try:
                work()
                tally.add("served")
            except BulkheadFull:
                tally.add("refused")
            except ValueError:
                tally.add("failed")

    race(caller, threads=THREADS)
    assert room.peak <= bulkhead_.options.limit
    assert room.peak > 1, "nothing raced"
    assert tally["served"] + tally["failed"] == room.entered
    assert room.entered + tally["refused"] == THREADS * CALLS
    assert empty(bulkhead_)
    if bulkhead_.options.max_wait > 10:
        assert tally["refused"] == 0, "everybody waited, and nobody was served too late"


def test_threads_and_event_loops_share_one_bulkhead_while_tasks_are_cancelled() -> None:
    bulkhead, room, tally = Bulkhead(3, queue=50, max_wait=0.002), Room(), Tally()

    @bulkhead
    def work() -> None:
        with room:
            dawdle()

    @bulkhead
    async def awork() -> None:
        with room:
            for _ in range(random.randrange(3)):
                await asyncio.sleep(0)

    async def one() -> None:
        task = asyncio.ensure_future(awork())
        for _ in range(random.randrange(6)):
            await asyncio.sleep(0)
        if random.random() < 0.5:
            task.cancel()
            if random.random() < 0.3:
                task.cancel()
        try:
            await task
        except BulkheadFull:
            tally.add("refused")
        except asyncio.CancelledError:
            tally.add("cancelled")

    def thread() -> None:
        for _ in range(CALLS):
            try:
                work()
            except BulkheadFull:
                tally.add("refused")

    async def tasks() -> None:
        for _ in range(12):
            await asyncio.gather(*(one() for _ in range(12)))

    race(*[thread] * 6, *[lambda: asyncio.run(tasks())] * 4)
    assert 1 < room.peak <= 3
    assert room.inside == 0
    assert tally["cancelled"] > 0
    assert empty(bulkhead)


def test_a_rejection_further_in_gives_back_what_was_taken_further_out() -> None:
    """Two bulkheads, the inner one smaller: the permits of the outer come back from every refused call."""
    outer, inner, room = Bulkhead(8), Bulkhead(2), Room()

    @Pipeline(outer, inner)
    def work() -> None:
        with room:
            dawdle()

    def caller() -> None:
        for _ in range(CALLS):
            try:
                work()
            except BulkheadFull:
                pass

    race(caller, threads=THREADS)
    assert 1 < room.peak <= 2
    assert empty(outer)
    assert empty(inner)


def test_attempts_of_a_retry_hold_one_permit_at_a_time() -> None:
    bulkhead, room = Bulkhead(4, queue=THREADS, max_wait=20.0), Room()

    @Pipeline(Retry(attempts=3, wait=0), RateLimit("1000000/second"), bulkhead)
    def work() -> None:
        with room:
            dawdle()
            if random.random() < 0.3:
                raise ConnectionError("again")

    def caller() -> None:
        for _ in range(CALLS // 2):
            try:
                work()
            except ConnectionError:
                pass

    race(caller, threads=THREADS)
    assert 1 < room.peak <= 4
    assert empty(bulkhead)
