"""Publishing: what is in force, and what is told of the change."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from resilient import PolicyError, features
from resilient.flags.document import parse_flags
from resilient.flags.state import NOTHING, STATE, publish
from resilient.testing import capture_events, feature_flags
from tests.flags.documents import LEVELS, document, flag, switch

SHOP: dict[str, Any] = {
    "search": switch(degrade="2:off"),
    "recommendations": flag("full", "cached", "off", degrade="1:cached,3:off"),
    "payment": switch(protected=True),
}


def test_a_rising_level_is_a_warning_that_names_what_changed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resilient")
    publish(parse_flags(document(0, **SHOP)))
    assert caplog.records == [], "nothing is degraded"
    with capture_events() as seen:
        publish(parse_flags(document("heavy", **SHOP)))
        publish(parse_flags(document(0, **SHOP)))
    up, down = caplog.records
    assert up.getMessage() == (
        "degradation: level 0 (normal) -> 2 (heavy): search on -> off, recommendations full -> cached"
    )
    assert (up.levelno, down.levelno) == (logging.WARNING, logging.INFO)
    assert down.getMessage() == (
        "degradation: level 2 (heavy) -> 0 (normal): search off -> on, recommendations cached -> full"
    )
    assert up.__dict__["event.name"] == "resilient.degradation.level_changed"
    assert up.__dict__["resilient.new"] == 2
    first, *rest = (event.fields() for event in seen.events[:3])
    assert first == {"dependency": "degradation", "operation": "level", "old": 0, "new": 2, "level": "heavy"}
    assert rest == [
        {"dependency": "search", "operation": "variant", "old": "on", "new": "off", "cause": "level:2"},
        {
            "dependency": "recommendations",
            "operation": "variant",
            "old": "full",
            "new": "cached",
            "cause": "level:1",
        },
    ]


def test_a_process_that_starts_in_an_incident_says_what_is_degraded(caplog: pytest.LogCaptureFixture) -> None:
    with capture_events() as seen:
        publish(parse_flags(document(1, **SHOP)))
    assert [record.getMessage() for record in caplog.records] == [
        "degradation: level 0 (normal) -> 1 (light): recommendations full -> cached"
    ]
    assert len(seen.events) == 2


def test_the_same_again_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resilient")
    publish(parse_flags(document(1, **SHOP)))
    caplog.clear()
    with capture_events() as seen:
        publish(parse_flags(document(1, **SHOP)))
    assert caplog.records == []
    assert seen.events == []


def test_flags_that_come_go_and_change_without_a_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resilient")
    publish(parse_flags(document(0, **SHOP)))
    new = {"search": switch() | {"defaultVariant": "off"}, "payment": SHOP["payment"], "gift": switch()}
    with capture_events() as seen:
        publish(parse_flags(document(0, **new)))
    (record,) = caplog.records
    assert record.getMessage() == (
        "flags changed: search on -> off, recommendations full -> (code default), gift (code default) -> on"
    )
    assert record.__dict__["event.name"] == "resilient.degradation.feature_changed"
    told = [event.fields() for event in seen.events]
    assert [(each["dependency"], each["new"], each["cause"]) for each in told] == [
        ("search", "off", "default"),
        ("recommendations", None, "code_default"),
        ("gift", "on", "default"),
    ]


def test_many_changes_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    many = {f"f{i}": switch(degrade="1:off") for i in range(1_000)}
    publish(parse_flags(document(1, **many)))
    (record,) = caplog.records
    assert record.getMessage().endswith(", f9 on -> off, 990 more")
    caplog.clear()
    caplog.set_level(logging.INFO, "resilient")
    publish(parse_flags(document(1, **dict(list(many.items())[10:]))))
    assert caplog.records[0].getMessage().endswith(", f9 off -> (code default)"), "ten are ten"


def test_levels_of_another_document_are_shown_by_the_name_that_they_had(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(parse_flags(document(3)))
    publish(parse_flags({"degradation": {"levels": ["calm", "storm"], "level": 1}}))
    assert caplog.records[0].getMessage() == "degradation: level 0 (normal) -> 3 (survival)"
    assert len(caplog.records) == 1, "it fell: that is no warning"


def test_a_document_that_was_not_parsed_is_refused() -> None:
    with pytest.raises(
        PolicyError, match=r"publish: dict is not Flags; write publish\(parse_flags\(document\)\)"
    ):
        publish({"flags": {}})  # type: ignore[arg-type]
    assert not STATE.ready


def test_a_block_puts_back_what_was_there_also_when_it_fails() -> None:
    mine = parse_flags(document(1, **SHOP))
    publish(mine)
    with pytest.raises(ZeroDivisionError), feature_flags(document(0, **SHOP), level="survival") as flags:
        assert STATE.flags is flags
        assert (flags.level, flags.levels) == (3, tuple(LEVELS))
        raise ZeroDivisionError
    assert STATE.flags is mine
    publish(NOTHING)
    with feature_flags({"flags": {"a": switch()}}):
        assert STATE.ready
        assert features.enabled("a")
    assert not STATE.ready
