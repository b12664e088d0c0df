"""The path of an async call that succeeds at once, through whole stacks: as `stacks`, on one asyncio loop.

The function does not suspend, so what is seen is what the stacks cost and not the loop. The loop is the standard
library's; each contender runs in one task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiolimiter
import interlock
import nopanic
import purgatory
import pyresilience
import tenacity
from hyx.bulkhead import bulkhead as hyx_bulkhead
from hyx.circuitbreaker import consecutive_breaker as hyx_breaker
from hyx.ratelimit import tokenbucket as hyx_bucket
from hyx.retry import retry as hyx_retry

from benchmarks import floors
from benchmarks.measure import ARGUMENT, Contender, Outcome, Settings, alooped, race, silence
from benchmarks.stacks import IN_FLIGHT, NEVER_BINDS, SAME, TRANSIENT
from resilient import Bulkhead, CircuitBreaker, Pipeline, RateLimit, Retry, standard

ATTEMPT_TIMEOUT = 3.0

AsyncFunction = Callable[[str], Awaitable[str]]


async def work(sku: str) -> str:
    return sku


def ours(fn: AsyncFunction) -> AsyncFunction:
    policies = (Retry(3, wait=0), CircuitBreaker(), RateLimit(f"{NEVER_BINDS}/second"), Bulkhead(IN_FLIGHT))
    return Pipeline(*policies, name="benchmark")(fn)


def whole_standard(fn: AsyncFunction) -> AsyncFunction:
    return standard("benchmark", rate=f"{NEVER_BINDS}/second", concurrency=IN_FLIGHT, idempotent=True)(fn)


def with_pyresilience(fn: AsyncFunction) -> AsyncFunction:
    decorate: Any = pyresilience.resilient(
        retry=pyresilience.RetryConfig(max_attempts=3, delay=0, retry_on=TRANSIENT),
        circuit_breaker=pyresilience.CircuitBreakerConfig(),
        bulkhead=pyresilience.BulkheadConfig(max_concurrent=IN_FLIGHT),
        rate_limiter=pyresilience.RateLimiterConfig(max_calls=NEVER_BINDS, period=1.0),
    )
    return decorate(fn)


def with_nopanic(fn: AsyncFunction) -> AsyncFunction:
    decorate: Any = nopanic.compose(
        nopanic.retry(attempts=3, on=TRANSIENT, backoff=0.0, budget=nopanic.RetryBudget()),
        nopanic.circuit_breaker(),
        nopanic.rate_limit(NEVER_BINDS, max_wait=0),
        nopanic.bulkhead(IN_FLIGHT, max_wait=0),
    )
    return decorate(fn)


def with_hyx(fn: AsyncFunction) -> AsyncFunction:
    guarded = hyx_breaker()(hyx_bucket(NEVER_BINDS, 1)(hyx_bulkhead(IN_FLIGHT, IN_FLIGHT)(fn)))
    return hyx_retry(on=TRANSIENT, attempts=2, backoff=0)(guarded)  # it counts the retries: 2 make 3 attempts


def with_tenacity_purgatory_aiolimiter(fn: AsyncFunction) -> AsyncFunction:
    limiter = aiolimiter.AsyncLimiter(NEVER_BINDS, 1)

    async def limited(sku: str) -> str:
        async with limiter:
            return await fn(sku)

    guarded: AsyncFunction = purgatory.AsyncCircuitBreakerFactory()("catalog")(limited)
    return tenacity.retry(
        stop=tenacity.stop_after_attempt(3),
        retry=tenacity.retry_if_exception_type(TRANSIENT),
        wait=tenacity.wait_none(),
        reraise=True,
    )(guarded)


def with_tenacity_and_all(fn: AsyncFunction) -> AsyncFunction:
    free = asyncio.Semaphore(IN_FLIGHT)

    async def bounded(sku: str) -> str:
        async with free, asyncio.timeout(ATTEMPT_TIMEOUT):
            return await fn(sku)

    return with_tenacity_purgatory_aiolimiter(bounded)


def with_interlock(fn: AsyncFunction) -> AsyncFunction:
    steps = interlock.Pipeline.builder().retry(attempts=3, wait=tenacity.wait_none())
    steps = steps.circuit_breaker(interlock.CircuitBreaker(name="benchmark-astack")).bulkhead(IN_FLIGHT)
    return steps.build()(fn)


STACKS: tuple[tuple[str, Callable[[AsyncFunction], AsyncFunction], str], ...] = (
    ("resilient", ours, f"{SAME}; retry budget, classification"),
    (
        "resilient standard()",
        whole_standard,
        f"{SAME}; retry budget, classification, total and attempt time-out",
    ),
    ("pyresilience", with_pyresilience, f"{SAME} (the limit once per call)"),
    ("nopanic", with_nopanic, f"{SAME}; retry budget"),
    ("hyx", with_hyx, SAME),
    (
        "tenacity + purgatory + aiolimiter",
        with_tenacity_purgatory_aiolimiter,
        "retry, breaker, rate limit; no bulkhead",
    ),
    (
        "tenacity + purgatory + aiolimiter + Semaphore + timeout",
        with_tenacity_and_all,
        f"{SAME}, attempt time-out",
    ),
    ("interlock-cb", with_interlock, "retry, breaker, bulkhead; no rate limit"),
)


async def retries(decorate: Callable[[AsyncFunction], AsyncFunction]) -> bool:
    """Whether a stack does call again: twice, here."""
    answers: Iterator[Any] = iter([ConnectionError(), ConnectionError(), ARGUMENT])

    async def fails_twice(sku: str) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    with silence():
        return await decorate(fails_twice)(ARGUMENT) == ARGUMENT and next(answers, None) is None


def measure(settings: Settings) -> Outcome:
    with asyncio.Runner() as runner:
        return _measure(settings, runner)


def _measure(settings: Settings, runner: asyncio.Runner) -> Outcome:
    floor = floors.afused(work, slots=IN_FLIGHT)
    timed_floor = floors.afused(work, slots=IN_FLIGHT, timeout=ATTEMPT_TIMEOUT)
    contenders = [
        Contender("bare call", "nothing", alooped(runner, work)),
        Contender("fused floor", f"{SAME}, hand-written in one function", alooped(runner, floor)),
        Contender(
            "fused floor + asyncio.timeout",
            f"{SAME}, attempt time-out, hand-written in one function",
            alooped(runner, timed_floor),
        ),
    ]
    for name, decorate, does in STACKS:
        assert runner.run(retries(decorate)), f"{name} does not retry"

        async def made(decorate: Any = decorate) -> AsyncFunction:
            return decorate(work)

        contenders.append(Contender(name, does, alooped(runner, runner.run(made()))))
    result = race(contenders, settings, bare="bare call")
    values = {
        "async.floor": result.ratio("resilient", "fused floor"),
        "async.standard": result.ratio("resilient standard()", "fused floor + asyncio.timeout"),
        "async.tenacity_purgatory_aiolimiter": result.ratio("tenacity + purgatory + aiolimiter", "resilient"),
        "async.pyresilience": result.ratio("pyresilience", "resilient"),
        "async.nopanic": result.ratio("nopanic", "resilient"),
        "async.interlock": result.ratio("interlock-cb", "resilient"),
        "async.hyx": result.ratio("hyx", "resilient"),
    }
    return Outcome(values, {"async: a call that succeeds at once": result})
