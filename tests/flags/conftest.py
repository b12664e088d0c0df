"""Each test begins, and leaves the process, without published flags."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilient.flags.state import NOTHING, STATE, publish


@pytest.fixture(autouse=True)
def nothing_published() -> Iterator[None]:
    assert STATE.flags is NOTHING
    yield
    publish(NOTHING)
