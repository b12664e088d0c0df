"""A document is valid by flagd's own schema, and ours says of flags what that says, or more.

``flagd/`` has the schemas as they are published, and a sample of everything that a flag set may have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry
from referencing.jsonschema import DRAFT7

from resilient.config.schema import schema
from resilient.core.errors import DocumentError
from resilient.flags.document import parse_flags
from resilient.flags.rules import OPERATORS
from tests.flags.documents import flag

HERE = Path(__file__).parent / "flagd"
SAMPLES: dict[str, Any] = json.loads((HERE / "samples.json").read_text())


def theirs() -> Any:
    at = "https://flagd.dev/schema/v0/"
    parts = {at + name: json.loads((HERE / name).read_text()) for name in ("flags.json", "targeting.json")}
    known: Any = Registry().with_resources(
        [(uri, DRAFT7.create_resource(each)) for uri, each in parts.items()]
    )
    return jsonschema.Draft7Validator({"$ref": at + "flags.json"}, registry=known)


THEIRS = theirs()
OURS = jsonschema.Draft202012Validator(schema())


def test_the_samples_are_valid_by_both_and_are_read() -> None:
    THEIRS.validate(SAMPLES)
    OURS.validate(SAMPLES)
    assert set(parse_flags(SAMPLES).table) == set(SAMPLES["flags"])


def test_the_samples_use_each_operator() -> None:
    assert {name for name in OPERATORS if f'"{name}": ' not in (HERE / "samples.json").read_text()} == set()


def documents_of_the_guides() -> list[Any]:
    found = []
    for page in sorted((Path(__file__).parents[2] / "docs").glob("*.md")):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            if re.search("^flags:", block, re.MULTILINE):
                found.append(pytest.param(yaml.safe_load(block), id=f"{page.stem}-{len(found)}"))
    return found


@pytest.mark.parametrize("tree", documents_of_the_guides())
def test_the_documents_of_the_guides_are_valid_flag_sets(tree: dict[str, Any]) -> None:
    THEIRS.validate(tree)
    parse_flags(tree)


NAMES = st.sampled_from([*sorted(OPERATORS), "$ref", "x"])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from(["full", "tier", "$flagd.flagKey", "1.0.0", "="])
)  # fmt: skip
RULES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(NAMES, inner, max_size=1),
        st.dictionaries(NAMES, st.lists(inner, max_size=3), max_size=1),
    ),
    max_leaves=10,
)
RULE = st.one_of(
    st.dictionaries(NAMES, st.lists(RULES, max_size=3), min_size=1, max_size=1),
    st.fixed_dictionaries({"if": st.lists(RULES, min_size=1, max_size=4)}),
    st.fixed_dictionaries(
        {"fractional": st.lists(st.tuples(RULES, st.integers(-1, 3)).map(list), max_size=3)}
    ),
    st.fixed_dictionaries({"sem_ver": st.tuples(RULES, st.sampled_from("=~^x"), RULES).map(list)}),
)


@given(rule=RULE)
def test_a_rule_that_is_read_is_valid_by_both_schemas(rule: dict[str, Any]) -> None:
    tree = {
        "flags": {"a": flag("full", "true", "false", "tier") | {"targeting": rule}},
        "$evaluators": {"x": {"!": {"var": "x"}}},
    }
    try:
        parse_flags(tree)
    except DocumentError:
        return
    THEIRS.validate(tree)
    OURS.validate(tree)


@given(rule=RULE)
def test_what_their_schema_refuses_in_a_rule_ours_refuses(rule: dict[str, Any]) -> None:
    tree = {"flags": {"a": flag("full") | {"targeting": rule}}}
    if OURS.is_valid(tree):
        THEIRS.validate(tree)


@pytest.mark.parametrize(
    "flags",
    [
        {"": flag("a")},
        {"a": flag("a") | {"variants": {}}},
        {"a": {"state": "ENABLED"}},
        {"a": flag("a") | {"state": "on"}},
        {"a": flag("a") | {"variants": {"": "a"}}},
        {"a": flag("a") | {"variants": {"a": None}}},
        {"a": flag("a") | {"variants": {"a": [1]}}},
        {"a": flag("a") | {"defaultVariant": 1}},
        {"a": flag("a") | {"metadata": {"x": None}}},
        {"a": flag("a") | {"targeting": {"not-a-real-rule": [1, 2]}}},
        {"a": flag("a") | {"targeting": {"if": [{"var": "$flagd.invalid"}, "a"]}}},
        {"a": flag("a") | {"targeting": {"fractional": ["x", ["a", 1]]}}},
        {"a": flag("a") | {"targeting": {"fractional": [["a", 0.5]]}}},
        {"a": flag("a") | {"targeting": {"fractional": [["a", -1]]}}},
        {"a": flag("a") | {"targeting": {"sem_ver": [{"var": "v"}, "<>", "1.0.0"]}}},
        {"a": flag("a") | {"targeting": {"sem_ver": [{"var": "v"}, "=", "1.0.0.0"]}}},
        {"a": flag("a") | {"targeting": {"starts_with": [1, "x"]}}},
        [flag("a") | {"key": "a"}],
    ],
)
def test_what_they_refuse_is_refused_here(flags: Any) -> None:
    assert not THEIRS.is_valid({"flags": flags})
    assert not OURS.is_valid({"flags": flags})
    with pytest.raises(DocumentError):
        parse_flags({"flags": flags})


def test_their_two_types_of_variants_are_refused_where_a_schema_can_tell() -> None:
    """Ours leaves that to reading: by a schema an editor would say that none of four kinds of flags fits."""
    mixed = {"a": flag("a") | {"variants": {"a": 1, "b": "x"}}}
    assert not THEIRS.is_valid({"flags": mixed})
    with pytest.raises(DocumentError, match="different types"):
        parse_flags({"flags": mixed})
