"""The bulkhead as a policy."""

from __future__ import annotations

from ...core.forks import tell_after_fork
from ...core.options import seconds
from ...core.outcome import Verdict
from ...core.policy import Gate, Policy, Wait, teller
from .options import BulkheadOptions
from .state import Permit, Seats


class Bulkhead(Gate[Permit]):
    """At most so many calls in flight; a bounded queue in front, if wanted.

    Args:
        limit: calls in flight at once, 1 or more.
        queue: calls that may wait for a place; 0: none, reject at once.
        max_wait: seconds that one may wait; never past the call's deadline.
        name: shown in rejections and events.

    Raises:
        PolicyError: an option outside its range, or a queue without a wait.

    Who waits is served in the order of arrival. Places are given back however the call ends; of a streamed
    HTTP response, when the stream ends.

    Thread-safe; one object serves sync and async functions, several event loops at once. Taking a free place
    needs no lock.

    Source: Nygard, *Release It!*; resilience4j.

    Example:
        >>> from resilient import Bulkhead
        >>> pool = Bulkhead(10, queue=50, max_wait=0.5)
        >>> @pool
        ... def query() -> int: return pool.in_flight
        >>> query(), pool.in_flight
        (1, 0)
    """

    kind = "bulkhead"

    def __init__(
        self, limit: int = 100, *, queue: int = 0, max_wait: float = 0.0, name: str | None = None
    ) -> None:
        self.options = BulkheadOptions(limit, queue, max_wait, name)
        self.name = name
        self._seats = seats = Seats(self.options, teller(self))
        # The state machine's own methods stand in for those below: one frame less on every call.
        self.admit = seats.admit  # type: ignore[method-assign]  # one frame less on each call
        self.record = seats.record  # type: ignore[method-assign]  # one frame less on each call
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._seats.after_fork()

    def admit(self, now: float, /) -> Permit | Wait[Permit]:
        return self._seats.admit(now)

    def record(self, permit: Permit, verdict: Verdict, latency: float, now: float, /) -> None:
        self._seats.record(permit, verdict, latency, now)

    def settle(self, wait: Wait[Permit], now: float, /) -> Permit:
        return self._seats.settle(wait, now)

    def abandon(self, wait: Wait[Permit], now: float, /) -> None:
        self._seats.abandon(wait, now)

    def retune(self, options: BulkheadOptions, now: float, /) -> None:
        self.options = options
        self._seats.retune(options)

    @property
    def in_flight(self) -> int:
        """Calls that are running."""
        return self._seats.in_flight

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._seats.waiting

    def describe(self, outer: tuple[Policy, ...] = (), inner: tuple[Policy, ...] = (), /) -> str:
        o = self.options
        queue = f", queue {o.queue} for {seconds(o.max_wait)}" if o.queue else ""
        return f"Bulkhead({o.limit}{queue}{f', {o.state}' if o.state else ''})"
