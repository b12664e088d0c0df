"""Events and those who listen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import resilient.config.events
from resilient import Event, is_active, set_active, subscribe
from resilient.core import events
from resilient.core.events import RUNTIME, Runtime, emit

FIELDS = {
    "CallFinished": ("resilient.call.finished", {"duration", "error_type", "outcome"}),
    "AttemptFinished": ("resilient.attempt.finished", {"attempt", "duration", "error_type", "outcome"}),
    "RetryScheduled": ("resilient.retry.scheduled", {"attempt", "delay", "error_type"}),
    "RetrySuppressed": ("resilient.retry.suppressed", {"attempt", "error_type", "reason"}),
    "RetryExhausted": ("resilient.retry.exhausted", {"attempts", "error_type"}),
    "RetryFinished": ("resilient.retry.finished", {"delay", "retries"}),
    "Rejection": ("resilient.rejected", {"by", "reason"}),
    "Waited": ("resilient.limiter.waited", {"admitted", "duration", "kind"}),
    "BreakerTransition": (
        "resilient.breaker.transition",
        {"calls", "failures", "new", "observed", "old", "open_for", "reason", "slow", "trigger"},
    ),
    "EndpointsChanged": ("resilient.endpoints.changed", {"added", "count", "removed"}),
    "EndpointTransition": ("resilient.endpoint.transition", {"endpoint", "new", "old", "reason"}),
    "DiscoveryFailed": ("resilient.discovery.failed", {"reason"}),
    "RejectionObserved": ("resilient.rejection.observed", {"by", "reason"}),
    "ConfigApplied": (
        "resilient.config.applied",
        {
            *(
                "changed_by",
                "changes",
                "differences",
                "digest",
                "generation",
                "latency",
                "pinned",
                "previous",
            ),
            *("rollback_of", "ticket", "version"),
        },
    ),
    "AutoLevelMoved": ("resilient.degradation.auto_level_moved", {"new", "old", "shadow", "signals"}),
    "PlanChanged": ("resilient.degradation.plan_changed", {"active", "differences", "kind", "owner"}),
    "ConfigFlapping": ("resilient.config.flapping", {"generation", "on"}),
    "ConfigOverridden": ("resilient.config.overridden", {"ended", "reason", "ttl", "value"}),
    "ConfigRejected": ("resilient.config.rejected", {"generation", "reason"}),
    "ConfigRecovered": ("resilient.config.recovered", {"generation"}),
    "TimeoutOverrun": ("resilient.timeout.overrun", {"overrun", "timeout"}),
    "CallAbandoned": ("resilient.timeout.abandoned", {"leaked", "timeout"}),
    "FallbackUsed": ("resilient.fallback.used", {"error_type", "rejected"}),
    "LevelChanged": ("resilient.degradation.level_changed", {"level", "new", "old"}),
    "FeatureChanged": ("resilient.degradation.feature_changed", {"cause", "new", "old"}),
    "FeatureExecuted": ("resilient.degradation.executed", {"cause", "path", "variant"}),
    "FeatureUnknown": ("resilient.degradation.unknown", set()),
    "FlagEvaluated": (
        "feature_flag.evaluation",
        {"cause", "error", "flag_set", "reason", "variant", "version"},
    ),
}


@pytest.fixture
def before() -> Iterator[None]:
    listeners = RUNTIME.listeners
    yield
    assert RUNTIME.listeners == listeners, "nobody is left behind"


def test_names_and_fields_are_stable() -> None:
    """Dashboards, alerts and logs hang on them."""
    classes = {
        name: each
        for module in (events, resilient.config.events)
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, Event) and each is not Event
    }
    assert {*classes} == {*FIELDS}
    for name, cls in classes.items():
        expected, fields = FIELDS[name]
        event = cls("payments", "charge", **dict.fromkeys(fields, 1))
        assert event.name == expected
        assert event.fields() == {"dependency": "payments", "operation": "charge", **dict.fromkeys(fields, 1)}
        assert not hasattr(event, "__dict__") or event.__dict__ == {}


def test_attributes_are_what_has_a_value_under_the_names_of_records_and_spans() -> None:
    event = events.CallFinished("payments", "charge", outcome="success", duration=0.5, error_type=None)
    assert event.attributes() == {
        "event.name": "resilient.call.finished",
        "resilient.dependency": "payments",
        "resilient.operation": "charge",
        "resilient.outcome": "success",
        "resilient.duration": 0.5,
    }


def test_an_event_shows_what_it_holds() -> None:
    event = events.RetryFinished("payments", "charge", retries=2, delay=0.5)
    for part in ("RetryFinished(", "dependency='payments'", "operation='charge'", "retries=2", "delay=0.5"):
        assert part in repr(event)


def test_all_are_told_in_their_order(before: None) -> None:
    seen: list[tuple[str, Event]] = []
    stops = [subscribe(lambda event, n=n: seen.append((n, event))) for n in "abc"]
    event = Event("payments", "charge")
    emit(event)
    assert seen == [("a", event), ("b", event), ("c", event)]
    stops[1]()
    stops[1]()
    emit(event)
    assert [n for n, _ in seen[3:]] == ["a", "c"]
    for stop in stops:
        stop()
    emit(event)
    assert len(seen) == 5


def test_a_listener_that_fails_is_logged_once_and_hurts_nobody(
    before: None, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Event] = []

    def fails(event: Event) -> None:
        raise KeyError("of the listener")

    stops = [subscribe(fails), subscribe(seen.append)]
    for _ in range(3):
        emit(Event("payments", "charge"))
    for stop in stops:
        stop()
    assert len(seen) == 3
    (record,) = caplog.records
    assert record.name == "resilient"
    assert record.exc_info is not None
    assert "a listener failed on an event" in record.message


def test_who_unsubscribes_while_he_is_told_does_no_harm(before: None) -> None:
    seen: list[Event] = []
    stop_self = subscribe(lambda event: stop_self())
    stop = subscribe(seen.append)
    emit(Event("a", "b"))
    emit(Event("a", "b"))
    stop()
    assert len(seen) == 2


def test_attention_is_paid_while_somebody_listens_or_policies_are_off() -> None:
    runtime = Runtime()
    assert (runtime.active, runtime.attention) == (True, False)
    runtime.change(add=print)
    assert runtime.attention
    runtime.change(active=False)
    runtime.change(remove=print)
    assert (runtime.active, runtime.attention) == (False, True)
    runtime.change(active=True)
    assert (runtime.active, runtime.attention, runtime.listeners) == (True, False, ())
    runtime._lock.acquire()
    runtime.remake_lock()
    runtime.change(active=True)


def test_switching_off_and_on() -> None:
    assert is_active()
    set_active(False)
    assert not is_active()
    set_active(True)
    assert is_active()
