"""Other numbers for a retry, a time-out or a budget: each call ends under those with which it began."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import Budget, DeadlineExceeded, Pipeline, Retry, TimedOut, Timeout, backoff
from resilient.core.budget import BudgetOptions
from resilient.core.options import InForce
from resilient.policies.timeout.options import TimeoutOptions
from resilient.testing import ManualClock
from tests.policies.modes import both, call


@both
def test_a_call_under_way_keeps_its_attempts_and_the_next_one_has_the_new_ones(mode: str) -> None:
    clock, attempts = ManualClock(), []
    retry = Retry(4, wait=backoff(1.0, jitter="none"))
    pipeline = Pipeline(retry, clock=clock)

    def work() -> None:
        attempts.append(clock.monotonic())
        if len(attempts) == 1:
            clock.advance(0.5)
            new = replace(retry.options, attempts=2, wait=backoff(9.0, cap=9.0, jitter="none"))
            retry.retune(new, clock.monotonic())
        raise ConnectionError

    for expected in (4, 2):
        attempts.clear()
        attempts += [0.0] * (expected == 2)  # the second call changes nothing
        with pytest.raises(ConnectionError):
            call(mode, pipeline, work, clock)
        assert len(attempts) - (expected == 2) == expected
    assert str(retry).startswith("Retry(2 attempts")


def test_a_block_keeps_what_it_began_with() -> None:
    clock = ManualClock()
    retry = Retry(3, wait=0)
    seen = []
    with pytest.raises(ConnectionError):
        for attempt in retry.attempts(clock=clock):
            with attempt:
                seen.append(attempt.number)
                if attempt.number == 1:
                    clock.advance(1.0)
                    retry.retune(replace(retry.options, attempts=1), clock.monotonic())
                raise ConnectionError
    assert seen == [1, 2, 3]


def test_later_attempts_have_the_time_that_the_first_one_had() -> None:
    clock, limits = ManualClock(), []
    attempt = Timeout(1.0)
    pipeline = Pipeline(Timeout(60.0), Retry(3, wait=0), attempt, clock=clock)

    async def work() -> None:
        began = clock.monotonic()
        try:
            import asyncio

            await asyncio.sleep(30)
        finally:
            limits.append(clock.monotonic() - began)
            attempt.retune(TimeoutOptions(5.0), clock.monotonic())

    for expected in ([1.0] * 3, [5.0] * 3):
        limits.clear()
        with pytest.raises(TimedOut):
            clock.run(pipeline.acall(work))
        assert limits == pytest.approx(expected)


@both
def test_the_total_is_that_of_the_calls_beginning(mode: str) -> None:
    clock = ManualClock()
    total = Timeout(5.0)
    pipeline = Pipeline(total, Retry(9, wait=backoff(2.0, cap=2.0, jitter="none")), clock=clock)

    def work() -> None:
        total.retune(TimeoutOptions(50.0), clock.monotonic())
        raise ConnectionError

    began = clock.monotonic()
    with pytest.raises(ConnectionError):  # a delay that does not fit ends it
        call(mode, pipeline, work, clock)
    assert clock.monotonic() - began <= 5.0
    assert total.seconds == 50.0
    assert pipeline["timeout"].describe((), ()) == "Timeout(50 s)"


def test_a_decorated_async_function_has_the_new_time_at_once() -> None:
    import asyncio

    clock = ManualClock()
    limit = Timeout(1.0)

    @Pipeline(limit, clock=clock)
    async def work() -> None:
        await asyncio.sleep(30)

    async def twice() -> list[float]:
        took = []
        for seconds in (1.0, 4.0, 0.5):
            limit.retune(TimeoutOptions(seconds), clock.monotonic())
            began = clock.monotonic()
            with pytest.raises(TimedOut, match=f"longer than {seconds:g} s"):
                await work()
            took.append(clock.monotonic() - began)
        return took

    assert clock.run(twice()) == pytest.approx([1.0, 4.0, 0.5])


def test_a_decorated_function_has_the_new_time_at_once() -> None:
    clock = ManualClock()
    limit = Timeout(1.0)

    @Pipeline(limit, Retry(2, wait=0), clock=clock)
    def work() -> None:
        clock.advance(3.0)
        raise TimeoutError

    with pytest.raises((DeadlineExceeded, TimeoutError)):
        work()
    limit.retune(TimeoutOptions(100.0), clock.monotonic())
    began = clock.monotonic()
    with pytest.raises(TimeoutError):
        work()
    assert clock.monotonic() - began == 6.0


@given(st.lists(st.integers(1, 5), max_size=7), st.integers(0, 40))
def test_what_was_in_force_when(gaps: list[int], began: int) -> None:
    in_force, now, held = InForce("0"), 0, [(0, "0")]
    for n, gap in enumerate(gaps, 1):
        now += gap
        in_force.change(str(n), float(now))
        held.append((now, str(n)))
    expected = [what for since, what in held if since <= began][-1]
    assert in_force.at(float(began)) == expected
    assert in_force.now == held[-1][1]


def test_only_the_latest_changes_are_remembered() -> None:
    in_force = InForce(0)
    for n in range(1, 100):
        in_force.change(n, float(n))
    assert in_force.at(0.0) == 91
    assert in_force.at(98.5) == 98


# --------------------------------------------------------------------------------------------------- the budget
def withdrawn(budget: Budget, now: float) -> int:
    n = 0
    while budget.withdraw(now):
        n += 1
    return n


def test_a_budget_stays_as_full_as_it_was() -> None:
    budget = Budget(stock=40, cost=5, floor=100)
    for _ in range(4):
        budget.withdraw(0.0)
    budget.retune(BudgetOptions(stock=80, cost=5, floor=100), 0.0)
    assert budget.remaining(0.0) == 8
    budget.retune(BudgetOptions(stock=20, cost=5, floor=100), 0.0)
    assert withdrawn(budget, 0.0) == 2
    budget.retune(BudgetOptions(stock=0, cost=5, floor=100), 0.0)
    budget.retune(BudgetOptions(stock=20, cost=5, floor=100), 0.0)
    assert withdrawn(budget, 0.0) == 0, "it was empty when it could last hold anything"


@pytest.mark.parametrize("window", [2.0, 10.0, 60.0])
def test_what_a_budget_counted_stays_counted(window: float) -> None:
    budget = Budget(ratio=0.5, stock=10**6, floor=0)
    for _ in range(10):
        budget.failed(1.0)
    for _ in range(10):
        budget.succeeded(1.0)
    assert budget.withdraw(1.0)
    budget.retune(BudgetOptions(ratio=0.5, window=window, stock=10**6, floor=0), 1.0)
    assert withdrawn(budget, 1.0) == 9
    later: Any = 1.0 + window * 1.2
    assert withdrawn(budget, later) == 0, "all of it is too old"
