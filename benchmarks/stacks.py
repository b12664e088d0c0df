"""The path of a sync call that succeeds at once, through whole stacks.

Every stack does the same for the call: three attempts on ConnectionError and TimeoutError, a circuit breaker, a rate
limit of 10^9 a second that never binds, at most ten calls in flight; checked and counted per attempt. Where one does
less, its line says so. None waits between attempts; that costs nothing on this path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import circuitbreaker
import interlock
import limits
import nopanic
import pybreaker
import pyresilience
import stamina
import tenacity

from benchmarks import floors
from benchmarks.measure import ARGUMENT, Contender, Outcome, Settings, looped, race, silence
from resilient import Bulkhead, CircuitBreaker, Pipeline, RateLimit, Retry, standard, subscribe

TRANSIENT = (ConnectionError, TimeoutError)
NEVER_BINDS = 1_000_000_000
IN_FLIGHT = 10
SAME = "retry, breaker, rate limit, bulkhead"

Function = Callable[[str], str]


def work(sku: str) -> str:
    return sku


def ours(fn: Function) -> Function:
    policies = (Retry(3, wait=0), CircuitBreaker(), RateLimit(f"{NEVER_BINDS}/second"), Bulkhead(IN_FLIGHT))
    return Pipeline(*policies, name="benchmark")(fn)


def under_pressure(fn: Function) -> Function:
    # A batch takes tokens a thousand times as fast as they come back, and has a billion to take from.
    limit = RateLimit("1000/second", burst=NEVER_BINDS)
    return Pipeline(Retry(3, wait=0), CircuitBreaker(), limit, Bulkhead(IN_FLIGHT))(fn)


def whole_standard(fn: Function) -> Function:
    return standard("benchmark", rate=f"{NEVER_BINDS}/second", concurrency=IN_FLIGHT, idempotent=True)(fn)


def with_pyresilience(fn: Function) -> Function:
    decorate: Any = pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=3, delay=0, retry_on=TRANSIENT),
        circuit_breaker=pyresilience.CircuitBreakerConfig(),
        bulkhead=pyresilience.BulkheadConfig(max_concurrent=IN_FLIGHT),
        rate_limiter=pyresilience.RateLimiterConfig(max_calls=NEVER_BINDS, period=1.0),
    )
    return decorate(fn)


def with_nopanic(fn: Function) -> Function:
    decorate: Any = nopanic.compose(
        nopanic.retry(attempts=3, on=TRANSIENT, backoff=0.0, budget=nopanic.RetryBudget()),
        nopanic.circuit_breaker(),
        nopanic.rate_limit(NEVER_BINDS, max_wait=0),
        nopanic.bulkhead(IN_FLIGHT, max_wait=0),
    )
    return decorate(fn)


class Limited(Exception):
    """What the stacks with `limits` raise, which itself raises nothing."""


def limited(fn: Function) -> Function:
    limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.parse(f"{NEVER_BINDS}/second")

    def call(sku: str) -> str:
        if not limiter.hit(item, "catalog"):
            raise Limited
        return fn(sku)

    return call


def tenacious(fn: Function) -> Function:
    return tenacity.retry(
        stop=tenacity.stop_after_attempt(3),
        retry=tenacity.retry_if_exception_type(TRANSIENT),
        wait=tenacity.wait_none(),
        reraise=True,
    )(fn)


def with_stamina(fn: Function) -> Function:
    return stamina.retry(on=TRANSIENT, attempts=3, timeout=None, wait_initial=0, wait_max=0, wait_jitter=0)(
        fn
    )


def with_tenacity_pybreaker_limits(fn: Function) -> Function:
    guarded: Function = pybreaker.CircuitBreaker()(limited(fn))
    return tenacious(guarded)


def with_stamina_circuitbreaker_limits(fn: Function) -> Function:
    guarded: Function = circuitbreaker.CircuitBreaker(name="benchmark-stack")(limited(fn))
    return with_stamina(guarded)


def with_interlock(fn: Function) -> Function:
    steps = interlock.Pipeline.builder().retry(attempts=3, wait=tenacity.wait_none())
    steps = steps.circuit_breaker(interlock.CircuitBreaker(name="benchmark-stack")).bulkhead(IN_FLIGHT)
    return steps.build()(fn)


STACKS: tuple[tuple[str, Callable[[Function], Function], str], ...] = (
    ("resilient", ours, f"{SAME}; retry budget, classification"),
    ("resilient, bucket never full", under_pressure, f"{SAME}; retry budget, classification"),
    (
        "resilient standard()",
        whole_standard,
        f"{SAME}; retry budget, classification, total and attempt time-out",
    ),
    ("pyresilience", with_pyresilience, f"{SAME} (the limit once per call)"),
    ("nopanic", with_nopanic, f"{SAME}; retry budget"),
    (
        "tenacity + pybreaker + limits",
        with_tenacity_pybreaker_limits,
        "retry, breaker, rate limit; no bulkhead",
    ),
    (
        "stamina + circuitbreaker + limits",
        with_stamina_circuitbreaker_limits,
        "retry, breaker, rate limit; no bulkhead",
    ),
    ("interlock-cb", with_interlock, "retry, breaker, bulkhead; no rate limit"),
)


def retries(decorate: Callable[[Function], Function]) -> bool:
    """Whether a stack does call again: twice, here."""
    answers: Iterator[Any] = iter([ConnectionError(), ConnectionError(), ARGUMENT])

    def fails_twice(sku: str) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    with silence():
        return decorate(fails_twice)(ARGUMENT) == ARGUMENT and next(answers, None) is None


def listened(run: Callable[[int], float]) -> Callable[[int], float]:
    """The same batches, while somebody listens to the events."""

    def batch(calls: int) -> float:
        stop = subscribe(lambda event: None)
        try:
            return run(calls)
        finally:
            stop()

    return batch


def measure(settings: Settings) -> Outcome:
    contenders = [
        Contender("bare call", "nothing", looped(work)),
        Contender(
            "fused floor",
            f"{SAME}, hand-written in one function",
            looped(floors.fused(work, slots=IN_FLIGHT)),
        ),
    ]
    for name, decorate, does in STACKS:
        assert retries(decorate), f"{name} does not retry"
        contenders.append(Contender(name, does, looped(decorate(work))))
    heard = f"{SAME}; retry budget, classification, events built and told"
    contenders.append(Contender("resilient, with a listener", heard, listened(looped(ours(work)))))
    result = race(contenders, settings, bare="bare call")
    values = {
        "sync.floor": result.ratio("resilient", "fused floor"),
        "sync.standard": result.ratio("resilient standard()", "fused floor"),
        "sync.listener": result.ratio("resilient, with a listener", "fused floor"),
        "sync.pressure": result.ratio("resilient, bucket never full", "fused floor"),
        "sync.pyresilience": result.ratio("pyresilience", "resilient"),
        "sync.nopanic": result.ratio("nopanic", "resilient"),
        "sync.interlock": result.ratio("interlock-cb", "resilient"),
        "sync.tenacity_pybreaker_limits": result.ratio("tenacity + pybreaker + limits", "resilient"),
        "sync.stamina_circuitbreaker_limits": result.ratio("stamina + circuitbreaker + limits", "resilient"),
    }
    return Outcome(values, {"sync: a call that succeeds at once": result})
