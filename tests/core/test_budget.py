"""The retry budget beside one that keeps every call it ever saw in a list."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from resilient import Budget, PolicyError

TICK = 0.125  # an eighth of a slot: exact in binary, so both sides see the same moments


class Book:
    """The budget by its rule: a list of what happened, looked through for every question."""

    def __init__(self, ratio: Fraction, floor: Fraction, stock: int, cost: int, window: int) -> None:
        self.ratio, self.floor, self.full, self.cost = ratio, floor, stock, cost
        self.stock, self.window = stock, window
        self.began: int | None = None
        self.calls: list[int] = []  # the slot of each call
        self.retries: list[int] = []

    def slot(self, now: float) -> int:
        if self.began is None:
            self.began = int(now / TICK)
        return (int(now / TICK) - self.began) // (8 * self.window // 10)

    def in_window(self, slots: list[int], now: float) -> int:
        return sum(self.slot(now) - slot < 10 for slot in slots)

    def earn(self, tokens: int) -> None:
        self.stock = min(self.full, self.stock + tokens)

    def room(self, now: float) -> Fraction:
        allowed = max(self.ratio * self.in_window(self.calls, now), self.floor * self.window)
        return allowed - self.in_window(self.retries, now)

    def withdraw(self, now: float) -> bool:
        if self.stock < self.cost or self.room(now) < 1:
            return False
        self.stock -= self.cost
        self.retries.append(self.slot(now))
        return True

    def remaining(self, now: float) -> int:
        return max(0, min(self.stock // self.cost, int(self.room(now))))


class Cancelled(BaseException):
    pass


class BudgetMachine(RuleBasedStateMachine):
    @initialize(
        ratio=st.sampled_from(["0", "0.2", "0.5", "1"]),
        floor=st.sampled_from(["0", "0.1", "0.25", "1"]),
        stock=st.sampled_from([0, 5, 12, 35]),
        cost=st.sampled_from([1, 2, 5]),
        window=st.sampled_from([10, 20]),
        start=st.integers(0, 1_000),
    )
    def begin(self, ratio: str, floor: str, stock: int, cost: int, window: int, start: int) -> None:
        self.book = Book(Fraction(ratio), Fraction(floor), stock, cost, window)
        self.budget = Budget(ratio=float(ratio), floor=float(floor), stock=stock, cost=cost, window=window)
        self.now = start * TICK

    @rule(ticks=st.integers(1, 24))
    def a_moment_passes(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule(ticks=st.integers(70, 200))
    def a_window_passes(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule(times=st.integers(1, 12))
    def calls_succeed_at_once(self, times: int) -> None:
        for _ in range(times):
            self.budget.succeeded(self.now)
            self.book.calls.append(self.book.slot(self.now))
            self.book.earn(1)

    @rule(times=st.integers(1, 6))
    def calls_fail(self, times: int) -> None:
        for _ in range(times):
            self.budget.failed(self.now)
            self.book.calls.append(self.book.slot(self.now))

    @rule(times=st.integers(1, 4))
    def retries_are_asked_for(self, times: int) -> None:
        for _ in range(times):
            assert self.budget.withdraw(self.now) is self.book.withdraw(self.now)

    @rule()
    def a_retry_succeeds(self) -> None:
        if self.book.retries:
            self.budget.refund()
            self.book.earn(self.book.cost)

    @rule(ticks=st.integers(0, 30))
    def a_retry_that_was_paid_for_is_not_made(self, ticks: int) -> None:
        paid = self.budget.withdraw(self.now)
        assert paid is self.book.withdraw(self.now)
        if paid:
            with pytest.raises(Cancelled), self.budget.paid():
                self.now += ticks * TICK
                raise Cancelled
            self.book.retries.pop()
            self.book.earn(self.book.cost)

    @rule()
    def a_retry_that_was_paid_for_is_made(self) -> None:
        before = self.book.remaining(self.now)
        with self.budget.paid():
            pass
        assert self.budget.remaining(self.now) == before

    @rule()
    def somebody_asks_what_is_left(self) -> None:
        assert self.budget.remaining(self.now) == self.book.remaining(self.now)


BudgetMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestBudget = BudgetMachine.TestCase


def test_as_it_comes_a_retry_costs_five_and_success_at_once_brings_one() -> None:
    budget = Budget()
    assert [budget.withdraw(0.0) for _ in range(8)] == [True] * 7 + [False], "35 tokens, 5 for each"
    for _ in range(4):
        budget.succeeded(0.0)
    assert not budget.withdraw(0.0)
    budget.succeeded(0.0)
    assert budget.withdraw(0.0)
    budget.refund()
    assert budget.withdraw(0.0)
    assert not budget.withdraw(0.0)


def test_as_it_comes_a_fifth_of_the_calls_of_ten_seconds_or_one_in_a_second() -> None:
    budget = Budget(stock=1_000)
    assert [budget.withdraw(0.0) for _ in range(11)] == [True] * 10 + [False], "the floor: 10 in 10 s"
    for _ in range(60):
        budget.failed(0.0)
    assert [budget.withdraw(9.9) for _ in range(3)] == [True, True, False], "12 are a fifth of 60"
    assert budget.remaining(10.5) == 8, "of the first second's nothing counts any more"


def test_the_stock_never_holds_more_than_at_the_start() -> None:
    budget = Budget(stock=10)
    for _ in range(1_000):
        budget.succeeded(0.0)
    budget.refund()
    assert [budget.withdraw(0.0) for _ in range(3)] == [True, True, False]


def test_an_empty_stock_stops_the_floor_too() -> None:
    """A total outage ends with no retries at all, however long it lasts."""
    budget = Budget()
    made = 0
    for second in range(600):
        for _ in range(5):
            budget.failed(float(second))
            made += budget.withdraw(float(second))
    assert made == 7


def test_a_slot_ends_before_its_last_moment() -> None:
    """What happens when the first slot ends belongs to the second, and is still counted when the first is gone."""
    for happens in (Budget.succeeded, Budget.failed):
        budget = Budget(ratio=1, floor=0)
        budget.failed(0.0)
        happens(budget, 1.0)
        assert [budget.remaining(now) for now in (9.875, 10.0, 10.875, 11.0)] == [2, 1, 1, 0]


def test_a_clock_that_goes_back_stays_in_the_slot_that_it_was_in() -> None:
    budget = Budget(stock=1_000)
    assert [budget.withdraw(now) for now in (100.0, 50.0, 0.0)] == [True] * 3
    assert budget.remaining(100.0) == 7


def test_no_budget_no_retry() -> None:
    assert not Budget(ratio=0, floor=0).withdraw(0.0)
    assert not Budget(stock=0).withdraw(0.0)


WRONG = [
    *[("ratio", value) for value in (-0.1, 10.1, float("nan"), float("inf"), True, "0.2", None)],
    *[("window", value) for value in (0, 0.9, 600.1, float("nan"), float("-inf"), True, "10", None)],
    *[("floor", value) for value in (-1, 1_000.5, float("nan"), float("inf"), False, "1", None)],
    *[("stock", value) for value in (-1, 1_000_001, 1.0, float("nan"), True, "35", None)],
    *[("cost", value) for value in (0, 1_001, 5.0, float("nan"), True, "5", None)],
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=[f"{field}={value!r}" for field, value in WRONG])
def test_a_wrong_number_is_refused_with_what_to_write(field: str, value: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        Budget(**{field: value})
    text = str(caught.value)
    assert text.startswith(f"Budget: {field}={value!r} must be a")
    assert f"; write {field}=" in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ratio", 0),
        ("ratio", 10),
        ("window", 1),
        ("window", 600),
        ("floor", 0),
        ("floor", 1000),
        ("stock", 0),
        ("stock", 1000000),
        ("cost", 1),
        ("cost", 1000),
    ],
)
def test_the_ends_of_each_range_belong_to_it(field: str, value: Any) -> None:
    stock = {"stock": 7_000} if field == "cost" else {}
    assert getattr(Budget(**stock, **{field: value}).options, field) == value


def test_it_prints_its_numbers() -> None:
    assert repr(Budget(floor=0.5)) == "Budget(ratio=0.2, window=10, floor=0.5, stock=35, cost=5)"


def test_after_a_fork_its_lock_is_free_and_its_numbers_are_kept() -> None:
    budget = Budget(stock=10)
    assert budget.withdraw(0.0)
    budget._lock.acquire()
    budget.after_fork()
    assert [budget.withdraw(0.0) for _ in range(2)] == [True, False]
