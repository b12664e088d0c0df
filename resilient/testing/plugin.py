"""Fixtures for pytest; loaded through the entry point ``resilient`` of the group ``pytest11``.

`manual_clock`, `origin`, `resilient_events`, `resilient_inactive`, `fault_seed`. Every pytest start imports
this module: what the fixtures need is imported inside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .clock import ManualClock
    from .events import CapturedEvents
    from .origin import Origin


@pytest.fixture
def manual_clock() -> ManualClock:
    """A new `resilient.testing.ManualClock`, at 0.0, which jumps."""
    from .clock import ManualClock

    return ManualClock()


@pytest.fixture
def origin(request: pytest.FixtureRequest) -> Iterator[Origin]:
    """A running `resilient.testing.Origin`; on `manual_clock`, if the test asks for that too."""
    from .origin import Origin

    clock = request.getfixturevalue("manual_clock") if "manual_clock" in request.fixturenames else None
    with Origin(clock=clock) as running:
        yield running


@pytest.fixture
def resilient_events() -> Iterator[CapturedEvents]:
    """The library's events during the test, as `resilient.testing.capture_events` gives them."""
    from .events import capture_events

    with capture_events() as captured:
        yield captured


@pytest.fixture
def resilient_inactive() -> Iterator[None]:
    """All policies step aside during the test: decorated functions are called directly."""
    from ..core.events import is_active, set_active

    before = is_active()
    set_active(False)
    try:
        yield
    finally:
        set_active(before)


@pytest.fixture
def fault_seed() -> Iterator[int]:
    """A seed that was put into `random`, which draws all jitter: ``RESILIENT_FAULT_SEED``, else a new one.

    It is printed, so a failed test shows how to have the same run again.
    """
    import os
    import random

    given = os.environ.get("RESILIENT_FAULT_SEED")
    seed = random.SystemRandom().randrange(2**32) if given is None else int(given)
    before = random.getstate()
    random.seed(seed)
    print(f"RESILIENT_FAULT_SEED={seed}")
    try:
        yield seed
    finally:
        random.setstate(before)
