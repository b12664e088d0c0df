"""Who asks: what is known of a caller, and what a feature is for him."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextvars import copy_context
from typing import Any

import pytest

from resilient import FeatureDisabled, PolicyError, degradable, features
from resilient.flags.evaluation import known
from resilient.flags.snapshot import FlagDetails
from resilient.testing import capture_events, feature_flags
from tests.flags.documents import document, flag, switch

VIP = {"in": [{"var": "tier"}, ["gold", "platinum"]]}
SPARED = {"if": [VIP, "full", {"==": [{"var": "tier"}, "basic"]}, "off", None]}
SHOP = document(
    0,
    recommendations=flag("full", "cached", "off", default="cached", degrade="1:off") | {"targeting": SPARED},
    search=switch() | {"targeting": {"if": [VIP, "on", "off"]}},
    code=flag("full", "off") | {"defaultVariant": None, "targeting": {"if": [VIP, "full"]}},
    dark=switch() | {"state": "DISABLED", "targeting": {"if": [VIP, "on", "off"]}},
    payment=switch(protected=True),
    page=flag("a", "b") | {"targeting": {"if": [VIP, "b"]}},
)  # fmt: skip
GOLD, BASIC = {"tier": "gold"}, {"tier": "basic"}


def shown(details: FlagDetails[Any]) -> tuple[Any, str, str]:
    return details.variant, details.reason, details.cause


# ----------------------------------------------------------------------------------------------------------- order
@pytest.mark.parametrize(
    ("level", "context", "expected"),
    [
        (0, GOLD, ("full", "TARGETING_MATCH", "targeting")),
        (0, BASIC, ("off", "TARGETING_MATCH", "targeting")),
        (0, {}, ("cached", "DEFAULT", "default")),
        (1, GOLD, ("full", "TARGETING_MATCH", "targeting")),
        (1, {}, ("off", "TARGETING_MATCH", "level:1")),
        (2, GOLD, ("full", "TARGETING_MATCH", "targeting")),
        (3, GOLD, ("off", "TARGETING_MATCH", "level:1")),
    ],
)
def test_a_rule_stands_above_the_ladder_but_at_the_last_level(
    level: int, context: Any, expected: Any
) -> None:
    with feature_flags(SHOP, level=level):
        assert shown(features.details("recommendations", context=context)) == expected
        assert features.variant("recommendations", "none", context=context) == expected[0]
        assert features.enabled("recommendations", context=context) is (expected[0] != "off")


def test_at_the_last_level_a_rule_holds_for_what_has_no_ladder() -> None:
    with feature_flags(SHOP, level=3):
        assert features.details("search", context=GOLD).cause == "targeting"


def test_a_boolean_feature_by_caller() -> None:
    with feature_flags(SHOP):
        assert features.enabled("search", context=GOLD)
        assert not features.enabled("search")
        assert features.details("search", context=GOLD).value is True


def test_what_is_left_to_the_code_may_have_a_rule() -> None:
    with feature_flags(SHOP):
        assert features.variant("code", "mine", context=GOLD) == "full"
        assert features.variant("code", "mine") == "mine"
        assert shown(features.details("code", "mine")) == (None, "DEFAULT", "code_default")


def test_what_is_disabled_asks_no_rule() -> None:
    with feature_flags(SHOP):
        assert features.enabled("dark", default=True, context=BASIC)
        assert features.details("dark", context=GOLD).reason == "DISABLED"


def test_the_level_is_known_to_rules() -> None:
    rule = {"if": [{">=": [{"var": "degradation.level"}, 2]}, "off", None]}
    with feature_flags(document(0, a=flag("full", "off") | {"targeting": rule}), level=1):
        assert features.variant("a", "none", context={"degradation": {"level": 3}}) == "full", (
            "no caller says it"
        )
    with feature_flags(document(0, a=flag("full", "off") | {"targeting": rule}), level=2):
        assert features.variant("a", "none") == "off"


def test_a_rule_is_no_degradation() -> None:
    with feature_flags(SHOP), features.collecting() as degraded:
        assert not features.details("recommendations", context=BASIC).degraded
        features.enabled("recommendations", context=BASIC)
    assert degraded == {}


def test_a_step_of_the_ladder_is_one_for_who_has_no_rule() -> None:
    with feature_flags(SHOP, level=1), features.collecting() as degraded:
        features.enabled("recommendations", context=GOLD)
        assert degraded == {}
        features.enabled("recommendations")
    assert degraded == {"recommendations": "off"}


def test_a_value_of_another_type_is_not_given_whoever_asks() -> None:
    with feature_flags(SHOP):
        assert features.details("search", "text", context=GOLD).error == "TYPE_MISMATCH"


# ---------------------------------------------------------------------------------------------------- what is known
def test_a_block_says_who_asks_and_one_inside_it_adds_to_that() -> None:
    with feature_flags(SHOP):
        with features.context({"user.name": "ann"}, targetingKey="account-7", tier="basic"):
            assert features.variant("recommendations", "none") == "off"
            with features.context(tier="gold"):
                assert known() == {"user.name": "ann", "targetingKey": "account-7", "tier": "gold"}
                assert features.variant("recommendations", "none") == "full"
                assert features.variant("recommendations", "none", context=BASIC) == "off", (
                    "the question says it"
                )
            assert features.variant("recommendations", "none") == "off"
        assert known() == {}


def test_who_asks_is_a_text() -> None:
    rule = {"if": [{"===": [{"var": "targetingKey"}, "42"]}, "b"]}
    with feature_flags(document(a=flag("a", "b") | {"targeting": rule})):
        assert features.variant("a", "", context={"targetingKey": 42}) == "b"
        assert features.variant("a", "", context={"targetingKey": None}) == "a"
        with features.context(targetingKey=42):
            assert features.variant("a", "") == "b"


def test_what_is_no_mapping_is_refused_where_a_block_is_made() -> None:
    with pytest.raises(
        PolicyError, match=r"features.context: 'ann' must be a mapping .*; write features.context\("
    ):
        features.context("ann")  # type: ignore[arg-type]


def test_two_requests_on_one_loop_and_their_tasks_and_threads_do_not_mix() -> None:
    async def request(**who: Any) -> list[str]:
        with features.context(who):
            await asyncio.sleep(0)
            here = features.variant("recommendations", "none")
            there = await asyncio.to_thread(features.variant, "recommendations", "none")
            return [here, there]

    async def main() -> list[list[str]]:
        return await asyncio.gather(request(tier="gold"), request(tier="basic"), request())

    with feature_flags(SHOP):
        assert asyncio.run(main()) == [["full"] * 2, ["off"] * 2, ["cached"] * 2]


def test_another_thread_knows_nothing() -> None:
    seen: list[Any] = []
    with features.context(tier="gold"):
        thread = threading.Thread(target=lambda: seen.append(known()))
        thread.start()
        thread.join()
    assert seen == [{}]


def test_a_block_that_is_left_in_another_context_ends_there_too() -> None:
    block = features.context(tier="gold")
    inside = copy_context()
    inside.run(block.__enter__)
    assert inside.run(known) == {"tier": "gold"}
    block.__exit__(None, None, None)
    assert inside.run(known) == {}
    assert known() == {}


def test_blocks_left_in_any_order() -> None:
    outer, inner = features.context(tier="gold"), features.context(region="eu")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert known() == {"tier": "gold", "region": "eu"}, "it is what it was when it was entered"
    inner.__exit__(None, None, None)
    assert known() == {}


# ------------------------------------------------------------------------------------------------------- degradable
def test_a_degradable_function_runs_as_the_caller_has_it() -> None:
    @degradable("recommendations", variants={"cached": lambda: "cached"})
    def recommendations() -> str:
        return "full"

    with feature_flags(SHOP), capture_events() as seen:
        with features.context(GOLD):
            assert recommendations() == "full"
        assert recommendations() == "cached"
        with features.context(BASIC), pytest.raises(FeatureDisabled) as caught:
            recommendations()
    assert caught.value.reason == "targeting"
    assert "off by a rule of the document" in str(caught.value)
    assert [each.fields()["cause"] for each in seen.named("resilient.degradation.executed")] == [
        "targeting",
        "default",
    ]


async def test_an_async_one_too() -> None:
    @degradable("recommendations", fallback="less")
    async def recommendations() -> str:
        return "full"

    with feature_flags(SHOP):
        with features.context(BASIC):
            assert await recommendations() == "less"
        with features.context(GOLD):
            assert await recommendations() == "full"


# ------------------------------------------------------------------------------------------------------ what breaks
BROKEN = {"if": [{"/": [1, {"var": ["age", 1]}]}, "full", "off"]}
UNNAMED = {"if": [{"var": ["wanted", "full"]}, {"var": ["wanted", "full"]}]}


@pytest.mark.parametrize(
    ("rule", "context", "message"),
    [
        (BROKEN, {"age": 0}, "its targeting failed (ZeroDivisionError)"),
        (UNNAMED, {"wanted": "gold"}, "its targeting failed (what it gives is no variant)"),
        (UNNAMED, ["x"], "its targeting failed (AttributeError)"),
    ],
)
def test_a_rule_that_fails_leaves_it_to_the_code_and_raises_nothing(
    rule: Any, context: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with feature_flags(document(a=flag("full", "off") | {"targeting": rule})):
        caplog.clear()
        for _ in range(3):
            details = features.details("a", "mine", context=context)
            assert details == FlagDetails("a", "mine", None, True, "ERROR", "error", error="GENERAL")
            assert features.variant("a", "mine", context=context) == "mine"
            assert not features.enabled("a", context=context)
        assert [record.getMessage() for record in caplog.records] == [f"feature 'a': {message}"]


def test_a_rule_that_fails_gives_back_nothing_that_the_level_took() -> None:
    tree = document(1, a=flag("full", "cached", "off", degrade="1:off") | {"targeting": BROKEN})
    with feature_flags(tree):
        assert shown(features.details("a", "mine", context={"age": 0})) == (
            "off",
            "TARGETING_MATCH",
            "level:1",
        )
        assert not features.enabled("a", default=True, context={"age": 0})


def test_what_the_evaluator_has_to_say_is_logged_once_for_each_document(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """FlagdCore logs a traceback at each read by a caller whose version is not known."""
    rule = {"if": [{"sem_ver": [{"var": "version"}, ">=", "2.0.0"]}, "b"]}
    tree = document(a=flag("a", "b") | {"targeting": rule})
    with feature_flags(tree):
        assert caplog.records == [], "trying it is nobody's read"
        for _ in range(3):
            assert features.variant("a", "") == "a"
        assert [record.name for record in caplog.records] == ["resilient"]
        assert caplog.records[0].getMessage().startswith("feature 'a': its targeting says: ")
        caplog.clear()
        logging.getLogger("openfeature.contrib").error("somebody else's")
        assert [record.getMessage() for record in caplog.records] == ["somebody else's"]


def test_what_a_caller_brings_along_does_not_get_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A header with a line break in it would write lines of its own."""
    secret = "s3cret\nERROR"
    new = {"sem_ver": [{"var": "secret"}, ">=", "1.0.0"]}
    rules = {
        "version": {"if": [new, "b", None]},
        "unnamed": {"if": [{"var": "secret"}, {"var": "secret"}, None]},
        "failing": {"if": [{"%": [{"var": ["secret", 1]}, 2]}, "b", None]},
        "divided": {"fractional": [{"var": "secret"}, ["a", {"var": "secret"}], ["b", 1]]},
    }
    tree = document(**{key: flag("a", "b") | {"targeting": rule} for key, rule in rules.items()})
    with feature_flags(tree):
        for key in rules:
            assert features.details(key, "mine", context={"secret": secret}).value in ("a", "mine")
    assert "feature 'version': its targeting says: ValueError in sem_ver" in caplog.text
    assert "feature 'unnamed': its targeting failed (what it gives is no variant)" in caplog.text
    assert "s3cret" not in caplog.text


def test_an_unknown_feature_is_unknown_whoever_asks() -> None:
    with feature_flags(SHOP), capture_events() as seen:
        assert features.variant("serach", "x", context=GOLD) == "x"
        assert features.details("serach", context=GOLD).error == "FLAG_NOT_FOUND"
    assert len(seen.named("resilient.degradation.unknown")) == 2


def test_flags_without_rules_share_one_table() -> None:
    with feature_flags(document(a=switch())) as flags:
        assert flags.fixed is flags.table
    with feature_flags(SHOP) as flags:
        assert set(flags.table) - set(flags.fixed) == {"recommendations", "search", "code", "page"}
        assert set(flags.targeted) == {"recommendations", "search", "code", "page"}
