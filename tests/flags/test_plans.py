"""Plans as the document has them: what is good, and what is told of those that are not.

The rows are numbered as in the table of what can go wrong between a ConfigMap and a process."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import DocumentError
from resilient.flags.document import parse_flags
from resilient.flags.plans import Auto, Plan, Signal, Steering, Window
from resilient.flags.snapshot import Flags, Overlay

from .documents import LEVELS, document, flag, switch

NIGHT = {"start": "2026-11-10T23:50:00+08:00", "end": "2026-11-11T02:00:00+08:00"}
SALE = {
    "kind": "scheduled",
    "owner": "sre",
    "window": NIGHT,
    "set": {"level": "light", "flags": {"page": "small"}},
}
TINY = {"set": {"flags": {"page": "tiny"}}}
MELTDOWN = {"kind": "emergency", "set": {"level": 3}}


def shop(**plans: Any) -> dict[str, Any]:
    flags = {
        "page": flag("normal", "small", "tiny", degrade="2:small"),
        "search": flag("full", "cached", "off", degrade="1:cached,3:off"),
        "pay": switch(protected=True),
    }
    return document(0, **flags) | {"plans": plans}


def problems(tree: Any) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        parse_flags(tree)
    return [
        f"{'/'.join(map(str, each.pointer))}: {each.args[0]}"
        for each in caught.value.problems or (caught.value,)
    ]


def test_what_plans_say() -> None:
    flags = parse_flags(shop(sale=SALE, meltdown={**MELTDOWN, "exclusiveGroup": "big"}))
    start = datetime.datetime(2026, 11, 10, 15, 50, tzinfo=datetime.UTC).timestamp()
    assert flags.plans["sale"] == Plan(
        "sale",
        "scheduled",
        active=True,
        window=Window(start, start + 7_800),
        owner="sre",
        level=1,
        flags={"page": "small"},
    )
    assert flags.plans["meltdown"] == Plan("meltdown", "emergency", active=False, group="big", level=3)
    assert flags.steering == Steering()


def test_how_the_level_moves_by_itself() -> None:
    tree = document(0)
    tree["degradation"] |= {
        "pin": True,
        "restoreAfter": "10s",
        "restoreRamp": "0s",
        "auto": {
            "mode": "shadow",
            "maxLevel": "heavy",
            "enterFor": "2s",
            "signals": {
                "eventLoopLag": {"enter": "100ms", "exit": "30ms"},
                "cpuThrottled": {"enter": 0.2, "exit": 0},
            },
        },
    }
    signals = {"eventLoopLag": Signal(0.1, 0.03), "cpuThrottled": Signal(0.2, 0.0)}
    assert parse_flags(tree).steering == Steering(
        pinned=True, restore_after=10.0, restore_ramp=0.0, auto=Auto("shadow", 2, 2.0, 60.0, signals)
    )


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (1, "plans/p: 1 must be an object"),
        ({"set": {"level": 1}}, 'plans/p: kind is missing; write kind: "scheduled" or "emergency"'),
        ({"kind": "emergency"}, "plans/p: set is missing; write set: {level: 1"),
        ({**MELTDOWN, "kind": "urgent"}, "plans/p/kind: kind: 'urgent' will not do"),
        ({**MELTDOWN, "activ": True}, "plans/p/activ: the plan 'p' has no 'activ'; write active"),
        ({**MELTDOWN, "active": "yes"}, "plans/p/active: active: 'yes' will not do"),
        ({**MELTDOWN, "set": {}}, "plans/p/set: the plan 'p' sets nothing"),
        ({**MELTDOWN, "set": {"level": 1, "flag": {}}}, "plans/p/set/flag: the plan 'p' has no 'flag'; write flags"),
        ({**MELTDOWN, "set": {"level": 4}}, "plans/p/set/level: there is no level 4; write 0 (normal)"),
        ({**MELTDOWN, "set": {"flags": {"serach": "off"}}}, "'serach', which is no flag here; write page, sea"),
        ({**MELTDOWN, "set": {"flags": {"page": "big"}}}, "to 'big', which is no variant of it; write one of normal"),
        ({**MELTDOWN, "set": {"flags": {"pay": "off"}}}, "plans/p/set/flags/pay: the plan 'p' sets 'pay', wh"),
        ({**MELTDOWN, "window": NIGHT}, "plans/p/window: the plan 'p' is for emergencies, and has a window"),
        ({**SALE, "window": None}, "plans/p: the plan 'p' is scheduled, and has no window"),
        ({**SALE, "window": {"start": NIGHT["start"]}}, "plans/p/window: end is missing"),
        ({**SALE, "window": {"start": NIGHT["end"], "end": NIGHT["start"]}}, "plans/p/window/end: the window ends at"),
        ({**SALE, "window": {**NIGHT, "start": "tomorrow"}}, "start: 'tomorrow' is no moment; write"),
        ({**SALE, "window": {**NIGHT, "start": "2026-13-01T00:00:00Z"}}, "is no moment"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_plan_is_told(plan: Any, said: str) -> None:
    (problem,) = problems(shop(p=plan))
    assert said in problem


def test_row_33_a_moment_without_its_offset_is_refused() -> None:
    (problem,) = problems(shop(p={**SALE, "window": {**NIGHT, "start": "2026-11-10T23:50:00"}}))
    assert "plans/p/window/start: start: '2026-11-10T23:50:00' does not say by which clock" in problem
    assert "+08:00" in problem


def test_row_33_windows_are_the_same_moments_in_any_zone_and_season() -> None:
    # New York leaves summer time on 2026-11-01 at 06:00 UTC: 01:30 comes twice that night.
    zones = ("2026-11-01T05:30:00Z", "2026-11-01T01:30:00-04:00", "2026-11-01T13:30:00+08:00")
    later = "2026-11-01T01:30:00-05:00"
    for start in zones:
        plan = parse_flags(shop(p={**SALE, "window": {"start": start, "end": later}})).plans["p"]
        assert plan.window is not None
        assert plan.window.end - plan.window.start == 3_600
        assert [plan.holds(plan.window.start + at) for at in (-0.001, 0, 3_599.999, 3_600)] == [
            False,
            True,
            True,
            False,
        ]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"exclusiveGroup": "g", "active": True}, {"exclusiveGroup": "g", "active": True}, "are both active, and"),
        ({"exclusiveGroup": "g", "active": True}, {"exclusiveGroup": "g"}, None),
        ({"exclusiveGroup": "g"}, {"exclusiveGroup": "h"}, None),
        (SALE | {"exclusiveGroup": "g"}, SALE | {"exclusiveGroup": "g"}, "the windows of 'a' and 'b' overlap"),
        (SALE, SALE | {"set": {"flags": {"page": "tiny"}}}, "sets flags.page to 'small' and 'b' to 'tiny', and b"),
        (SALE, SALE, None),
        (SALE, {"set": {"flags": {"page": "tiny"}}}, "and both may hold at a time"),
        (
            {"set": {"targets": {"pay": {"retry": {"attempts": 2}}}}},
            {"set": {"targets": {"pay": {"retry": {"attempts": 3}}}}},
            "'a' sets targets.pay.retry.attempts to 2 and 'b' to 3",
        ),
        (
            {"set": {"targets": {"pay": {"retry": {"attempts": 2}}}}},
            {"set": {"targets": {"pay": {"bulkhead": {"limit": 3}}, "hub": {"retry": {"attempts": 3}}}}},
            None,
        ),
        (
            SALE,
            SALE | {"window": {"start": NIGHT["end"], "end": "2027-01-01T00:00:00Z"}} | TINY,
            None,
        ),
    ],
)  # fmt: skip
def test_row_34_two_plans_that_do_not_go_together(one: Any, other: Any, said: str | None) -> None:
    tree = shop(a=MELTDOWN | one, b=MELTDOWN | other)
    if said is None:
        parse_flags(tree)
    else:
        (problem,) = problems(tree)
        assert problem.startswith("plans/b")
        assert said in problem


def test_too_many_plans() -> None:
    (problem,) = problems(shop(**{f"p{i}": MELTDOWN for i in range(101)}))
    assert "there are 101 plans; write at most 100" in problem


@pytest.mark.parametrize(
    ("degradation", "said"),
    [
        ({"restoreRamp": "2"}, "degradation/restoreRamp: restoreRamp: '2' is no duration from 0s to 24h; write 120s"),
        ({"restoreAfter": "25h"}, "degradation/restoreAfter: restoreAfter: '25h' is no duration"),
        ({"auto": {"maxLevel": 1}}, "degradation/auto: signals is missing"),
        ({"auto": {"maxLevel": 9, "signals": {"a": {"enter": 1, "exit": 0}}}}, "auto/maxLevel: there is no level 9"),
        ({"auto": {"maxLevel": 1, "signals": {}}}, "degradation/auto/signals: signals: {} will not do"),
        ({"auto": {"maxLevel": 1, "signals": {"a": {"enter": 1}}}}, "degradation/auto/signals/a: exit is missing"),
        ({"auto": {"maxLevel": 1, "signals": {"a": {"enter": 1, "exit": 1}}}}, "is low at 1.0 already, and high at"),
        ({"auto": {"maxLevel": 1, "signals": {"a": {"enter": "much", "exit": 1}}}}, "enter: 'much' is neither a dur"),
        ({"auto": {"maxLevel": 1, "signals": {"a": {"enter": -1, "exit": -2}}}}, "enter: -1.0 is neither"),
        ({"auto": {"maxLevel": 1, "signal": {}, "signals": {"a": {"enter": 1, "exit": 0}}}}, "auto has no 'signal'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_steering_is_told(degradation: Any, said: str) -> None:
    tree = document(0)
    tree["degradation"] |= degradation
    assert any(said in each for each in problems(tree))


MOMENT = st.integers(0, 50)


@given(MOMENT, MOMENT, MOMENT, MOMENT, st.booleans(), st.booleans())
def test_plans_that_meet_are_those_that_hold_at_a_time(
    a: int, b: int, c: int, d: int, x: bool, y: bool
) -> None:
    one = (
        Plan("a", "scheduled", active=True, window=Window(a, a + b + 1))
        if x
        else Plan("a", "emergency", active=True)
    )
    other = (
        Plan("b", "scheduled", active=True, window=Window(c, c + d + 1))
        if y
        else Plan("b", "emergency", active=True)
    )
    assert one.may_meet(other) == other.may_meet(one)
    assert one.may_meet(other) == any(one.holds(at) and other.holds(at) for at in range(120))


# ------------------------------------------------------------------------------------------------------- what decides
VARIANTS = ("full", "cached", "small", "off")


@st.composite
def situations(draw: st.DrawFn) -> tuple[Flags, Overlay]:
    """A feature with everything that may decide what it is, and what stands over the document."""
    hard = draw(st.sampled_from([None, 1, 2, 3]))
    metadata: dict[str, Any] = {"degrade": "1:cached,3:off"}
    if hard is not None:
        metadata["hardAt"] = hard
    raw = flag(*VARIANTS, **metadata)
    if draw(st.booleans()):
        raw["targeting"] = {"if": [{"==": [{"var": "tier"}, "gold"]}, "full", None]}
    raw["state"] = draw(st.sampled_from(["ENABLED", "ENABLED", "ENABLED", "DISABLED"]))
    flags = parse_flags(document(0, search=raw, pay=switch(protected=True)))
    sets = draw(st.sampled_from([{}, {"search": ("small", "sale")}]))
    overrides = draw(st.sampled_from([{}, {}, {"search": ("cached", "INC-12")}]))
    return flags, Overlay(draw(st.integers(0, 3)), plans=("sale",), sets=sets, overrides=overrides)


@given(situations(), st.booleans())
def test_the_first_of_these_holds(made: tuple[Flags, Overlay], gold: bool) -> None:
    flags, overlay = made
    flag_ = flags.flags["search"]
    after = flags.under(overlay)
    asked = "search" in after.targeted and gold
    found = after.targeted["search"]["full"] if asked else after.table["search"]
    step = {0: None, 1: "cached", 2: "cached", 3: "off"}[overlay.level]
    hard = overlay.level >= (3 if flag_.hard is None else flag_.hard)
    if overlay.overrides:
        expected, cause = "cached", "override"
    elif flag_.disabled:
        expected, cause = None, "code_default"
    elif hard and step:
        expected, cause = step, f"level:{1 if step == 'cached' else 3}"
    elif gold and flag_.rule is not None:
        expected, cause = "full", "targeting"
    elif overlay.sets:
        expected, cause = "small", "plan:sale"
    elif step:
        expected, cause = step, f"level:{1 if step == 'cached' else 3}"
    else:
        expected, cause = "full", "default"
    assert (found.variant, found.cause) == (expected, cause)
    assert found.degraded == (expected not in (None, "full"))
    assert after.table["pay"].cause == "protected"
    assert after.level == overlay.level


def test_what_is_laid_over_changes_nothing_of_the_document() -> None:
    flags = parse_flags(shop(sale=SALE))
    before = dict(flags.table)
    after = flags.under(Overlay(1, sets={"page": ("small", "sale")}))
    assert flags.table == before
    assert flags.level == 0
    assert after.tables is flags.tables, "shared"
    assert LEVELS[after.level] == "light"
