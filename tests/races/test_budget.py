"""The retry budget under 16 threads: never over-spent, and no success lost."""

from __future__ import annotations

import random
import threading

import pytest

from resilient import Budget, Pipeline, Retry
from resilient.core.registry import REGISTRY
from resilient.testing import ManualClock
from tests.races.racing import Tally, dawdle, race

THREADS = 16


def test_an_empty_stock_is_empty_for_everybody() -> None:
    budget, tally = Budget(stock=500, cost=5, floor=1_000, window=10), Tally()

    def caller() -> None:
        for _ in range(100):
            if budget.withdraw(1.0):
                tally.add("paid")

    race(caller, threads=THREADS)
    assert tally["paid"] == 100
    assert budget.remaining(1.0) == 0


def test_the_window_has_room_for_so_many_and_no_more() -> None:
    budget, tally = Budget(stock=10**6, cost=1, floor=0, ratio=0.2), Tally()
    for _ in range(1_000):
        budget.failed(1.0)

    def caller() -> None:
        for _ in range(100):
            if budget.withdraw(1.0):
                tally.add("paid")

    race(caller, threads=THREADS)
    assert tally["paid"] == 200


def test_the_counter_of_successes_loses_none_while_others_read_it() -> None:
    budget = Budget(stock=10**6, cost=1, floor=0, ratio=1.0, window=600)

    def caller() -> None:
        for _ in range(2_000):
            budget.succeeded(1.0)

    race(lambda: [budget.remaining(1.0) for _ in range(2_000)], *[caller] * THREADS)
    assert budget.remaining(1.0) == THREADS * 2_000


def test_the_stock_is_what_was_spent_and_given_back_and_earned() -> None:
    """In the middle of its range, so that nothing is cut off at the top or refused at the bottom."""
    tally = Tally()
    budget = Budget(stock=100_000, cost=5, floor=1_000, window=600, ratio=10)
    for _ in range(10_000):
        assert budget.withdraw(1.0)

    def caller() -> None:
        for _ in range(500):
            chance = random.random()
            if chance < 0.4:
                if budget.withdraw(1.0):
                    tally.add("paid")
            elif chance < 0.7:
                budget.refund()
                tally.add("refunded")
            else:
                budget.succeeded(1.0)
                tally.add("succeeded")

    race(caller, threads=THREADS)
    earned = 5 * tally["refunded"] + tally["succeeded"]
    assert budget._stock + (budget.count() - budget._taken) == 100_000 - 50_000 + earned - 5 * tally["paid"]


@pytest.mark.parametrize("share_that_recover", [0.0, 0.5])
def test_retries_of_all_threads_together_stay_within_the_budget(share_that_recover: float) -> None:
    clock, tally = ManualClock(), Tally()
    budget = Budget(stock=100, cost=5, floor=1_000, window=10)
    local = threading.local()

    @Pipeline(Retry(attempts=4, wait=0, budget=budget), clock=clock)
    def work() -> None:
        tally.add("attempts")
        dawdle(5)
        first, local.first = local.first, False
        if first or random.random() >= share_that_recover:
            raise ConnectionError
        tally.add("recovered")

    def caller() -> None:
        for _ in range(100):
            local.first = True
            tally.add("calls")
            try:
                work()
            except ConnectionError:
                pass

    race(caller, threads=THREADS)
    retries = tally["attempts"] - tally["calls"]
    assert retries <= 100 // 5 + tally["recovered"], "a retry that recovers gives back what it took, no more"
    assert retries >= 100 // 5


def test_one_budget_per_name_whoever_asks_first() -> None:
    for n in range(50):
        found: list[Budget] = []
        race(lambda n=n, found=found: found.append(REGISTRY.budget(f"raced-{n}")), threads=8)  # type: ignore[misc]
        assert len({id(each) for each in found}) == 1
