"""Who may use which connection of one endpoint: no I/O, one short lock, the same for sync and async.

Connections are the core's, made by the public ``create_connection`` of one of its pools, which serves as a
factory and never sends anything itself. The pool is ours, because the core's loses a place for ever when a
request is cancelled at the wrong moment. A connection goes back only if it is idle and nothing more was said on
it than was asked; any other is killed, which never suspends."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from typing import Any

from ..core.forks import tell_after_fork

MAX_AGE = 300.0
"""Seconds after which a connection is not used again, so that new pods get traffic; see `old_at`."""
MAX_IDLE = 4.0
"""Seconds: below the keep-alive of common servers (uvicorn and Node: 5), so that it is we who close, not
they."""


class Connection:
    """One connection and what we know of it."""

    __slots__ = ("_h11", "core", "idle_since", "kill", "loop", "old_at", "taken", "uses")

    def __init__(self, core: Any, loop: Any, old_at: float) -> None:
        self.core = core
        self.loop = loop
        self.old_at = old_at
        self.idle_since = 0.0
        self.uses = 0
        self.taken = False  # guarded by the pool's lock
        self.kill: Callable[[], None] = _nothing
        self._h11: Any = None

    def left_over(self) -> bool:
        """Whether the peer sent more than the answer that it was asked for; known when a request is over.

        The core keeps such bytes and takes them for the beginning of the next request's answer: another caller would
        be given it. It has no public name for them. Go's ``net/http`` and curl drop such a connection too.
        """
        if self._h11 is None:
            core = self.core
            while (
                inner := getattr(core, "_connection", None)
            ) is not None:  # a proxy's has the origin's in it
                core = inner
            self._h11 = getattr(core, "_h11_state", None)
        return self._h11 is not None and bool(self._h11.trailing_data[0])

    def usable(self, now: float, max_idle: float) -> bool:
        core = self.core
        return (
            now < self.old_at
            and now - self.idle_since < max_idle
            and core.is_idle()
            and not core.has_expired()
        )


def old_at(now: float, max_age: float) -> float:
    """When a connection that is made now is too old to be used again; +-20 %, so that not all go at once."""
    return now + max_age * (0.8 + 0.4 * random.random())


def _nothing() -> None:
    """There is no stream to kill yet."""


class Pool:
    """The connections of one endpoint.

    Args:
        connect: makes a new connection object of the core's; does no I/O.
        max_age: seconds, +-20 %.
        max_idle: seconds.
        keep: idle connections at most.
        sync: whether its connections belong to no event loop.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        max_age: float = MAX_AGE,
        max_idle: float = MAX_IDLE,
        keep: int = 100,
        sync: bool = True,
    ) -> None:
        self._connect = connect
        self._max_age = max_age
        self._max_idle = max_idle
        self._keep = keep
        self._sync = sync
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._idle: list[Connection] = []  # the one used last is last; guarded by _lock
        self._closed = False  # guarded by _lock
        self.opened = 0  # connections made so far; guarded by _lock
        self.in_use = 0  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        """In a child the parent's connections are let go without a word on them."""
        self._lock = threading.RLock()
        self._pid = os.getpid()
        idle, self._idle, self.in_use = self._idle, [], 0
        if self._sync:
            for connection in idle:
                connection.kill()
        # Transports of the parent's event loop are not touched: they share its selector.

    @property
    def idle(self) -> int:
        """Connections that wait to be used again."""
        return len(self._idle)

    def take(self, now: float, loop: Any = None, *, fresh: bool = False) -> Connection:
        """A connection to send one request on: the one that was used last, or a new one."""
        dead: list[Connection] = []
        found = None
        with self._lock:
            if not fresh:
                foreign = []
                while self._idle:
                    connection = self._idle.pop()
                    if connection.loop is not loop:
                        if not connection.loop.is_closed():
                            foreign.append(connection)  # another loop of this process uses it
                    elif connection.usable(now, self._max_idle):
                        found = connection
                        break
                    else:
                        dead.append(connection)
                self._idle[:0] = foreign
            self.in_use += 1
            if found is None:
                self.opened += 1
        for connection in dead:
            connection.kill()
        if found is None:
            found = Connection(self._connect(), loop, old_at(now, self._max_age))
        found.uses += 1
        found.taken = True
        return found

    def give(self, connection: Connection, now: float) -> None:
        """The request is over, in whatever way. Again for the same request it does nothing."""
        core = connection.core
        idle = (
            now < connection.old_at and core.is_idle() and not core.is_closed() and not connection.left_over()
        )
        with self._lock:
            if not connection.taken:
                return
            connection.taken = False
            self.in_use -= 1
            if idle and not self._closed and len(self._idle) < self._keep:
                connection.idle_since = now
                self._idle.append(connection)
                return
        connection.kill()

    def close(self) -> None:
        """Kill what is idle; what is in use is killed when it comes back."""
        for connection in self._empty():
            connection.kill()

    def drain(self) -> None:
        """As `close`, from any thread: connections of an event loop are killed by that loop."""
        for connection in self._empty():
            soon = getattr(connection.loop, "call_soon_threadsafe", None)
            try:
                connection.kill() if soon is None else soon(connection.kill)
            except RuntimeError:
                pass  # the loop is closed, and its connections with it

    def _empty(self) -> list[Connection]:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        return idle
