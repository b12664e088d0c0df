"""Row 11: what is wrong with a rule is told when the document is read, with its place and what to write instead."""

from __future__ import annotations

import difflib
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.errors import DocumentError
from resilient.flags.document import parse_flags
from resilient.flags.reading import MOST_PROBLEMS
from resilient.flags.rules import DEEPEST, LISTS, MOST_NAMES, MOST_PARTS, MOST_WEIGHT, OPERATORS
from tests.flags.documents import document, flag, switch

VIP = {"in": [{"var": "tier"}, ["gold", "platinum"]]}


def with_rule(rule: Any, *variants: str, evaluators: Any = None, **metadata: Any) -> dict[str, Any]:
    """A document with one flag, ``a``, of the given variants, and a rule."""
    tree = document(a=flag(*(variants or ("full", "off", "true", "false")), **metadata) | {"targeting": rule})
    return tree if evaluators is None else tree | {"$evaluators": evaluators}


def wrong(tree: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(DocumentError) as caught:
        parse_flags(tree)
    error = caught.value
    return [("/".join(map(str, each.pointer)), str(each.args[0])) for each in error.problems or (error,)]


AT = "flags/a/targeting"


@pytest.mark.parametrize(
    ("rule", "pointer", "message"),
    [
        ({"iff": [True, "full"]}, f"{AT}/iff", "there is no operator 'iff'; write if"),
        ({"log": ["full"]}, f"{AT}/log", "there is no operator 'log'"),
        ({"?:": [True, "full", "off"]}, f"{AT}/?:", "there is no operator '?:'"),
        ({"if": [{"fractionl": []}, "full"]}, f"{AT}/if/0/fractionl", "'fractionl'; write fractional"),
        ({"if": [True, "full"], "or": []}, AT, "has not one operator; write {\"==\""),
        ({"if": [{}, "full"]}, f"{AT}/if/0", "{} has not one operator"),
        ({"if": "full"}, f"{AT}/if", "if takes a list of 1 or more, and 'full' is none"),
        ({"if": []}, f"{AT}/if", "if takes a list of 1 or more"),
        ({"==": [1]}, f"{AT}/==", "== takes a list of 2, and [1] is none"),
        ({"<": [1, 2, 3, 4]}, f"{AT}/<", "< takes a list of 2 to 3"),
        ({"!": [1, 2]}, f"{AT}/!", "! takes a list of 1"),
        ({"if": [{"var": "$flagd.time"}, "full"]}, f"{AT}/if/0/var", "$flagd.time"),
        ({"if": [{"var": []}, "full"]}, f"{AT}/if/0/var", "var takes a name and a default"),
        ({"if": [{"var": ["a", {}]}, "full"]}, f"{AT}/if/0/var", "var takes a name and a default"),
        ({"if": [{"var": {"$ref": "vip"}}, "full"]}, f"{AT}/if/0/var", "a $ref cannot stand here"),
        ({"if": [{"missing": "tier"}, "full"]}, f"{AT}/if/0/missing", "missing takes a list of names"),
        ({"if": [{"missing_some": ["tier"]}, "full"]}, f"{AT}/if/0/missing_some", "takes how many and which"),
        ({"if": [{"missing_some": [1, "a"]}, "full"]}, f"{AT}/if/0/missing_some/1", "takes a list of names"),
        ({"starts_with": ["a"]}, f"{AT}/starts_with", "starts_with takes two texts"),
        ({"ends_with": [{"var": "a"}, 1]}, f"{AT}/ends_with", "ends_with takes two texts"),
        ({"ends_with": [{"$ref": "vip"}, "a"]}, f"{AT}/ends_with/0", "a $ref cannot stand here"),
        ({"sem_ver": [{"var": "v"}, "===", "1.0.0"]}, f"{AT}/sem_ver", "sem_ver takes a version, one of = !="),
        ({"sem_ver": [{"var": "v"}, "=", "1.0"]}, f"{AT}/sem_ver", 'write [{"var": "version"}, ">=", "1.2.0"]'),
        ({"sem_ver": [{"var": "v"}, "="]}, f"{AT}/sem_ver", "sem_ver takes a version"),
        ({"fractional": []}, f"{AT}/fractional", "fractional takes a list of variants with weights"),
        ({"fractional": ["a", ["full", 1]]}, f"{AT}/fractional/0", "'a' is nothing to divide callers by"),
        ({"fractional": [["full", 1], "off"]}, f"{AT}/fractional/1", "'off' is no variant with a weight"),
        ({"fractional": [["full", 1, 2]]}, f"{AT}/fractional/0", "is no variant with a weight"),
        ({"fractional": [["full", -1]]}, f"{AT}/fractional/0/1", "the weight -1 is no whole number from 0"),
        ({"fractional": [["full", 0.5]]}, f"{AT}/fractional/0/1", "the weight 0.5 is no whole number"),
        ({"fractional": [["full", True]]}, f"{AT}/fractional/0/1", "the weight True is no whole number"),
        ({"fractional": [["full", MOST_WEIGHT], ["off", 1]]}, f"{AT}/fractional", "more than 2,147,483,647"),
        ({"fractional": [["ful", 1], ["off", 1]]}, f"{AT}/fractional/0/0", "'ful', which is no variant; write full"),
        ({"if": [True, "gone", "full"]}, f"{AT}/if/1", "may give 'gone', which is no variant; write one of full"),
        ({"if": [True, "full", True, "off", "x"]}, f"{AT}/if/4", "may give 'x'"),
        ({"if": [True, "full", {"if": [True, 1]}]}, f"{AT}/if/2/if/1", "may give '1'"),
        ({"if": [True, ["full"]]}, f"{AT}/if/1", "may give \"['full']\""),
        ({"if": [{"$ref": "vip"}, "full"]}, f"{AT}/if/0", "there is no 'vip' in $evaluators; write the rule itself"),
        ({"$ref": "vip"}, AT, "a $ref stands inside a rule, and is none itself"),
        ({"if": [{"$ref": "vip", "or": 1}, "full"]}, f"{AT}/if/0", "is no reference"),
        ({"if": [{"$ref": 1}, "full"]}, f"{AT}/if/0", "is no reference"),
        ({"if": [{"/": [1, {"var": "age"}]}, "full"]}, AT, "the rule fails: ZeroDivisionError"),
        ({"cat": ["x", {"var": "age"}]}, AT, "the rule gives 'xnull', which is no variant"),
    ],
)  # fmt: skip
def test_row_11_what_is_wrong_is_told_with_its_place_and_what_to_write(
    rule: Any, pointer: str, message: str
) -> None:
    ((at, told),) = wrong(with_rule(rule))
    assert at == pointer
    assert message in told
    assert "; write " in told


def test_row_11_a_switch_whose_rule_says_true_or_false() -> None:
    """FlagdCore finds out at the first call: there is no variant ``true``."""
    found = wrong(document(a=switch() | {"targeting": {"==": [{"var": "tier"}, "gold"]}}))
    assert found == [
        (f"{AT}/==", "the rule of 'a' may give 'true', which is no variant; write one of on, off, or null"),
        (f"{AT}/==", "the rule of 'a' may give 'false', which is no variant; write one of on, off, or null"),
    ]


@pytest.mark.parametrize(
    ("evaluators", "pointer", "message"),
    [
        ([], "$evaluators", "[] must be an object"),
        ({"vip": True}, "$evaluators/vip", "True must be an object"),
        ({"vip": {}}, "$evaluators/vip", "{} has not one operator"),
        ({"vip": {"is": []}}, "$evaluators/vip/is", "there is no operator 'is'"),
        (
            {"vip": VIP, "b": {"!": {"$ref": "vip"}}},
            "$evaluators/b/!",
            "a rule in $evaluators refers to another",
        ),
        ({"vip": {"$ref": "vip"}}, "$evaluators/vip/$ref", "there is no operator '$ref'"),
    ],
)
def test_row_11_what_is_wrong_with_shared_rules(evaluators: Any, pointer: str, message: str) -> None:
    ((at, told),) = wrong(document() | {"$evaluators": evaluators})
    assert at == pointer
    assert message in told


def test_row_11_a_reference_that_is_nearly_right() -> None:
    ((_, told),) = wrong(with_rule({"if": [{"$ref": "vop"}, "full"]}, evaluators={"vip": VIP}))
    assert told == """there is no 'vop' in $evaluators; write {"$ref": "vip"}"""


def test_row_11_a_shared_rule_that_is_wrong_is_told_once() -> None:
    (problem,) = wrong(with_rule({"if": [{"$ref": "vip"}, "full"]}, evaluators={"vip": {"in": [1]}}))
    assert problem[0] == "$evaluators/vip/in"


def test_a_rule_that_nests_too_deep_is_refused_and_breaks_nothing() -> None:
    rule: Any = {"!": True}
    for _ in range(5_000):
        rule = {"!": rule}
    ((at, told),) = wrong(with_rule(rule))
    assert "nests deeper" in told
    assert len(at.split("/")) <= DEEPEST + 2


def test_a_rule_of_too_many_parts() -> None:
    many = {"in": [{"var": "account"}, [*range(MOST_PARTS)]]}
    ((at, told),) = wrong(with_rule({"if": [many, "full"]}))
    assert at == AT
    assert "has 10,007 parts, with what it refers to; write at most 10,000" in told
    ((_, told),) = wrong(with_rule({"if": [{"$ref": "many"}, "full"]}, evaluators={"many": many}))
    assert "parts, with what it refers to" in told


LONG = [*range(200)]


@pytest.mark.parametrize(
    "rule",
    [
        {"some": [LONG, {"some": [LONG, {"==": [{"var": ""}, -1]}]}]},
        {"reduce": [LONG, {"+": [{"var": "accumulator"}, {"reduce": [LONG, {"var": "current"}, 0]}]}, 0]},
        {"some": [{"merge": [{"$ref": "long"}]}, {"in": [{"var": ""}, LONG]}]},
        {"none": [{"map": [LONG, {"var": ""}]}, {"in": [{"var": ""}, LONG]}]},
        {"reduce": [LONG, {"cat": [{"var": "accumulator"}, "x" * 10_000]}, ""]},
        {"in": ["a", "a" * 2_000_000]},
        {"==": [{"var": ["tier", "a" * 2_000_000]}, 1]},
        {"missing": ["tier"] * MOST_PARTS},
    ],
)
def test_a_loop_counts_as_often_as_it_runs_and_a_text_by_its_length(rule: Any) -> None:
    """Nine million comparisons fit into forty kilobytes: each read of the flag would take seconds."""
    ((at, told),) = wrong(with_rule({"if": [rule, "full"]}, evaluators={"long": {"merge": [LONG]}}))
    assert at == AT
    assert "parts, with what it refers to" in told


def test_a_loop_over_what_the_caller_has_is_taken() -> None:
    cart = {"some": [{"var": "cart"}, {"in": [{"var": "sku"}, [*range(1_000)]]}]}
    assert parse_flags(with_rule({"if": [cart, "full"]})).flags["a"].rule is not None


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**4000])
def test_a_number_that_not_every_evaluator_has(number: int) -> None:
    ((at, told),) = wrong(with_rule({"if": [{"==": [{"var": "account"}, number]}, "full"]}))
    assert at == f"{AT}/if/0/==/1"
    assert "is too large; write at most 2**53 - 1, or a text on both sides" in told
    assert len(told) < 200
    parse_flags(with_rule({"if": [{"<": [{"var": "account"}, 1e300]}, "full"]}))


def test_lists_that_nest_too_deep_are_refused_and_break_nothing() -> None:
    lists: Any = []
    for _ in range(50_000):
        lists = [lists]
    ((_, told),) = wrong(with_rule({"if": [{"in": ["a", lists]}, "full"]}))
    assert "nests deeper" in told


def test_a_result_of_any_length_makes_no_long_error() -> None:
    ((_, told),) = wrong(with_rule({"if": [VIP, "f" * 100_000]}))
    assert len(told) < 200


def test_rules_of_too_many_parts_together() -> None:
    """A hundred kilobytes, and each read of the document would take minutes."""
    half = {"in": [{"var": "account"}, [*range(MOST_PARTS // 2)]]}
    tree = with_rule({"if": [{"$ref": "half"}, "full"]}, evaluators={"half": half})
    tree["flags"] = {f"f{number}": tree["flags"]["a"] for number in range(1_000)}
    ((at, told),) = wrong(tree)
    assert at == "flags/f199/targeting"
    assert "all rules have more than 1,000,000 parts together" in told


def test_similar_names_are_looked_for_a_few_times_among_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look(word: str, *_: Any) -> list[str]:
        asked.append(word)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", look)
    tree = with_rule(
        {"if": [*({"$ref": f"vap{number}"} for number in range(1_000))]}, evaluators={"vip": VIP}
    )
    wrong(tree)
    assert len(asked) == MOST_PROBLEMS
    asked.clear()
    wrong(tree | {"$evaluators": {f"vip{number}": VIP for number in range(MOST_NAMES + 1)}})
    assert asked == []


def test_a_deep_body_of_a_reduce_breaks_nothing() -> None:
    body: Any = {"var": "current"}
    for _ in range(5_000):
        body = {"!": body}
    ((_, told),) = wrong(with_rule({"if": [{"reduce": [[1], body, 1]}, "full"]}))
    assert "nests deeper" in told


@pytest.mark.parametrize("operator", ["cat", "merge", "*"])
@pytest.mark.parametrize("twice", ["accumulator", ["accumulator", 1], "", {"cat": ["accu", "mulator"]}])
def test_a_reduce_that_would_fill_the_memory(operator: str, twice: Any) -> None:
    """It is asked once when it is read: that must not be what ends the process."""
    body = {operator: [{"var": "accumulator"}, {"var": twice}]}
    rule = {"if": [{"reduce": [[*range(60)], body, 2]}, "full"]}
    ((at, told),) = wrong(with_rule(rule))
    assert at == f"{AT}/if/0/reduce"
    assert "would grow without bound" in told


def test_a_reduce_that_grows_by_what_it_is_given() -> None:
    largest = {
        "reduce": [{"var": "n"}, {"if": [{">": [{"var": "accumulator"}, 1]}, {"var": "accumulator"}, 2]}, 0]
    }
    product = {"reduce": [[1, 2, 3], {"*": [{"var": "current"}, {"var": "accumulator"}]}, 1]}
    parse_flags(with_rule({"if": [{"or": [largest, product]}, "full"]}))


def test_a_protected_feature_has_no_rule() -> None:
    ((at, told),) = wrong(document(a=switch(protected=True) | {"targeting": {"if": [VIP, "on", "off"]}}))
    assert at == AT
    assert "a protected feature is the same for every caller" in told


def test_what_is_protected_gets_no_rule_in_the_change_that_takes_the_protection_away() -> None:
    before = parse_flags(document(a=switch(protected=True)))
    after = document(a=switch() | {"targeting": {"if": [VIP, "on", "off"]}})
    with pytest.raises(DocumentError, match="is protected, and here it is not, and has targeting"):
        parse_flags(after, before=before)
    assert parse_flags(after, before=parse_flags(document(a=switch()))).flags["a"].rule is not None


@pytest.mark.parametrize("value", [None, [], {}])
def test_metadata_of_the_set_that_flagd_refuses(value: Any) -> None:
    ((at, _),) = wrong(document(a=switch()) | {"metadata": {"owner": value}})
    assert at == "metadata/owner"


def test_metadata_of_a_flag_stands_above_that_of_the_set() -> None:
    tree = document(a=switch(owner="pay"), b=switch()) | {"metadata": {"owner": "shop", "version": "7"}}
    flags = parse_flags(tree).flags
    assert flags["a"].metadata == {"owner": "pay", "version": "7"}
    assert flags["b"].metadata == {"owner": "shop", "version": "7"}


def test_without_the_extra_a_document_with_targeting_is_refused_with_that_advice() -> None:
    """And one without is read without it; nothing of the library imports it before."""
    code = f"""
import sys
sys.modules["openfeature"] = None
from resilient import DocumentError
from resilient.flags.document import parse_flags
tree = {with_rule({"if": [True, "full"]})!r}
tree["flags"]["b"] = dict(tree["flags"]["a"])
try:
    parse_flags(tree)
except DocumentError as error:
    print(error)
for each in tree["flags"].values():
    del each["targeting"]
parse_flags(tree)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "flags.a.targeting: the flag 'a' has targeting, which needs the extra `flags`, and it is not installed ("
    )
    assert done.stdout.count("pip install 'resilient-client[flags]' in the image first") == 1


def test_static_flags_need_no_evaluator() -> None:
    code = """
import sys
from resilient import features
from resilient.flags.document import parse_flags
parse_flags({"flags": {"a": {"state": "ENABLED", "variants": {"on": True}, "targeting": {}}}})
print([name for name in sys.modules if name.startswith(("openfeature", "json_logic", "mmh3"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


NAMES = st.sampled_from([*sorted(OPERATORS), "$ref", "x"])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from(["full", "tier", "1.0.0", "="])
)
RULES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=1), st.dictionaries(NAMES, st.lists(inner))
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    rule=st.dictionaries(NAMES, RULES, min_size=1, max_size=1),
    shared=st.dictionaries(NAMES, RULES, max_size=1),
)
def test_no_rule_breaks_the_reading(rule: Any, shared: Any) -> None:
    try:
        flags = parse_flags(with_rule(rule, evaluators=shared))
    except DocumentError:
        return
    assert flags.flags["a"].rule is not None


def test_each_operator_of_flagds_schema_is_there_and_known_to_its_evaluator() -> None:
    import json
    from pathlib import Path

    from openfeature.contrib.tools.flagd.core.targeting.targeting import (
        OPERATORS as THEIRS,
    )

    schema = json.loads((Path(__file__).parents[1] / "contracts/flagd/targeting.json").read_text())
    named = {name for each in schema["definitions"].values() for name in each.get("properties", {})}
    assert named == OPERATORS
    # These are written out in the interpreter.
    lazy = {"if", "and", "or", "filter", "reduce", "map", "all", "some", "none"}
    assert THEIRS.keys() | lazy >= OPERATORS
    assert set(LISTS) < OPERATORS
