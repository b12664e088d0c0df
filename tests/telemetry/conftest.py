"""Dependencies of one name share a budget and a gauge for as long as they live; each test begins without any."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from resilient.core.registry import REGISTRY


@pytest.fixture(autouse=True)
def no_dependency_of_an_earlier_test() -> Iterator[None]:
    gc.collect()
    # What a traceback still holds is not collected.
    others, REGISTRY._budgets = REGISTRY._budgets, weakref.WeakValueDictionary()
    yield
    REGISTRY._budgets = others
