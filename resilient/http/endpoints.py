"""Which endpoint an attempt takes, from a fixed list.

Each endpoint has a breaker of its own, of the same options as the dependency's, which does nothing but eject:
its endpoint is passed over while another one is fit. It never ejects the last one, and is not heard when more
than half are out (panic: then the fault is not one endpoint's)."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from ..core.errors import CircuitOpen
from ..core.events import logger
from ..core.forks import tell_after_fork
from ..core.outcome import Verdict
from ..policies.breaker.options import CircuitBreakerOptions
from ..policies.breaker.state import OPEN, BreakerState, Change, Permit

E = TypeVar("E")


class Endpoint(Generic[E]):
    """One address, with what sends to it.

    Attributes:
        address: ``host:port``, for the reader; empty where the URL's own host is dialled.
        exchange: sends one request to it.
        in_flight: attempts that run; counted where there is another endpoint to compare it with.
    """

    __slots__ = ("__weakref__", "_lock", "_state", "address", "exchange", "in_flight")

    def __init__(self, address: str, exchange: E, options: CircuitBreakerOptions | None = None) -> None:
        self.address = address
        self.exchange = exchange
        self.in_flight = 0  # guarded by _lock
        self._lock = threading.RLock()
        self._state = BreakerState(options, self._changed) if options is not None else None
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self.in_flight = 0
        if self._state is not None:
            self._state.after_fork()

    @property
    def ejected(self) -> bool:
        return self._state is not None and self._state.state() == OPEN

    def enter(self, now: float) -> Permit | None:
        """Begin an attempt; raises `CircuitOpen` while ejected."""
        permit = self._state.admit(now) if self._state is not None else None
        self.enter_anyway()
        return permit

    def enter_anyway(self) -> None:
        if self._state is None:
            return
        with self._lock:
            self.in_flight += 1

    def leave(self, permit: Permit | None, verdict: Verdict, latency: float, now: float) -> None:
        """The attempt is over."""
        if self._state is None:
            return
        with self._lock:
            self.in_flight -= 1
        if permit is not None:
            self._state.record(permit, verdict, latency, now)

    def _changed(self, change: Change) -> None:
        logger().warning("endpoint %s: %s -> %s: %s", self.address, change.old, change.new, change.reason)


class Endpoints(Generic[E]):
    """A fixed list of endpoints. Thread-safe."""

    def __init__(self, endpoints: Iterable[Endpoint[E]]) -> None:
        self._endpoints: Sequence[Endpoint[E]] = tuple(endpoints)
        self._turn = itertools.count().__next__

    def __len__(self) -> int:
        return len(self._endpoints)

    def __iter__(self) -> Any:
        return iter(self._endpoints)

    def pick(self, tried: set[Endpoint[E]], now: float) -> tuple[Endpoint[E], Permit | None]:
        """The endpoint for an attempt, entered: one that this call has not tried, the least busy, in turn.

        Where all are tried, or those that are not are ejected, one that was tried; never none.
        """
        endpoints = self._endpoints
        if len(endpoints) == 1:
            return endpoints[0], None
        start = self._turn() % len(endpoints)
        order = sorted(
            (*endpoints[start:], *endpoints[:start]), key=lambda each: (each in tried, each.in_flight)
        )
        for endpoint in order:
            try:
                return endpoint, endpoint.enter(now)
            except CircuitOpen:
                if sum(each.ejected for each in endpoints) * 2 > len(endpoints):
                    break
        order[0].enter_anyway()
        return order[0], None

    def untried(self, tried: set[Endpoint[E]]) -> bool:
        """Whether there is one that this call has not tried."""
        return any(each not in tried for each in self._endpoints)
