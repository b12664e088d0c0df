"""What persons have to say about which document is in force: the older ones that one may go back to, and pins."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..core.clock import Clock
from ..core.errors import ConfigError
from .source import Files

MOST_GOOD = 5
"""Documents that a process holds, with the one in force."""


@dataclass(frozen=True)
class Pin:
    """An older document that a person put in force again.

    Attributes:
        generation: under which it was in force before.
        reason: as the person said.
        until: when it ends, in seconds since the epoch, unless another document comes before.
        rejected: the digests of the documents that were left behind.
    """

    generation: int
    reason: str
    until: float
    rejected: frozenset[str] = field(repr=False)
    ends: float = field(repr=False, compare=False)


class Good(NamedTuple):
    """A document that was in force, and its generation."""

    files: Files
    generation: int


class Control:
    """Used by the thread that looks; ``pin`` is read by all.

    Args:
        clock: where time comes from.

    Attributes:
        pin: the one in force.
    """

    def __init__(self, clock: Clock) -> None:
        self.pin: Pin | None = None
        self._clock = clock
        self._good: deque[Good] = deque(maxlen=MOST_GOOD)  # the last one was not pinned

    def entered(self, files: Files, generation: int, /) -> None:
        """A document that no person chose is in force."""
        self.pin = None
        if not self._good or self._good[-1].files.digest != files.digest:
            self._good.append(Good(files, generation))

    def older(self, n: int, /) -> Good:
        """The n-th good one before the one in force.

        Raises:
            ConfigError: there are not so many.
        """
        there = len(self._good) - 1
        if n > there:
            held = f"there are {there}" if there > 0 else "there is none"
            raise ConfigError(f"rollback: n={n}, and of older documents of this process {held}")
        return self._good[-1 - n]

    def go_back(self, n: int, ttl: float, reason: str, /) -> None:
        """The n-th good one before is in force. Those after it are left behind."""
        behind = {self._good.pop().files.digest for _ in range(n)}
        if self.pin is not None:
            behind |= self.pin.rejected
        older = self._good[-1]
        rejected = frozenset(behind - {older.files.digest})
        now = self._clock
        self.pin = Pin(older.generation, reason, now.time() + ttl, rejected, now.monotonic() + ttl)

    @property
    def pin_is_over(self) -> bool:
        """Whether the time of the pin has ended."""
        return self.pin is not None and self._clock.monotonic() >= self.pin.ends


class Order:
    """What a person wants done, by the thread that looks.

    Args:
        action: is called there.

    Attributes:
        done: is set at the end of the look at which it was done.
        error: what it raised.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None
        self._action = action

    def withdraw(self) -> None:
        """It is not wanted any more."""
        self._action = lambda: None

    def obey(self) -> None:
        try:
            self._action()
        except Exception as exc:
            self.error = exc
