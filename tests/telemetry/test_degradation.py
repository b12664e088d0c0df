"""Degradation as metrics and span events."""

from __future__ import annotations

import pytest

from resilient import FeatureDisabled, degradable, features
from resilient.telemetry.metrics import MOST_NAMES, OTHER
from resilient.testing import feature_flags
from tests.flags.documents import document, flag, switch

from .collected import collecting

SHOP = document(
    0,
    search=switch(degrade="2:off"),
    recommendations=flag("full", "cached", "off", degrade="1:cached,3:off"),
    payment=switch(protected=True),
)


def broken() -> str:
    raise LookupError


@degradable("recommendations", variants={"cached": broken}, fallback="none")
def recommendations() -> str:
    return "for you"


@degradable("search")
def search() -> str:
    return "found"


def test_the_level_and_what_is_degraded_are_gauges() -> None:
    with collecting() as seen:
        assert seen.points("resilient.degradation.level") == [], "nothing is published"
        with feature_flags(SHOP, level="heavy"):
            assert seen.points("resilient.degradation.level") == [({"source": "effective"}, 2)]
            assert seen.points("resilient.degradation.feature") == [
                ({"feature": "search", "variant": "off", "cause": "level:2"}, 1),
                ({"feature": "recommendations", "variant": "cached", "cause": "level:1"}, 1),
            ]
            with feature_flags(SHOP):
                assert seen.one("resilient.degradation.level") == 0
                assert seen.points("resilient.degradation.feature") == []


def test_calls_are_counted_by_what_ran() -> None:
    with collecting() as seen:
        for level in (0, 0, 3):
            with feature_flags(SHOP, level=level):
                recommendations()
        with feature_flags(SHOP, level=1), pytest.raises(LookupError):
            recommendations()
        with feature_flags(SHOP, level=2), pytest.raises(FeatureDisabled):
            search()
        known = {"feature": "recommendations"}
        assert {path: seen.one("resilient.degradation.executions", path=path, **known) for path in (
            "normal", "degraded", "fallback_error",
        )} == {"normal": 2, "degraded": 1, "fallback_error": 1}  # fmt: skip
        assert seen.one("resilient.rejections", by="degradation") == 1


def test_features_that_nobody_knows_are_counted_without_their_names() -> None:
    with collecting() as seen, feature_flags(SHOP):
        for number in range(MOST_NAMES + 50):
            features.enabled(f"from-a-stranger-{number}")
        assert seen.points("resilient.degradation.unknown") == [({}, MOST_NAMES + 50)]


def test_a_document_with_thousands_of_features_is_no_thousands_of_series() -> None:
    many = document(1, **{f"f{n}": switch(degrade="1:off") for n in range(MOST_NAMES * 2)})
    with collecting() as seen, feature_flags(many):
        names = {attributes["feature"] for attributes, _ in seen.points("resilient.degradation.feature")}
        assert len(names) == MOST_NAMES + 1
        assert OTHER in names


def test_a_span_shows_what_was_degraded_and_not_what_was_normal() -> None:
    with collecting() as seen:
        with seen.tracers.get_tracer("t").start_as_current_span("order"):
            for level in (0, 3):
                with feature_flags(SHOP, level=level):
                    recommendations()
                    features.enabled("unknown")
        (order,) = seen.spans()
        assert [
            (event.name, dict(event.attributes)) for event in order.events if "executed" in event.name
        ] == [
            (
                "resilient.degradation.executed",
                {
                    "resilient.dependency": "recommendations",
                    "resilient.operation": "recommendations",
                    "resilient.path": "degraded",
                    "resilient.variant": "off",
                    "resilient.cause": "level:3",
                },
            )
        ]
        assert not [event for event in order.events if "unknown" in event.name]
