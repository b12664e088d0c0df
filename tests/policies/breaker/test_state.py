"""The breaker's state machine beside one that keeps every outcome and asks the rules in plain words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient import CircuitOpen
from resilient.core.outcome import FAILURE, IGNORED, SUCCESS, Verdict
from resilient.core.windows import Totals
from resilient.policies.breaker.options import CircuitBreakerOptions
from resilient.policies.breaker.state import DISABLED, FORCED_OPEN, BreakerState, Change

TICK = 0.125  # an eighth of a slot of a window of 10 s: exact in binary, so both see the same moments


@dataclass
class Period:
    """One closed period: what a permit of it belongs to."""

    began: float | None = None
    outcomes: list[tuple[int, bool, bool]] = field(default_factory=list)  # slot, failure, slow

    def slot(self, now: float) -> int:
        if self.began is None:
            self.began = now
        return int((now - self.began) // 1.0)

    def totals(self, now: float, count: int | None) -> Totals:
        if count is not None:
            held = self.outcomes[-count:]
        else:
            held = [each for each in self.outcomes if each[0] > self.slot(now) - 10]
        return Totals(len(held), sum(each[1] for each in held), sum(each[2] for each in held))

    def in_a_row(self) -> int:
        row = 0
        for _, failure, _ in reversed(self.outcomes):
            if not failure:
                return row
            row += 1
        return row


@dataclass(eq=False)
class Trial:
    lease: float


class Book:
    """A breaker by its rules. A permit is the period it belongs to, a trial, or None."""

    def __init__(self, options: CircuitBreakerOptions) -> None:
        self.o = options
        self.state = "closed"
        self.manual: str | None = None
        self.observing = False
        self.period: Period | None = Period()
        self.trial: Trial | None = None
        self.good = 0
        self.opened = 0
        self.until = 0.0
        self.changes: list[tuple[str, str, str]] = []

    def shown(self) -> str:
        return self.manual or self.state

    def admit(self, now: float) -> Any:
        if self.manual == "forced_open":
            return "forced open"
        if self.manual == "disabled":
            return None
        if self.state == "closed":
            return self.period
        if now < self.until:
            return None if self.observing else "open"
        if self.trial is not None and now < self.trial.lease:
            return None if self.observing else "half-open, a probe is in flight"
        if self.state == "open":
            self.state = "half_open"
            self.changes.append(("open", "half_open", "time"))
        self.trial = Trial(now + self.o.probe_lease)
        return self.trial

    def record(self, permit: Any, verdict: Verdict, latency: float, now: float) -> None:
        slow = self.o.slow_after is not None and latency >= self.o.slow_after
        if isinstance(permit, Trial):
            if permit is not self.trial:
                return
            self.trial = None
            if verdict is IGNORED:
                return
            if verdict is FAILURE or slow:
                return self.open("half_open", "probe", now)
            self.good += 1
            if self.good == self.o.probes:
                self.changes.append(("half_open", "closed", "probe"))
                self.close()
        elif permit is not None and permit is self.period and verdict is not IGNORED:
            self.period.outcomes.append((self.period.slot(now), verdict is FAILURE, slow))
            if verdict is FAILURE or slow:
                self.judge(now)

    def judge(self, now: float) -> None:
        assert self.period is not None
        o, (calls, failures, slow) = self.o, self.period.totals(now, self.o.count)
        if o.consecutive is not None and self.period.in_a_row() >= o.consecutive:
            self.open("closed", "consecutive", now)
        elif calls >= o.minimum_calls and failures / calls >= o.failure_ratio:
            self.open("closed", "failure_ratio", now)
        elif calls >= o.minimum_calls and o.slow_after is not None and slow / calls >= o.slow_ratio:
            self.open("closed", "slow_ratio", now)

    def open(self, old: str, trigger: str, now: float) -> None:
        self.changes.append((old, "open", trigger))
        self.until = now + min(self.o.max_open, self.o.open_for * 2**self.opened)
        self.opened += 1
        self.state, self.period, self.trial, self.good = "open", None, None, 0

    def close(self) -> None:
        self.state, self.period, self.trial = "closed", Period(), None
        self.good = self.opened = 0
        self.until = 0.0

    def renew(self) -> None:
        if self.manual is None:
            if self.state != "closed":
                self.changes.append((self.state, "closed", "endpoints"))
            self.close()

    def force(self, manual: str | None) -> None:
        old = self.shown()
        self.manual = manual
        if manual is None:
            self.close()
        else:
            self.period = self.trial = None
        if self.shown() != old:
            self.changes.append((old, self.shown(), "manual"))


class BreakerMachine(RuleBasedStateMachine):
    permits = Bundle("permits")

    @initialize(
        count=st.sampled_from([None, None, 6]),
        failure_ratio=st.sampled_from([0.25, 0.5, 1.0]),
        minimum_calls=st.integers(1, 6),
        consecutive=st.sampled_from([None, 1, 3, 5]),
        slow=st.sampled_from([{}, {"slow_after": 2.0}, {"slow_after": 2.0, "slow_ratio": 1.0}]),
        probes=st.integers(1, 3),
        probe_lease=st.sampled_from([0.5, 4.0, 40.0]),
        start=st.integers(0, 1_000),
    )
    def begin(self, start: int, slow: dict[str, float], **options: Any) -> None:
        self.options = CircuitBreakerOptions(open_for=5.0, max_open=12.0, **slow, **options)
        self.changes: list[Change] = []
        self.state = BreakerState(self.options, self.changes.append, rand=lambda: 0.0)
        self.book = Book(self.options)
        self.now = start * TICK

    @rule(ticks=st.integers(1, 16))
    def a_moment_passes(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule(ticks=st.integers(30, 200))
    def seconds_pass(self, ticks: int) -> None:
        self.now += ticks * TICK

    def admit(self) -> Any:
        expected = self.book.admit(self.now)
        if isinstance(expected, str):
            with pytest.raises(CircuitOpen) as caught:
                self.state.admit(self.now)
            assert caught.value.reason == expected
            left = self.book.until - self.now if expected == "open" else None
            assert caught.value.retry_after == left
            return None
        return self.state.admit(self.now), expected

    @rule(target=permits)
    def a_call_begins(self) -> Any:
        return self.admit()

    @rule(permit=permits, verdict=st.sampled_from(Verdict), latency=st.sampled_from([0.0, 1.75, 2.0, 9.0]))
    def it_ends(self, permit: Any, verdict: Verdict, latency: float) -> None:
        if permit is not None:
            self.record(permit, verdict, latency)

    def record(self, permit: Any, verdict: Verdict, latency: float) -> None:
        self.state.record(permit[0], verdict, latency, self.now)
        self.book.record(permit[1], verdict, latency, self.now)

    @rule(outcomes=st.lists(st.sampled_from([SUCCESS, SUCCESS, FAILURE, IGNORED]), min_size=1, max_size=8))
    def calls_come_and_go(self, outcomes: list[Verdict]) -> None:
        for verdict in outcomes:
            permit = self.admit()
            if permit is not None:
                self.record(permit, verdict, 0.0)

    @precondition(lambda self: self.book.shown() in ("open", "half_open"))
    @rule(ticks=st.sampled_from([-1, 0, 1]), verdict=st.sampled_from([SUCCESS, SUCCESS, SUCCESS, FAILURE]))
    def its_time_is_nearly_over(self, ticks: int, verdict: Verdict) -> None:
        self.now = max(self.now, self.book.until + ticks * TICK)
        permit = self.admit()
        if permit is not None:
            self.record(permit, verdict, 0.0)

    @rule(manual=st.sampled_from([FORCED_OPEN, DISABLED, None, None]))
    def somebody_steers_it(self, manual: str | None) -> None:
        self.state.force(manual, self.now, "by hand")
        self.book.force(manual)

    @rule()
    def somebody_opens_it(self) -> None:
        self.state.open_by_hand(self.now)
        if self.book.shown() == "closed":
            self.book.open("closed", "manual", self.now)

    @rule()
    def its_callee_is_another(self) -> None:
        self.state.renew("none of its endpoints is left")
        self.book.renew()

    @rule(on=st.booleans())
    def somebody_observes_it(self, on: bool) -> None:
        self.state.observe(on)
        self.book.observing = on

    @rule()
    def somebody_asks_for_the_totals(self) -> None:
        period = self.book.period
        expected = period.totals(self.now, self.options.count) if period is not None else Totals(0, 0, 0)
        assert self.state.totals(self.now) == expected

    @invariant()
    def they_are_in_one_state_and_came_there_the_same_way(self) -> None:
        if hasattr(self, "book"):
            assert self.state.state() == self.book.shown()
            assert [(each.old, each.new, each.trigger) for each in self.changes] == self.book.changes


BreakerMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=50)
TestBreaker = BreakerMachine.TestCase


# ------------------------------------------------------------------------------------------- what it tells of it
def breaker(rand: float = 0.0, **options: Any) -> tuple[BreakerState, list[Change]]:
    changes: list[Change] = []
    return BreakerState(CircuitBreakerOptions(**options), changes.append, rand=lambda: rand), changes


def end(state: BreakerState, now: float, *verdicts: Verdict, latency: float = 0.0) -> None:
    for verdict in verdicts:
        state.record(state.admit(now), verdict, latency, now)


def test_as_it_comes_half_of_twenty_calls_or_ten_in_a_row() -> None:
    state, changes = breaker()
    end(state, 0.0, *[SUCCESS, FAILURE] * 9, SUCCESS)
    assert not changes, "9 of 19"
    end(state, 0.0, FAILURE)
    assert changes == [
        Change("closed", "open", "10 of 20 calls failed", "failure_ratio", Totals(20, 10, 0), 5.0, False)
    ]
    state, changes = breaker()
    end(state, 0.0, *[SUCCESS] * 90, *[FAILURE] * 9)
    assert not changes
    end(state, 0.0, FAILURE)
    assert changes == [
        Change("closed", "open", "10 failures in a row", "consecutive", Totals(100, 10, 0), 5.0, False)
    ]


def test_slow_calls_open_it_from_exactly_the_time_that_counts_as_slow() -> None:
    state, changes = breaker(minimum_calls=4, slow_after=1.0)
    end(state, 0.0, SUCCESS, SUCCESS, SUCCESS, SUCCESS, latency=0.999)
    end(state, 0.0, SUCCESS, SUCCESS, SUCCESS, latency=1.0)
    assert not changes, "3 of 7"
    end(state, 0.0, SUCCESS, latency=1.0)
    assert changes == [
        Change("closed", "open", "4 of 8 calls were slow", "slow_ratio", Totals(8, 0, 4), 5.0, False)
    ]


@pytest.mark.parametrize(
    ("verdict", "latency", "reason"),
    [(FAILURE, 0.0, "a probe failed"), (SUCCESS, 1.0, "a probe was slow"), (FAILURE, 1.0, "a probe failed")],
)
def test_a_trial_that_is_no_good_opens_it_again(verdict: Verdict, latency: float, reason: str) -> None:
    state, changes = breaker(consecutive=1, slow_after=1.0)
    end(state, 0.0, FAILURE)
    end(state, 5.0, verdict, latency=latency)
    assert changes[1:] == [
        Change("open", "half_open", "open time over", "time", Totals(0, 0, 0), None, False),
        Change("half_open", "open", reason, "probe", Totals(1, 1, 0), 10.0, False),
    ]


def test_as_many_trials_as_asked_for_close_it() -> None:
    state, changes = breaker(consecutive=1, probes=3)
    end(state, 0.0, FAILURE)
    end(state, 5.0, SUCCESS, SUCCESS)
    assert state.state() == "half_open"
    end(state, 5.0, SUCCESS)
    assert changes[2:] == [
        Change("half_open", "closed", "probes succeeded", "probe", Totals(3, 0, 0), None, False)
    ]


@given(st.floats(0, 1, exclude_max=True), st.floats(0.1, 100), st.floats(1, 50), st.integers(1, 90))
def test_the_open_time_doubles_up_to_the_longest_and_is_shortened_by_up_to_a_fifth(
    rand: float, open_for: float, times: float, failures: int
) -> None:
    state, changes = breaker(rand, consecutive=1, open_for=open_for, max_open=open_for * times)
    now = 0.0
    for n in range(failures):
        end(state, now, FAILURE)
        opened = changes[-1]
        assert opened.open_for is not None
        longest = min(open_for * times, open_for * 2**n)
        assert opened.open_for == pytest.approx(longest * (1 - rand / 5))
        assert 0.8 * longest * (1 - 1e-9) <= opened.open_for <= longest
        with pytest.raises(CircuitOpen):
            state.admit(now + opened.open_for * 0.999)
        now += opened.open_for


def test_after_it_has_closed_it_opens_as_short_as_at_first() -> None:
    state, changes = breaker(consecutive=1, probes=1)
    end(state, 0.0, FAILURE)
    end(state, 5.0, FAILURE)
    end(state, 15.0, SUCCESS, FAILURE)
    assert [each.open_for for each in changes if each.new == "open"] == [5.0, 10.0, 5.0]


def test_no_two_breakers_open_for_the_same_time() -> None:
    """As it comes, chance is the module's own `random`."""
    seen: list[Change] = []
    for _ in range(20):
        state = BreakerState(CircuitBreakerOptions(consecutive=1), seen.append)
        end(state, 0.0, FAILURE)
    assert len({each.open_for for each in seen}) > 10


def rejection(state: BreakerState, now: float) -> CircuitOpen:
    with pytest.raises(CircuitOpen) as caught:
        state.admit(now)
    return caught.value


def test_a_rejection_says_since_when_and_until_when() -> None:
    state, _ = breaker(consecutive=1)
    state.failed_with("ConnectionError", 3.0)
    end(state, 3.0, FAILURE)
    error = rejection(state, 5.0)
    assert (error.state, error.reason, error.retry_after) == ("open", "open", 3.0)
    assert (error.last_failure, error.last_failure_age) == ("ConnectionError", 2.0)
    assert str(error) == (
        "the circuit breaker is open; again in 3.00 s; last failure ConnectionError, 2.0 s ago"
    )
    state.admit(8.0)
    error = rejection(state, 8.0)
    assert (error.state, error.retry_after) == ("half_open", None)
    assert str(error).startswith("the circuit breaker is half-open, a probe is in flight; last failure")
    state.force(FORCED_OPEN, 9.0, "forced open by hand")
    error = rejection(state, 9.0)
    assert (error.state, error.reason, error.retry_after) == ("forced_open", "forced open", None)


def test_a_rejection_without_a_failure_names_none() -> None:
    state, _ = breaker()
    state.open_by_hand(0.0)
    error = rejection(state, 1.0)
    assert (error.last_failure, error.last_failure_age) == (None, None)
    assert str(error) == "the circuit breaker is open; again in 4.00 s"


def test_the_age_of_a_failure_is_never_below_zero() -> None:
    state, _ = breaker(consecutive=1)
    state.failed_with("OSError", 3.0)
    end(state, 2.0, FAILURE)
    assert rejection(state, 2.5).last_failure_age == 0.0


def test_what_is_done_by_hand_is_told_with_its_reason() -> None:
    state, changes = breaker()
    end(state, 0.0, SUCCESS, FAILURE)
    state.open_by_hand(0.0)
    state.force(FORCED_OPEN, 0.0, "forced open by hand")
    state.force(None, 0.0, "reset by hand")
    assert changes == [
        Change("closed", "open", "opened by hand", "manual", Totals(2, 1, 0), 5.0, False),
        Change("open", "forced_open", "forced open by hand", "manual", Totals(0, 0, 0), None, False),
        Change("forced_open", "closed", "reset by hand", "manual", Totals(0, 0, 0), None, False),
    ]


def test_observing_is_said_of_every_change() -> None:
    state, changes = breaker(consecutive=1, probes=1)
    state.observe(True)
    assert state.observing
    end(state, 0.0, FAILURE)
    end(state, 0.0, SUCCESS, FAILURE)
    end(state, 5.0, SUCCESS)
    assert [(each.old, each.new, each.observed) for each in changes] == [
        ("closed", "open", True),
        ("open", "half_open", True),
        ("half_open", "closed", True),
    ]


def test_a_change_told_by_a_change_comes_after_it_and_whoever_tells_may_fail() -> None:
    told: list[str] = []

    def changed(change: Change) -> None:
        told.append(change.new)
        if change.new == "open":
            state.force(FORCED_OPEN, 0.0, "by hand")
            assert told == ["open"], "in order, not one inside the other"
            raise KeyError("a listener of the user's")

    state = BreakerState(CircuitBreakerOptions(consecutive=1), changed)
    with pytest.raises(KeyError):
        end(state, 0.0, FAILURE)
    state.force(None, 0.0, "by hand")
    assert told == ["open", "forced_open", "closed"]


def test_a_child_after_a_fork_has_a_free_lock_and_no_trial_of_its_parent() -> None:
    state, changes = breaker(consecutive=1, probe_lease=1_000.0)
    end(state, 0.0, FAILURE)
    late = state.admit(5.0)
    state._lock.acquire()
    state._telling = True
    state.after_fork()
    mine = state.admit(5.0)
    state.record(late, FAILURE, 0.0, 5.0)
    assert state.state() == "half_open"
    state.record(mine, FAILURE, 0.0, 5.0)
    assert changes[-1].new == "open"


class Meanwhile:
    """A lock that was waited for: meanwhile something else has happened."""

    def __init__(self, lock: Any, happens: Callable[[], None]) -> None:
        self.lock, self.happens = lock, happens

    def __enter__(self) -> None:
        happens, self.happens = self.happens, lambda: None
        happens()
        self.lock.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.lock.__exit__(*error)


@pytest.mark.parametrize(
    ("meanwhile", "observing", "result"),
    [
        ("forced open", False, "forced open"),
        ("disabled", False, "Passed"),
        ("reset", False, "TimeWindow"),
        ("a probe", False, "half-open, a probe is in flight"),
        ("a probe", True, "Passed"),
        ("a failed probe", False, "open"),
        ("a failed probe", True, "Passed"),
        ("nothing", False, "Probe"),
    ],
)
def test_what_happened_while_it_waited_for_the_lock_counts(
    meanwhile: str, observing: bool, result: str
) -> None:
    state, changes = breaker(consecutive=1)
    end(state, 0.0, FAILURE)
    state.observe(observing)
    happens: dict[str, Callable[[], Any]] = {
        "forced open": lambda: state.force(FORCED_OPEN, 5.0, "by hand"),
        "disabled": lambda: state.force(DISABLED, 5.0, "by hand"),
        "reset": lambda: state.force(None, 5.0, "by hand"),
        "a probe": lambda: state.admit(5.0),
        "a failed probe": lambda: end(state, 5.0, FAILURE),
        "nothing": lambda: None,
    }
    state._lock = Meanwhile(state._lock, happens[meanwhile])  # type: ignore[assignment]
    try:
        got = type(state.admit(5.0)).__name__
    except CircuitOpen as error:
        got = error.reason
        left = error.retry_after
        told = 10.0 if result == "open" else None
        assert left == told, "of the new period"
    assert got == result
    assert [each.new for each in changes].count("half_open") == (0 if meanwhile in NO_PROBE else 1)


NO_PROBE = ("forced open", "disabled", "reset")


def test_permits_without_a_fast_path_say_so_when_it_is_taken() -> None:
    state, _ = breaker(consecutive=1)
    end(state, 0.0, FAILURE)
    trial = state.admit(5.0)
    with pytest.raises(AssertionError, match="lock"):
        trial.count()
    state.force(DISABLED, 5.0, "by hand")
    with pytest.raises(AssertionError, match="counted"):
        state.admit(5.0).count()
