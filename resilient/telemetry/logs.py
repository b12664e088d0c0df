"""Events as log records of the logger ``resilient``, with ``event.name`` as an attribute of the record.

Retries and breaker transitions are logged where they happen, with or without this. Here is what only makes
sense when somebody counts: calls that ended without their retries, and limiters that began and ceased to turn
calls away. At most one line a second for an event of a dependency; the next one says how many were left out."""

from __future__ import annotations

import logging
import threading
from typing import Any

from ..core.clock import Clock
from ..core.events import CallFinished, Event, FlagEvaluated, Rejection, RetryExhausted, RetrySuppressed
from ..core.forks import tell_after_fork

EVERY = 1.0
"""Seconds between two lines of one event and dependency."""

RELIEVED_AFTER = 10.0
"""Seconds without a rejection after which a limiter counts as relieved."""

_LIMITERS = {"ratelimit": "rate limit", "bulkhead": "bulkhead"}
_MOST = 1_000

_LOGGER = logging.getLogger("resilient")


class EventLog:
    """A listener that writes log records.

    Args:
        clock: tells how long ago the last line was.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._last: dict[tuple[str, str], tuple[float, int]] = {}  # guarded by _lock: when, how many since
        self._saturated: dict[tuple[str, str], float] = {}  # guarded by _lock: last rejection
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, CallFinished):
            if self._saturated and event.outcome != "rejected":
                self._relieve(event)
        elif isinstance(event, Rejection):
            if event.by in _LIMITERS:
                self._saturate(event)
        elif isinstance(event, (RetryExhausted, RetrySuppressed)):
            self._ended(event)
        elif isinstance(event, FlagEvaluated):
            what = event.variant if event.error is None else event.error
            text = f"flag {event.dependency}: {what or '(code default)'} ({event.cause})"
            _write(logging.INFO, text, event.attributes())

    def _ended(self, event: RetryExhausted | RetrySuppressed) -> None:
        left_out = self._turn((event.name, event.dependency))
        if left_out is None:
            return
        if isinstance(event, RetryExhausted):
            text = f"failed with {event.error_type} after {event.attempts} attempts"
        else:
            text = f"failed with {event.error_type} and was not retried: {event.reason}"
        more = f" ({left_out} more like this)" if left_out else ""
        _write(logging.WARNING, f"{event.dependency}: {event.operation} {text}{more}", event.attributes())

    def _turn(self, key: tuple[str, str]) -> int | None:
        """How many were left out since the last line, if it is time for the next one."""
        now = self._clock.monotonic()
        with self._lock:
            last, left_out = self._last.get(key, (float("-inf"), 0))
            if now - last < EVERY:
                self._last[key] = (last, left_out + 1)
                return None
            if len(self._last) >= _MOST:
                self._last.clear()
            self._last[key] = (now, 0)
            return left_out

    def _saturate(self, event: Rejection) -> None:
        key = (event.dependency, event.by)
        now = self._clock.monotonic()
        with self._lock:
            new = key not in self._saturated
            if new and len(self._saturated) >= _MOST:
                return
            self._saturated[key] = now
        if new:
            text = f"{event.dependency}: the {_LIMITERS[event.by]} began to turn calls away: {event.reason}"
            _write(logging.WARNING, text, {**event.attributes(), "event.name": "resilient.limiter.saturated"})

    def _relieve(self, event: CallFinished) -> None:
        now = self._clock.monotonic()
        for by, what in _LIMITERS.items():
            key = (event.dependency, by)
            with self._lock:
                last = self._saturated.get(key)
                if last is None or now - last < RELIEVED_AFTER:
                    continue
                del self._saturated[key]
            text = f"{event.dependency}: the {what} has turned no call away for {RELIEVED_AFTER:g} s"
            known = {
                "event.name": "resilient.limiter.relieved",
                "resilient.dependency": event.dependency,
                "resilient.by": by,
            }
            _write(logging.INFO, text, known)


def _write(level: int, text: str, known: dict[str, Any]) -> None:
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, "%s", text, extra=known)
