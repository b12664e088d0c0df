"""What every test of a recipe may count on."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest

from resilient.core.registry import REGISTRY


@pytest.fixture(autouse=True)
def budgets_of_its_own() -> Iterator[None]:
    """All that bear one name share a retry budget, and recipes bear the same names in each test."""
    others, REGISTRY._budgets = REGISTRY._budgets, weakref.WeakValueDictionary()
    yield
    REGISTRY._budgets = others
