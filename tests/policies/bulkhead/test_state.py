"""The permits beside a number and a queue."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient import BulkheadFull, Wait
from resilient.core.outcome import Verdict
from resilient.policies.bulkhead.options import BulkheadOptions
from resilient.policies.bulkhead.state import Seats


class SeatsMachine(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 4), queue=st.integers(0, 4), start=st.integers(0, 100))
    def begin(self, limit: int, queue: int, start: int) -> None:
        self.options = BulkheadOptions(limit, queue=queue, max_wait=4.0 if queue else 0.0)
        self.seats = Seats(self.options)
        self.now = float(start)
        self.running: list[Any] = []  # permits
        self.queue: list[Wait[Any]] = []  # in the order of arrival, none of them served
        self.served: list[Wait[Any]] = []  # served, and not settled yet
        self.woken: list[Wait[Any]] = []

    @rule(ticks=st.integers(1, 12))
    def a_moment_passes(self, ticks: int) -> None:
        self.now += ticks / 4

    def a_seat_is_free(self) -> None:
        """The reference: who has waited longest gets it."""
        if self.queue:
            self.served.append(self.queue.pop(0))

    @rule(listens=st.booleans())
    def a_call_comes(self, listens: bool) -> None:
        taken = len(self.running) + len(self.served)
        if taken < self.options.limit and not self.queue:
            permit = self.seats.admit(self.now)
            assert not isinstance(permit, Wait)
            self.running.append(permit)
        elif len(self.queue) < self.options.queue:
            wait = self.seats.admit(self.now)
            assert isinstance(wait, Wait)
            assert wait.until == self.now + self.options.max_wait
            assert wait.ready_at is None
            if listens:
                wait.wake = lambda: self.woken.append(wait)
            self.queue.append(wait)
        else:
            with pytest.raises(BulkheadFull) as caught:
                self.seats.admit(self.now)
            assert caught.value.reason == ("queue full" if self.options.queue else "full")

    @precondition(lambda self: self.running)
    @rule(data=st.data(), verdict=st.sampled_from(Verdict))
    def a_call_ends(self, data: st.DataObject, verdict: Verdict) -> None:
        permit = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.seats.record(permit, verdict, 1.0, self.now)
        self.a_seat_is_free()

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def one_that_was_served_begins(self, data: st.DataObject) -> None:
        wait = self.served.pop(data.draw(st.integers(0, len(self.served) - 1)))
        self.running.append(self.seats.settle(wait, self.now))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def one_has_waited_too_long(self, data: st.DataObject) -> None:
        wait = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        with pytest.raises(BulkheadFull) as caught:
            self.seats.settle(wait, self.now)
        assert caught.value.reason == "waited"

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def one_is_cancelled_while_it_waits(self, data: st.DataObject) -> None:
        wait = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.seats.abandon(wait, self.now)

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def one_is_cancelled_when_it_was_just_served(self, data: st.DataObject) -> None:
        wait = self.served.pop(data.draw(st.integers(0, len(self.served) - 1)))
        self.seats.abandon(wait, self.now)
        self.a_seat_is_free()

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "seats"):
            return
        assert self.seats.in_flight == len(self.running) + len(self.served) <= self.options.limit
        assert self.seats.waiting == len(self.queue) <= self.options.queue
        assert all(wait.permit is not None for wait in self.served), "in the order of arrival"
        assert all(wait.permit is None for wait in self.queue)
        assert all(wait in self.woken for wait in self.served if wait.wake is not None)
        assert not any(wait in self.woken for wait in self.queue)


SeatsMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestSeats = SeatsMachine.TestCase


@pytest.mark.parametrize(
    ("options", "calls", "reason", "text"),
    [
        (BulkheadOptions(2), 2, "full", "the bulkhead is full: 2 calls are in flight"),
        (
            BulkheadOptions(2, queue=1, max_wait=1.0),
            3,
            "queue full",
            "the bulkhead is full: 2 calls are in flight and 1 wait",
        ),
    ],
    ids=["no queue", "queue"],
)
def test_a_rejection_says_what_is_full(options: BulkheadOptions, calls: int, reason: str, text: str) -> None:
    seats = Seats(options)
    for _ in range(calls):
        seats.admit(0.0)
    with pytest.raises(BulkheadFull) as caught:
        seats.admit(0.0)
    assert (caught.value.reason, str(caught.value)) == (reason, text)


def test_who_waited_in_vain_is_told_so() -> None:
    seats = Seats(BulkheadOptions(1, queue=1, max_wait=1.0))
    seats.admit(0.0)
    wait = seats.admit(0.0)
    assert isinstance(wait, Wait)
    with pytest.raises(BulkheadFull, match="none of 1 calls in flight ended in time"):
        seats.settle(wait, 1.0)
    assert seats.waiting == 0


def test_what_the_parent_of_a_fork_began_gives_the_child_nothing_when_it_ends() -> None:
    seats = Seats(BulkheadOptions(1, queue=1, max_wait=1.0))
    permit = seats.admit(0.0)
    seats.admit(0.0)
    seats._lock.acquire()
    seats.after_fork()
    assert (seats.in_flight, seats.waiting) == (0, 0)
    seats.admit(0.0)
    assert not isinstance(permit, Wait)
    seats.record(permit, Verdict.SUCCESS, 0.0, 0.0)
    assert seats.in_flight == 1
    assert isinstance(seats.admit(0.0), Wait)
