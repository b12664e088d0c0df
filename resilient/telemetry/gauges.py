"""The state of live policies as gauges, read when somebody collects: between collections they cost nothing.

Several pipelines of one name (a sync and an async client of one dependency) are one dependency: amounts are
added up, and the breaker shown is the worst one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.center import CENTER
from ..core.pipeline import Pipeline
from ..core.registry import REGISTRY
from ..flags.state import STATE
from ..policies.breaker import CircuitBreaker
from ..policies.bulkhead import Bulkhead
from ..policies.ratelimit import RateLimit
from ..policies.ratelimit.options import NANOSECONDS
from ..policies.retry import Retry

STATES = ("disabled", "closed", "half_open", "open", "forced_open")
"""From the best to the worst."""

Reading = tuple[float, dict[str, str]]


@dataclass(frozen=True)
class Gauge:
    """One instrument, and how to read it off the pipelines of a dependency."""

    name: str
    unit: str
    description: str
    read: Callable[[Sequence[Pipeline]], Iterator[Reading]]


def read(gauge: Gauge, /) -> Iterator[tuple[str, float, dict[str, str]]]:
    """The gauge's readings now: dependency, value, further attributes."""
    by_name: dict[str, list[Pipeline]] = {}
    for pipeline in REGISTRY.pipelines():
        by_name.setdefault(str(pipeline.name), []).append(pipeline)
    for name, pipelines in sorted(by_name.items()):
        for value, attributes in gauge.read(pipelines):
            yield name, value, attributes


ENDPOINTS = ("resilient.endpoints", "{endpoint}", "Endpoints of a dependency, by the state of their breakers")
"""The gauge of what is balanced: name, unit, description."""


def read_endpoints() -> Iterator[tuple[str, float, dict[str, str]]]:
    """Its readings now. Several clients of one dependency see the same pods: the one that sees most speaks."""
    most: dict[str, Counter[str]] = {}
    for located in REGISTRY.endpoints():
        seen = Counter(endpoint.state for endpoint in located)
        if located.dependency not in most or seen.total() > most[located.dependency].total():
            most[located.dependency] = seen
    for name, seen in sorted(most.items()):
        for state in ("closed", "half_open", "open"):
            yield name, float(seen[state]), {"state": state}


def _config_state() -> Iterator[Reading]:
    from ..config.feed import STATES

    if CENTER.followed.anything:
        state = CENTER.status().state
        for each in STATES:
            yield float(each == state), {"state": each}


def _emergency_state() -> Iterator[Reading]:
    from ..config.feed import STATES

    status = CENTER.status().emergency
    if status is not None:
        for each in STATES:
            yield float(each == status.state), {"state": each}


def _emergency_values() -> Iterator[Reading]:
    values = CENTER.emergency_values
    if values is not None:
        yield float(values), {}


def _config_generation() -> Iterator[Reading]:
    status = CENTER.status()
    if status.digest is not None:
        source = str(status.source)
        yield 1.0, {"digest": status.digest[:12], "version": status.version or "", "source": source}


def _pinned() -> Iterator[Reading]:
    if CENTER.status().generation:
        yield float(CENTER.status().pinned is not None), {}


def _flapping() -> Iterator[Reading]:
    if CENTER.status().generation:
        yield float(CENTER.status().flapping), {}


def _overrides() -> Iterator[Reading]:
    yield float(len(CENTER.status().overrides)), {}


CONFIG = (
    ("resilient.config.state", "1", "One series per state of the config document", _config_state),
    (
        "resilient.config.emergency.state",
        "1",
        "One series per state of the emergency document",
        _emergency_state,
    ),
    (
        "resilient.config.emergency.values",
        "{value}",
        "Values that the emergency document has in force above the config document",
        _emergency_values,
    ),
    ("resilient.config.pinned", "1", "1 while a person has an older document in force", _pinned),
    ("resilient.config.flapping", "1", "1 while documents come so fast that they are held back", _flapping),
    ("resilient.config.overrides", "{value}", "Values that persons have set in this process", _overrides),
    ("resilient.config.generation.info", "1", "1 for the document in force", _config_generation),
)
"""The gauges of the config document: name, unit, description, how to read it."""


def _plans() -> Iterator[Reading]:
    for plan in CENTER.status().plans:
        yield 1.0, {"plan": plan}


def _restoring() -> Iterator[Reading]:
    if CENTER.status().generation:
        yield float(len(CENTER.status().restoring)), {}


DEGRADATION = (
    ("resilient.degradation.plan", "1", "1 for each plan that holds, while it does", _plans),
    (
        "resilient.degradation.restoring",
        "{feature}",
        "Features that are not degraded any more, and are given back in a while",
        _restoring,
    ),
)
"""Those of what moves features: name, unit, description, how to read it."""

LEVEL = ("resilient.degradation.level", "1", "The level of degradation in force; 0 is the normal one")
FEATURES = ("resilient.degradation.feature", "1", "1 for each feature that is degraded, while it is")
"""The gauges of degradation: name, unit, description."""


def read_level() -> Iterator[int]:
    """The level in force; nothing before flags are published."""
    if STATE.ready:
        yield STATE.flags.level


def read_features() -> Iterator[tuple[str, str, str]]:
    """The features that are degraded now: name, variant, cause."""
    for key, details in STATE.flags.table.items():
        if details.degraded:
            yield key, str(details.variant), details.cause


def _policies(pipelines: Sequence[Pipeline], kind: type[Any]) -> list[tuple[Any, Pipeline]]:
    """Each policy of a kind once, however many pipelines share it."""
    found = {
        id(policy): (policy, pipeline)
        for pipeline in pipelines
        for policy in pipeline.policies
        if isinstance(policy, kind)
    }
    return list(found.values())


def _budget(pipelines: Sequence[Pipeline]) -> Iterator[Reading]:
    for retry, pipeline in _policies(pipelines, Retry)[
        :1
    ]:  # the budget is the dependency's, not the pipeline's
        yield retry.budget_for(pipeline.name).remaining(pipeline.clock.monotonic()), {}


def _state(pipelines: Sequence[Pipeline]) -> Iterator[Reading]:
    seen = [breaker.state for breaker, _ in _policies(pipelines, CircuitBreaker)]
    if seen:
        worst = max(seen, key=STATES.index)
        for state in STATES:
            yield float(state == worst), {"state": state}


def _ratio(field: str) -> Callable[[Sequence[Pipeline]], Iterator[Reading]]:
    def ratio(pipelines: Sequence[Pipeline]) -> Iterator[Reading]:
        breakers = [breaker for breaker, _ in _policies(pipelines, CircuitBreaker)]
        if not breakers:
            return
        totals = [breaker.totals() for breaker in breakers]
        calls = sum(each.calls for each in totals)
        enough = calls >= min(breaker.options.minimum_calls for breaker in breakers)
        # -1 below the minimum: a ratio of few calls says nothing, and 0 would say that all is well.
        yield (sum(getattr(each, field) for each in totals) / calls if enough and calls else -1.0), {}

    return ratio


def _limiter(
    rate: Callable[[RateLimit], float] | None, concurrency: Callable[[Bulkhead], float]
) -> Callable[[Sequence[Pipeline]], Iterator[Reading]]:
    def limiter(pipelines: Sequence[Pipeline]) -> Iterator[Reading]:
        if rate is not None:
            limits = [limit for limit, _ in _policies(pipelines, RateLimit) if limit.options.key is None]
            if limits:
                yield sum(map(rate, limits)), {"kind": "rate"}
        bulkheads = [bulkhead for bulkhead, _ in _policies(pipelines, Bulkhead)]
        if bulkheads:
            yield sum(map(concurrency, bulkheads)), {"kind": "concurrency"}

    return limiter


ALL = (
    Gauge("resilient.retry.budget.remaining", "{retry}", "Retries that could be made now", _budget),
    Gauge("resilient.breaker.state", "1", "One series per state; the one in force is 1", _state),
    Gauge("resilient.breaker.failure_ratio", "1", "Failed calls; -1 below minimum_calls", _ratio("failures")),
    Gauge("resilient.breaker.slow_ratio", "1", "Slow calls; -1 below minimum_calls", _ratio("slow")),
    Gauge(
        "resilient.limiter.limit",
        "1",
        "What is allowed: calls at once, or tokens a second",
        _limiter(lambda each: NANOSECONDS / each.options.rate.interval, lambda each: each.options.limit),
    ),
    Gauge(
        "resilient.limiter.available",
        "1",
        "What is free now: permits, or tokens",
        _limiter(lambda each: each.available(), lambda each: each.options.limit - each.in_flight),
    ),
    Gauge(
        "resilient.limiter.inflight", "{call}", "Calls in flight", _limiter(None, lambda each: each.in_flight)
    ),
    Gauge("resilient.limiter.queued", "{call}", "Calls that wait", _limiter(None, lambda each: each.waiting)),
)
