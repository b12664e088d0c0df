"""What persons have to say about which document is in force: the older ones that one may go back to, and pins;
and which has to wait because they come too fast."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..core.clock import Clock
from ..core.errors import ConfigError
from .damper import Damper
from .snapshot import Snapshot
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
        damper: tells whether documents come too fast.
        waiting: what is to be applied as soon as that is allowed.
    """

    def __init__(self, clock: Clock) -> None:
        self.pin: Pin | None = None
        self.damper = Damper()
        self.waiting: Files | None = None
        self._came: str | None = None  # the digest of the last good content
        self._clock = clock
        self._good: deque[Good] = deque(maxlen=MOST_GOOD)  # the last one was not pinned

    def entered(self, files: Files, generation: int, /) -> None:
        """A document that no person chose is in force."""
        self.pin = self.waiting = None
        self.damper.applied(self._clock.monotonic())
        if not self._good or self._good[-1].files.digest != files.digest:
            self._good.append(Good(files, generation))

    def came(self, digest: str, /) -> None:
        """Good content is there; told at every look, if need be."""
        if digest != self._came:
            self._came = digest
            self.damper.arrived(self._clock.monotonic())

    def holds(self, files: Files, before: Snapshot | None, after: Snapshot, /) -> bool:
        """Whether ``after`` has to wait. What only takes load off never does."""
        self.came(files.digest)
        waits = self.damper.wait(self._clock.monotonic()) > 0
        if not waits or before is None or only_degrades(before, after):
            return False
        self.waiting = files
        return True

    def due(self, there: str | None, /) -> Files | None:
        """What has waited long enough, if it is still ``there``."""
        if self.waiting is not None and self.waiting.digest != there:
            self.waiting = None
        return None if self.damper.wait(self._clock.monotonic()) else self.waiting

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
        if self.waiting is not None:
            behind.add(self.waiting.digest)
            self.waiting = None
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


def only_degrades(before: Snapshot, after: Snapshot, /) -> bool:
    """Whether a document only takes load off: a level that rises, features that are switched down, breakers that are
    forced open."""
    old, new = numbers_of(before), numbers_of(after)
    if not old.keys() <= new.keys():
        return False
    for path, value in new.items():
        if old.get(path) != value and not (path.endswith("breaker.state") and value == "forced_open"):
            return False
    parts = {section.keys: part for section, part in before.parts}
    return all(section.degrades(parts[section.keys], part) for section, part in after.parts)


def numbers_of(snapshot: Snapshot, /) -> dict[str, object]:
    """What it says of policies, by path."""
    return {
        f"{target}.{kind}.{leaf}": value
        for target, kinds in snapshot.targets.items()
        for kind, said in kinds.items()
        for leaf, value in said.values.items()
    }
