"""A call that is turned away: by an open breaker, by an empty bucket.

The floor is a plain function that raises the same exception, of the same class with the same fields, and a caller that
catches it. Whoever is told no has to be told so; what is measured is the deciding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nopanic
import pybreaker

from benchmarks.measure import ARGUMENT, Contender, Outcome, Settings, looped, race, silence
from resilient import CircuitBreaker, CircuitOpen, RateLimit, RateLimited

Function = Callable[[str], Any]


def catching(fn: Function, error: type[Exception]) -> Function:
    def call(sku: str) -> None:
        try:
            fn(sku)
        except error:
            return
        raise AssertionError("it was let in")

    return call


def fails(sku: str) -> str:
    raise ConnectionError(sku)


def never(sku: str) -> str:
    raise AssertionError("it was let in")


def opened(decorated: Function, error: type[Exception]) -> Function:
    """A function whose breaker has opened."""
    with silence():
        try:
            decorated(ARGUMENT)
        except (ConnectionError, error):
            pass
    return decorated


def raising_open() -> Function:
    def call(sku: str) -> None:
        raise CircuitOpen(
            "the circuit breaker is open; again in 600.00 s; last failure ConnectionError, 0.1 s ago",
            reason="open",
            state="open",
            retry_after=600.0,
            last_failure="ConnectionError",
            last_failure_age=0.1,
            dependency="benchmarks.refusals.fails",
            operation="fails",
        )

    return call


def raising_limited() -> Function:
    def call(sku: str) -> None:
        raise RateLimited(
            "the rate limit of 1/hour (burst 1) has no token; the next in 3600.000 s",
            reason="empty",
            limit="1/hour",
            retry_after=3600.0,
            remaining=0,
            dependency="benchmarks.refusals.never",
            operation="never",
        )

    return call


def emptied() -> Function:
    limit = RateLimit("1/hour")
    limit.call(str, ARGUMENT)
    return limit(never)


def measure(settings: Settings) -> Outcome:
    ours = CircuitBreaker(consecutive=1, open_for=600.0, max_open=600.0)
    pybreakers = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=600)
    nopanics: Any = nopanic.circuit_breaker(min_calls=1, reset_timeout=600.0)
    refused: tuple[tuple[str, str, Function, type[Exception]], ...] = (
        ("raise CircuitOpen", "raised and caught, no policy", raising_open(), CircuitOpen),
        ("open: resilient", "open breaker", opened(ours(fails), CircuitOpen), CircuitOpen),
        (
            "open: pybreaker",
            "open breaker",
            opened(pybreakers(fails), pybreaker.CircuitBreakerError),
            pybreaker.CircuitBreakerError,
        ),
        ("open: nopanic", "open breaker", opened(nopanics(fails), nopanic.CircuitOpen), nopanic.CircuitOpen),
        ("raise RateLimited", "raised and caught, no policy", raising_limited(), RateLimited),
        ("empty: resilient", "empty bucket", emptied(), RateLimited),
    )
    contenders = [Contender(name, does, looped(catching(fn, error))) for name, does, fn, error in refused]
    result = race(contenders, settings)
    values = {
        "refusal.breaker": result.ratio("open: resilient", "raise CircuitOpen"),
        "refusal.bucket": result.ratio("empty: resilient", "raise RateLimited"),
        "refusal.breaker_pybreaker": result.ratio("open: pybreaker", "open: resilient"),
        "refusal.breaker_nopanic": result.ratio("open: nopanic", "open: resilient"),
    }
    return Outcome(values, {"refusal: a call that is turned away": result})
