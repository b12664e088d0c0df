"""One endpoint: what it costs to call, and whether it is fit to be called."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import exp, log
from typing import Any, Generic, TypeVar

from ..core.forks import tell_after_fork
from ..core.outcome import FAILURE, SUCCESS, Verdict
from ..discovery.address import Address
from ..policies.breaker.options import CircuitBreakerOptions
from ..policies.breaker.state import CLOSED, OPEN, BreakerState, Change, Permit

E = TypeVar("E")

DECAY = 10.0
"""Seconds in which the memory of a latency fades to 1/e (Finagle, Tower, linkerd)."""
NOISE = 0.005
"""Seconds: latencies below count as this. They are what a client in Python measures of itself: a pause of the
interpreter is as long, and would keep an endpoint that is as quick as the others out for seconds."""
PENALTY = 5.0
"""Seconds that a failure is taken to have cost: one that fails fast would look fast (linkerd's load biaser)."""
MOST_PENALTY = 300.0
"""Seconds: of what a server asks for, no more is believed."""
UNMEASURED = 1e6
"""Load per call in flight of an endpoint that never answered: one call at a time finds out."""


class Endpoint(Generic[E]):
    """One address, with what sends to it.

    Args:
        address: where it listens.
        exchange: sends one request to it.
        options: of its breaker; None: it is never ejected.
        changed: called with every transition of its breaker, outside the lock.

    Attributes:
        calls: an item for each call that was sent to it and is not over: adding and taking one are atomic steps.
        level: what a call to it costs, in a form that time does not change: the logarithm of its highest latency of
            late, plus the time of that in `DECAY`; so the choice between two compares one number each. Minus infinity
            while nothing is known.
        draining: it left the set: calls in flight end, no new one begins.
    """

    __slots__ = (
        "__weakref__",
        "_lock",
        "_measured",
        "_state",
        "address",
        "calls",
        "draining",
        "exchange",
        "level",
        "text",
    )

    def __init__(
        self,
        address: Address,
        exchange: E,
        options: CircuitBreakerOptions | None = None,
        changed: Callable[[Endpoint[E], Change], None] | None = None,
    ) -> None:
        self.address = address
        self.text = str(address)
        self.exchange = exchange
        self.calls: list[None] = []
        self.level = float("-inf")  # guarded by _lock; read without it
        self._measured = 0.0  # when that was; guarded by _lock
        self.draining = False
        self._lock = threading.RLock()
        tell: Callable[[Change], Any] = (
            (lambda change: changed(self, change)) if changed is not None else (lambda change: None)
        )
        self._state = BreakerState(options, tell) if options is not None else None
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self.calls.clear()
        if self._state is not None:
            self._state.after_fork()

    @property
    def state(self) -> str:
        """Of its breaker: ``closed``, ``open`` or ``half_open``."""
        return self._state.state() if self._state is not None else CLOSED

    @property
    def ejected(self) -> bool:
        """Whether its breaker is open."""
        return self._state is not None and self._state.closed is None and self._state.state() == OPEN

    @property
    def until(self) -> float:
        """When an ejected one may be tried again."""
        return self._state.until if self._state is not None else float("-inf")

    def load(self, now: float, /) -> float:
        """What one more call would cost: peak EWMA (Finagle), times those in flight and this one."""
        cost = exp(self.level - now / DECAY)
        return cost * (len(self.calls) + 1) if cost else len(self.calls) * UNMEASURED

    def enter(self, now: float, /) -> Permit | None:
        """Begin a call; raises `CircuitOpen` where the breaker does not let it in."""
        permit = self._state.admit(now) if self._state is not None else None
        self.calls.append(None)
        return permit

    def enter_anyway(self) -> None:
        """Begin a call whatever the breaker says: there is no better endpoint."""
        self.calls.append(None)

    def heard(
        self, permit: Permit | None, verdict: Verdict, latency: float, now: float, penalty: float = 0.0, /
    ) -> None:
        """The call has its outcome, after ``latency`` seconds; it may go on, as a stream.

        Args:
            penalty: seconds to take in place of the latency where the endpoint asked for less: what it asked, or 0.
        """
        if verdict is FAILURE or penalty:
            self._observe(min(max(PENALTY, penalty), MOST_PENALTY), now)
        elif verdict is SUCCESS:
            self._observe(latency, now)
        if permit is not None and self._state is not None:
            self._state.record(permit, verdict, latency, now)

    def leave(self) -> None:
        """The call is over."""
        if self.calls:  # after a fork the parent's are not here
            self.calls.pop()

    def forgive(self) -> None:
        """It is fit again: what it cost before says nothing any more."""
        with self._lock:
            self.level = float("-inf")

    def _observe(self, seconds: float, now: float) -> None:
        seconds = max(seconds, NOISE)
        with self._lock:
            faded = exp(self.level - now / DECAY)
            if seconds < faded:  # up at once, down slowly
                weight = exp(min(0.0, self._measured - now) / DECAY)
                seconds = faded * weight + seconds * (1.0 - weight)
            self.level = log(seconds) + now / DECAY
            self._measured = now

    def __repr__(self) -> str:
        return f"<Endpoint {self.text}: {self.state}, {len(self.calls)} in flight>"
