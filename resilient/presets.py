"""Pipelines with numbers that were thought through, for those who have better things to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, ClassVar

from .config.center import CENTER
from .core.backoff import Backoff
from .core.clock import SYSTEM_CLOCK, Clock
from .core.options import Options, number
from .core.pipeline import Pipeline
from .core.policy import Policy
from .policies.breaker import CircuitBreaker
from .policies.bulkhead import Bulkhead
from .policies.ratelimit import RateLimit
from .policies.retry import Retry
from .policies.timeout import Timeout

_SECONDS: dict[str, Any] = {"above": 0, "high": 86_400, "unit": "seconds"}


@dataclass(frozen=True)
class StandardOptions(Options):
    """Every number of `standard`; see there."""

    policy: ClassVar[str] = "standard"
    name: str
    deadline: float = number(10.0, **_SECONDS, hint="deadline=10.0")
    attempts: int = number(
        3, low=1, high=100, integer=True, unit="in all, the first included", hint="attempts=3"
    )
    attempt_timeout: float | None = number(None, **_SECONDS, optional=True, hint="attempt_timeout=3.0")
    connect_timeout: float = number(1.0, **_SECONDS, hint="connect_timeout=1.0")
    concurrency: int = number(100, low=1, high=1_000_000, integer=True, unit="calls", hint="concurrency=100")
    idempotent: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.name, str):
            self.refuse("name", "must be a text that names the dependency", "standard('payments')")
        if not isinstance(self.idempotent, bool):  # "false" would repeat what must not be
            self.refuse("idempotent", "must be True or False", "idempotent=True")
        if self.attempt_timeout is not None and self.attempt_timeout >= self.deadline:
            self.refuse(
                "attempt_timeout",
                f"must be below the deadline of {self.deadline:g} s",
                f"attempt_timeout={self.deadline / 4:g}, or leave it out",
            )


_WAIT = tuple(f"retry.wait.{name}" for name in ("base", "cap", "factor", "jitter"))
_NEEDED = {"timeout.total", "timeout.attempt", "retry.attempts", *_WAIT}


class Standard(Pipeline):
    """What `standard` makes: a pipeline some of whose numbers follow from others.

    Args:
        *policies, name, clock: as for `Pipeline`.
        options: what `standard` was given.
    """

    def __init__(self, *policies: Policy, options: StandardOptions, clock: Clock) -> None:
        self.options = options
        super().__init__(*policies, name=options.name, clock=clock)
        self.connect_timeout = options.connect_timeout

    def derived(self, numbers: Mapping[str, Any], said: Set[str], /) -> Mapping[str, Any]:
        if not numbers.keys() >= _NEEDED:  # policies that follow another name
            return {}
        attempt = numbers["timeout.attempt"]
        if self.options.attempt_timeout is None and "timeout.attempt" not in said:
            wait = Backoff(*(numbers[name] for name in _WAIT))
            attempt = _attempt_timeout(numbers["timeout.total"], numbers["retry.attempts"], wait)
        return {"timeout.attempt": attempt, "breaker.slow_after": attempt}


def _attempt_timeout(deadline: float, attempts: int, wait: Backoff) -> float:
    """What the deadline leaves for one attempt, at most 3 seconds."""
    left = (deadline - wait.worst(attempts - 1)) / attempts
    timeout = min(3.0, left if left > 0 else deadline / attempts)
    # One attempt: the total alone decides, and says so.
    return timeout if timeout < deadline else deadline * 0.999


def standard(
    name: str,
    /,
    *,
    deadline: float = 10.0,
    attempts: int = 3,
    attempt_timeout: float | None = None,
    connect_timeout: float = 1.0,
    concurrency: int = 100,
    rate: Any = None,
    idempotent: bool = False,
    idempotency_key: Callable[..., str] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Standard:
    """The pipeline for an ordinary dependency; its numbers follow the config document, where there is one.

    ``Timeout(deadline) -> Retry -> CircuitBreaker -> RateLimit (with rate=) -> Bulkhead ->
    Timeout(attempt_timeout)``

    Args:
        name: of the dependency.
        deadline: seconds for the whole call.
        attempts: in all, the first included.
        attempt_timeout: seconds for one attempt; None: what deadline, attempts and backoff leave, at most 3.
            An attempt that takes longer counts as slow for the breaker.
        connect_timeout: seconds to connect; read by the HTTP layer.
        concurrency: calls in flight.
        rate: `limits` notation, such as ``"200/second"``; None: no rate limit.
        idempotent: whether the function may be repeated after it may have happened. Without it, and without
            ``idempotency_key``, only what provably did not happen is repeated.
        idempotency_key: gives a text that names the intent, from the call's arguments; see `Retry`.
        clock: where time comes from.

    Raises:
        PolicyError: an option outside its range.

    Example:
        >>> from resilient import standard
        >>> print(standard("payments", rate="200/second"))  # doctest: +ELLIPSIS
        Timeout(total 10 s) -> Retry(3 attempts, ...) -> ... -> Bulkhead(100) -> Timeout(attempt 3 s)
    """
    options = StandardOptions(
        name, deadline, attempts, attempt_timeout, connect_timeout, concurrency, idempotent
    )
    retry = retry_of(options, idempotency_key)
    pipeline = Standard(*policies_of(options, retry, rate), options=options, clock=clock)
    CENTER.enlist()
    return pipeline


def retry_of(options: StandardOptions, idempotency_key: Callable[..., str] | None) -> Retry:
    """The retry for a function that may be repeated as the options say."""
    safe = True if options.idempotent else None if idempotency_key else False
    return Retry(options.attempts, idempotent=safe, idempotency_key=idempotency_key)


def policies_of(options: StandardOptions, retry: Retry, rate: Any = None) -> tuple[Policy, ...]:
    """The policies of a standard pipeline around ``retry``, outermost first."""
    timeout = options.attempt_timeout
    if timeout is None:
        timeout = _attempt_timeout(options.deadline, options.attempts, retry.options.wait)
    limits = () if rate is None else (RateLimit(rate),)
    return (
        Timeout(options.deadline),
        retry,
        CircuitBreaker(slow_after=timeout),
        *limits,
        Bulkhead(options.concurrency),
        Timeout(timeout),
    )
