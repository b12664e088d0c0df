"""One policy alone, sync, on the path of a call that succeeds at once."""

from __future__ import annotations

from typing import Any

import circuitbreaker
import interlock
import nopanic
import pybreaker

from benchmarks import floors
from benchmarks.measure import Contender, Outcome, Settings, looped, race
from benchmarks.stacks import IN_FLIGHT, NEVER_BINDS, TRANSIENT, limited, tenacious, with_stamina, work
from resilient import Bulkhead, CircuitBreaker, RateLimit, Retry

RETRY = "three attempts on ConnectionError and TimeoutError"
BREAKER = "circuit breaker"
LIMIT = "rate limit that never binds"
BULKHEAD = "at most ten calls in flight"


def measure(settings: Settings) -> Outcome:
    nopanic_limit: Any = nopanic.rate_limit(NEVER_BINDS, max_wait=0)
    pairs: tuple[tuple[str, str, Any], ...] = (
        ("bare call", "nothing", work),
        ("Retry: floor", f"{RETRY}; hand-written", floors.retry(work)),
        ("Retry: resilient", f"{RETRY}; retry budget", Retry(3, wait=0)(work)),
        ("Retry: tenacity", RETRY, tenacious(work)),
        ("Retry: stamina", RETRY, with_stamina(work)),
        (
            "Retry: nopanic",
            f"{RETRY}; retry budget",
            nopanic.retry(attempts=3, on=TRANSIENT, backoff=0.0, budget=nopanic.RetryBudget())(work),
        ),
        (
            "Retry: nopanic, no budget",
            RETRY,
            nopanic.retry(attempts=3, on=TRANSIENT, backoff=0.0)(work),
        ),
        (
            "Breaker: floor, consecutive",
            f"{BREAKER}, failures in a row; hand-written",
            floors.Breaker()(work),
        ),
        (
            "Breaker: floor, window",
            f"{BREAKER}, ratio over a time window; hand-written",
            floors.WindowBreaker()(work),
        ),
        (
            "Breaker: resilient",
            f"{BREAKER}, ratio over a time window and failures in a row",
            CircuitBreaker()(work),
        ),
        ("Breaker: pybreaker", f"{BREAKER}, failures in a row", pybreaker.CircuitBreaker()(work)),
        (
            "Breaker: circuitbreaker",
            f"{BREAKER}, failures in a row",
            circuitbreaker.CircuitBreaker(name="benchmark-alone")(work),
        ),
        (
            "Breaker: interlock-cb",
            f"{BREAKER}, ratio over the last 100 calls",
            interlock.CircuitBreaker(name="benchmark-alone")(work),
        ),
        ("Breaker: nopanic", f"{BREAKER}, ratio over a time window", nopanic.circuit_breaker()(work)),
        ("RateLimit: floor", f"{LIMIT}; token bucket, hand-written", floors.Bucket(1e9, 1e9)(work)),
        ("RateLimit: resilient", f"{LIMIT}; token bucket", RateLimit(f"{NEVER_BINDS}/second")(work)),
        ("RateLimit: limits", f"{LIMIT}; fixed window, its cheapest", limited(work)),
        ("RateLimit: nopanic", f"{LIMIT}; token bucket", nopanic_limit(work)),
        ("Bulkhead: floor", f"{BULKHEAD}; hand-written", floors.Bulkhead(IN_FLIGHT)(work)),
        ("Bulkhead: resilient", BULKHEAD, Bulkhead(IN_FLIGHT)(work)),
        ("Bulkhead: nopanic", BULKHEAD, nopanic.bulkhead(IN_FLIGHT, max_wait=0)(work)),
    )
    contenders = [Contender(name, does, looped(fn)) for name, does, fn in pairs]
    result = race(contenders, settings, bare="bare call")
    values = {
        "alone.retry_tenacity": result.ratio("Retry: tenacity", "Retry: resilient"),
        "alone.retry_stamina": result.ratio("Retry: stamina", "Retry: resilient"),
        "alone.retry_nopanic": result.ratio("Retry: nopanic", "Retry: resilient"),
        "alone.retry_nopanic_no_budget": result.ratio("Retry: nopanic, no budget", "Retry: resilient"),
        "alone.breaker_pybreaker": result.ratio("Breaker: pybreaker", "Breaker: resilient"),
        "alone.breaker_circuitbreaker": result.ratio("Breaker: circuitbreaker", "Breaker: resilient"),
        "alone.breaker_interlock": result.ratio("Breaker: interlock-cb", "Breaker: resilient"),
        "alone.breaker_nopanic": result.ratio("Breaker: nopanic", "Breaker: resilient"),
        "alone.limit_limits": result.ratio("RateLimit: limits", "RateLimit: resilient"),
        "alone.limit_nopanic": result.ratio("RateLimit: nopanic", "RateLimit: resilient"),
        "alone.bulkhead_nopanic": result.ratio("Bulkhead: nopanic", "Bulkhead: resilient"),
    }
    return Outcome(values, {"alone: one policy, sync, a call that succeeds at once": result})
