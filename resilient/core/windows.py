"""Windows over the outcomes of calls: the last seconds, or the last N calls. No clock, no lock of their own.

`TimeWindow` is made for a reader that is rare (a failure) and a writer that is not (a success): successes of
the current slot are counted by one atomic step of the interpreter and looked at only when somebody asks for
totals."""

from __future__ import annotations

import itertools
from collections import deque
from typing import NamedTuple

SLOTS = 10


class Totals(NamedTuple):
    """What a window holds: ``calls`` that ended, of them ``failures`` and ``slow`` ones."""

    calls: int
    failures: int
    slow: int


class TimeWindow:
    """Outcomes of the last ``width * 10`` seconds in ten slots.

    A success may be counted by `count`, without the owner's lock, while ``now < quick_until``; everything
    else needs the lock.

    Attributes:
        quick_until: end of the current slot; in the past while the last outcome was a failure, as a success
            then ends a streak.
        streak: failures in a row.
    """

    __slots__ = (
        "_edge",
        "_failures",
        "_slot",
        "_slow",
        "_successes",
        "_taken",
        "_width",
        "count",
        "quick_until",
        "streak",
    )

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLOTS
        self._edge = float("-inf")  # until the first outcome comes
        self.quick_until = float("-inf")
        self.streak = 0
        self.count = itertools.count().__next__
        self._taken = 0
        self._successes = [0] * SLOTS
        self._failures = [0] * SLOTS
        self._slow = [0] * SLOTS
        self._slot = 0

    def add(self, now: float, *, failure: bool, slow: bool) -> None:
        if now >= self._edge:
            self._turn(now)
        if failure:
            self._failures[self._slot] += 1
            self.streak += 1
        else:
            self.count()
            self.streak = 0
        if slow:
            self._slow[self._slot] += 1
        self.quick_until = float("-inf") if failure else self._edge

    def totals(self, now: float) -> Totals:
        if now >= self._edge:
            self._turn(now)
        self._look()
        failures = sum(self._failures)
        return Totals(sum(self._successes) + failures, failures, sum(self._slow))

    def _look(self) -> None:
        # Reading the counter advances it by one; _taken leaves that one out the next time.
        new = self.count() - self._taken
        self._taken += new + 1
        self._successes[self._slot] += new

    def resize(self, seconds: float, now: float) -> None:
        """Look at another number of seconds from now on, and keep what falls into them."""
        if self._edge != float("-inf"):
            if now >= self._edge:
                self._turn(now)
            self._look()
            ratio = self._width * SLOTS / seconds
            for slots in (self._successes, self._failures, self._slow):
                slots[:] = respread(slots, self._slot, ratio)
            self._slot = 0
            self._edge = now + seconds / SLOTS
            self.quick_until = float("-inf") if self.streak else self._edge
        self._width = seconds / SLOTS

    def _turn(self, now: float) -> None:
        if self._edge == float("-inf"):
            self._edge = now + self._width
            return
        self._look()
        steps = int((now - self._edge) / self._width) + 1
        for _ in range(min(steps, SLOTS)):
            self._slot = (self._slot + 1) % SLOTS
            self._successes[self._slot] = self._failures[self._slot] = self._slow[self._slot] = 0
        self._edge += steps * self._width
        self.quick_until = float("-inf") if self.streak else self._edge


class CountWindow:
    """The last ``size`` outcomes. Every method needs the owner's lock: ``quick_until`` is never in the
    future."""

    __slots__ = ("_failures", "_outcomes", "_slow", "quick_until", "streak")

    def __init__(self, size: int) -> None:
        self.quick_until = float("-inf")
        self.streak = 0
        self._outcomes: deque[tuple[bool, bool]] = deque(maxlen=size)
        self._failures = 0
        self._slow = 0

    def count(self) -> int:
        raise AssertionError("a count window has no path without the lock")

    def add(self, now: float, *, failure: bool, slow: bool) -> None:
        outcomes = self._outcomes
        if len(outcomes) == outcomes.maxlen:
            old_failure, old_slow = outcomes[0]
            self._failures -= old_failure
            self._slow -= old_slow
        outcomes.append((failure, slow))
        self._failures += failure
        self._slow += slow
        self.streak = self.streak + 1 if failure else 0

    def resize(self, size: int, now: float) -> None:
        """Look at another number of outcomes, and keep the latest that are of them."""
        kept = list(self._outcomes)[-size:]
        self._outcomes = deque(kept, maxlen=size)
        self._failures = sum(failure for failure, _ in kept)
        self._slow = sum(slow for _, slow in kept)

    def totals(self, now: float) -> Totals:
        return Totals(len(self._outcomes), self._failures, self._slow)


def respread(slots: list[int], current: int, ratio: float) -> list[int]:
    """Counts of a ring of slots, for slots of another width: by age, the latest in slot 0 and older ones before it.

    Args:
        slots: the ring; ``current`` is the slot of now.
        ratio: the old width, in new ones. What is older than the new ring goes.
    """
    size = len(slots)
    spread = [0] * size
    for age in range(size):
        moved = int(age * ratio)
        if moved < size:
            spread[-moved] += slots[current - age]
    return spread
