"""The breaker around calls, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Evidence,
    Pipeline,
    PolicyError,
    RateLimit,
    Retry,
    TimedOut,
    Timeout,
    Verdict,
)
from resilient.core.outcome import attach
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, raised


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def fails(mode: str, policy: Pipeline, clock: ManualClock, times: int = 1) -> None:
    for _ in range(times):
        assert type(raised(mode, policy, Script(ConnectionError), clock)) is ConnectionError


def is_open(mode: str, policy: Pipeline, clock: ManualClock) -> CircuitOpen:
    fn = Script("never")
    error = raised(mode, policy, fn, clock)
    assert isinstance(error, CircuitOpen)
    assert fn.calls == 0, "nothing was sent"
    return error


@both
def test_it_opens_rejects_tries_and_closes(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=3, probes=2)
    policy = Pipeline(breaker, name="payments", clock=clock)
    fails(mode, policy, clock, 3)
    assert breaker.state == "open"
    clock.advance(1.0)
    error = is_open(mode, policy, clock)
    assert error.dependency == "payments"
    assert (error.policy, error.reason, error.state) == ("breaker", "open", "open")
    assert (error.last_failure, error.last_failure_age) == ("ConnectionError", 1.0)
    assert error.retry_after is not None
    assert 3.0 <= error.retry_after <= 4.0, "of 5 s, up to a fifth shorter, 1 s is over"
    clock.advance(error.retry_after)
    assert call(mode, policy, Script("ok"), clock) == "ok"
    assert breaker.state == "half_open"
    assert call(mode, policy, Script("ok"), clock) == "ok"
    assert breaker.state == "closed"
    assert breaker.totals() == (0, 0, 0), "a new window"


@both
def test_one_trial_at_a_time(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1, probe_lease=30.0)
    policy = Pipeline(breaker, clock=clock)
    fails(mode, policy, clock)
    clock.advance(5.0)
    inside = []

    def trial() -> str:
        with pytest.raises(CircuitOpen) as caught:
            policy.call(Script("never"))
        inside.append(caught.value.state)
        return "ok"

    assert call(mode, policy, trial, clock) == "ok"
    assert inside == ["half_open"]


@both
def test_a_lost_trial_wedges_nothing(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1, probes=1, probe_lease=30.0)
    policy = Pipeline(breaker, clock=clock)
    fails(mode, policy, clock)
    clock.advance(5.0)
    breaker.admit(clock.monotonic())  # and never heard of again
    clock.advance(29.9)
    is_open(mode, policy, clock)
    clock.advance(0.1)
    call(mode, policy, Script("ok"), clock)
    assert breaker.state == "closed"


@both
@pytest.mark.parametrize("late", ["ok", ConnectionError])
def test_a_late_result_of_an_older_period_counts_for_none(mode: str, clock: ManualClock, late: Any) -> None:
    breaker = CircuitBreaker(consecutive=1, probes=1)
    policy = Pipeline(breaker, clock=clock)

    def slow() -> Any:
        fails("sync", policy, clock)
        clock.advance(5.0)
        policy.call(Script("ok"))
        assert breaker.state == "closed"
        return Script(late)()

    try:
        call(mode, policy, slow, clock)
    except ConnectionError:
        pass
    assert breaker.state == "closed"
    assert breaker.totals() == (0, 0, 0)


@both
def test_what_is_no_fault_of_the_callee_counts_neither_way(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1, ignore=(KeyError, lambda exc: exc.args == ("mine",)))
    bulkhead = Bulkhead(1)
    policy = Pipeline(breaker, bulkhead, clock=clock)
    raised(mode, policy, Script(KeyError), clock)
    raised(mode, policy, Script(ValueError("mine")), clock)
    with bulkhead.guard():
        assert type(raised(mode, policy, Script("ok"), clock)) is BulkheadFull
    with pytest.raises(KeyboardInterrupt):
        call(mode, policy, Script(KeyboardInterrupt), clock)
    answered = ConnectionError()
    attach(answered, evidence=Evidence.DECLINED, verdict=Verdict.IGNORED)
    raised(mode, policy, Script(answered), clock)
    assert breaker.state == "closed"
    assert breaker.totals() == (0, 0, 0)
    raised(mode, policy, Script(ValueError("yours")), clock)
    assert breaker.state == "open"


@both
@pytest.mark.parametrize("end", [KeyError, KeyboardInterrupt])
def test_a_trial_that_says_nothing_gives_its_place_back(
    mode: str, clock: ManualClock, end: type[BaseException]
) -> None:
    breaker = CircuitBreaker(consecutive=1, probes=1, ignore=KeyError)
    policy = Pipeline(breaker, clock=clock)
    fails(mode, policy, clock)
    clock.advance(5.0)
    with pytest.raises(end):
        call(mode, policy, Script(end), clock)
    assert breaker.state == "half_open", "neither closed nor opened by it"
    call(mode, policy, Script("ok"), clock)
    assert breaker.state == "closed"


@both
def test_slow_calls(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(minimum_calls=4, slow_after=2.0, slow_ratio=0.75)
    policy = Pipeline(breaker, clock=clock)
    for takes in (1.9, 2.0, 2.0):
        call(mode, policy, Script("ok", clock=clock, takes=takes), clock)
    assert breaker.totals() == (3, 0, 2)
    call(mode, policy, Script("ok", clock=clock, takes=2.5), clock)
    assert breaker.state == "open"


@both
def test_waiting_for_us_is_not_slowness_of_the_callee(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(slow_after=2.0)
    limit = RateLimit("1 per 5 seconds", max_wait=60.0)
    policy = Pipeline(breaker, limit, clock=clock)
    for _ in range(3):
        call(mode, policy, Script("ok", clock=clock, takes=1.0), clock)
    assert clock.monotonic() >= 10.0
    assert breaker.totals().slow == 0


@both
def test_forced_open(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker()
    policy = Pipeline(breaker, clock=clock)
    breaker.force_open()
    clock.advance(10_000.0)
    error = is_open(mode, policy, clock)
    assert (error.state, error.reason, error.retry_after) == ("forced_open", "forced open", None)
    assert breaker.state == "forced_open"
    breaker.reset()
    assert call(mode, policy, Script("ok"), clock) == "ok"


@both
def test_disabled(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1)
    policy = Pipeline(breaker, clock=clock)
    fails(mode, policy, clock)
    breaker.disable()
    fails(mode, policy, clock, 30)
    assert (breaker.state, breaker.totals()) == ("disabled", (0, 0, 0))
    breaker.reset()
    assert breaker.state == "closed"
    fails(mode, policy, clock)
    assert breaker.state == "open"


@both
def test_observing_lets_all_through_and_tells_what_it_would_have_done(
    mode: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker(consecutive=2, probes=1)
    policy = Pipeline(breaker, name="payments", clock=clock)
    breaker.observe()
    assert breaker.observing
    with capture_events() as seen:
        fails(mode, policy, clock, 5)
        assert breaker.state == "open"
        clock.advance(5.0)
        call(mode, policy, Script("ok"), clock)
    transitions = seen.named("resilient.breaker.transition")
    assert [(event.old, event.new, event.observed) for event in transitions] == [  # type: ignore[attr-defined]
        ("closed", "open", True),
        ("open", "half_open", True),
        ("half_open", "closed", True),
    ]
    assert "payments: circuit breaker would go closed -> open: 2 failures in a row" in caplog.text
    fails(mode, policy, clock, 2)
    breaker.observe(False)
    is_open(mode, policy, clock)


@both
def test_each_transition_is_told_once_with_its_numbers(
    mode: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker(minimum_calls=4)
    policy = Pipeline(breaker, name="payments", clock=clock)
    with capture_events() as seen:
        for outcome in ("ok", "ok", ConnectionError):
            fn = Script(outcome)
            if outcome == "ok":
                call(mode, policy, fn, clock)
            else:
                raised(mode, policy, fn, clock)
        fails(mode, policy, clock)
    (event,) = seen.named("resilient.breaker.transition")
    assert event.fields().items() >= {
        "dependency": "payments", "old": "closed", "new": "open", "trigger": "failure_ratio", "calls": 4,
        "failures": 2, "slow": 0, "reason": "2 of 4 calls failed", "observed": False,
    }.items()  # fmt: skip
    assert caplog.messages == ["payments: circuit breaker closed -> open: 2 of 4 calls failed"]


@both
def test_the_attempts_of_a_retry_are_what_it_counts(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=2)
    policy = Pipeline(Retry(3, wait=1.0), breaker, clock=clock)
    fn = Script(ConnectionError)
    error = raised(mode, policy, fn, clock)
    assert isinstance(error, CircuitOpen), "the third attempt met the breaker"
    assert fn.calls == 2


@both
def test_a_time_out_inside_is_a_failure(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1)
    raised(mode, Pipeline(breaker, clock=clock), Script(TimedOut), clock)
    assert breaker.state == "open"


def test_a_cancelled_call_counts_neither_way(clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1)

    @Pipeline(breaker, clock=clock)
    async def hang() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.ensure_future(hang())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(main())
    assert (breaker.state, breaker.totals()) == ("closed", (0, 0, 0))


@both
def test_a_block(mode: str, clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=2, slow_after=1.0)
    breaker.clock = clock

    async def guarded(error: type[Exception] | None) -> None:
        if mode == "async":
            async with breaker.guard(clock=clock):
                if error:
                    raise error
        else:
            with breaker.guard(clock=clock):
                if error:
                    raise error

    clock.run(guarded(None))
    assert breaker.totals() == (1, 0, 0)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            clock.run(guarded(ConnectionError))
    with pytest.raises(CircuitOpen):
        clock.run(guarded(None))
    clock.advance(5.0)
    clock.run(guarded(None))
    assert breaker.state == "half_open"


def test_functions_share_it_and_its_name_is_that_of_the_first(clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1)

    @breaker
    def first() -> None:
        raise ConnectionError

    @breaker
    def second() -> None: ...

    with pytest.raises(ConnectionError):
        first()
    with pytest.raises(CircuitOpen) as caught:
        second()
    assert breaker.name is not None
    assert breaker.name.endswith("first")
    assert caught.value.operation == second.__qualname__
    named = CircuitBreaker(name="payments")
    named(lambda: None)
    assert named.name == "payments"


def test_how_it_prints() -> None:
    assert str(CircuitBreaker()) == (
        "CircuitBreaker(50% in 10 s from 20 calls, 10 in a row, open 5 s..60 s, 3 probes)"
    )
    breaker = CircuitBreaker(count=50, consecutive=None, slow_after=0.05, slow_ratio=0.8, failure_ratio=0.25)
    breaker.observe()
    assert str(breaker) == (
        "CircuitBreaker(25% of 50 calls from 20 calls, 80% slower than 50 ms, open 5 s..60 s, 3 probes, observing)"
    )


def test_a_clock_that_is_the_pipelines(clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=1)
    with pytest.raises(ConnectionError):
        Pipeline(breaker, clock=clock).call(Script(ConnectionError))
    assert breaker.clock is clock
    other = ManualClock(start=100.0)
    Pipeline(breaker, Timeout(1.0), clock=other)(lambda: None)
    assert breaker.clock is clock, "of the first one that it was put in"
    with pytest.raises(PolicyError):
        Pipeline(breaker, breaker)
