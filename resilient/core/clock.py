"""Where time comes from.

State machines never read a clock: they are handed ``now``. Drivers read one through this protocol, so that
tests can replace it (`resilient.testing.ManualClock`). Asyncio and trio code waits on its own loop's timers,
which the virtual-time loops of the test kit replace as a whole; so only blocking waits need a method here.
"""

from __future__ import annotations

import threading
import time as _time
from typing import Protocol


class Clock(Protocol):
    """What a pipeline needs of time. All durations are seconds.

    An implementation must be safe to use from many threads.
    """

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, to read dates that a server sends."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block the calling thread."""
        ...

    def acquire(self, lock: threading.Lock, timeout: float, /) -> bool:
        """Take ``lock`` within ``timeout`` seconds; False when the time is over."""
        ...


class SystemClock:
    """The machine's monotonic clock. The functions of `time` are its methods: reading it costs no extra
    frame."""

    monotonic = staticmethod(_time.monotonic)
    time = staticmethod(_time.time)
    sleep = staticmethod(_time.sleep)

    @staticmethod
    def acquire(lock: threading.Lock, timeout: float, /) -> bool:
        return lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))

    def __repr__(self) -> str:
        return "SystemClock()"


SYSTEM_CLOCK: Clock = SystemClock()
