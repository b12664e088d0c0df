"""What an operator makes of a policy: nothing of it (``disabled``), or told and not done (``observe``)."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import (
    Budget,
    Bulkhead,
    BulkheadFull,
    CircuitOpen,
    Pipeline,
    PolicyError,
    RateLimit,
    RateLimited,
    Retry,
    Wait,
)
from resilient.core.outcome import SUCCESS
from resilient.core.policy import Policy
from resilient.policies.breaker import CircuitBreaker
from resilient.policies.bulkhead.options import BulkheadOptions
from resilient.policies.ratelimit.options import RateLimitOptions
from resilient.policies.retry.options import RetryOptions
from resilient.testing import ManualClock, capture_events

STATES = ("disabled", "observe")


def put(policy: Any, state: str | None, now: float = 0.0, **others: Any) -> None:
    policy.retune(replace(policy.options, state=state, **others), now)


@pytest.mark.parametrize(
    "options", [BulkheadOptions, RetryOptions, lambda **o: RateLimitOptions("1/second", **o)]
)
def test_a_state_that_is_none_is_refused(options: Any) -> None:
    for state in STATES:
        assert options(state=state).state == state
    with pytest.raises(PolicyError, match=r"state='open' must be one of disabled, observe, or None"):
        options(state="open")


@pytest.mark.parametrize("policy", [Bulkhead(3), Retry(3), RateLimit("3/second")])
def test_it_is_shown(policy: Policy) -> None:
    before = str(policy)
    put(policy, "observe")
    assert str(policy) == f"{before.removesuffix(')')}, observe)"
    put(policy, None)
    assert str(policy) == before


# ---------------------------------------------------------------------------------------------------- bulkhead
@given(
    st.lists(
        st.tuples(st.sampled_from(["call", "call", "end", "limit", "state"]), st.integers(1, 6)), max_size=80
    )
)
def test_a_bulkhead_is_a_counter_whatever_becomes_of_it(steps: list[tuple[str, int]]) -> None:
    bulkhead, running, limit = Bulkhead(3), list[Any](), 3
    state: str | None = None
    for step, n in steps:
        if step == "limit":
            put(bulkhead, state, limit=n)
            limit = n
        elif step == "state":
            state = (None, *STATES)[n % 3]
            put(bulkhead, state)
        elif step == "end" and running:
            bulkhead.record(running.pop(n % len(running)), SUCCESS, 0.0, 0.0)
        elif step == "call":
            try:
                permit: Any = bulkhead.admit(0.0)
            except BulkheadFull:
                permit = None
            assert (permit is not None) == (state is not None or len(running) < limit)
            if permit is not None:
                running.append(permit)
        assert (bulkhead.in_flight, bulkhead.waiting) == (len(running), 0)


def test_what_a_bulkhead_would_have_refused_is_told_when_it_is_observed_and_else_not() -> None:
    bulkhead = Bulkhead(1, name="payments")
    put(bulkhead, "disabled")
    permits: list[Any] = []
    with capture_events() as seen:
        permits += [bulkhead.admit(0.0) for _ in range(4)]
        assert seen.events == []
        put(bulkhead, "observe")
        permits.append(bulkhead.admit(0.0))
    (event,) = seen.named("resilient.rejection.observed")
    assert (event.dependency, event.by, event.reason) == ("payments", "bulkhead", "full")  # type: ignore[attr-defined]
    put(bulkhead, None)
    for permit in permits:
        with pytest.raises(BulkheadFull):
            bulkhead.admit(0.0)
        bulkhead.record(permit, SUCCESS, 0.0, 0.0)
    assert bulkhead.in_flight == 0
    assert not isinstance(bulkhead.admit(0.0), Wait)


def test_who_waits_for_a_bulkhead_is_let_by_at_once() -> None:
    bulkhead, woken = Bulkhead(1, queue=5, max_wait=9.0), list[int]()
    bulkhead.admit(0.0)
    waits: list[Any] = [bulkhead.admit(0.0) for _ in range(2)]
    for n, wait in enumerate(waits):
        wait.wake = lambda n=n: woken.append(n)
    put(bulkhead, "disabled")
    assert woken == [0, 1]
    permits = [bulkhead.settle(wait, 1.0) for wait in waits]
    assert (bulkhead.in_flight, bulkhead.waiting) == (3, 0)
    put(bulkhead, None)
    for permit in permits:
        bulkhead.record(permit, SUCCESS, 0.0, 0.0)
    assert bulkhead.in_flight == 1


def test_calls_of_a_parent_give_a_child_nothing() -> None:
    bulkhead = Bulkhead(1)
    put(bulkhead, "disabled")
    permits: list[Any] = [bulkhead.admit(0.0) for _ in range(3)]
    bulkhead.after_fork()
    for permit in permits:
        bulkhead.record(permit, SUCCESS, 0.0, 0.0)
    assert bulkhead.in_flight == 0
    put(bulkhead, None)
    bulkhead.admit(0.0)
    with pytest.raises(BulkheadFull):
        bulkhead.admit(0.0)


def test_threads_race_while_the_state_changes() -> None:
    bulkhead, done = Bulkhead(4), threading.Event()
    call = bulkhead(lambda: None)

    def calls() -> None:
        while not done.is_set():
            try:
                call()
            except BulkheadFull:
                pass

    threads = [threading.Thread(target=calls) for _ in range(6)]
    for each in threads:
        each.start()
    for n in range(300):
        put(bulkhead, (None, *STATES)[n % 3], limit=1 + n % 4)
    put(bulkhead, None, limit=4)
    done.set()
    for each in threads:
        each.join()
    assert bulkhead.in_flight == 0
    for _ in range(4):
        bulkhead.admit(0.0)
    with pytest.raises(BulkheadFull):
        bulkhead.admit(0.0)


# --------------------------------------------------------------------------------------------------- rate limit
def limits() -> list[Any]:
    return [
        RateLimit("2/hour", name="payments"),
        RateLimit("2/hour", name="payments", cost=2, burst=4),
        RateLimit("2/hour", name="payments", key=lambda: "a"),
        RateLimit("4/hour", name="payments", key=lambda: "a", cost=lambda: 2),
    ]


@pytest.mark.parametrize("limit", limits(), ids=["plain", "cost", "key", "cost of a key"])
def test_a_limit_lets_by_and_takes_up_where_it_was(limit: RateLimit) -> None:
    call = limit(lambda: "ok")
    assert [call(), call()] == ["ok"] * 2
    with pytest.raises(RateLimited):
        call()
    put(limit, "disabled", limit.clock.monotonic())
    with capture_events() as seen:
        assert [call() for _ in range(3)] == ["ok"] * 3
        assert seen.named("resilient.rejection.observed") == []
        put(limit, "observe", limit.clock.monotonic())
        assert [call() for _ in range(3)] == ["ok"] * 3
    told: list[Any] = seen.named("resilient.rejection.observed")
    assert [(each.dependency, each.by, each.reason) for each in told] == [
        ("payments", "ratelimit", "empty")
    ] * 3
    put(limit, None, limit.clock.monotonic())
    with pytest.raises(RateLimited):
        call()


def test_a_call_that_was_let_by_gives_no_token_back() -> None:
    limit = RateLimit("1/hour")
    limit.admit(10.0)
    put(limit, "observe", 10.0)
    permit = limit.admit(11.0)
    assert not isinstance(permit, Wait)
    limit.cancel(permit, 11.0)
    put(limit, None, 11.0)
    with pytest.raises(RateLimited):
        limit.admit(12.0)


def test_nobody_waits_for_a_limit_that_is_suspended() -> None:
    for limit in (RateLimit("1/second", max_wait=60.0), RateLimit("1/second", max_wait=60.0, cost=1)):
        put(limit, "observe")
        assert not any(isinstance(limit.admit(0.0), Wait) for _ in range(5))
    keyed = RateLimit("1/second", max_wait=60.0, key=str, max_keys=1)
    put(keyed, "observe")
    assert not any(isinstance(keyed.select((n,), {}).admit(0.0), Wait) for n in range(5))


def test_too_many_keys_and_a_cost_above_the_burst_are_let_by() -> None:
    limit = RateLimit("1/hour", key=lambda n: n, cost=lambda n: n, max_keys=1, name="payments")
    call = limit(lambda n: n)
    call(1)
    put(limit, "observe", limit.clock.monotonic())
    with capture_events() as seen:
        assert [call(2), call(1)] == [2, 1]
    told: list[Any] = seen.named("resilient.rejection.observed")
    assert [each.reason for each in told] == ["too many keys", "empty"]


def test_a_limit_that_is_told_by_its_state_machine_is_not_kept_alive_by_it() -> None:
    for make in (lambda: RateLimit("1/hour"), lambda: Bulkhead(1), lambda: RateLimit("1/hour", key=str)):
        policy: Any = make()
        known = weakref.ref(policy)
        gc.disable()
        try:
            del policy
            assert known() is None
        finally:
            gc.enable()


# --------------------------------------------------------------------------------------------------------- retry
class Work:
    def __init__(self) -> None:
        self.calls = 0
        self.clock = ManualClock()
        self.retry = Retry(3, wait=1.0, budget=Budget())
        self.run = Pipeline(self.retry, name="payments", clock=self.clock)(self.fail)
        self.between: Any = lambda: None

    def fail(self) -> None:
        self.calls += 1
        self.between()
        raise ConnectionError


@pytest.mark.parametrize("state", STATES)
def test_a_retry_that_is_suspended_repeats_nothing(state: str) -> None:
    work = Work()
    put(work.retry, state)
    budget = work.retry.budget_for("payments")
    before = budget.remaining(0.0)
    with capture_events() as seen, pytest.raises(ConnectionError) as caught:
        work.run()
    assert work.calls == 1
    assert budget.remaining(0.0) == before, "it costs nothing"
    (event,) = seen.named("resilient.retry.suppressed")
    assert (event.reason, event.attempt) == (state, 1)  # type: ignore[attr-defined]
    assert "not retried: an operator has" in caught.value.__notes__[0]
    put(work.retry, None)
    with pytest.raises(ConnectionError):
        work.run()
    assert work.calls == 4


def test_what_would_not_be_repeated_is_not_told_as_observed() -> None:
    work = Work()
    work.retry.retune(replace(work.retry.options, attempts=1, state="observe"), 0.0)
    with capture_events() as seen, pytest.raises(ConnectionError):
        work.run()
    assert seen.named("resilient.retry.suppressed") == []


@pytest.mark.parametrize("state", STATES)
def test_row_29_a_call_under_way_keeps_its_numbers_and_heeds_what_is_switched_off(state: str) -> None:
    work = Work()
    work.between = lambda: work.retry.retune(
        replace(work.retry.options, attempts=9), work.clock.monotonic() + 0.5
    )
    with pytest.raises(ConnectionError):
        work.run()
    assert work.calls == 3, "the numbers with which it began"
    work = Work()
    work.between = lambda: put(work.retry, state, work.clock.monotonic() + 0.5)
    with pytest.raises(ConnectionError):
        work.run()
    assert work.calls == 1, "and no attempt after it was switched off"


def test_row_29_a_breaker_that_is_forced_open_is_met_by_the_next_attempt() -> None:
    breaker, calls = CircuitBreaker(), 0

    @Pipeline(Retry(3, wait=1.0, budget=Budget()), breaker, name="payments", clock=ManualClock())
    def work() -> None:
        nonlocal calls
        calls += 1
        put(breaker, "forced_open", 0.0)
        raise ConnectionError

    with pytest.raises(CircuitOpen):
        work()
    assert calls == 1
