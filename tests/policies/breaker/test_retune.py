"""Other rules for a breaker at work: state, window and probes stay."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import CircuitBreaker, CircuitOpen
from resilient.core.outcome import FAILURE, SUCCESS, Verdict
from resilient.core.windows import CountWindow, TimeWindow, Totals, respread
from resilient.policies.breaker.options import CircuitBreakerOptions
from resilient.policies.breaker.state import CLOSED, HALF_OPEN, OPEN, BreakerState, Change


def breaker(**rules: Any) -> tuple[BreakerState, list[Change]]:
    changes: list[Change] = []
    return BreakerState(CircuitBreakerOptions(**rules), changes.append, rand=lambda: 0.0), changes


def call(state: BreakerState, verdict: Verdict, now: float, latency: float = 0.0) -> None:
    state.record(state.admit(now), verdict, latency, now)


def test_outcomes_count_on_under_the_new_thresholds() -> None:
    state, changes = breaker(consecutive=None, minimum_calls=20)
    for n in range(9):
        call(state, FAILURE, n / 10)
    assert state.retune(CircuitBreakerOptions(consecutive=None, minimum_calls=10), 1.0) is None
    assert state.totals(1.0) == Totals(9, 9, 0)
    assert changes == [], "a change of rules alone opens nothing"
    call(state, FAILURE, 1.0)
    assert [change.new for change in changes] == [OPEN]


def test_a_streak_and_what_is_slow_are_judged_anew() -> None:
    state, changes = breaker(consecutive=10, minimum_calls=50)
    call(state, SUCCESS, 0.0, latency=1.0)
    for _ in range(2):
        call(state, FAILURE, 0.0)
    state.retune(CircuitBreakerOptions(consecutive=3, minimum_calls=100, slow_after=0.5), 0.0)
    call(state, SUCCESS, 0.0, latency=1.0)
    assert state.totals(0.0).slow == 1
    for _ in range(3):
        call(state, FAILURE, 0.0)
    assert [change.trigger for change in changes] == ["consecutive"]


def test_an_open_breaker_stays_open_for_the_new_time_at_most() -> None:
    state, _ = breaker(consecutive=1, open_for=30.0)
    call(state, FAILURE, 0.0)
    state.retune(CircuitBreakerOptions(consecutive=1, open_for=60.0), 1.0)
    assert state.until == 30.0, "longer only from the next time on"
    state.retune(CircuitBreakerOptions(consecutive=1, open_for=2.0), 1.0)
    assert (state.state(), state.until) == (OPEN, 3.0)
    with pytest.raises(CircuitOpen):
        state.admit(2.9)
    call(state, FAILURE, 3.0)
    assert state.until == 7.0, "the second time in a row: twice as long"


def test_a_probe_in_flight_is_still_the_probe() -> None:
    state, changes = breaker(consecutive=1, probes=3)
    call(state, FAILURE, 0.0)
    probe = state.admit(5.0)
    state.retune(CircuitBreakerOptions(consecutive=1, probes=1), 5.0)
    assert state.state() == HALF_OPEN
    with pytest.raises(CircuitOpen):
        state.admit(5.0)
    state.record(probe, SUCCESS, 0.0, 5.1)
    assert [change.new for change in changes] == [OPEN, HALF_OPEN, CLOSED]


def test_late_results_count_after_a_change_of_the_window() -> None:
    for old, new in (({"window": 10.0}, {"window": 60.0}), ({"count": 20}, {"count": 30})):
        state, _ = breaker(consecutive=None, **old)
        permit = state.admit(0.0)
        state.retune(CircuitBreakerOptions(consecutive=None, **new), 0.0)
        state.record(permit, FAILURE, 0.0, 1.0)
        assert state.totals(1.0) == Totals(1, 1, 0)


def test_seconds_and_calls_are_not_counted_alike() -> None:
    state, _ = breaker(consecutive=None)
    call(state, FAILURE, 0.0)
    late = state.admit(0.0)
    forgotten = state.retune(CircuitBreakerOptions(consecutive=None, count=20), 0.0)
    assert forgotten is not None
    assert "not counted alike" in forgotten
    state.record(late, FAILURE, 0.0, 0.0)
    assert state.totals(0.0) == Totals(0, 0, 0), "the window of another period"
    call(state, FAILURE, 0.0)
    assert state.totals(0.0) == Totals(1, 1, 0)


def test_an_open_breaker_that_is_told_to_count_otherwise_stays_open() -> None:
    state, _ = breaker(consecutive=1)
    call(state, FAILURE, 0.0)
    state.retune(CircuitBreakerOptions(consecutive=1, count=20), 1.0)
    assert state.state() == OPEN


def test_a_longer_window_keeps_what_it_has_and_a_shorter_one_what_falls_into_it() -> None:
    window = TimeWindow(10.0)
    for second in range(10):
        for _ in range(second + 1):
            window.add(float(second), failure=False, slow=False)
        window.add(float(second), failure=True, slow=True)
    window.resize(100.0, 9.5)
    assert window.totals(9.5) == Totals(65, 10, 10)
    assert window.totals(100.0) == Totals(65, 10, 10)
    assert window.totals(120.0) == Totals(0, 0, 0)
    window = TimeWindow(10.0)
    for second in range(10):
        window.add(float(second), failure=True, slow=False)
    window.resize(5.0, 9.5)
    assert window.totals(9.5).failures == 5, "those of the last five seconds"
    assert window.streak == 10
    window.resize(5.0, 100.0)
    assert window.totals(100.0) == Totals(0, 0, 0)


def test_successes_that_were_only_counted_are_kept_too() -> None:
    window = TimeWindow(10.0)
    window.add(0.0, failure=False, slow=False)
    for _ in range(7):
        window.count()
    window.resize(20.0, 0.5)
    assert window.totals(0.5).calls == 8
    assert window.quick_until == 2.5


def test_a_window_that_saw_nothing_is_resized_too() -> None:
    window = TimeWindow(10.0)
    window.resize(20.0, 5.0)
    window.add(100.0, failure=True, slow=False)
    assert window.totals(119.0).calls == 1


def test_a_window_of_calls_keeps_the_latest() -> None:
    window = CountWindow(4)
    for failure in (True, True, False, False):
        window.add(0.0, failure=failure, slow=failure)
    window.resize(3, 0.0)
    assert window.totals(0.0) == Totals(3, 1, 1)
    window.resize(5, 0.0)
    window.add(0.0, failure=True, slow=False)
    window.add(0.0, failure=True, slow=False)
    assert window.totals(0.0) == Totals(5, 3, 1)
    window.add(0.0, failure=False, slow=False)
    assert window.totals(0.0) == Totals(5, 2, 0)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 2.0, 3.0, 10.0])
def test_counts_are_spread_by_their_age(ratio: float) -> None:
    slots = list(range(1, 11))
    spread = respread(slots, 3, ratio)
    by_age = {age: slots[3 - age] for age in range(10)}
    expected = [0] * 10
    for age, count in by_age.items():
        if int(age * ratio) < 10:
            expected[int(age * ratio)] += count
    assert [spread[-age] for age in range(10)] == expected


def test_the_policy_prints_what_is_in_force() -> None:
    policy = CircuitBreaker(consecutive=1)
    policy.retune(CircuitBreakerOptions(consecutive=7, open_for=2.0), 0.0)
    assert "7 in a row" in str(policy)
    for n in range(7):
        policy.record(policy.admit(0.0), FAILURE, 0.0, 0.0)
        assert policy.state == ("open" if n == 6 else "closed")
