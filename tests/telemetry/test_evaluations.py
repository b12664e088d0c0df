"""Evaluations of flags by OpenTelemetry's names: off until asked for, and then few."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from resilient import ConfigError, degradable, features
from resilient.flags import evaluations
from resilient.flags.document import parse_flags
from resilient.flags.evaluations import EVALUATIONS, MOST
from resilient.flags.following import FOLLOWING
from resilient.flags.state import publish
from resilient.telemetry import flag_evaluations
from resilient.testing import capture_events, feature_flags
from resilient.testing.events import CapturedEvents
from tests.flags.documents import document, flag, switch

from .collected import collecting

VIP = {"in": [{"var": "tier"}, ["gold", "platinum"]]}
SHOP = document(
    0,
    search=switch(degrade="1:off"),
    page=flag("a", "b", version="9") | {"targeting": {"if": [VIP, "b", {"/": [1, {"var": ["n", 1]}]}, None]}},
    dark=switch() | {"state": "DISABLED"},
) | {"metadata": {"flagSetId": "shop", "version": "7"}}  # fmt: skip


@pytest.fixture
def telling() -> Iterator[None]:
    stop = flag_evaluations(sample=0)
    yield
    stop()
    assert FOLLOWING._followers == ()


def told(seen: CapturedEvents) -> list[dict[str, Any]]:
    found = [event.attributes() for event in seen.named("feature_flag.evaluation")]
    return [{key: value for key, value in each.items() if key != "event.name"} for each in found]


def attributes(key: str, variant: str | None, reason: str, cause: str, **more: Any) -> dict[str, Any]:
    known = {
        "feature_flag.key": key,
        "feature_flag.result.variant": variant,
        "feature_flag.result.reason": reason,
        "feature_flag.provider.name": "resilient",
        "feature_flag.set.id": "shop",
        "feature_flag.version": "7",
        "resilient.cause": cause,
    }
    known |= {name.replace("_", "."): value for name, value in more.items()}
    return {name: value for name, value in known.items() if value is not None}


def test_nothing_is_told_until_it_is_asked_for() -> None:
    with feature_flags(SHOP), capture_events() as seen:
        features.enabled("search")
        features.details("page")
    assert not EVALUATIONS.on
    assert told(seen) == []


@pytest.mark.usefixtures("telling")
def test_each_result_is_told_once_for_each_document() -> None:
    with feature_flags(SHOP), capture_events() as seen:
        for _ in range(3):
            features.enabled("search")
            features.variant("search", "none")
            features.details("page", context={"tier": "gold"})
            features.variant("page", "", context={"tier": "platinum"})
            features.variant("page", "")
            features.enabled("dark")
        page = {"feature_flag.version": "9"}
        assert told(seen) == [
            attributes("search", "on", "static", "default"),
            attributes("page", "b", "targeting_match", "targeting") | page,
            attributes("page", "a", "default", "default") | page,
            attributes("dark", None, "disabled", "code_default"),
        ]
        publish(parse_flags(SHOP | {"degradation": {**SHOP["degradation"], "level": 1}}))
        for _ in range(3):
            features.enabled("search")
        assert told(seen)[4:] == [attributes("search", "off", "targeting_match", "level:1")]


@pytest.mark.usefixtures("telling")
def test_errors_have_their_type() -> None:
    nobody = {"feature_flag.set.id": None, "feature_flag.version": None}
    with capture_events() as seen:
        features.enabled("search")
        assert told(seen)[0]["error.type"] == "provider_not_ready"
    with feature_flags(SHOP), capture_events() as seen:
        features.enabled("serach")
        features.details("serach")
        features.details("search", "text")
        features.variant("page", "", context={"n": 0})
        unknown = attributes("serach", None, "error", "code_default", error_type="flag_not_found") | nobody
        assert told(seen) == [
            {key: value for key, value in unknown.items() if value is not None},
            attributes("search", None, "error", "error", error_type="type_mismatch"),
            attributes("page", None, "error", "error", error_type="general", feature__flag_version=None)
            | {"feature_flag.version": "9"},
        ]


@pytest.mark.usefixtures("telling")
async def test_a_call_of_a_degradable_function_is_one() -> None:
    @degradable("search", fallback="")
    def search() -> str:
        return "found"

    @degradable("search", fallback="")
    async def asearch() -> str:
        return "found"

    with feature_flags(SHOP, level=1), capture_events() as seen:
        search()
        assert [each["feature_flag.result.variant"] for each in told(seen)] == ["off"]
        publish(parse_flags(SHOP))
        assert await asearch() == "found"
        assert [each["feature_flag.result.variant"] for each in told(seen)] == ["off", "on"]


def test_of_what_was_seen_a_sample_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([0.05, 0.5, 0.15])
    monkeypatch.setattr(evaluations.random, "random", lambda: next(drawn))
    stop = flag_evaluations(sample=0.1)
    with feature_flags(SHOP), capture_events() as seen:
        for _ in range(4):
            features.enabled("search")
    stop()
    assert len(told(seen)) == 2
    with feature_flags(SHOP), capture_events() as seen:
        features.enabled("search")
    assert told(seen) == []


@pytest.mark.usefixtures("telling")
def test_names_from_outside_fill_no_memory() -> None:
    with feature_flags(SHOP), capture_events() as seen:
        for number in range(MOST + 100):
            features.enabled(f"{number}" + "x" * 1_000)
        assert len(EVALUATIONS._seen) == MOST
        found = told(seen)
    assert len(found) == MOST
    assert max(len(each["feature_flag.key"]) for each in found) == 100


@pytest.mark.usefixtures("telling")
def test_it_is_a_log_record_and_an_event_of_the_span(caplog: pytest.LogCaptureFixture) -> None:
    with collecting() as seen, feature_flags(SHOP), caplog.at_level(logging.INFO, "resilient"):
        caplog.clear()
        with seen.tracers.get_tracer("test").start_as_current_span("request"):
            features.enabled("search")
            features.details("search", "text")
    assert [record.getMessage() for record in caplog.records if hasattr(record, "feature_flag.key")] == [
        "flag search: on (default)",
        "flag search: type_mismatch (error)",
    ]
    (span,) = seen.exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["feature_flag.evaluation"] * 2
    assert span.events[0].attributes == attributes("search", "on", "static", "default")


@pytest.mark.parametrize("sample", [-0.1, 1.1, "x", True])
def test_a_sample_that_is_no_share(sample: Any) -> None:
    with pytest.raises(ConfigError, match=r"sample=.* must be .*; write flag_evaluations\(sample=0.01\)"):
        flag_evaluations(sample=sample)
