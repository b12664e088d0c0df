"""Live objects by name."""

from __future__ import annotations

import gc

from resilient import Budget, Bulkhead, Pipeline
from resilient.core.registry import Registry


def test_pipelines_by_name() -> None:
    registry = Registry()
    sync, asynchronous, other = (Pipeline(Bulkhead(), name=name) for name in ("shop", "shop", "bank"))
    for each in (sync, asynchronous, other):
        registry.add(each)
    registry.add(sync)
    assert {*registry.pipelines("shop")} == {sync, asynchronous}
    assert {*registry.pipelines()} == {sync, asynchronous, other}
    assert registry.pipelines("nobody") == []


def test_a_budget_is_the_dependencys_for_as_long_as_somebody_uses_it() -> None:
    registry = Registry()
    first = registry.budget("shop")
    assert registry.budget("shop") is first
    assert registry.budget("bank") is not first
    assert repr(first) == repr(Budget())
    first.withdraw(0.0)
    del first
    gc.collect()
    assert registry.budget("shop").remaining(0.0) == 7, "a new one"


def test_a_budget_that_is_given() -> None:
    registry, mine = Registry(), Budget(stock=5)
    registry.set_budget("shop", mine)
    assert registry.budget("shop") is mine


def test_after_a_fork_its_lock_is_free() -> None:
    registry = Registry()
    before = registry._lock
    registry.after_fork()
    assert registry._lock is not before
