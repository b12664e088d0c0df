"""Permits and a bounded queue. No I/O; the time is passed in.

Free permits are the items of a list: taking and giving back are one atomic step each, with and without the
interpreter's lock, so only waiting takes ours. Who waits is served in the order of arrival; a newcomer does
not overtake."""

from __future__ import annotations

import threading
from collections import deque

from ...core.errors import BulkheadFull
from ...core.outcome import Verdict
from ...core.policy import Wait
from .options import BulkheadOptions


class Seats:
    """The permits of a bulkhead. A permit is True."""

    __slots__ = ("_free", "_lock", "_waiting", "options")

    def __init__(self, options: BulkheadOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._free = [True] * options.limit
        self._waiting: deque[Wait[bool]] = deque()  # changed under _lock

    def admit(self, now: float, /) -> bool | Wait[bool]:
        if not self._waiting:
            try:
                return self._free.pop()
            except IndexError:
                pass
        return self._queue_up(now)

    def _queue_up(self, now: float) -> bool | Wait[bool]:
        options = self.options
        if not options.queue:
            raise self._full(f"{options.limit} calls are in flight", "full")
        wait: Wait[bool] = Wait(until=now + options.max_wait)
        with self._lock:
            full = len(self._waiting) >= options.queue
            if not full:
                self._waiting.append(wait)
        if full:
            raise self._full(f"{options.limit} calls are in flight and {options.queue} wait", "queue full")
        # A permit may have come back between the first look and the queue.
        self._hand_over()
        return wait if wait.permit is None else wait.permit

    def record(self, permit: bool, verdict: Verdict, latency: float, now: float, /) -> None:
        self._free.append(permit)
        if self._waiting:
            self._hand_over()

    def _hand_over(self) -> None:
        served = []
        with self._lock:
            while self._waiting:
                try:
                    permit = self._free.pop()
                except IndexError:
                    break
                wait = self._waiting.popleft()
                wait.permit = permit
                served.append(wait)
        for wait in served:
            if wait.wake is not None:
                wait.wake()

    def settle(self, wait: Wait[bool], now: float, /) -> bool:
        if self._leave(wait):
            return True
        raise self._full(f"none of {self.options.limit} calls in flight ended in time", "waited")

    def abandon(self, wait: Wait[bool], now: float, /) -> None:
        if self._leave(wait):
            self._free.append(True)
            self._hand_over()

    def _leave(self, wait: Wait[bool]) -> bool:
        """Leave the queue; True where it had been served."""
        with self._lock:
            if wait.permit is not None:
                return True
            self._waiting.remove(wait)
            return False

    def _full(self, what: str, reason: str) -> BulkheadFull:
        return BulkheadFull(f"the bulkhead is full: {what}", reason=reason)

    @property
    def in_flight(self) -> int:
        return self.options.limit - len(self._free)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._free[:] = [True] * self.options.limit  # what was in flight is in flight in the parent
        self._waiting.clear()
