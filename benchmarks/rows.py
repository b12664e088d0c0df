"""Every figure that has a budget: what it is, and what it may be."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Literal

from benchmarks.measure import Outcome, Settings, Spread

Side = Literal["at most", "at least"]


@dataclass(frozen=True)
class Budgeted:
    """A figure and its budget.

    Args:
        name: group, full stop, and a word.
        what: one line for the table.
        side: on which side of the limit it must be; None: it is told, and has no budget.
        limit: in ``unit``.
        unit: ``x``, ``us``, ``ms``, ``B``, ``%`` or nothing.
    """

    name: str
    what: str
    side: Side | None = None
    limit: float = 0.0
    unit: str = "x"

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]

    def verdict(self, value: float) -> str:
        """``PASS`` or ``FAIL``, or nothing where there is no budget."""
        if self.side is None:
            return ""
        return "PASS" if (value <= self.limit if self.side == "at most" else value >= self.limit) else "FAIL"


GROUPS = {
    "sync": "benchmarks.stacks",
    "async": "benchmarks.astacks",
    "alone": "benchmarks.alone",
    "refusal": "benchmarks.refusals",
    "retry": "benchmarks.failures",
    "http": "benchmarks.web",
    "hop": "benchmarks.hop",
    "keys": "benchmarks.keys",
    "flags": "benchmarks.flags",
    "config": "benchmarks.documents",
    "pick": "benchmarks.picks",
    "threads": "benchmarks.threads",
    "import": "benchmarks.imports",
    "budget": "benchmarks.budget_table",
}
"""Which module measures which group, in the order in which they run."""

ROWS = (
    Budgeted("sync.floor", "Retry + CircuitBreaker + RateLimit + Bulkhead / fused floor", "at most", 1.5),
    Budgeted("sync.standard", "standard() whole, two time-outs included / fused floor", "at most", 3.0),
    Budgeted("sync.pyresilience", "pyresilience / ours", "at least", 2.5),
    Budgeted("sync.tenacity_pybreaker_limits", "tenacity + pybreaker + limits / ours", "at least", 14),
    Budgeted("sync.stamina_circuitbreaker_limits", "stamina + circuitbreaker + limits / ours"),
    Budgeted("sync.nopanic", "nopanic / ours"),
    Budgeted("sync.interlock", "interlock-cb / ours (it has no rate limit)"),
    Budgeted("sync.listener", "ours with a listener that does nothing / fused floor"),
    Budgeted("sync.pressure", "ours with a bucket that is never full / fused floor"),
    Budgeted(
        "async.floor",
        "async: Retry + CircuitBreaker + RateLimit + Bulkhead / async fused floor",
        "at most",
        2.25,
    ),
    Budgeted("async.standard", "async: standard() whole / async floor with asyncio.timeout", "at most", 0.8),
    Budgeted(
        "async.tenacity_purgatory_aiolimiter",
        "async: tenacity + purgatory + aiolimiter / ours",
        "at least",
        18,
    ),
    Budgeted("async.pyresilience", "async: pyresilience / ours"),
    Budgeted("async.nopanic", "async: nopanic / ours"),
    Budgeted("async.interlock", "async: interlock-cb / ours (it has no rate limit)"),
    Budgeted("async.hyx", "async: hyx / ours"),
    Budgeted("alone.retry_tenacity", "tenacity / our Retry"),
    Budgeted("alone.retry_stamina", "stamina / our Retry"),
    Budgeted("alone.retry_nopanic", "nopanic with a retry budget / our Retry"),
    Budgeted("alone.retry_nopanic_no_budget", "nopanic as it comes, without a budget / our Retry"),
    Budgeted("alone.breaker_pybreaker", "pybreaker / our CircuitBreaker"),
    Budgeted("alone.breaker_circuitbreaker", "circuitbreaker / our CircuitBreaker"),
    Budgeted("alone.breaker_interlock", "interlock-cb / our CircuitBreaker"),
    Budgeted("alone.breaker_nopanic", "nopanic / our CircuitBreaker"),
    Budgeted("alone.limit_limits", "limits, fixed window / our RateLimit"),
    Budgeted("alone.limit_nopanic", "nopanic / our RateLimit"),
    Budgeted("alone.bulkhead_nopanic", "nopanic / our Bulkhead"),
    Budgeted(
        "refusal.breaker", "rejection by an open breaker / raising and catching the same", "at most", 2.5
    ),
    Budgeted(
        "refusal.bucket", "rejection by an empty bucket / raising and catching the same", "at most", 2.5
    ),
    Budgeted("refusal.breaker_pybreaker", "rejection by an open pybreaker / by ours"),
    Budgeted("refusal.breaker_nopanic", "rejection by an open nopanic breaker / by ours"),
    Budgeted("retry.three", "three failing attempts, no delay", "at most", 10, "us"),
    Budgeted(
        "retry.three_logged",
        "three failing attempts, each retry logged to a handler that drops it",
        unit="us",
    ),
    Budgeted("retry.three_tenacity", "three failing attempts: tenacity / ours"),
    Budgeted("retry.three_nopanic", "three failing attempts: nopanic / ours"),
    Budgeted("http.sync", "HTTP request over loopback, everything on / bare httpx, sync", "at most", 1.0),
    Budgeted("http.async", "HTTP request over loopback, everything on / bare httpx, async", "at most", 1.0),
    Budgeted(
        "http.sync_httpx2", "HTTP request over loopback, everything on / bare httpx2, sync", "at most", 1.0
    ),
    Budgeted(
        "http.async_httpx2", "HTTP request over loopback, everything on / bare httpx2, async", "at most", 1.0
    ),
    Budgeted("http.sync_httpx_retries", "HTTP request over loopback: httpx-retries / bare httpx, sync"),
    Budgeted("http.async_httpx_retries", "HTTP request over loopback: httpx-retries / bare httpx, async"),
    Budgeted("http.connections", "connections for 20 retries on keep-alive", "at most", 1, ""),
    Budgeted(
        "http.connections_httpx_retries", "connections for 20 retries on keep-alive: httpx-retries", unit=""
    ),
    Budgeted(
        "hop.p50", "what we add to the median of a request / what one Envoy hop adds", "at most", 10, "%"
    ),
    Budgeted("hop.p99", "what we add to the 99th percentile / what one Envoy hop adds", "at most", 10, "%"),
    Budgeted("hop.adds", "what one Envoy hop adds to the median of a request", unit="us"),
    Budgeted("hop.rate_1", "requests/s of 1 async caller / bare httpx"),
    Budgeted("hop.rate_16", "requests/s of 16 async callers / bare httpx"),
    Budgeted("hop.rate_128", "requests/s of 128 async callers / bare httpx"),
    Budgeted("keys.bytes", "keyed bucket: bytes per key, beside the key itself", "at most", 100, "B"),
    Budgeted("keys.threads", "keyed bucket: threads and timers that it starts", "at most", 0, ""),
    Budgeted("keys.bytes_limits", "bytes per key, beside the key itself: limits, fixed window", unit="B"),
    Budgeted(
        "keys.bytes_nopanic", "bytes per key, beside the key itself: nopanic keyed(rate_limit)", unit="B"
    ),
    Budgeted("flags.read", "reading a flag", "at most", 0.5, "us"),
    Budgeted("flags.call", "a degradable function at the normal level, over the bare one", unit="us"),
    Budgeted("flags.rule", "reading a flag with a rule, over FlagdCore alone", "at most", 1.0, "us"),
    Budgeted(
        "flags.fractional", "reading a flag that divides callers, over FlagdCore alone", "at most", 1.0, "us"
    ),
    Budgeted("flags.openfeature", "reading a flag: OpenFeature client, provider in memory / ours"),
    Budgeted("config.stall", "event loop, while 1 MiB of JSON is put in force", "at most", 60, "ms"),
    Budgeted("pick.time", "choose one of 10 endpoints, enter and leave it", "at most", 0.8, "us"),
    Budgeted("pick.flat", "one of 10,000 endpoints / one of ten of the same 10,000", "at most", 1.2),
    Budgeted("pick.many", "choose one of 10,000 endpoints, enter and leave it", unit="us"),
    Budgeted("pick.diff", "replace 1 % of 10,000 endpoints, off the way of requests", "at most", 5, "ms"),
    Budgeted("threads.share", "16 threads, calls of 10 ms, of what bare threads reach", "at least", 98, "%"),
    Budgeted(
        "threads.share_pybreaker",
        "16 threads, calls of 10 ms, of what bare threads reach: tenacity + pybreaker + limits",
        unit="%",
    ),
    Budgeted("import.package", "import resilient, over bare Python", "at most", 5, "ms"),
    Budgeted("import.policies", "from resilient import five policies, over bare Python", "at most", 40, "ms"),
    Budgeted(
        "import.foreign",
        "loaded by that, of asyncio, logging, httpx, tenacity, pybreaker, limits, opentelemetry",
        "at most",
        0,
        "",
    ),
    Budgeted(
        "import.tenacity_pybreaker_limits", "import tenacity, pybreaker, limits, over bare Python", unit="ms"
    ),
    Budgeted("budget.outage", "load in a total outage, 5 calls a second for 30 s", "at most", 1.05),
    Budgeted("budget.errors", "success at 10 % errors, 1,000 calls a second for 30 s", "at least", 99.8, "%"),
)


def rows_of(group: str) -> tuple[Budgeted, ...]:
    return tuple(row for row in ROWS if row.group == group)


def measure(group: str, settings: Settings) -> Outcome:
    """Run a group; it gives a value for each of its rows, and for no other."""
    outcome: Outcome = importlib.import_module(GROUPS[group]).measure(settings)
    wanted = {row.name for row in rows_of(group)}
    assert set(outcome.values) == wanted, set(outcome.values) ^ wanted
    return outcome


def exactly(value: float) -> Spread:
    """A figure that is counted, not timed."""
    return Spread(value, value, value)
