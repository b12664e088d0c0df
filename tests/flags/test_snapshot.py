"""What a feature is at each level, against a reference that walks the document naively."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.errors import DocumentError
from resilient.flags.document import parse_flags
from resilient.flags.snapshot import Flag, Flags, Step

VARIANTS = ("full", "cached", "small", "off")
NAMES = ("normal", "light", "heavy", "survival", "dark")


@st.composite
def documents(draw: st.DrawFn, *, valid: bool) -> tuple[dict[str, Any], dict[str, list[tuple[int, str]]]]:
    """A document with ladders, written by number or name; and the ladders as pairs."""
    levels = draw(st.integers(1, len(NAMES)))
    flags, ladders = {}, {}
    for key in draw(st.lists(st.sampled_from("abcde"), max_size=4, unique=True)):
        default = draw(st.sampled_from((*VARIANTS, None)))
        if valid:
            left = [each for each in VARIANTS if each != default]
            names = draw(st.permutations(left))
            at = sorted(draw(st.sets(st.integers(1, levels - 1), max_size=len(left)))) if levels > 1 else []
            ladder = list(zip(at, names, strict=False))
        else:
            step = st.tuples(st.integers(0, levels), st.sampled_from((*VARIANTS, "gone")))
            ladder = draw(st.lists(step, max_size=3))
        protected = draw(st.booleans()) and (not valid or (not ladder and default is not None))
        by_name = draw(st.booleans())
        texts = [f"{NAMES[level] if by_name and level < levels else level} :{name}" for level, name in ladder]
        metadata: dict[str, Any] = {"protected": protected}
        if texts:
            metadata["degrade"] = ", ".join(texts)
        flags[key] = {
            "state": draw(st.sampled_from(["ENABLED", "DISABLED"])) if not protected else "ENABLED",
            "variants": {name: name.upper() for name in VARIANTS},
            "defaultVariant": default,
            "metadata": metadata,
        }
        ladders[key] = ladder
    level = draw(st.integers(0, levels - 1))
    return {"flags": flags, "degradation": {"levels": list(NAMES[:levels]), "level": level}}, ladders


def naive(raw: dict[str, Any], ladder: list[tuple[int, str]], level: int) -> tuple[str | None, str]:
    """The variant at a level, and what decided, by the letter of the rules."""
    if raw["state"] == "DISABLED":
        return None, "code_default"
    if raw["metadata"]["protected"]:
        return raw["defaultVariant"], "protected"
    for down in range(level, 0, -1):
        if down in dict(ladder):
            return dict(ladder)[down], f"level:{down}"
    if raw["defaultVariant"] is None:
        return None, "code_default"
    return raw["defaultVariant"], "default"


@given(documents(valid=True))
def test_every_feature_at_every_level_is_what_the_rules_say(made: tuple[dict[str, Any], Any]) -> None:
    document, ladders = made
    flags = parse_flags(document)
    assert len(flags.tables) == len(document["degradation"]["levels"])
    assert flags.table is flags.tables[document["degradation"]["level"]]
    for level, table in enumerate(flags.tables):
        assert set(table) == set(document["flags"])
        for key, details in table.items():
            raw = document["flags"][key]
            variant, cause = naive(raw, ladders[key], level)
            assert (details.variant, details.cause) == (variant, cause)
            assert details.value == (None if variant is None else variant.upper())
            assert details.enabled == (variant != "off")
            assert details.degraded == cause.startswith("level:")
            assert cause == (f"level:{details.level}" if details.degraded else cause)


@given(documents(valid=True))
def test_a_higher_level_gives_nothing_back(made: tuple[dict[str, Any], Any]) -> None:
    flags = parse_flags(made[0])
    for key in flags.flags:
        seen: list[str | None] = []
        for table in flags.tables:
            variant = table[key].variant
            if not seen or seen[-1] != variant:
                assert variant not in seen, "it was taken away before"
                seen.append(variant)


@given(documents(valid=False))
def test_a_ladder_that_is_none_is_refused_and_no_other(made: tuple[dict[str, Any], Any]) -> None:
    document, ladders = made
    top = len(document["degradation"]["levels"])
    fine = True
    for key, raw in document["flags"].items():
        at, names = [level for level, _ in ladders[key]], [name for _, name in ladders[key]]
        fine &= at == sorted(set(at)) and all(0 < level < top for level in at)
        fine &= len(set(names)) == len(names) and raw["defaultVariant"] not in names and "gone" not in names
        fine &= not raw["metadata"]["protected"] or (not at and raw["defaultVariant"] is not None)
    if fine:
        parse_flags(document)
    else:
        with pytest.raises(DocumentError):
            parse_flags(document)


def test_a_protected_flag_stays_where_it_is_whatever_ladder_it_got() -> None:
    """The parser refuses such a one; what is built by hand must not get past it either."""
    flag = Flag("pay", {"on": True, "off": False}, "on", ladder=(Step(1, "off"),), protected=True)
    flags = Flags({"pay": flag}, ("normal", "survival"), 1)
    assert [table["pay"].variant for table in flags.tables] == ["on", "on"]
    assert flags.table["pay"].cause == "protected"


def test_one_object_serves_all_levels_at_which_a_feature_is_the_same() -> None:
    flag = Flag("search", {"full": 1, "small": 2}, "full", ladder=(Step(2, "small"),))
    flags = Flags({"search": flag}, ("normal", "light", "heavy", "survival"))
    first, second, third, fourth = (table["search"] for table in flags.tables)
    assert first is second
    assert third is fourth
    assert first is not third


def test_what_was_published_does_not_change_with_what_it_was_made_of() -> None:
    mine = {"search": Flag("search", {"full": 1}, "full")}
    flags = Flags(mine)
    mine.clear()
    assert set(flags.flags) == {"search"}
    with pytest.raises(TypeError):
        flags.flags["other"] = flags.flags["search"]  # type: ignore[index]


def test_a_level_as_people_read_it() -> None:
    flags = Flags({}, ("normal", "light"), 1)
    assert flags.shown(1) == "1 (light)"
    assert [flags.shown(2), flags.shown(7)] == ["2", "7"], "of another document, which had more"


@pytest.mark.parametrize(("variant", "enabled"), [("yes", True), ("no", False)])
def test_a_boolean_flag_is_what_its_value_says_whatever_its_variants_are_called(
    variant: str, enabled: bool
) -> None:
    flags = Flags({"gift": Flag("gift", {"yes": True, "no": False}, variant)})
    assert flags.table["gift"].enabled is enabled


@given(documents(valid=True))
def test_every_detail_names_its_feature(made: tuple[dict[str, Any], Any]) -> None:
    flags = parse_flags(made[0])
    assert all(key == details.key for table in flags.tables for key, details in table.items())
