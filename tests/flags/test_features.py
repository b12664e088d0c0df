"""`features`: what code is told, and what it is not troubled with."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from resilient import features
from resilient.flags.document import parse_flags
from resilient.flags.snapshot import FlagDetails
from resilient.flags.state import MOST_COMPLAINTS, publish
from resilient.testing import capture_events, feature_flags
from tests.flags.documents import document, flag, switch


def sizes(**metadata: Any) -> dict[str, Any]:
    return {
        "state": "ENABLED",
        "variants": {"normal": 48, "small": 12},
        "defaultVariant": "normal",
        "metadata": metadata,
    }


SHOP = document(
    0,
    search=switch(degrade="2:off"),
    recommendations=flag("full", "cached", "off", degrade="1:cached,3:off"),
    page_size=sizes(degrade="1:small"),
    payment=switch(protected=True),
    code={"state": "ENABLED", "variants": {"on": True}, "defaultVariant": None},
    dark=switch() | {"state": "DISABLED"},
)


@pytest.mark.parametrize(
    ("level", "enabled", "variant", "size"),
    [
        (0, (True, True), "full", 48),
        (1, (True, True), "cached", 12),
        (2, (False, True), "cached", 12),
        (3, (False, False), "off", 12),
    ],
)
def test_what_is_told_at_each_level(level: int, enabled: tuple[bool, bool], variant: str, size: int) -> None:
    with feature_flags(SHOP, level=level):
        assert features.level() == level
        assert (features.enabled("search"), features.enabled("recommendations")) == enabled
        assert features.variant("recommendations", "none") == variant
        assert features.details("page-size", 10).value == size
        assert features.enabled("payment")
        assert features.details("payment").cause == "protected"


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("key", ["code", "dark", "unknown"])
def test_where_the_document_has_no_say_the_default_holds(key: str, default: bool) -> None:
    with feature_flags(SHOP, level=3):
        assert features.enabled(key, default=default) is default
        assert features.variant(key, "mine") == "mine"
        details = features.details(key, default)
        assert (details.value, details.variant, details.enabled, details.degraded) == (
            default,
            None,
            default,
            False,
        )


def test_details_say_why() -> None:
    with feature_flags(SHOP, level="light"):
        assert features.details("recommendations", "none") == FlagDetails(
            "recommendations", "cached", "cached", True, "TARGETING_MATCH", "level:1", 1, degraded=True
        )
        assert features.details("search") == FlagDetails("search", True, "on")
        told = {key: features.details(key, 7) for key in ("code", "dark", "unknown")}
        assert [each.key for each in told.values()] == [*told]
        assert {key: (each.reason, each.cause, each.error) for key, each in told.items()} == {
            "code": ("DEFAULT", "code_default", None),
            "dark": ("DISABLED", "code_default", None),
            "unknown": ("ERROR", "code_default", "FLAG_NOT_FOUND"),
        }
    assert features.details("search", 7).error == "PROVIDER_NOT_READY"


@pytest.mark.parametrize(
    ("value", "default", "taken"),
    [
        (12, 48, True),
        (12, 1.5, True),
        (1.5, 12, False),
        (1.5, 2.5, True),
        (12, "12", False),
        ("12", 12, False),
        (True, 1, False),
        (1, True, False),
        (True, False, True),
        ({"a": 1}, {}, True),
        ({"a": 1}, [], False),
        ("x", None, True),
    ],
)
def test_a_value_of_another_type_than_the_code_counts_on_is_not_given_to_it(
    value: Any, default: Any, taken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    raw = {"state": "ENABLED", "variants": {"a": value}, "defaultVariant": "a"}
    with feature_flags(document(a=raw)):
        caplog.clear()
        for _ in range(2):
            details = features.details("a", default)
        assert details == (
            FlagDetails("a", value, "a")
            if taken
            else FlagDetails(
                "a", default, None, default is not False, "ERROR", "error", None, "TYPE_MISMATCH"
            )
        )
        assert [record.getMessage() for record in caplog.records] == (
            []
            if taken
            else [
                f"feature 'a': its variant 'a' is {value!r}, and the code wants the type of its default {default!r}, "
                "which holds"
            ]
        )


def test_what_is_no_object_is_not_made_anew_for_each_reader() -> None:
    with feature_flags(SHOP):
        assert features.details("search") is features.details("search")


def test_an_object_is_the_callers_own() -> None:
    raw = {"state": "ENABLED", "variants": {"a": {"sizes": [1, 2]}}, "defaultVariant": "a"}
    with feature_flags(document(a=raw)):
        features.details("a").value["sizes"].append(3)
        assert features.details("a").value == {"sizes": [1, 2]}


# ------------------------------------------------------------------------------------------------ unknown features
def test_an_unknown_feature_is_logged_once_for_each_document_and_always_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with feature_flags(SHOP), capture_events() as seen:
        for _ in range(3):
            features.enabled("serach")
            features.variant("serach", "x")
            features.details("serach")
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
            "feature 'serach' is in no document: the code's default holds"
        ]
        assert [event.dependency for event in seen.named("resilient.degradation.unknown")] == ["serach"] * 9
        caplog.clear()
        publish(parse_flags(SHOP))
        features.enabled("serach")
        assert caplog.text.count("serach") == 1


def test_a_feature_that_is_left_to_the_code_is_not_unknown(caplog: pytest.LogCaptureFixture) -> None:
    with feature_flags(SHOP), capture_events() as seen:
        for key in ("code", "dark"):
            features.enabled(key)
            features.variant(key, "x")
            features.details(key)
        assert seen.events == []
        assert caplog.records == []


def test_each_feature_of_the_wrong_type_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with feature_flags(SHOP):
        for key in ("search", "payment"):
            features.details(key, "text")
    assert [record.getMessage()[:20] for record in caplog.records] == [
        "feature 'search': it",
        "feature 'payment': i",
    ]


def test_before_flags_are_published_that_is_said_once_and_not_of_each_feature(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with capture_events() as seen:
        for name in "abc":
            features.enabled(name)
    assert seen.events == [], "with nothing to compare it with nothing is unknown"
    assert [record.getMessage() for record in caplog.records] == [
        "feature 'a' was asked for before flags were published: code defaults hold"
    ]


def test_a_key_that_is_no_text_is_a_feature_that_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    with feature_flags(SHOP):
        assert features.enabled(None, default=True)  # type: ignore[arg-type]
        assert features.variant(7, "x") == "x"  # type: ignore[arg-type]
    assert "feature 'None' is in no document" in caplog.text


def test_names_from_outside_fill_neither_the_memory_nor_the_log(caplog: pytest.LogCaptureFixture) -> None:
    from resilient.flags.state import STATE

    with feature_flags(SHOP), capture_events() as seen:
        for number in range(5_000):
            features.enabled(f"{number}" + "x" * 10_000)
        assert len(caplog.records) == MOST_COMPLAINTS + 1
        assert (
            caplog.records[-1].getMessage() == "further disagreements between code and flags are not logged"
        )
        assert sum(map(len, STATE._strangers)) <= (MOST_COMPLAINTS + 1) * 100
        assert max(len(record.getMessage()) for record in caplog.records) < 200
        assert max(len(event.dependency) for event in seen.events) == 100


# --------------------------------------------------------------------------------------------- degraded, collected
def test_what_was_met_degraded_is_collected() -> None:
    with feature_flags(SHOP, level=1):
        with features.collecting() as degraded:
            features.enabled("search")
            features.enabled("payment")
            assert degraded == {}
            features.variant("recommendations", "none")
            features.details("page-size", 48)
            assert degraded == features.degraded() == {"recommendations": "cached", "page-size": "small"}
        features.enabled("recommendations")
        assert features.degraded() == {}, "nobody collects any more"


def test_a_block_inside_another_has_its_own_and_the_outer_has_all() -> None:
    with feature_flags(SHOP, level=2), features.collecting() as outer:
        features.enabled("search")
        with features.collecting() as inner:
            features.enabled("recommendations")
            assert features.degraded() == inner == {"recommendations": "cached"}
        assert outer == {"search": "off", "recommendations": "cached"}


def test_what_is_given_out_is_a_copy() -> None:
    with feature_flags(SHOP, level=2), features.collecting() as degraded:
        features.enabled("search")
        features.degraded().clear()
        assert degraded == {"search": "off"}


def test_two_requests_on_one_loop_and_their_tasks_and_threads_do_not_mix() -> None:
    async def request(*keys: str) -> dict[str, str]:
        with features.collecting() as degraded:
            await asyncio.gather(*(part(key) for key in keys))
            return degraded

    async def part(key: str) -> None:
        await asyncio.sleep(0)
        await asyncio.to_thread(features.enabled, key)

    async def main() -> None:
        assert await asyncio.gather(
            request("search", "payment"), request("recommendations", "search"), request("payment")
        ) == [{"search": "off"}, {"recommendations": "cached", "search": "off"}, {}]

    with feature_flags(SHOP, level=2):
        asyncio.run(main())


def test_a_thread_that_serves_many_requests_carries_nothing_over() -> None:
    def request(key: str) -> dict[str, str]:
        with features.collecting() as degraded:
            features.enabled(key)
        return degraded

    with feature_flags(SHOP, level=2), ThreadPoolExecutor(1) as pool:
        assert [pool.submit(request, key).result() for key in ("search", "payment", "recommendations")] == [
            {"search": "off"},
            {},
            {"recommendations": "cached"},
        ]


def test_a_block_that_is_left_in_another_context_raises_nothing() -> None:
    block = features.collecting()
    copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert features.degraded() == {}


def test_threads_see_a_new_level_at_their_next_read() -> None:
    seen: list[bool] = []
    with feature_flags(SHOP):
        thread = threading.Thread(target=lambda: seen.append(features.enabled("search")))
        publish(parse_flags({**SHOP, "degradation": {**SHOP["degradation"], "level": 2}}))
        thread.start()
        thread.join()
    assert seen == [False]
