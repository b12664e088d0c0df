"""One endpoint: what it costs to call, and whether it is fit to be called."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from math import exp, log
from typing import Any, Generic, Protocol, TypeVar

from ..core.forks import tell_after_fork
from ..core.outcome import FAILURE, IGNORED, SUCCESS, Verdict
from ..discovery.address import Address
from ..policies.breaker.options import CircuitBreakerOptions
from ..policies.breaker.state import CLOSED, OPEN, BreakerState, Change, Permit, Probe

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
BLAME = 10.0
"""How many times the load of the others a failure is taken to be, where that is more than `PENALTY`: where all are slow
and busy, 5 s with nothing in flight would look like the best of them."""
REST = (0.5, 1.0)
"""Shares of the breaker's open time for which one is not tried again whose trial was given up by the caller."""
OUTDATED = 5.0
"""Seconds after which what is known of an endpoint is so old that it is asked again: one that failed once, or was hit
by a pause, looks bad for as long as nobody calls it."""
UNMEASURED = 1e6
"""Load per call in flight of an endpoint that never answered: one call at a time finds out."""


class Entrant(Protocol):
    """One call, or one attempt of it."""

    endpoint: Any
    """Where it is, or was last."""


class Endpoint(Generic[E]):
    """One address, with what sends to it.

    Args:
        address: where it listens.
        exchange: sends one request to it.
        options: of its breaker; None: it is never ejected.
        changed: called with every transition of its breaker, outside the lock.
        usual: the load of those that did not fail just now, at a time.

    Attributes:
        calls: the calls that were sent to it and are not over. Adding and taking one are atomic steps, and taking one
            again does nothing: whoever is interrupted anywhere can make sure of it.
        blamed: its last outcome was a failure.
        level: what a call to it costs, in a form that time does not change: the logarithm of its highest latency of
            late, plus the time of that in `DECAY`; so the choice between two compares one number each. Minus infinity
            while nothing is known.
        draining: it left the set: calls in flight end, no new one begins.
    """

    __slots__ = (
        "__weakref__",
        "_lock",
        "_measured",
        "_rests",
        "_state",
        "_usual",
        "address",
        "blamed",
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
        usual: Callable[[float], float] | None = None,
    ) -> None:
        self.address = address
        self.text = str(address)
        self.exchange = exchange
        self.calls: set[Entrant] = set()
        self.level = float("-inf")  # guarded by _lock; read without it
        self._measured = 0.0  # when that was; guarded by _lock
        self._usual = usual
        self._rests = float("-inf")  # not to be tried before that; written whole
        self.blamed = False  # written whole
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

    def retune(self, options: CircuitBreakerOptions, now: float, /) -> None:
        """Other rules for its breaker."""
        if self._state is not None:
            self._state.retune(options, now)

    @property
    def state(self) -> str:
        """Of its breaker: ``closed``, ``open`` or ``half_open``."""
        return self._state.state() if self._state is not None else CLOSED

    @property
    def ejected(self) -> bool:
        """Whether its breaker is open."""
        return self._state is not None and self._state.closed is None and self._state.state() == OPEN

    @property
    def fit(self) -> bool:
        """Whether its breaker is closed."""
        return self._state is None or self._state.closed is not None

    @property
    def until(self) -> float:
        """When one that is not fit may be tried again."""
        if self._state is None:
            return float("-inf")
        return max(self._state.until, self._rests)

    def load(self, now: float, /) -> float:
        """What one more call would cost: peak EWMA (Finagle), times those in flight and this one."""
        cost = exp(self.level - now / DECAY)
        return cost * (len(self.calls) + 1) if cost else len(self.calls) * UNMEASURED

    def enter(self, call: Entrant, now: float, /) -> Permit | None:
        """Begin a call; raises `CircuitOpen` where the breaker does not let it in.

        Args:
            call: is told where it is before it counts, so that it can leave although it never came back from here.
            now: the clock's monotonic time.
        """
        state = self._state
        permit: Permit | None = None
        if state is not None:
            permit = state.closed
            if permit is None:
                permit = state.admit(now)
        call.endpoint = self
        self.calls.add(call)
        return permit

    def enter_anyway(self, call: Entrant, /) -> None:
        """Begin a call whatever the breaker says: there is no better endpoint."""
        call.endpoint = self
        self.calls.add(call)

    def heard(
        self, permit: Permit | None, verdict: Verdict, latency: float, now: float, penalty: float = 0.0, /
    ) -> None:
        """The call has its outcome, after ``latency`` seconds; it may go on, as a stream.

        A call that was given up took at least as long as it was waited for: an endpoint that hangs must not stay the
        one of which nothing is known, and be given the next call too.

        Args:
            penalty: seconds to take in place of the latency where the endpoint asked for less: what it asked, or 0.
        """
        if verdict is FAILURE or penalty:
            self.blamed = True
            usual = self._usual(now) if self._usual is not None else 0.0
            self._observe(max(min(max(PENALTY, penalty), MOST_PENALTY), BLAME * usual), now)
        elif verdict is SUCCESS:
            if self.blamed or now - self._measured >= OUTDATED:
                self.forgive()
            self._observe(latency, now)
        else:
            self._observe(latency, now, at_least=True)
        if permit is not None and self._state is not None:
            if verdict is IGNORED and permit.__class__ is Probe:
                least, most = REST
                share = least + (most - least) * random.random()
                self._rests = now + self._state.options.open_for * share
            self._state.record(permit, verdict, latency, now)

    def leave(self, call: Entrant, /) -> None:
        """The call is over. Again it does nothing."""
        self.calls.discard(call)

    def outdated(self, now: float, /) -> bool:
        """Whether it has no call, and had none for so long that what is known of it may not be true any more."""
        return not self.calls and now - self._measured >= OUTDATED and self.level > float("-inf")

    def forgive(self) -> None:
        """It is well again: what it cost before says nothing any more."""
        with self._lock:
            self.level = float("-inf")
            self.blamed = False

    def _observe(self, seconds: float, now: float, *, at_least: bool = False) -> None:
        seconds = max(seconds, NOISE)
        with self._lock:
            faded = exp(self.level - now / DECAY)
            if seconds < faded:  # up at once, down slowly
                if at_least:
                    return
                weight = exp(min(0.0, self._measured - now) / DECAY)
                seconds = faded * weight + seconds * (1.0 - weight)
            self.level = log(seconds) + now / DECAY
            self._measured = now

    def __repr__(self) -> str:
        return f"<Endpoint {self.text}: {self.state}, {len(self.calls)} in flight>"
