"""What is wrong with a document is told: all of it, each with its place and what to write instead."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.errors import DocumentError
from resilient.flags.document import parse_flags
from resilient.flags.reading import MOST_PROBLEMS
from resilient.flags.snapshot import Flags, Step
from tests.flags.documents import LEVELS, document, flag, switch


def problems(tree: Any) -> list[tuple[str, str, str]]:
    """Of each: where it is, what it is, and what to write instead."""
    with pytest.raises(DocumentError) as caught:
        parse_flags(tree)
    error = caught.value
    return [
        ("/".join(map(str, each.pointer)), *str(each.args[0]).split("; write ", 1))  # type: ignore[misc]
        for each in error.problems or (error,)
    ]


def only(tree: Any) -> tuple[str, str, str]:
    (problem,) = problems(tree)
    return problem


def test_the_example_of_the_design() -> None:
    tree = json.loads(
        """{
        "metadata": {"flagSetId": "checkout", "version": "2026-11-10.3"},
        "flags": {
          "recommendations": {
            "state": "ENABLED",
            "variants": {"full": "full", "cached": "cached", "off": "off"},
            "defaultVariant": "full",
            "targeting": {},
            "metadata": {"kind": "degradation", "degrade": "1:cached,3:off", "criticality": "SHEDDABLE",
                         "owner": "growth", "expires": "2027-01-31"}},
          "payment": {
            "state": "ENABLED",
            "variants": {"on": true, "off": false},
            "defaultVariant": "on",
            "metadata": {"kind": "degradation", "protected": true, "owner": "pay"}},
          "search-page-size": {
            "state": "ENABLED",
            "variants": {"normal": 48, "small": 12},
            "defaultVariant": "normal",
            "metadata": {"degrade": "heavy:small"}}},
        "degradation": {"levels": ["normal", "light", "heavy", "survival"], "level": "light"},
        "resiliency": {"whatever": "is not ours"}
        }"""
    )
    flags = parse_flags(tree)
    assert (flags.level, flags.levels) == (1, ("normal", "light", "heavy", "survival"))
    assert flags.flags["recommendations"].ladder == (Step(1, "cached"), Step(3, "off"))
    shown = {key: (each.variant, each.value, each.cause) for key, each in flags.table.items()}
    assert shown == {
        "recommendations": ("cached", "cached", "level:1"),
        "payment": ("on", True, "protected"),
        "search-page-size": ("normal", 48, "default"),
    }
    assert flags.tables[2]["search-page-size"].value == 12


@pytest.mark.parametrize("tree", [{}, {"flags": {}}, {"resiliency": {}, "$schema": "x"}])
def test_a_document_without_our_sections_has_no_features(tree: Any) -> None:
    assert parse_flags(tree) == Flags()


def test_a_flag_set_of_flagds_is_taken_as_it_is() -> None:
    flags = parse_flags(
        {
            "$schema": "https://flagd.dev/schema/v0/flags.json",
            "flags": {
                "code": {"state": "ENABLED", "variants": {"a": 1}, "defaultVariant": None},
                "left": {"state": "ENABLED", "variants": {"a": 1.5, "b": 2}},
                "dark": {"state": "DISABLED", "variants": {"a": {"x": [1]}}, "defaultVariant": "a"},
                "tagged": {
                    **switch(),
                    "metadata": {
                        "kind": "release",
                        "kinds": "x",
                        "team": "growth",
                        "weight": 1.5,
                        "grade": 1,
                    },
                },
            },
        }
    )
    assert {key: (each.variant, each.reason) for key, each in flags.table.items()} == {
        "code": (None, "DEFAULT"),
        "left": (None, "DEFAULT"),
        "dark": (None, "DISABLED"),
        "tagged": ("on", "STATIC"),
    }


@pytest.mark.parametrize(
    ("tree", "pointer", "message", "instead"),
    [
        ({"flags": []}, "flags", "[] must be an object", "{...} with names as keys"),
        ({"flags": None}, "flags", "None must be an object", "{...} with names as keys"),
        (document(a="on"), "flags/a", "'on' must be an object", "{...} with names as keys"),
        (document(a={**switch(), "variants": [1]}), "flags/a/variants", "got `array`", '{"on": true, "off": false}'),
        (document(a={**switch(), "variants": {}}), "flags/a/variants", "length >= 1", '{"on": true, "off": false}'),
        (document(a={**switch(), "state": "enabled"}), "flags/a/state", "'enabled'", '"ENABLED"'),
        (document(a={**switch(), "state": True}), "flags/a/state", "True will not do", '"ENABLED"'),
        (document(a=switch() | {"defaultVariant": "onn"}), "flags/a/defaultVariant", "no variant 'onn'", "on"),
        (
            document(a=switch() | {"defaultVariant": "blue"}),
            "flags/a/defaultVariant",
            "no variant 'blue'",
            "one of on, off",
        ),
        (document(a=switch() | {"defaultVariant": True}), "flags/a/defaultVariant", "got `bool`", "the name of"),
        (document(a={"variants": {"a": 1}}), "flags/a", "state is missing", 'state: "ENABLED"'),
        (document(a={"state": "ENABLED"}), "flags/a", "variants is missing", 'variants: {"on": true, "off": false}'),
        (document(a=switch() | {"defaultvarient": 1}), "flags/a/defaultvarient", "no 'defaultv", "defaultVariant"),
        (document(a=switch() | {"owner": "x"}), "flags/a/owner", "no 'owner'", "it into metadata"),
        (document(a=switch() | {"protected": True}), "flags/a/protected", "no 'protected'", "metadata: {prot"),
        (
            document(a={"state": "ENABLED", "variants": {"a": 1, "b": "x"}}),
            "flags/a/variants",
            "of different types: a number and a text",
            "values of one type",
        ),
        (document(a={"state": "ENABLED", "variants": {"a": None}}), "flags/a/variants/a", "got `null`", "a boolean"),
        (document(a={"state": "ENABLED", "variants": {"a": [1]}}), "flags/a/variants/a", "got `array`", "a boolean"),
        (document(a={"state": "ENABLED", "variants": {"a": 2**53}}), "flags/a/variants/a", "9007199254740992", "2**53"),
        (document(a={"state": "ENABLED", "variants": {"a": float("nan")}}), "flags/a/variants/a", "nan", "a boolean"),
        (document(a={"state": "ENABLED", "variants": {"a": float("inf")}}), "flags/a/variants/a", "inf", "a boolean"),
        (document(a={"state": "ENABLED", "variants": {"": 1}}), "flags/a/variants", "the key ''", "a name"),
        ({"flags": {"a\nb": switch()}}, "flags", "the key 'a\\nb'", "a name"),
        ({"flags": {True: switch()}}, "flags", "the key True", "a name"),
        (document(a=switch(protectd=True)), "flags/a/metadata/protectd", "which does nothing", "protected"),
        (document(a=switch(DEGRADE="1:off")), "flags/a/metadata/DEGRADE", "which does nothing", "degrade"),
        (document(a=switch(breakglass="x")), "flags/a/metadata/breakglass", "which does nothing", "breakGlass"),
        (document(a=switch(protected="true")), "flags/a/metadata/protected", "'true' will not do", "true or false"),
        (document(a=switch(owner=["x"])), "flags/a/metadata/owner", "['x'] will not do", "a text, a number"),
        (document(a=switch(hardAt=3)), "flags/a/metadata/hardAt", "its ladder has no step there", "a level at which"),
        (document(a=switch() | {"metadata": "x"}), "flags/a/metadata", "got `str`", '{"owner": "growth"}'),
        (
            document(a=switch(kind="release", degrade="1:off")),
            "flags/a/metadata/kind",
            "of kind 'release'",
            '"degradation"',
        ),
        (document(a=switch(degrade="1")), "flags/a/metadata/degrade", "'1' of 'a' is not level:variant", "1:cached"),
        (document(a=switch(degrade="1:off,")), "flags/a/metadata/degrade", "'' of 'a' is not", "1:cached"),
        (document(a=switch(degrade=":off")), "flags/a/metadata/degrade", "':off' of 'a' is not", "1:cached"),
        (document(a=switch(degrade=1)), "flags/a/metadata/degrade", "got `int`", '"1:cached,3:off"'),
        (document(a=switch(degrade="1:of")), "flags/a/metadata/degrade", "no variant 'of'", "off"),
        (document(a=switch(degrade="4:off")), "flags/a/metadata/degrade", "no level 4", "3 (survival)"),
        (document(a=switch(degrade="havy:off")), "flags/a/metadata/degrade", "no level 'havy'", "2 (heavy)"),
        (document(a=switch(degrade=f"{'9' * 5000}:off")), "flags/a/metadata/degrade", "no level '999", "0 (normal)"),
        (document(a=switch(degrade="0:off")), "flags/a/metadata/degrade", "begins at level 0", "1:off"),
        (document(a=switch(degrade="00:off")), "flags/a/metadata/degrade", "begins at level 0", "1:off"),
        (document(a=switch(degrade="normal:off")), "flags/a/metadata/degrade", "begins at level 0", "1:off"),
        (document(a=switch(degrade="1:on")), "flags/a/metadata/degrade", "gives nothing back", "each variant once"),
        (
            document(a=flag("full", "b", "c", degrade="1:b,2:c,3:b")),
            "flags/a/metadata/degrade",
            "comes back to 'b'",
            "each variant once",
        ),
        (
            document(a=flag("full", "b", "c", degrade="2:b,light:c")),
            "flags/a/metadata/degrade",
            "do not rise",
            "1:cached",
        ),
        (
            document(a=flag("full", "b", "c", degrade="2:b,heavy:c")),
            "flags/a/metadata/degrade",
            "do not rise",
            "1:cached",
        ),
        (document(a=switch() | {"metadata": {"": 1}}), "flags/a/metadata", "the key ''", "a name"),
        (
            {"flags": {"a": switch(degrade="1:off")}},
            "flags/a/metadata/degrade",
            "the document has no levels",
            'degradation: {levels: ["normal"',
        ),
        (document(7), "degradation/level", "no level 7", "0 (normal) or 1 (light)"),
        (document(-1), "degradation/level", "no level -1", "0 (normal)"),
        (document("hevy"), "degradation/level", "no level 'hevy'", "2 (heavy)"),
        (document(True), "degradation/level", "True will not do", "0, or the name of a level"),
        (document(1.5), "degradation/level", "1.5 will not do", "0, or the name"),  # type: ignore[arg-type]
        ({"degradation": []}, "degradation", "[] must be an object", "{...}"),
        ({"degradation": {}}, "degradation", "levels is missing", 'levels: ["normal"'),
        ({"degradation": {"levels": []}}, "degradation/levels", "length >= 1", '["normal"'),
        ({"degradation": {"levels": ["x"] * 17}}, "degradation/levels", "length <= 16", '["normal"'),
        ({"degradation": {"levels": ["a", "b", "a"]}}, "degradation/levels/2", "two levels 'a'", "another name"),
        ({"degradation": {"levels": ["a", "2"]}}, "degradation/levels/1", "the level '2'", "a word"),
        ({"degradation": {"levels": ["a", "b:c"]}}, "degradation/levels/1", "the level 'b:c'", "a word"),
        ({"degradation": {"levels": ["a", ""]}}, "degradation/levels/1", "the level ''", "a word"),
        ({"degradation": {"levels": LEVELS, "auto": 1}}, "degradation/auto", "1 will not do", '{mode: "shadow"'),
        ({"degradation": {"levels": LEVELS, "pin": 1}}, "degradation/pin", "1 will not do", "true or false"),
        ({"degradation": {"levels": LEVELS, "leve": 1}}, "degradation/leve", "no 'leve'", "level"),
        ({"degradation": {"levels": LEVELS, "plans": 1}}, "degradation/plans", "no 'plans'", "levels, level, pin"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place_and_what_to_write(
    tree: Any, pointer: str, message: str, instead: str
) -> None:
    at, told, advised = only(tree)
    assert at == pointer
    assert message in told
    assert instead in advised


@pytest.mark.parametrize(
    ("raw", "pointer", "message"),
    [
        (switch(protected=True, degrade="1:off"), "metadata/degrade", "'pay' is protected and has a ladder"),
        (switch(protected=True) | {"defaultVariant": None}, "", "no defaultVariant to keep it at"),
        (
            switch(protected=True) | {"state": "DISABLED"},
            "state",
            "state DISABLED would leave it to whatever",
        ),
        (
            switch(protected=True, breakGlass=" ") | {"state": "DISABLED"},
            "state",
            "state DISABLED would leave it to whatever",
        ),
    ],
)
def test_what_would_degrade_a_protected_feature_is_refused(raw: Any, pointer: str, message: str) -> None:
    at, told, advised = only(document(3, pay=raw))
    assert at == f"flags/pay/{pointer}".rstrip("/")
    assert message in told
    assert advised


def test_a_protected_feature_is_left_to_the_code_with_a_reason_only() -> None:
    flags = parse_flags(
        document(3, pay=switch(protected=True, breakGlass="INC-7: double charges") | {"state": "DISABLED"})
    )
    assert flags.table["pay"].cause == "code_default"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    tree = {
        "flags": {
            "a": switch(degrade="1:of") | {"defaultVariant": "onn"},
            "b": {"state": "ON", "variants": {}},
            "c": switch(),
        },
        "degradation": {"levels": ["normal", "light"], "level": 2},
    }
    assert [pointer for pointer, _, _ in problems(tree)] == [
        "degradation/level",
        "flags/a/defaultVariant",
        "flags/a/metadata/degrade",
        "flags/b/state",
        "flags/b/variants",
    ]
    with pytest.raises(DocumentError, match=r"^5 things are wrong with flags and degradation\n"):
        parse_flags(tree)


def test_two_things_are_told_as_two_and_every_step_of_a_ladder_is_looked_at() -> None:
    tree = document(a=flag("full", "b", degrade="b,1:gone"))
    assert [message for _, message, _ in problems(tree)] == [
        "the step 'b' of 'a' is not level:variant",
        "the flag 'a' has no variant 'gone'",
    ]


@pytest.mark.parametrize(
    ("tree", "meant"),
    [
        (document(a=switch(protectd=True)), "protected"),
        (document(a=switch() | {"defaultVariant": "onn"}), "on"),
        (document(a=switch() | {"protected": True}), None),
        (document(a=switch() | {"defaultVariant": "blue"}), None),
        ({"degradation": {"levels": LEVELS, "leve": 1}}, "level"),
    ],
)
def test_a_word_that_was_probably_meant_is_a_field_of_its_own(tree: Any, meant: str | None) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_flags(tree)
    assert caught.value.suggestion == meant


def test_a_variant_may_have_a_colon_in_its_name() -> None:
    flags = parse_flags(document(1, a=flag("v:1", "v:0", degrade="1:v:0")))
    assert flags.table["a"].variant == "v:0"


def test_an_error_stays_readable_however_much_is_wrong() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_flags({"flags": {f"f{i}": {"state": "x" * 10_000, "variants": {"a": 1}} for i in range(1_000)}})
    assert len(caught.value.problems) == MOST_PROBLEMS
    assert caught.value.args == (
        "1000 things are wrong with flags and degradation, of which these are the first 20",
    )
    assert len(str(caught.value)) < 5_000


def test_levels_that_are_wrong_are_not_complained_of_again_in_every_ladder() -> None:
    tree = {"flags": {"a": switch(degrade="1:off")}, "degradation": {"levels": "normal"}}
    assert [pointer for pointer, _, _ in problems(tree)] == ["degradation/levels"]


def test_the_tree_may_be_changed_afterwards() -> None:
    tree = document(a={"state": "ENABLED", "variants": {"x": {"size": [1]}}, "defaultVariant": "x"})
    flags = parse_flags(tree)
    tree["flags"]["a"]["variants"]["x"]["size"].append(2)
    assert flags.table["a"].value == {"size": [1]}


@pytest.mark.parametrize("tree", [None, [], "flags", 7])
def test_a_document_that_is_no_object(tree: Any) -> None:
    with pytest.raises(DocumentError, match="must be an object"):
        parse_flags(tree)


# -------------------------------------------------------------------------------------------- what was protected
BEFORE = parse_flags(
    document(
        pay=switch(protected=True),
        search=switch(degrade="1:off"),
        dark=switch(protected=True, breakGlass="INC-7") | {"state": "DISABLED"},
    )
)


@pytest.mark.parametrize(
    ("pay", "pointer", "message"),
    [
        (None, "flags/pay", "'pay' is protected, and gone"),
        (switch(degrade="3:off"), "flags/pay/metadata/degrade", "here it is not, and has a ladder"),
        (switch() | {"defaultVariant": "off"}, "flags/pay/defaultVariant", "has another defaultVariant"),
        (switch() | {"state": "DISABLED"}, "flags/pay/state", "has another state"),
    ],
)
def test_what_is_protected_does_not_go_in_the_change_that_removes_the_protection(
    pay: Any, pointer: str, message: str
) -> None:
    after = document(3, **({} if pay is None else {"pay": pay}))
    with pytest.raises(DocumentError) as caught:
        parse_flags(after, before=BEFORE)
    error = caught.value
    assert "/".join(map(str, error.pointer)) == pointer
    assert message in error.args[0]
    assert "publish that first" in error.args[0]
    first = parse_flags(document(pay=switch()), before=BEFORE)
    assert parse_flags(after, before=first).flags.keys() == after["flags"].keys(), (
        "in a change of its own it goes"
    )


def test_what_was_not_protected_and_what_stays_so_may_change() -> None:
    after = document(2, pay=switch(protected=True, owner="x") | {"variants": {"on": True}}, new=switch())
    assert parse_flags(after, before=BEFORE).level == 2
    assert parse_flags(document(pay=switch(protected=True)), before=None).level == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(LEVELS),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=8,
)
FLAG = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(["ENABLED", "DISABLED"]) | JSON,
        "variants": st.dictionaries(st.sampled_from(["a", "b", "off"]), JSON) | JSON,
        "defaultVariant": st.sampled_from(["a", "b", None]) | JSON,
        "targeting": JSON,
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "degrade": st.sampled_from(["1:b", "light:b,2:off", "::,", "1:b,1:b"]) | JSON,
                "protected": st.booleans() | JSON,
                "breakGlass": JSON,
                "kind": JSON,
                "x": JSON,
            },
        )
        | JSON,
        "x": JSON,
    },
)
TREE = st.fixed_dictionaries(
    {},
    optional={
        "flags": st.dictionaries(st.text(max_size=3), FLAG, max_size=3) | JSON,
        "degradation": st.fixed_dictionaries(
            {}, optional={"levels": st.just(LEVELS) | JSON, "level": st.integers(-1, 4) | JSON, "x": JSON}
        )
        | JSON,
    },
)


@given(TREE)
def test_whatever_stands_there_is_flags_or_one_error_that_can_be_read(tree: dict[str, Any]) -> None:
    wrong: DocumentError | None = None
    try:
        flags = parse_flags(tree)
    except DocumentError as error:
        wrong = error
    if wrong is not None:
        told = wrong.problems or (wrong,)
        assert all(each.pointer for each in told)
        assert all("; write " in each.args[0] for each in told)
        assert len(str(wrong)) < 20_000
        return
    assert set(flags.flags) == set(tree.get("flags", {}))
    for table in flags.tables:
        assert set(table) == set(flags.flags)
