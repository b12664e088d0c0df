"""A breaker under 16 threads: one probe at a time, results count for their own period, transitions come in order."""

from __future__ import annotations

import random
import threading
from typing import Any

import pybreaker
import pytest

from resilient import CircuitBreaker, CircuitOpen, Pipeline, Verdict
from resilient.core.events import BreakerTransition
from resilient.policies.breaker.state import Probe
from resilient.testing import ManualClock, capture_events
from tests.races.racing import Room, Tally, dawdle, race

THREADS = 16


def breaker_of(**changes: object) -> CircuitBreaker:
    """Opens at the first failure, for 10 s at most."""
    return CircuitBreaker(
        **{"consecutive": 1, "minimum_calls": 10**6, "open_for": 10.0, "max_open": 10.0, **changes}  # type: ignore[arg-type]
    )


def opened(breaker: CircuitBreaker, now: float = 0.0) -> CircuitBreaker:
    breaker.record(breaker.admit(now), Verdict.FAILURE, 0.0, now)
    assert breaker.state == "open"
    return breaker


@pytest.mark.parametrize("verdict", [Verdict.FAILURE, Verdict.IGNORED])
def test_exactly_one_of_all_who_ask_becomes_the_probe(verdict: Verdict) -> None:
    breaker, now = opened(breaker_of()), 0.0
    for _ in range(40):
        now += 11.0
        permits: list[object] = []
        refused = Tally()

        def ask(now: float = now, permits: list[object] = permits, refused: Tally = refused) -> None:
            try:
                permits.append(breaker.admit(now))
            except CircuitOpen as error:
                refused.add(error.state)

        race(ask, threads=THREADS)
        (probe,) = permits
        assert isinstance(probe, Probe)
        assert refused["half_open"] == THREADS - 1
        breaker.record(probe, verdict, 0.0, now)


@pytest.mark.parametrize("share_of_failures", [0.2, 1.0])
def test_one_probe_in_flight_at_a_time_until_it_closes(share_of_failures: float) -> None:
    """So many probes are asked for that it never closes: whoever is inside is a probe."""
    clock, breaker, room = ManualClock(), breaker_of(probes=1_000), Room()
    opened(breaker)

    @Pipeline(breaker, clock=clock)
    def work() -> None:
        with room:
            dawdle()
            if random.random() < share_of_failures:
                raise ValueError

    def caller() -> None:
        for _ in range(20_000):
            if room.entered > 20:
                return
            try:
                work()
            except ValueError:
                pass
            except CircuitOpen as error:
                if error.state == "open":
                    clock.advance(0.05)

    race(caller, threads=THREADS)
    assert room.entered > 20, "there were several trials"
    assert room.peak == 1
    assert room.inside == 0


def test_a_probe_is_alone_even_if_it_is_cancelled_and_replaced_all_the_time() -> None:
    clock, breaker, room = ManualClock(), breaker_of(probes=10**3), Room()
    opened(breaker)
    clock.advance(11.0)

    @Pipeline(breaker, clock=clock)
    def work() -> None:
        with room:
            dawdle()
            if random.random() < 0.5:
                raise KeyboardInterrupt  # as a cancellation does: counts neither way, and gives the place back

    def caller() -> None:
        for _ in range(300):
            try:
                work()
            except (CircuitOpen, KeyboardInterrupt):
                pass

    race(caller, threads=THREADS)
    assert room.entered > THREADS, "the place came back many times"
    assert room.peak == 1
    assert breaker.state in ("half_open", "closed")


def test_late_results_of_an_older_period_change_nothing() -> None:
    breaker = breaker_of(probes=1)
    old = [breaker.admit(0.0) for _ in range(THREADS * 50)]
    opened(breaker)

    def report() -> None:
        for _ in range(50):
            breaker.record(old.pop(), random.choice(list(Verdict)), 0.0, 1.0)

    race(report, threads=THREADS)
    assert breaker.state == "open"
    probe = breaker.admit(20.0)
    breaker.record(probe, Verdict.SUCCESS, 0.0, 20.0)
    assert breaker.state == "closed"
    assert breaker.totals() == (0, 0, 0)


def test_successes_and_failures_of_a_window_are_counted_to_the_last_one() -> None:
    clock = ManualClock(100.0)
    breaker, tally = CircuitBreaker(failure_ratio=1.0, minimum_calls=10**6, consecutive=None), Tally()

    @Pipeline(breaker, clock=clock)
    def work() -> None:
        if random.random() < 0.1:
            raise ValueError

    def caller() -> None:
        for _ in range(1_000):
            try:
                work()
            except ValueError:
                tally.add("failed")

    race(caller, lambda: [breaker.totals() for _ in range(500)], *[caller] * (THREADS - 1))
    assert breaker.totals() == (THREADS * 1_000, tally["failed"], 0)


def test_listeners_are_all_handed_the_same_pybreaker_object() -> None:
    class Seeing(pybreaker.CircuitBreakerListener):
        def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
            seen.append(cb)

    for _ in range(30):
        seen: list[Any] = []
        call = CircuitBreaker(listeners=[Seeing()])(dawdle)
        race(call, threads=THREADS)
        assert len(seen) == THREADS
        assert len({id(each) for each in seen}) == 1


def test_transitions_are_told_in_order_each_once() -> None:
    clock, breaker = ManualClock(), breaker_of(probes=2, open_for=0.01, max_open=0.01)

    @Pipeline(breaker, name="ordered", clock=clock)
    def work() -> None:
        dawdle()
        if random.random() < 0.3:
            raise ValueError

    def caller() -> None:
        for _ in range(200):
            try:
                work()
            except (CircuitOpen, ValueError):
                clock.advance(0.001)

    with capture_events() as seen:
        race(caller, threads=8)
    told = [event for event in seen.events if isinstance(event, BreakerTransition)]
    assert len(told) > 20
    state = "closed"
    for event in told:
        assert event.old == state
        assert event.new != event.old
        state = event.new
    assert state == breaker.state


def test_by_hand_and_by_itself_at_once() -> None:
    """Operators press buttons while calls fail: no exception of ours gets out, and `reset` always helps."""
    clock, breaker, over = ManualClock(), breaker_of(probes=1), threading.Event()

    @Pipeline(breaker, clock=clock)
    def work() -> None:
        if random.random() < 0.5:
            raise ValueError

    def caller() -> None:
        while not over.is_set():
            try:
                work()
            except (CircuitOpen, ValueError):
                clock.advance(0.1)

    def operator() -> None:
        for _ in range(300):
            random.choice(
                [
                    breaker.force_open,
                    breaker.disable,
                    breaker.reset,
                    breaker.observe,
                    lambda: breaker.observe(False),
                ]
            )()
        over.set()

    race(operator, *[caller] * 8)
    breaker.observe(False)
    breaker.reset()
    assert breaker.state == "closed"
    assert breaker.totals() == (0, 0, 0)
