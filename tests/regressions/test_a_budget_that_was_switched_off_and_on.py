"""A retry budget that an outage had emptied was full again after the document had said ``stock: 0`` for a while.

Retries were stopped in the middle of an incident, and allowed again: every process had seven of them at once."""

from __future__ import annotations

import pytest

from resilient import Budget
from resilient.core.budget import BudgetOptions


@pytest.mark.parametrize("used", range(8))
def test_it_is_as_full_as_before(used: int) -> None:
    budget = Budget()
    assert all(budget.withdraw(0.0) for _ in range(used))
    left = budget.remaining(0.0)
    budget.retune(BudgetOptions(stock=0), 0.0)
    budget.retune(BudgetOptions(stock=0, floor=2.0), 0.0)
    assert budget.remaining(0.0) == 0
    budget.retune(BudgetOptions(), 0.0)
    assert budget.remaining(0.0) == left


def test_one_that_never_held_anything_begins_full() -> None:
    budget = Budget(stock=0)
    budget.retune(BudgetOptions(), 0.0)
    assert budget.remaining(0.0) == 7
