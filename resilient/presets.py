"""Pipelines with numbers that were thought through, for those who have better things to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

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
) -> Pipeline:
    """The pipeline for an ordinary dependency.

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
    StandardOptions(name, deadline, attempts, attempt_timeout, connect_timeout, concurrency, idempotent)
    retry = Retry(
        attempts,
        idempotent=True if idempotent else None if idempotency_key else False,
        idempotency_key=idempotency_key,
    )
    total = Timeout(deadline)
    if attempt_timeout is None:
        wait = retry.options.wait
        assert isinstance(wait, Backoff)
        left = (deadline - wait.worst(attempts - 1)) / attempts
        attempt_timeout = min(3.0, left if left > 0 else deadline / attempts)
        if attempt_timeout >= deadline:
            attempt_timeout = deadline * 0.999  # one attempt: the total alone decides, and says so
    policies: list[Policy] = [total, retry, CircuitBreaker(slow_after=attempt_timeout)]
    if rate is not None:
        policies.append(RateLimit(rate))
    policies += [Bulkhead(concurrency), Timeout(attempt_timeout)]
    pipeline = Pipeline(*policies, name=name, clock=clock)
    pipeline.connect_timeout = connect_timeout
    return pipeline
