"""Permits and a bounded queue. No I/O; the time is passed in.

Free permits are the items of a list: taking and giving back are one atomic step each, with and without the
interpreter's lock, so only waiting takes ours. Who waits is served in the order of arrival; a newcomer does
not overtake.

A permit is the very list that it goes back to. After a fork there is a new list, so that a call which the
parent began gives the child nothing when it ends there too."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ...core.errors import BulkheadFull
from ...core.options import OBSERVE
from ...core.outcome import Verdict
from ...core.policy import Wait
from .options import BulkheadOptions

Permit = list[Any]


class _Extra(list[Any]):
    """A permit above the limit, for who is let by.

    As long as calls are let by, nothing comes back of it. When they are not any more, one permit is kept away from
    others until this one is back, so that the limit holds before anybody is let in.
    """

    __slots__ = ("_epoch", "_home", "_seats")

    def __init__(self, seats: Seats, epoch: int, home: Permit) -> None:
        self._seats = seats
        self._epoch = epoch
        self._home = home

    def append(self, permit: Any, /) -> None:
        if not self._seats.took_back(self._epoch):
            self._home.append(self._home)


class Seats:
    """The permits of a bulkhead.

    Args:
        observed: told, outside the lock, of a call that is let by and would have been turned away.
    """

    __slots__ = ("_epoch", "_extra", "_free", "_lock", "_observed", "_owed", "_waiting", "options")

    def __init__(
        self, options: BulkheadOptions, observed: Callable[[BulkheadFull], None] = lambda _: None
    ) -> None:
        self.options = options
        self._observed = observed
        self._epoch = 0  # how often calls were let by and then not any more; guarded by _lock
        self._extra = 0  # calls in flight that were let by above the limit; guarded by _lock
        self._lock = threading.RLock()
        self._free = self._all_free()
        self._waiting: deque[Wait[Permit]] = deque()  # changed under _lock
        self._owed: set[Wait[Permit]] = set()  # those that wait to take a permit away; guarded by _lock

    def _all_free(self) -> Permit:
        free: Permit = []
        free += [free] * self.options.limit
        return free

    def admit(self, now: float, /) -> Permit | Wait[Permit]:
        if not self._waiting:
            try:
                return self._free.pop()  # type: ignore[no-any-return]  # a list of permits, typed as Any
            except IndexError:
                pass
        return self._queue_up(now)

    def _queue_up(self, now: float) -> Permit | Wait[Permit]:
        options = self.options
        if options.state is not None and (extra := self._let_by()) is not None:
            if options.state == OBSERVE:
                self._observed(self._full(f"{options.limit} calls are in flight", "full"))
            return extra
        if not options.queue:
            raise self._full(f"{options.limit} calls are in flight", "full")
        wait: Wait[Permit] = Wait(until=now + options.max_wait)
        with self._lock:
            full = len(self._waiting) - len(self._owed) >= options.queue
            if not full:
                self._waiting.append(wait)
        if full:
            raise self._full(f"{options.limit} calls are in flight and {options.queue} wait", "queue full")
        # A permit may have come back between the first look and the queue.
        self._hand_over()
        return wait if wait.permit is None else wait.permit

    def _let_by(self) -> Permit | None:
        with self._lock:
            if self.options.state is None:  # since a moment ago
                return None
            self._extra += 1
            return _Extra(self, self._epoch, self._free)

    def took_back(self, epoch: int, /) -> bool:
        """An extra permit is back, while calls are still let by."""
        with self._lock:
            same = epoch == self._epoch
            self._extra -= same
            return same

    def record(self, permit: Permit, verdict: Verdict, latency: float, now: float, /) -> None:
        permit.append(permit)
        if self._waiting:
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            served = self._serve()
        for wait in served:
            if wait.wake is not None:
                wait.wake()

    def _serve(self) -> list[Wait[Permit]]:
        """Give free permits to those who wait; under the lock, and in a frame of its own: CPython 3.12 leaves the lock
        taken where a signal handler raises in a jump from an ``except`` to the end of the ``with`` block."""
        served: list[Wait[Permit]] = []
        while self._waiting:
            try:
                permit = self._free.pop()
            except IndexError:
                break
            try:
                wait = self._waiting.popleft()
            except IndexError:  # a finalizer of this thread was here in between
                permit.append(permit)
                break
            wait.permit = permit
            if wait in self._owed:
                self._owed.discard(wait)
            else:
                served.append(wait)
        return served

    def retune(self, options: BulkheadOptions) -> None:
        """Another limit, queue or wait. Calls in flight stay, and so do those that wait.

        A lower limit takes permits away as they come back: each that is missing waits for one before all others, so
        that nobody is let in until the limit holds.
        """
        with self._lock:
            old, self.options = self.options, options
            more = options.limit - old.limit
            let_by = list[Wait[Permit]]()
            if options.state is not None:
                let_by = [each for each in self._waiting if each not in self._owed]
                for wait in let_by:
                    self._waiting.remove(wait)
                    wait.permit = _Extra(self, self._epoch, self._free)
                self._extra += len(let_by)
            elif old.state is not None:
                more -= self._extra
                self._extra, self._epoch = 0, self._epoch + 1
            while more > 0 and self._owed:
                self._waiting.remove(self._owed.pop())
                more -= 1
            self._free += [self._free] * more
            for _ in range(-more):
                owed: Wait[Permit] = Wait()
                self._owed.add(owed)
                self._waiting.appendleft(owed)
        for wait in let_by:
            if wait.wake is not None:
                wait.wake()
        self._hand_over()

    def settle(self, wait: Wait[Permit], now: float, /) -> Permit:
        permit = self._leave(wait)
        if permit is not None:
            return permit
        raise self._full(f"none of {self.options.limit} calls in flight ended in time", "waited")

    def abandon(self, wait: Wait[Permit], now: float, /) -> None:
        permit = self._leave(wait)
        if permit is not None:
            permit.append(permit)
            self._hand_over()

    def _leave(self, wait: Wait[Permit]) -> Permit | None:
        """Leave the queue; the permit where it had been served."""
        with self._lock:
            if wait.permit is None and wait in self._waiting:  # after a fork, who waited in the parent is not
                self._waiting.remove(wait)
            return wait.permit

    def _full(self, what: str, reason: str) -> BulkheadFull:
        return BulkheadFull(f"the bulkhead is full: {what}", reason=reason, dependency=self.options.name)

    @property
    def in_flight(self) -> int:
        with self._lock:
            return self.options.limit + self._extra + len(self._owed) - len(self._free)

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting) - len(self._owed)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self._free = self._all_free()  # what was in flight is in flight in the parent
        self._waiting.clear()
        self._owed.clear()
        self._extra, self._epoch = 0, self._epoch + 1
