"""The machine's clock."""

from __future__ import annotations

import threading
import time

from resilient import Clock
from resilient.core.clock import SYSTEM_CLOCK, SystemClock
from resilient.testing import ManualClock


def test_it_is_the_machines() -> None:
    assert SystemClock.monotonic is time.monotonic
    assert SystemClock.time is time.time
    assert SystemClock.sleep is time.sleep
    assert repr(SYSTEM_CLOCK) == "SystemClock()"
    clocks: list[Clock] = [SYSTEM_CLOCK, ManualClock()]
    assert all(clock.monotonic() <= clock.monotonic() for clock in clocks)


def test_a_lock_is_taken_or_given_up_on() -> None:
    lock = threading.Lock()
    assert SYSTEM_CLOCK.acquire(lock, 0.0)
    assert not SYSTEM_CLOCK.acquire(lock, 0.0)
    lock.release()
    assert SYSTEM_CLOCK.acquire(lock, float("inf")), "longer than the platform can wait is as long as it can"
