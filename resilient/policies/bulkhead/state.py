"""Permits and a bounded queue. No I/O; the time is passed in.

Free permits are the items of a list: taking and giving back are one atomic step each, with and without the
interpreter's lock, so only waiting takes ours. Who waits is served in the order of arrival; a newcomer does
not overtake.

A permit is the very list that it goes back to. After a fork there is a new list, so that a call which the
parent began gives the child nothing when it ends there too."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from ...core.errors import BulkheadFull
from ...core.outcome import Verdict
from ...core.policy import Wait
from .options import BulkheadOptions

Permit = list[Any]


class Seats:
    """The permits of a bulkhead."""

    __slots__ = ("_free", "_lock", "_owed", "_waiting", "options")

    def __init__(self, options: BulkheadOptions) -> None:
        self.options = options
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
            while more > 0 and self._owed:
                self._waiting.remove(self._owed.pop())
                more -= 1
            self._free += [self._free] * more
            for _ in range(-more):
                owed: Wait[Permit] = Wait()
                self._owed.add(owed)
                self._waiting.appendleft(owed)
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
            return self.options.limit + len(self._owed) - len(self._free)

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting) - len(self._owed)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self._free = self._all_free()  # what was in flight is in flight in the parent
        self._waiting.clear()
        self._owed.clear()
