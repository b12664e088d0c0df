"""What happened, told to listeners.

Policies emit; nothing here counts, logs or sends. An event object is built only when somebody listens, so
every emitter asks `RUNTIME.listeners` first. `resilient.instrument` is one listener;
`resilient.testing.capture_events` another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, ClassVar

from .errors import PolicyError


class Event:
    """Base of all events.

    Attributes:
        name: the event's name, stable; also the ``event.name`` of its log record.
        dependency: name of the pipeline or client, else the qualified name of the function.
        operation: the function, or the HTTP method.
    """

    name: ClassVar[str] = "resilient.event"
    __slots__ = ("dependency", "operation")

    def __init__(self, dependency: str, operation: str, **fields: Any) -> None:
        self.dependency = dependency
        self.operation = operation
        for key, value in fields.items():
            setattr(self, key, value)

    def fields(self) -> dict[str, Any]:
        """All attributes by name."""
        slots = [slot for cls in type(self).__mro__ for slot in getattr(cls, "__slots__", ())]
        return {slot: getattr(self, slot) for slot in slots}

    def attributes(self) -> dict[str, Any]:
        """The attributes that have a value, and the event's name, named as in log records and on spans."""
        known = {f"resilient.{key}": value for key, value in self.fields().items() if value is not None}
        return {"event.name": self.name, **known}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.fields().items())})"


class CallFinished(Event):
    """A logical call ended. ``outcome``: success, error, timeout, rejected, fallback, cancelled; ``duration``
    seconds."""

    name = "resilient.call.finished"
    __slots__ = ("duration", "error_type", "outcome")
    outcome: str
    duration: float
    error_type: str | None

    # Written out in the two events that every call makes.
    def __init__(
        self, dependency: str, operation: str, *, outcome: str, duration: float, error_type: str | None
    ) -> None:
        self.dependency = dependency
        self.operation = operation
        self.outcome = outcome
        self.duration = duration
        self.error_type = error_type


class AttemptFinished(Event):
    """One attempt of a retried call ended. ``attempt`` from 1; ``duration`` seconds."""

    name = "resilient.attempt.finished"
    __slots__ = ("attempt", "duration", "error_type", "outcome")
    attempt: int
    outcome: str
    duration: float
    error_type: str | None

    def __init__(
        self,
        dependency: str,
        operation: str,
        *,
        attempt: int,
        outcome: str,
        duration: float,
        error_type: str | None,
    ) -> None:
        self.dependency = dependency
        self.operation = operation
        self.attempt = attempt
        self.outcome = outcome
        self.duration = duration
        self.error_type = error_type


class RetryScheduled(Event):
    """Another attempt will be made after ``delay`` seconds; ``attempt`` is the one that failed."""

    name = "resilient.retry.scheduled"
    __slots__ = ("attempt", "delay", "error_type")
    attempt: int
    delay: float
    error_type: str


class RetrySuppressed(Event):
    """A retry was due and not made; ``reason`` as in ``Report.why_not_retried``."""

    name = "resilient.retry.suppressed"
    __slots__ = ("attempt", "error_type", "reason")
    attempt: int
    error_type: str
    reason: str


class RetryExhausted(Event):
    """The last attempt that was allowed failed."""

    name = "resilient.retry.exhausted"
    __slots__ = ("attempts", "error_type")
    attempts: int
    error_type: str


class RetryFinished(Event):
    """A call that was retried is over: ``retries`` attempts after the first, ``delay`` seconds between
    them."""

    name = "resilient.retry.finished"
    __slots__ = ("delay", "retries")
    retries: int
    delay: float


class Rejection(Event):
    """A policy said no. ``by``: breaker, ratelimit, bulkhead, deadline, degradation, or a policy of the user's."""

    name = "resilient.rejected"
    __slots__ = ("by", "reason")
    by: str
    reason: str


class RejectionObserved(Event):
    """A policy whose state is ``observe`` would have said no, and the call went on. As `Rejection`."""

    name = "resilient.rejection.observed"
    __slots__ = ("by", "reason")
    by: str
    reason: str


class Waited(Event):
    """A call waited ``duration`` seconds for admission by ``kind``, and got in or not."""

    name = "resilient.limiter.waited"
    __slots__ = ("admitted", "duration", "kind")
    kind: str
    duration: float
    admitted: bool


class BreakerTransition(Event):
    """A breaker changed state, or would have (``observed``), for ``reason``; with its window's numbers.

    ``trigger`` is the reason in one word: failure_ratio, consecutive, slow_ratio, probe, time, manual."""

    name = "resilient.breaker.transition"
    __slots__ = ("calls", "failures", "new", "observed", "old", "open_for", "reason", "slow", "trigger")
    old: str
    new: str
    reason: str
    trigger: str
    calls: int
    failures: int
    slow: int
    open_for: float | None
    observed: bool


class EndpointsChanged(Event):
    """A dependency has other endpoints: how many came, went, and are there now."""

    name = "resilient.endpoints.changed"
    __slots__ = ("added", "count", "removed")
    added: int
    removed: int
    count: int


class EndpointTransition(Event):
    """The breaker of one endpoint changed state: it is ejected while that is open."""

    name = "resilient.endpoint.transition"
    __slots__ = ("endpoint", "new", "old", "reason")
    endpoint: str
    old: str
    new: str
    reason: str


class DiscoveryFailed(Event):
    """The nameservers gave no answer that says anything.

    ``dependency`` is the name that was looked up, ``operation`` its port."""

    name = "resilient.discovery.failed"
    __slots__ = ("reason",)
    reason: str


class TimeoutOverrun(Event):
    """A sync function ended ``overrun`` seconds after its time-out; its result was returned."""

    name = "resilient.timeout.overrun"
    __slots__ = ("overrun", "timeout")
    timeout: float
    overrun: float


class CallAbandoned(Event):
    """A function was walked away from; ``leaked`` of them still run."""

    name = "resilient.timeout.abandoned"
    __slots__ = ("leaked", "timeout")
    timeout: float
    leaked: int


class FallbackUsed(Event):
    """A fallback stood in for a result. ``rejected``: for a local no, not a failure of the callee."""

    name = "resilient.fallback.used"
    __slots__ = ("error_type", "rejected")
    error_type: str
    rejected: bool


class LevelChanged(Event):
    """Another level of degradation is in force. ``old`` and ``new`` are numbers, ``level`` is the new one's name."""

    name = "resilient.degradation.level_changed"
    __slots__ = ("level", "new", "old")
    old: int
    new: int
    level: str


class FeatureChanged(Event):
    """A feature, ``dependency``, has another variant, or the same for another ``cause``.

    ``old`` and ``new`` are variants; None: the code's default."""

    name = "resilient.degradation.feature_changed"
    __slots__ = ("cause", "new", "old")
    old: str | None
    new: str | None
    cause: str


class FeatureExecuted(Event):
    """A degradable function of the feature ``dependency`` was called.

    ``path``: normal (the function itself), degraded (what stands in for it), fallback_error (that failed)."""

    name = "resilient.degradation.executed"
    __slots__ = ("cause", "path", "variant")
    path: str
    variant: str | None
    cause: str


class FeatureUnknown(Event):
    """Code asked for a feature, ``dependency``, that no document has; the code's default holds."""

    name = "resilient.degradation.unknown"
    __slots__ = ()


class FlagEvaluated(Event):
    """A flag, ``dependency``, was evaluated; told only where that was asked for.

    ``reason`` and ``error`` are OpenFeature's, in lower case; ``flag_set`` and ``version`` as the document notes them.
    Its attributes are those of OpenTelemetry's conventions."""

    name = "feature_flag.evaluation"
    __slots__ = ("cause", "error", "flag_set", "reason", "variant", "version")
    variant: str | None
    reason: str
    cause: str
    error: str | None
    flag_set: Any
    version: Any

    def attributes(self) -> dict[str, Any]:
        known = {
            "feature_flag.key": self.dependency,
            "feature_flag.result.variant": self.variant,
            "feature_flag.result.reason": self.reason,
            "feature_flag.provider.name": "resilient",
            "feature_flag.set.id": None if self.flag_set is None else str(self.flag_set),
            "feature_flag.version": None if self.version is None else str(self.version),
            "error.type": self.error,
            "resilient.cause": self.cause,
        }
        return {
            "event.name": self.name,
            **{key: value for key, value in known.items() if value is not None},
        }


FELL_BACK: ContextVar[list[None] | None] = ContextVar("resilient_fell_back", default=None)
"""Where the fallback of a watched call notes that it was used; the call ends with outcome ``fallback`` then."""


Listener = Callable[[Event], None]


class Runtime:
    """The one switchboard of the process.

    Attributes:
        listeners: copy-on-write; reading it is one attribute read.
        active: False while policies are to step aside (tests).
        pending: what is to be done at the first call, such as starting a thread; None once it was.
        attention: whether calls must take the watched path: somebody listens, policies are inactive, or something is
            pending.
    """

    __slots__ = ("_lock", "active", "attention", "listeners", "pending")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.listeners: tuple[Listener, ...] = ()  # replaced under _lock
        self.active = True
        self.pending: Callable[[], object] | None = None  # replaced under _lock
        self.attention = False

    def change(
        self,
        *,
        add: Listener | None = None,
        remove: Listener | None = None,
        active: bool | None = None,
        pending: Callable[[], object] | None = None,
    ) -> None:
        with self._lock:
            if add is not None:
                self.listeners = (*self.listeners, add)
            if remove is not None:
                self.listeners = tuple(each for each in self.listeners if each is not remove)
            if active is not None:
                self.active = active
            if pending is not None:
                self.pending = pending
            self._attend()

    def begin(self) -> None:
        """The first call is here: do what is pending. What fails is logged, and the call goes on."""
        with self._lock:
            pending, self.pending = self.pending, None
            self._attend()
        if pending is not None:
            try:
                pending()
            except Exception:
                logger().exception("%r failed", pending)

    def _attend(self) -> None:
        self.attention = bool(self.listeners) or not self.active or self.pending is not None

    def remake_lock(self) -> None:
        self._lock = threading.Lock()


RUNTIME = Runtime()


def subscribe(listener: Listener, /) -> Callable[[], None]:
    """Have every event told to ``listener``; returns the function that ends it.

    Listeners run in the thread and task of the call, in the order in which they subscribed, outside all
    locks. What one raises is logged once per listener and never reaches the call.

    Example:
        >>> seen = []
        >>> stop = subscribe(seen.append)
        >>> stop()
    """
    if not callable(listener):
        raise PolicyError(
            f"subscribe: {listener!r} is no function; write subscribe(lambda event: print(event))"
        )
    RUNTIME.change(add=listener)
    return lambda: RUNTIME.change(remove=listener)


def emit(event: Event, /) -> None:
    """Tell every listener. Ask `RUNTIME.listeners` before building the event."""
    for listener in RUNTIME.listeners:
        try:
            listener(event)
        except Exception:
            complain(listener)


_complained: set[int] = set()


def complain(listener: object, /) -> None:
    """Log the exception in hand, which somebody who listens raised; once for each of them."""
    if id(listener) in _complained:
        return
    _complained.add(id(listener))
    logger().exception("a listener failed on an event; further failures of it are not logged: %r", listener)


@cache
def logger() -> Any:
    """The logger ``resilient``; logging is imported at the first use, not with the library."""
    import logging

    return logging.getLogger("resilient")


def set_active(active: bool, /) -> None:
    """Have all policies step aside (False) or work (True): for tests of the code they decorate.

    While inactive a decorated function is called directly: no retry, no breaker, no limit, no time-out.
    """
    if not isinstance(active, bool):
        raise PolicyError(f"set_active: active={active!r} must be True or False; write set_active(False)")
    RUNTIME.change(active=active)


def is_active() -> bool:
    """Whether policies work."""
    return RUNTIME.active
