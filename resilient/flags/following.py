"""Who follows the flags: told of each change, in order.

They do not listen to events: while somebody does, every call takes the watched path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from ..core.events import complain
from ..core.forks import tell_after_fork


class Follower(Protocol):
    """Is told by the thread that publishes, or reads the document; must not wait."""

    def published(self, changed: Sequence[str], /) -> None:
        """Flags are in force; those that are others than before, or are for some callers."""
        ...

    def withdrawn(self, changed: Sequence[str], /) -> None:
        """No flags are in force any more; those that were."""
        ...

    def refused(self, problem: str, /) -> None:
        """The document that is followed is refused, or gone; what was in force still is, if anything was."""
        ...

    def recovered(self) -> None:
        """The document that is followed is what is in force: the first one, or after something else was refused."""
        ...


class Following:
    """All who follow. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followers: tuple[Follower, ...] = ()  # replaced under _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def add(self, follower: Follower, /) -> None:
        with self._lock:
            if follower not in self._followers:
                self._followers = (*self._followers, follower)

    def remove(self, follower: Follower, /) -> None:
        with self._lock:
            self._followers = tuple(each for each in self._followers if each is not follower)

    def published(self, changed: Sequence[str], /) -> None:
        self._tell(lambda each: each.published(changed))

    def withdrawn(self, changed: Sequence[str], /) -> None:
        self._tell(lambda each: each.withdrawn(changed))

    def refused(self, problem: str, /) -> None:
        self._tell(lambda each: each.refused(problem))

    def recovered(self) -> None:
        self._tell(lambda each: each.recovered())

    def _tell(self, told: Callable[[Follower], None]) -> None:
        for follower in self._followers:
            try:
                told(follower)
            except Exception:
                complain(follower)


FOLLOWING = Following()
