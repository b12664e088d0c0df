"""Another limit while calls are in flight: none is lost, and none is let in until the limit holds."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import Bulkhead, BulkheadFull, Wait
from resilient.core.outcome import SUCCESS
from resilient.policies.bulkhead.options import BulkheadOptions
from tests.races.racing import Room, race


def options(limit: int, queue: int = 0) -> BulkheadOptions:
    return BulkheadOptions(limit, queue, 4.0 if queue else 0.0)


def admit(bulkhead: Bulkhead) -> Any:
    try:
        return bulkhead.admit(0.0)
    except BulkheadFull:
        return None


@given(st.lists(st.tuples(st.sampled_from(["call", "end", "limit"]), st.integers(1, 6)), max_size=60))
def test_it_is_a_counter_whatever_the_limit_becomes(steps: list[tuple[str, int]]) -> None:
    bulkhead, running, limit = Bulkhead(3), list[Any](), 3
    for step, n in steps:
        if step == "limit":
            bulkhead.retune(options(n), 0.0)
            limit = n
        elif step == "end" and running:
            bulkhead.record(running.pop(), SUCCESS, 0.0, 0.0)
        elif step == "call":
            permit = admit(bulkhead)
            assert (permit is not None) == (len(running) < limit)
            if permit is not None:
                running.append(permit)
        assert (bulkhead.in_flight, bulkhead.waiting) == (len(running), 0)


def test_a_lower_limit_waits_for_calls_to_end_and_lets_nobody_in_meanwhile() -> None:
    bulkhead = Bulkhead(4)
    permits = [bulkhead.admit(0.0) for _ in range(4)]
    bulkhead.retune(options(2), 0.0)
    for left in (3, 2):
        bulkhead.record(permits.pop(), SUCCESS, 0.0, 0.0)  # type: ignore[arg-type]
        assert bulkhead.in_flight == left
        assert admit(bulkhead) is None
    bulkhead.record(permits.pop(), SUCCESS, 0.0, 0.0)  # type: ignore[arg-type]
    assert admit(bulkhead) is not None
    assert str(bulkhead) == "Bulkhead(2)"


def test_who_waits_stays_in_the_queue_and_is_served_by_a_higher_limit_at_once() -> None:
    bulkhead = Bulkhead(1, queue=3, max_wait=4.0)
    bulkhead.admit(0.0)
    waits = [bulkhead.admit(0.0) for _ in range(3)]
    woken: list[int] = []
    for n, wait in enumerate(waits):
        assert isinstance(wait, Wait)
        wait.wake = lambda n=n: woken.append(n)  # type: ignore[misc]
    bulkhead.retune(options(3, 1), 0.0)
    assert woken == [0, 1]
    assert bulkhead.waiting == 1
    assert admit(bulkhead) is None, "the shorter queue is full"
    bulkhead.retune(options(1, 3), 0.0)  # two too many are in flight now
    assert (bulkhead.in_flight, bulkhead.waiting) == (3, 1)
    for n, wait in enumerate(waits[:2]):
        bulkhead.record(bulkhead.settle(wait, 1.0), SUCCESS, 0.0, 1.0)  # type: ignore[arg-type]
        assert woken == [0, 1], f"after {n + 1} ended the limit of one is still full"
    bulkhead.abandon(waits[2], 1.0)  # type: ignore[arg-type]
    assert (bulkhead.in_flight, bulkhead.waiting) == (1, 0)


def test_what_is_owed_is_forgiven_when_the_limit_rises_again() -> None:
    bulkhead = Bulkhead(5)
    permits = [bulkhead.admit(0.0) for _ in range(5)]
    bulkhead.retune(options(1), 0.0)
    bulkhead.retune(options(6), 0.0)
    assert admit(bulkhead) is not None
    assert admit(bulkhead) is None
    for permit in permits:
        bulkhead.record(permit, SUCCESS, 0.0, 0.0)  # type: ignore[arg-type]
    assert bulkhead.in_flight == 1
    assert [admit(bulkhead) is not None for _ in range(6)] == [True] * 5 + [False]


def test_a_child_of_a_fork_owes_nothing() -> None:
    bulkhead = Bulkhead(3)
    for _ in range(3):
        bulkhead.admit(0.0)
    bulkhead.retune(options(1), 0.0)
    bulkhead.after_fork()
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
    assert [admit(bulkhead) is not None for _ in range(2)] == [True, False]


@pytest.mark.parametrize("queue", [0, 8])
def test_racing_calls_never_exceed_the_largest_limit_and_lose_no_permit(queue: int) -> None:
    bulkhead, room, over = Bulkhead(4, queue=queue, max_wait=5.0 if queue else 0.0), Room(), threading.Event()

    @bulkhead
    def work() -> None:
        with room:
            pass

    def calls() -> None:
        for _ in range(400):
            try:
                work()
            except BulkheadFull:
                pass

    def limits() -> None:
        while not over.is_set():
            bulkhead.retune(options(random.randint(1, 6), queue), 0.0)

    changing = threading.Thread(target=limits)
    changing.start()
    try:
        race(calls, threads=8)
    finally:
        over.set()
        changing.join()
    assert room.peak <= 6
    bulkhead.retune(options(3), 0.0)
    assert bulkhead.in_flight == 0
    assert [admit(bulkhead) is not None for _ in range(4)] == [True, True, True, False]
