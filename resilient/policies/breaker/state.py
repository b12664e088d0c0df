"""The breaker's state machine. No I/O; the time is passed in; one lock, for failures, edges and half-open
only.

The lock is re-entrant: a finalizer or a signal handler may call in while its thread holds it.
A permit is what it was given for: the window of a closed period, a probe, or nothing. So a result that comes
late is known by identity, and cannot count for a period that it does not belong to.

::

    closed --ratio | consecutive | slow--> open --open time over, next call--> half-open
      ^                                     ^                                     |
      |                                     +------ a probe fails or is slow -----+
      +---------------------------- as many probes as asked for succeed ----------+
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ...core.errors import CircuitOpen
from ...core.outcome import FAILURE, IGNORED, SUCCESS, Verdict
from ...core.windows import CountWindow, TimeWindow, Totals
from .options import CircuitBreakerOptions

CLOSED = "closed"
OPEN = "open"
HALF_OPEN = "half_open"
FORCED_OPEN = "forced_open"
DISABLED = "disabled"

_FORCED = {"forced_open": FORCED_OPEN, "disabled": DISABLED}
"""What the config document may force, but for ``observe``."""

Window = TimeWindow | CountWindow


class Probe:
    """One trial call while half-open. After ``lease`` another may take its place: a lost probe wedges
    nothing."""

    __slots__ = ("lease",)
    quick_until = float("-inf")

    def count(self) -> int:
        raise AssertionError("a probe has no path without the lock")

    def __init__(self, lease: float) -> None:
        self.lease = lease


class Passed:
    """The permit of a call that no state of the breaker is interested in: disabled, or observed while
    open."""

    __slots__ = ()
    quick_until = float("-inf")

    def count(self) -> int:
        raise AssertionError("nothing is counted")


PASSED = Passed()
Permit = Window | Probe | Passed


class Change(NamedTuple):
    """One transition, with the numbers of the window that ended."""

    old: str
    new: str
    reason: str
    trigger: str
    totals: Totals
    open_for: float | None
    observed: bool


class BreakerState:
    """When to let calls through.

    Args:
        options: the rules.
        changed: called for every transition, in order, outside the lock.
        rand: gives numbers in [0, 1).
    """

    __slots__ = (
        "_changed",
        "_changes",
        "_failed_at",
        "_failure",
        "_good",
        "_half_open",
        "_hand",
        "_hand_observes",
        "_lock",
        "_manual",
        "_observe",
        "_opened",
        "_probe",
        "_rand",
        "_slow_after",
        "_telling",
        "_until",
        "closed",
        "options",
    )

    def __init__(
        self,
        options: CircuitBreakerOptions,
        changed: Callable[[Change], None],
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.options = options
        self._changed = changed
        self._rand = rand
        self._slow_after = float("inf") if options.slow_after is None else options.slow_after
        self._lock = threading.RLock()
        self.closed: Window | None = (
            None  # the window of the closed period; None otherwise. Written under _lock
        )
        self._until = float("-inf")  # open until then; guarded by _lock, read without it to reject fast
        self._probe: Probe | None = None  # guarded by _lock
        self._half_open = False  # open, and its time is over; guarded by _lock
        self._good = 0  # successful probes of this half-open period; guarded by _lock
        self._opened = 0  # times opened since the last closed period; guarded by _lock
        self._manual: str | None = None  # FORCED_OPEN or DISABLED, by code or document; written under _lock
        self._observe = False  # written under _lock
        self._hand: str | None = None  # what code forces, under what the document does; guarded by _lock
        self._hand_observes = False  # guarded by _lock
        self._failure: str | None = None  # guarded by _lock
        self._failed_at = 0.0  # guarded by _lock
        self._changes: deque[Change] = deque()  # appended under _lock, told outside it
        self._telling = False  # guarded by _lock
        self.closed = self._new_window()

    def _new_window(self) -> Window:
        options = self.options
        return TimeWindow(options.window) if options.count is None else CountWindow(options.count)

    # ---------------------------------------------------------------------------------------------- admission
    def admit(self, now: float, /) -> Permit:
        return self.closed or self._admit_slow(now)  # windows are true

    def _admit_slow(self, now: float) -> Permit:
        manual = self._manual
        if manual is FORCED_OPEN:
            raise self._rejection("forced open", now, None)
        if manual is DISABLED:
            return PASSED
        if now < self._until and not self._observe:
            raise self._rejection("open", now, self._until - now)
        try:
            with self._lock:
                if self.closed is not None:
                    return self.closed
                if self._manual is not None:
                    return self._admit_manual(now)
                if now < self._until:
                    if self._observe:
                        return PASSED
                    raise self._rejection("open", now, self._until - now)
                probe = self._probe
                if probe is not None and now < probe.lease:
                    if self._observe:
                        return PASSED
                    raise self._rejection("half-open, a probe is in flight", now, None)
                if not self._half_open:
                    self._half_open = True
                    self._queue(OPEN, HALF_OPEN, "open time over", "time", Totals(0, 0, 0), None)
                self._probe = probe = Probe(now + self.options.probe_lease)
                return probe
        finally:
            if self._changes:
                self._tell()

    def _admit_manual(self, now: float) -> Permit:
        if self._manual is FORCED_OPEN:
            raise self._rejection("forced open", now, None)
        return PASSED

    def _rejection(self, reason: str, now: float, retry_after: float | None) -> CircuitOpen:
        failure = self._failure
        age = None if failure is None else max(0.0, now - self._failed_at)
        state = FORCED_OPEN if reason == "forced open" else OPEN if reason == "open" else HALF_OPEN
        again = "" if retry_after is None else f"; again in {retry_after:.2f} s"
        last = "" if failure is None else f"; last failure {failure}, {age:.1f} s ago"
        return CircuitOpen(
            f"the circuit breaker is {reason}{again}{last}",
            reason=reason,
            state=state,
            retry_after=retry_after,
            last_failure=failure,
            last_failure_age=age,
            dependency=self.options.name,
        )

    # ---------------------------------------------------------------------------------------------- recording
    def record(self, permit: Permit, verdict: Verdict, latency: float, now: float, /) -> None:
        if verdict is SUCCESS and now < permit.quick_until and latency < self._slow_after:
            permit.count()
            return
        if verdict is not IGNORED or permit.__class__ is Probe:
            self._record_slow(permit, verdict, latency, now)

    def failed_with(self, failure: str, now: float, /) -> None:
        """Remember the class name of a failure, for the rejections that may follow."""
        self._failure, self._failed_at = failure, now

    def _record_slow(self, permit: Permit, verdict: Verdict, latency: float, now: float) -> None:
        slow = latency >= self._slow_after
        with self._lock:
            if permit.__class__ is Probe:
                self._record_probe(permit, verdict, slow, now)
            elif permit is self.closed and self.closed is not None:
                window = self.closed
                window.add(now, failure=verdict is FAILURE, slow=slow)
                if (verdict is FAILURE or slow) and window is self.closed:
                    self._trip(window, now)
        if self._changes:
            self._tell()

    def _record_probe(self, permit: Permit, verdict: Verdict, slow: bool, now: float) -> None:
        if permit is not self._probe:
            return  # its lease ended, or the state was changed by hand
        self._probe = None
        if verdict is FAILURE or (slow and verdict is SUCCESS):
            self._open(
                HALF_OPEN,
                "a probe failed" if verdict is FAILURE else "a probe was slow",
                "probe",
                Totals(1, 1, 0),
                now,
            )
        elif verdict is SUCCESS:
            self._good += 1
            if self._good >= self.options.probes:
                self._queue(HALF_OPEN, CLOSED, "probes succeeded", "probe", Totals(self._good, 0, 0), None)
                self._close()

    def _trip(self, window: Window, now: float) -> None:
        o = self.options
        if o.consecutive is not None and window.streak >= o.consecutive:
            self._open(CLOSED, f"{window.streak} failures in a row", "consecutive", window.totals(now), now)
            return
        totals = window.totals(now)
        if totals.calls < o.minimum_calls:
            return
        if totals.failures >= o.failure_ratio * totals.calls:
            self._open(
                CLOSED, f"{totals.failures} of {totals.calls} calls failed", "failure_ratio", totals, now
            )
        elif o.slow_after is not None and totals.slow >= o.slow_ratio * totals.calls:
            self._open(CLOSED, f"{totals.slow} of {totals.calls} calls were slow", "slow_ratio", totals, now)

    def _open(self, old: str, reason: str, trigger: str, totals: Totals, now: float) -> None:
        o = self.options
        longest = min(o.max_open, o.open_for * 2.0 ** min(self._opened, 64))
        # Never longer than stated, up to a fifth shorter: pods that opened together do not probe together.
        open_for = longest * (1.0 - 0.2 * self._rand())
        self._opened += 1
        self.closed = None
        self._probe = None
        self._half_open = False
        self._good = 0
        self._until = now + open_for
        self._queue(old, OPEN, reason, trigger, totals, open_for)

    def _close(self) -> None:
        self._opened = 0
        self._good = 0
        self._half_open = False
        self._probe = None
        self._until = float("-inf")
        self.closed = self._new_window()

    # ------------------------------------------------------------------------------------------------ by hand
    def state(self) -> str:
        with self._lock:
            return self._state()

    def _state(self) -> str:
        if self._manual is not None:
            return self._manual
        if self.closed is not None:
            return CLOSED
        return HALF_OPEN if self._half_open else OPEN

    def force(self, manual: str | None, now: float, reason: str) -> None:
        """By code: FORCED_OPEN, DISABLED, or None: back to work, closed, with an empty window."""
        with self._lock:
            self._hand = manual
            self._force(manual, reason)
        if self._changes:
            self._tell()

    def _force(self, manual: str | None, reason: str) -> None:
        old = self._state()
        self._manual = manual
        if manual is None:
            self._close()
        else:
            self.closed = None
            self._probe = None
        new = self._state()
        if new != old:
            self._queue(old, new, reason, "manual", Totals(0, 0, 0), None)

    def _obey(self, wanted: str | None) -> None:
        """The state that the config document forces changed: where it forces none, what code forces holds again."""
        manual = self._hand if wanted is None else _FORCED.get(wanted, self._hand)
        self._observe = wanted == "observe" or self._hand_observes
        if manual is not self._manual:
            forced = "forced" if wanted in _FORCED else "no longer forced"
            self._force(manual, f"{forced} by the config document")

    def renew(self, reason: str) -> None:
        """Closed, with an empty window: what it was told of is not there any more. Not where it is set by hand."""
        with self._lock:
            if self._manual is None:
                old = self._state()
                self._close()
                if old != CLOSED:
                    self._queue(old, CLOSED, reason, "endpoints", Totals(0, 0, 0), None)
        if self._changes:
            self._tell()

    def open_by_hand(self, now: float) -> None:
        with self._lock:
            if self._manual is None and self.closed is not None:
                self._open(CLOSED, "opened by hand", "manual", self.closed.totals(now), now)
        if self._changes:
            self._tell()

    def retune(self, options: CircuitBreakerOptions, now: float) -> str | None:
        """Go on with other rules: state, window and probes stay. What had to be forgotten, in words."""
        try:
            with self._lock:
                return self._retune(options, now)
        finally:
            if self._changes:
                self._tell()

    def _retune(self, options: CircuitBreakerOptions, now: float) -> str | None:
        old, self.options = self.options, options
        if options.state != old.state:
            self._obey(options.state)
        self._slow_after = float("inf") if options.slow_after is None else options.slow_after
        # Open for less than before: who shortens it does not mean to wait for the old time.
        longest = min(options.max_open, options.open_for * 2.0 ** min(max(0, self._opened - 1), 64))
        self._until = min(self._until, now + longest)
        window = self.closed
        if (options.count is None) is not (old.count is None):
            if window is not None:
                self.closed = self._new_window()
            return "the outcomes so far: seconds and calls are not counted alike"
        if isinstance(window, CountWindow) and options.count is not None:
            window.resize(options.count, now)
        elif isinstance(window, TimeWindow) and options.window != old.window:
            window.resize(options.window, now)
        return None

    def observe(self, on: bool) -> None:
        """By code."""
        with self._lock:
            self._observe = self._hand_observes = on

    @property
    def until(self) -> float:
        """While open: when the first probe may be made."""
        return self._until

    @property
    def observing(self) -> bool:
        return self._observe

    def totals(self, now: float) -> Totals:
        with self._lock:
            return self.closed.totals(now) if self.closed is not None else Totals(0, 0, 0)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self._probe = None  # whoever held it is in the parent
        self._telling = False

    # ------------------------------------------------------------------------------------------------ telling
    def _queue(
        self, old: str, new: str, reason: str, trigger: str, totals: Totals, open_for: float | None
    ) -> None:
        observed = self._observe and trigger != "manual"  # what is set by hand is in force all the same
        self._changes.append(Change(old, new, reason, trigger, totals, open_for, observed))

    def _tell(self) -> None:
        """Tell the changes in order, each once, whichever thread is here first; never under the lock."""
        telling = False
        try:
            while True:
                with self._lock:
                    if self._telling and not telling:
                        return
                    if not self._changes:
                        self._telling = telling = False
                        return
                    self._telling = telling = True
                    change = self._changes.popleft()
                self._changed(change)
        finally:
            if telling:  # a signal handler raised: the next one goes on, or nobody would ever tell again
                self._telling = False
