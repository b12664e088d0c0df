"""The level that moves by itself: up a step while a signal is high, down a step while all are low. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .plans import OFF, Auto
from .plans import Signal as Signal  # for the example


class AutoLevel:
    """One process's.

    Between ``exit`` and ``enter`` of a signal nothing moves, nor while one that the document names gives no reading and
    none is high; so noise at a threshold moves it no faster than the hold times.

    Attributes:
        level: where it stands.

    Example:
        >>> auto = Auto("on", most=2, enter_for=5.0, exit_for=60.0, signals={"lag": Signal(0.1, 0.03)})
        >>> level = AutoLevel()
        >>> [level.look(auto, {"lag": 0.2}, now) for now in (0.0, 4.9, 5.0, 10.0, 15.0)]
        [0, 0, 1, 2, 2]
        >>> [level.look(auto, {"lag": 0.0}, now) for now in (20.0, 79.9, 80.0, 140.0)]
        [2, 2, 1, 0]
    """

    def __init__(self) -> None:
        self.level = 0
        self._high: float | None = None  # since when a signal is, or the last step up
        self._low: float | None = None  # since when all are, or the last step down

    def look(self, auto: Auto, readings: Mapping[str, float], now: float, /) -> int:
        """The level after these readings."""
        if auto.mode == OFF:
            self.level, self._high, self._low = 0, None, None
            return 0
        self.level = min(self.level, auto.most)
        known = [(readings[name], signal) for name, signal in auto.signals.items() if name in readings]
        high = any(reading >= signal.enter for reading, signal in known)
        low = len(known) == len(auto.signals) and all(reading <= signal.exit for reading, signal in known)
        self._high = (now if self._high is None else self._high) if high else None
        self._low = (now if self._low is None else self._low) if low else None
        if self._high is not None and now - self._high >= auto.enter_for and self.level < auto.most:
            self.level, self._high = self.level + 1, now
        elif self._low is not None and now - self._low >= auto.exit_for and self.level > 0:
            self.level, self._low = self.level - 1, now
        return self.level
