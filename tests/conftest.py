"""What every test may count on: the asyncio backend, and Hypothesis without chance or clock."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from resilient.core.registry import REGISTRY
from resilient.flags.state import NOTHING, STATE, publish

# "ci", the default: the same examples on every run, on machines of any speed.
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# "dev" looks for examples that no run has seen, and keeps those that failed: HYPOTHESIS_PROFILE=dev make test
settings.register_profile("dev", deadline=None, max_examples=500, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run under asyncio; a file that means trio or uvloop too has a fixture of this name."""
    return "asyncio"


@pytest.fixture(autouse=True)
def budgets_of_its_own() -> Iterator[None]:
    """All of one name share a retry budget while one of them lives, if only in the traceback of an earlier test."""
    others, REGISTRY._budgets = REGISTRY._budgets, weakref.WeakValueDictionary()
    yield
    REGISTRY._budgets = others


@pytest.fixture(autouse=True)
def nothing_published() -> Iterator[None]:
    """No test leaves flags in force for the next one."""
    yield
    if STATE.flags is not NOTHING:
        publish(NOTHING)
