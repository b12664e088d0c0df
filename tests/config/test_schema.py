"""The JSON Schema says of a document what reading it says, as far as a schema can."""

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

from resilient import DocumentError
from resilient.config.decode import decode
from resilient.config.leaves import Leaf, flat_leaves
from resilient.config.schema import schema
from resilient.config.sections import SECTIONS
from resilient.config.snapshot import snapshot_of
from resilient.config.source import Files

from .samples import document

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
ROOT = Path(__file__).parents[2]

VALUES: list[Any] = [
    None, True, 0, 1, 3, -1, 0.5, 1.5, 2.0, 10**7, 1e300, "", "x", "0s", "250ms", "1m30s", "2",
    "1 s", "1s2h", "٣s", "3.s", "forced_open", "observe", "full", "none", "200/second", [], {}, ["1s"],
]  # fmt: skip


def valid(tree: Any) -> bool:
    return bool(VALIDATOR.is_valid(tree))


def accepted(tree: Any) -> bool:
    try:
        decode(document(a_json=json.dumps(tree)))
    except DocumentError:
        return False
    return True


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    json.dumps(SCHEMA)


def nested(leaf: str, value: Any) -> Any:
    for word in reversed(leaf.split(".")):
        value = {word: value}
    return value


@pytest.mark.parametrize("where", ["targets", "policies"])
@pytest.mark.parametrize("leaf", flat_leaves())
def test_each_leaf_takes_what_reading_takes(leaf: str, where: str) -> None:
    """But for the range of a duration and the notation of a rate, which a schema does not know; and 2.0 is an integer
    there."""
    for value in VALUES:
        kinds = nested(leaf, value)
        if where == "policies":
            kinds = {kind: {"named": each} for kind, each in kinds.items()}
        else:
            kinds = {"payments": kinds}
        tree = {"resiliency": {where: kinds}}
        loose = value in ("0s", "250ms", "1m30s", 2.0) or (
            isinstance(value, str) and leaf == "ratelimit.rate"
        )
        if accepted(tree) or not loose:
            assert valid(tree) == accepted(tree), value


@pytest.mark.parametrize("leaf", flat_leaves())
def test_the_examples_are_good(leaf: str) -> None:
    found: Leaf = flat_leaves()[leaf]
    if found.example:
        value = found.example if found.example[-1] == "s" else json.loads(found.example)
        tree = {"resiliency": {"targets": {"payments": nested(leaf, value)}}}
        assert valid(tree)
        assert accepted(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"resilience": {}},
        {"plans": {"sale": {}}},
        {"plans": {"sale": {"kind": "emergency", "set": {"level": 0}, "windows": {}}}},
        {"plans": {"sale": {"kind": "emergency", "set": {"targets": {"payments": {"retry": 3}}}}}},
        {"degradation": {"levels": ["normal"], "restoreRamp": 120}},
        {"resiliency": {"targts": {}}},
        {"resiliency": {"targets": {"payments": {"retries": {}}}}},
        {"resiliency": {"targets": {"payments": {"retry": {"on": "x"}}}}},
        {"resiliency": {"policies": {"retry": "careful"}}},
        {"resiliency": {"targets": {"payments": {"retry": 3}}}},
        {"flags": {"a": {"variants": {"on": True}}}},
        {"flags": {"a": {"state": "ENABLED", "variants": {}}}},
        {"flags": {"a": {"state": "ENABLED", "variants": {"on": None}}}},
        {"flags": {"a": {"state": "ENABLED", "variants": {"on": True}, "protected": True}}},
        {"flags": {"a": {"state": "ENABLED", "variants": {"on": True}, "metadata": {"owner": []}}}},
        {"flags": {"a": {"state": "ENABLED", "variants": {"on": True}, "targeting": {"if": []}}}},
        {"$evaluators": {"vip": {}}},
        {"$evaluators": {"vip": {"!": [1, 2]}}},
        {"flags": {}, "metadata": {"owner": []}},
        {"degradation": {"levels": []}},
        {"degradation": {"levels": ["normal"], "auto": True}},
        {"degradation": {"level": 0}},
        [],
    ],
)
def test_what_no_document_may_be(tree: Any) -> None:
    assert not valid(tree)
    with pytest.raises(DocumentError):
        snapshot_of(Files({"a.json": json.dumps(tree).encode()}, ""), SECTIONS)


@given(
    st.recursive(
        st.sampled_from(VALUES),
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    "resiliency",
                    "targets",
                    "policies",
                    "payments",
                    "retry",
                    "breaker",
                    "attempts",
                    "use",
                    "named",
                ]
            ),
            inner,
            max_size=3,
        ),
        max_leaves=12,
    )
)
def test_what_is_read_is_valid(tree: Any) -> None:
    if isinstance(tree, dict) and accepted({"resiliency": tree}):
        assert valid({"resiliency": tree})


def blocks() -> list[Any]:
    """The config documents that the guides show."""
    found = []
    for page in ("config.md", "degradation.md"):
        for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL):
            if re.match(r"(metadata: \{version|flags:|resiliency:|degradation:)", block):
                found.append(pytest.param(block, id=f"{page}-{len(found)}"))
    return found


@pytest.mark.parametrize("text", blocks())
def test_documents_of_the_guides_are_valid(text: str) -> None:
    VALIDATOR.validate(yaml.safe_load(text))
