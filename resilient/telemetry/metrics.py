"""Events as OpenTelemetry metrics: one histogram per logical call, counters for what is rare, gauges for state.

Every attribute has few values: dependencies and operations are names from code, never URLs, and after 200
different ones the rest is counted as ``_other``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from ..config.events import ConfigApplied, ConfigRecovered, ConfigRejected
from ..core.events import (
    AttemptFinished,
    BreakerTransition,
    CallAbandoned,
    CallFinished,
    DiscoveryFailed,
    EndpointTransition,
    Event,
    FeatureExecuted,
    FeatureUnknown,
    Rejection,
    RejectionObserved,
    RetryFinished,
    RetrySuppressed,
    TimeoutOverrun,
    Waited,
)
from . import gauges

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bounds in seconds; those that the semantic conventions give ``http.client.request.duration``."""

OTHER = "_other"
MOST_NAMES = 200

KINDS = {"ratelimit": "rate", "bulkhead": "concurrency"}
"""What a policy limits, as metrics call it."""


class Names:
    """The names seen so far; `OTHER` for new ones when there are too many."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, name: str, /) -> str:
        seen = self._seen
        if name in seen:
            return name
        if len(seen) >= MOST_NAMES:
            return OTHER
        seen.add(name)
        return name


class Metrics:
    """A listener that keeps the instruments.

    Args:
        meter: makes them.
    """

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, description: str) -> Any:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=DURATIONS
            )

        self._dependency, self._operation, self._error, self._feature = Names(), Names(), Names(), Names()
        self._call = seconds("resilient.call.duration", "A logical call: all attempts and waits together")
        self._attempt = seconds("resilient.attempt.duration", "One attempt of a call that may be retried")
        self._http = seconds(
            "http.client.request.duration", "One HTTP request: an attempt, not a logical call"
        )
        self._wait = seconds(
            "resilient.limiter.wait.duration", "Time spent waiting for admission by a limiter"
        )
        self._delay = seconds(
            "resilient.call.retry_delay", "Time spent between the attempts of a retried call"
        )
        self._retries = meter.create_histogram(
            "resilient.call.retries",
            "{retry}",
            "Attempts after the first of a retried call; calls without retries are not counted",
            explicit_bucket_boundaries_advisory=(1, 2, 3, 4, 5),
        )
        self._suppressed = meter.create_counter(
            "resilient.retry.suppressed", "{retry}", "Retries that were due and not made, by reason"
        )
        self._transitions = meter.create_counter(
            "resilient.breaker.transitions", "{transition}", "Changes of a breaker's state"
        )
        self._rejections = meter.create_counter(
            "resilient.rejections", "{call}", "Calls that a policy turned away before anything was sent"
        )
        self._observed = meter.create_counter(
            "resilient.rejections.observed",
            "{call}",
            "Calls that a policy under observation would have turned away",
        )
        self._overruns = meter.create_counter(
            "resilient.timeout.overruns", "{call}", "Sync functions that ended after their time-out"
        )
        self._abandoned = meter.create_counter(
            "resilient.timeout.abandoned", "{call}", "Functions that were walked away from"
        )
        self._moves = meter.create_counter(
            "resilient.endpoint.transitions", "{transition}", "Changes of the state of an endpoint's breaker"
        )
        self._lookups = meter.create_counter(
            "resilient.discovery.failures", "{lookup}", "Lookups to which no nameserver gave an answer"
        )
        self._reloads = meter.create_counter(
            "resilient.config.reloads", "{reload}", "Config documents that were put in force or refused"
        )
        self._executions = meter.create_counter(
            "resilient.degradation.executions", "{call}", "Calls of degradable functions, by what ran"
        )
        self._unknown = meter.create_counter(
            "resilient.degradation.unknown", "{read}", "Features asked for that no document has"
        )
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            CallFinished: self._on_call,
            AttemptFinished: self._on_attempt,
            RetryFinished: self._on_retried,
            RetrySuppressed: self._on_suppressed,
            BreakerTransition: self._on_transition,
            Rejection: self._on_rejection,
            RejectionObserved: self._on_observed,
            Waited: self._on_wait,
            EndpointTransition: self._on_move,
            DiscoveryFailed: lambda event: self._lookups.add(
                1, {"service": self._dependency(event.dependency)}
            ),
            ConfigApplied: lambda event: self._reloads.add(1, {"result": "applied"}),
            ConfigRejected: lambda event: self._reloads.add(
                1, {"result": "rejected", "reason": event.reason}
            ),
            ConfigRecovered: lambda event: self._reloads.add(1, {"result": "recovered"}),
            TimeoutOverrun: lambda event: self._overruns.add(1, self._of(event)),
            CallAbandoned: lambda event: self._abandoned.add(1, self._of(event)),
            FeatureExecuted: self._on_executed,
            FeatureUnknown: lambda event: self._unknown.add(1),  # the name came from who knows where
        }
        self._ended = False
        for gauge in gauges.ALL:
            meter.create_observable_gauge(
                gauge.name,
                [self._observer(partial(gauges.read, gauge))],
                gauge.unit,
                gauge.description,
            )
        name, unit, description = gauges.ENDPOINTS
        meter.create_observable_gauge(name, [self._observer(gauges.read_endpoints)], unit, description)
        for name, unit, description, read in (*gauges.CONFIG, *gauges.DEGRADATION):
            meter.create_observable_gauge(name, [self._plain_observer(read)], unit, description)
        name, unit, description = gauges.LEVEL
        meter.create_observable_gauge(name, [self._observe_level], unit, description)
        name, unit, description = gauges.FEATURES
        meter.create_observable_gauge(name, [self._observe_features], unit, description)

    def __call__(self, event: Event, /) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def end(self) -> None:
        """No more gauges: an SDK's instruments cannot be taken back."""
        self._ended = True

    def attempt(self, duration: float, attributes: Mapping[str, Any], context: Any) -> None:
        """An HTTP attempt ended."""
        self._http.record(duration, attributes, context=context)

    def _observer(
        self, read: Callable[[], Iterator[tuple[str, float, dict[str, str]]]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self._ended:
                return []
            return [
                Observation(value, {"dependency": self._dependency(name), **attributes})
                for name, value, attributes in read()
            ]

        return observe

    def _plain_observer(
        self, read: Callable[[], Iterator[tuple[float, dict[str, str]]]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [] if self._ended else [Observation(value, attributes) for value, attributes in read()]

        return observe

    def _observe_level(self, _: CallbackOptions) -> Iterable[Observation]:
        if not self._ended:
            for level in gauges.read_level():
                yield Observation(level, {"source": "effective"})

    def _observe_features(self, _: CallbackOptions) -> Iterable[Observation]:
        if not self._ended:
            for feature, variant, cause in gauges.read_features():
                yield Observation(1, {"feature": self._feature(feature), "variant": variant, "cause": cause})

    # ---------------------------------------------------------------------------------------------- by event
    def _of(self, event: Event) -> dict[str, Any]:
        return {
            "dependency": self._dependency(event.dependency),
            "operation": self._operation(event.operation),
        }

    def _on_call(self, event: CallFinished) -> None:
        attributes = {**self._of(event), "outcome": event.outcome}
        if event.error_type is not None:
            attributes["error.type"] = self._error(event.error_type)
        self._call.record(event.duration, attributes)

    def _on_attempt(self, event: AttemptFinished) -> None:
        number = str(event.attempt) if event.attempt < 4 else "4+"
        self._attempt.record(event.duration, {**self._of(event), "outcome": event.outcome, "attempt": number})

    def _on_retried(self, event: RetryFinished) -> None:
        self._retries.record(event.retries, self._of(event))
        self._delay.record(event.delay, {"dependency": self._dependency(event.dependency)})

    def _on_suppressed(self, event: RetrySuppressed) -> None:
        self._suppressed.add(1, {"dependency": self._dependency(event.dependency), "reason": event.reason})

    def _on_transition(self, event: BreakerTransition) -> None:
        self._transitions.add(
            1,
            {
                "dependency": self._dependency(event.dependency),
                "from": event.old,
                "to": event.new,
                "reason": event.trigger,
                "observed": event.observed,
            },
        )

    def _on_move(self, event: EndpointTransition) -> None:
        self._moves.add(
            1,
            {
                "dependency": self._dependency(event.dependency),
                "from": event.old,
                "to": event.new,
                "reason": event.reason,
            },
        )

    def _on_rejection(self, event: Rejection) -> None:
        self._rejections.add(
            1, {"dependency": self._dependency(event.dependency), "by": KINDS.get(event.by, event.by)}
        )

    def _on_observed(self, event: RejectionObserved) -> None:
        self._observed.add(
            1, {"dependency": self._dependency(event.dependency), "by": KINDS.get(event.by, event.by)}
        )

    def _on_wait(self, event: Waited) -> None:
        self._wait.record(
            event.duration,
            {"dependency": self._dependency(event.dependency), "kind": KINDS.get(event.kind, event.kind)},
        )

    def _on_executed(self, event: FeatureExecuted) -> None:
        self._executions.add(1, {"feature": self._feature(event.dependency), "path": event.path})
