"""When a document that keeps changing may be applied. Pure; the time is handed in."""

from __future__ import annotations

from collections import deque

WINDOW = 60.0
MOST = 6
"""Other contents within `WINDOW` seconds, beyond which it flaps."""
EVERY = 10.0
"""Seconds between two generations while it flaps."""


class Damper:
    """Lets every change through at once, until there are too many; then one in ten seconds.

    Attributes:
        flapping: whether there are too many now.

    Example:
        >>> damper = Damper()
        >>> for second in range(8):
        ...     damper.arrived(second)
        ...     if damper.wait(second) == 0:
        ...         damper.applied(second)
        >>> damper.flapping, damper.wait(8)
        (True, 7.0)
    """

    def __init__(self) -> None:
        self.flapping = False
        self._told = False
        self._arrivals: deque[float] = deque(maxlen=MOST + 1)
        self._applied = float("-inf")

    def arrived(self, now: float) -> None:
        """There is another content."""
        self._arrivals.append(now)
        self._see(now)

    def applied(self, now: float) -> None:
        """One was put in force."""
        self._applied = now

    def wait(self, now: float) -> float:
        """Seconds until the next one may be applied."""
        return max(0.0, self._applied + EVERY - now) if self.flapping else 0.0

    def look(self, now: float) -> bool:
        """See whether it flaps; whether that is another answer than at the last look."""
        self._see(now)
        told, self._told = self._told, self.flapping
        return told is not self.flapping

    def _see(self, now: float) -> None:
        self.flapping = len(self._arrivals) > MOST and now - self._arrivals[0] < WINDOW
