"""A clock that tests turn by hand."""

from __future__ import annotations

import pytest

from resilient.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
