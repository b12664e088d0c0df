"""The circuit breaker as a policy."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from ...core.events import BreakerTransition, emit, logger
from ...core.forks import tell_after_fork
from ...core.options import seconds
from ...core.outcome import FAILURE, IGNORED, Verdict, error_type
from ...core.policy import Gate, Policy, Site, verdict_on
from ...core.rows import abind_row, bind_row
from ...core.windows import Totals
from .options import CircuitBreakerOptions
from .pybreaker import Face
from .state import CLOSED, DISABLED, FORCED_OPEN, BreakerState, Change, Permit

if TYPE_CHECKING:
    import pybreaker

P = ParamSpec("P")
R = TypeVar("R")


class Twin(Protocol):
    """Breakers of the same options: those of single endpoints."""

    def retune(self, options: CircuitBreakerOptions, now: float, /) -> None:
        """Go on with other rules."""
        ...


def _unforced(options: CircuitBreakerOptions) -> CircuitBreakerOptions:
    """For single endpoints: what the document forces holds for all of them, in the breaker before them."""
    return options if options.state is None else replace(options, state=None)


class CircuitBreaker(Gate[Permit]):
    """Leaves a callee alone that fails or is slow, and tries it again with a few probes.

    Opens when, in the window, at least ``minimum_calls`` ended and ``failure_ratio`` of them failed (or
    ``slow_ratio`` of them took ``slow_after`` or longer), or after ``consecutive`` failures in a row. Open,
    it rejects with `CircuitOpen` for ``open_for``, twice as long after each failed trial, up to ``max_open``,
    each shortened by up to a fifth at random. Then it lets probes through, one at a time; ``probes``
    successes close it, one failure opens it again.

    Args:
        failure_ratio: share of failed calls that opens it, more than 0, at most 1.
        minimum_calls: calls in the window below which ratios do not count; 1 or more.
        window: seconds that outcomes count, in ten slots; 0.001 or more.
        count: look at the last so many calls instead of the last seconds.
        consecutive: failures in a row that open it; None: do not count them.
        slow_after: seconds from which a call counts as slow; None: none does.
        slow_ratio: share of slow calls that opens it.
        open_for: seconds that it stays open the first time.
        max_open: seconds that it stays open at most.
        probes: successful trial calls that close it.
        probe_lease: seconds after which a probe that never reported is given up.
        ignore: failures that are no fault of the callee: exception classes, predicates, or a `When`.
        listeners: ``pybreaker.CircuitBreakerListener`` objects. Their per-call hooks receive the call's
        arguments.
        storage: a ``pybreaker.CircuitBreakerStorage`` that is to show our state; written at transitions,
            outside the lock, in the thread of the call that causes them.
        name: shown in rejections and events.

    Raises:
        PolicyError: an option outside its range.

    A verdict counts for the period in which the call began: late results of an older one are dropped.
    Cancelled calls, our own rejections and what ``ignore`` names count neither way, and give a probe's place
    back.

    Thread-safe; one object serves sync and async functions. The success path of a closed breaker takes no
    lock.

    Sources: Nygard, *Release It!*; resilience4j (verdicts, half-open), Polly (ratio with throughput), linkerd
    (unified triggers).

    Example:
        >>> from resilient import CircuitBreaker, CircuitOpen
        >>> breaker = CircuitBreaker(consecutive=1, open_for=30.0)
        >>> @breaker
        ... def fetch():
        ...     raise ConnectionError("down")
        >>> for _ in range(2):
        ...     try:
        ...         fetch()
        ...     except (ConnectionError, CircuitOpen) as error:
        ...         print(type(error).__name__, breaker.state)
        ConnectionError open
        CircuitOpen open
    """

    kind = "breaker"
    judges_results = False  # `judge` is overridden for exceptions alone

    def __init__(
        self,
        *,
        failure_ratio: float = 0.5,
        minimum_calls: int = 20,
        window: float = 10.0,
        count: int | None = None,
        consecutive: int | None = 10,
        slow_after: float | None = None,
        slow_ratio: float = 0.5,
        open_for: float = 5.0,
        max_open: float = 60.0,
        probes: int = 3,
        probe_lease: float = 10.0,
        ignore: Any = (),
        listeners: tuple[Any, ...] | list[Any] = (),
        storage: Any = None,
        name: str | None = None,
    ) -> None:
        self.options = CircuitBreakerOptions(
            failure_ratio,
            minimum_calls,
            window,
            count,
            consecutive,
            slow_after,
            slow_ratio,
            open_for,
            max_open,
            probes,
            probe_lease,
            ignore,
            listeners,  # type: ignore[arg-type]  # made a tuple there
            storage,
            name,
        )
        self._state = BreakerState(self.options, self._changed)
        self._face = Face(self, self.options.listeners, storage)
        self._shows = bool(self.options.listeners) or storage is not None
        self.name = name
        self.binds_itself = bool(self._face.per_call)
        # The state machine's own methods stand in for those below: one frame less on every call.
        self.admit = self._state.admit  # type: ignore[method-assign]  # one frame less on each call
        self.record = self._state.record  # type: ignore[method-assign]  # one frame less on each call
        self._lock = threading.RLock()
        self._twins: weakref.WeakSet[Twin] = weakref.WeakSet()  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self._state.after_fork()

    # --------------------------------------------------------------------------------------------------- gate
    def admit(self, now: float, /) -> Permit:
        return self._state.admit(now)

    def record(self, permit: Permit, verdict: Verdict, latency: float, now: float, /) -> None:
        self._state.record(permit, verdict, latency, now)

    def judge(self, result: Any, exc: Exception | None, /) -> Verdict:
        if exc is None:
            return super().judge(result, None)
        verdict = IGNORED if self.options.ignore.covers(exc) else verdict_on(exc)
        if verdict is FAILURE:
            self._state.failed_with(error_type(exc), self.clock.monotonic())
        return verdict

    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        face = self._face
        if not face.per_call:
            return super().bind(inner, site)
        run = bind_row((self,), face.inside(inner, site.function), site)

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            result = run(*args, **kwargs)
            face.succeeded()
            return result  # type: ignore[no-any-return]  # the user's own type

        return call

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        face = self._face
        if not face.per_call:
            return super().abind(inner, site)
        run = abind_row((self,), face.ainside(inner, site.function), site)

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            result = await run(*args, **kwargs)
            face.succeeded()
            return result  # type: ignore[no-any-return]  # the user's own type

        return call

    def retune(self, options: CircuitBreakerOptions, now: float, /) -> str | None:
        self.options = options
        observed = self.observing
        forgotten = self._state.retune(options, now)
        with self._lock:
            twins = list(self._twins)
        for twin in twins:
            twin.retune(_unforced(options), now)
        if self.observing is not observed:
            self._show()
        return forgotten

    def add_twin(self, twin: Twin, /) -> None:
        """Have ``twin`` told what this breaker is told, from what is in force now on. Held weakly."""
        with self._lock:
            self._twins.add(twin)
        twin.retune(_unforced(self.options), self.clock.monotonic())

    # ------------------------------------------------------------------------------------------------ by hand
    @property
    def state(self) -> str:
        """``closed``, ``open``, ``half_open``, ``forced_open`` or ``disabled``. An open breaker whose time is
        over says ``open`` until the next call comes."""
        return self._state.state()

    @property
    def observing(self) -> bool:
        """Whether it lets every call through and only counts what it would have done."""
        return self._state.observing

    def force_open(self) -> None:
        """Reject every call until `reset`."""
        self._state.force(FORCED_OPEN, self.clock.monotonic(), "forced open by hand")

    def disable(self) -> None:
        """Let every call through, and count nothing, until `reset`."""
        self._state.force(DISABLED, self.clock.monotonic(), "disabled by hand")

    def reset(self) -> None:
        """Closed, with an empty window, whatever it was before."""
        self._state.force(None, self.clock.monotonic(), "reset by hand")

    def renew(self) -> None:
        """Closed, with an empty window, unless it was forced or disabled by hand: the callee was replaced as a whole.

        Clients say so when none of a dependency's endpoints is left that there were.
        """
        self._state.renew("none of its endpoints is left")

    def observe(self, on: bool = True) -> None:
        """Let every call through while counting, opening and closing as if it did not: for a safe roll-out. What
        `force_open` forces holds all the same.

        Transitions are told to event listeners with ``observed=True``, and not to pybreaker's: what pybreaker's object
        shows is closed while observing, and the state in force after it.
        """
        self._state.observe(on)
        self._show()

    def totals(self) -> Totals:
        """Calls, failures and slow calls in the window; zeros while not closed."""
        return self._state.totals(self.clock.monotonic())

    def as_pybreaker(self) -> pybreaker.CircuitBreaker:
        """A real ``pybreaker.CircuitBreaker`` that follows this one: for dashboards and code that hold one.

        Look at it and listen to it; do not call through it. It imports pybreaker.
        """
        if not self._shows:
            self._shows = True
            self._face.show(self._state_in_force)
        return self._face.real

    @property
    def _state_in_force(self) -> str:
        state = self.state
        return CLOSED if self.observing and state != FORCED_OPEN else state

    # ------------------------------------------------------------------------------------------------ telling
    def _show(self) -> None:
        """To whoever looks at pybreaker's object: what holds since it is observed, or not any more."""
        if self._shows:
            try:
                self._face.show(self._state_in_force)
            except Exception:
                self._complain()

    def _complain(self) -> None:
        logger().exception("%s: a pybreaker listener or storage failed", self.name or "?")

    def _changed(self, change: Change) -> None:
        dependency = self.name or "?"
        event = BreakerTransition(
            dependency,
            self.operation,
            old=change.old,
            new=change.new,
            reason=change.reason,
            trigger=change.trigger,
            calls=change.totals.calls,
            failures=change.totals.failures,
            slow=change.totals.slow,
            open_for=change.open_for,
            observed=change.observed,
        )
        emit(event)
        logger().warning(
            "%s: circuit breaker %s%s -> %s: %s",
            dependency,
            "would go " if change.observed else "",
            change.old,
            change.new,
            change.reason,
            extra=event.attributes(),
        )
        if self._shows:
            try:
                self._face.follow(change)
            except Exception:
                self._complain()

    def describe(self, outer: tuple[Policy, ...] = (), inner: tuple[Policy, ...] = (), /) -> str:
        o = self.options
        over = f"of {o.count} calls" if o.count is not None else f"in {seconds(o.window)}"
        parts = [f"{o.failure_ratio:.0%} {over} from {o.minimum_calls} calls"]
        if o.consecutive is not None:
            parts.append(f"{o.consecutive} in a row")
        if o.slow_after is not None:
            parts.append(f"{o.slow_ratio:.0%} slower than {seconds(o.slow_after)}")
        parts += [f"open {seconds(o.open_for)}..{seconds(o.max_open)}", f"{o.probes} probes"]
        if self.observing:
            parts.append("observing")
        return f"CircuitBreaker({', '.join(parts)})"
