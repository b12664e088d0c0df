"""The document is a flag set of flagd: its own evaluator takes it as it is, and gives what we give at level 0."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

from resilient import features
from resilient.core.errors import DocumentError
from resilient.flags.document import parse_flags
from resilient.testing import feature_flags
from tests.flags.documents import document, flag, switch


def flag_of(*values: Any, default: Any = "a") -> dict[str, Any]:
    return {
        "state": "ENABLED",
        "variants": dict(zip("abc", values, strict=False)),
        "defaultVariant": default,
    }


DOCUMENT = {
    "$schema": "https://flagd.dev/schema/v0/flags.json",
    "metadata": {"flagSetId": "checkout", "version": "7"},
    **document(
        0,
        recommendations=flag("full", "cached", "off", degrade="1:cached,3:off", kind="degradation", owner="growth"),
        payment=switch(protected=True, kind="degradation"),
        off=switch() | {"defaultVariant": "off"},
        dark=switch() | {"state": "DISABLED"},
        left=flag_of(1, 2, default=None),
        number=flag_of(48, 12) | {"metadata": {"degrade": "heavy:b", "weight": 0.5, "beta": True}},
        ratio=flag_of(0.5, 1.5),
        largest=flag_of(2**53 - 1),
        thing=flag_of({"sizes": [1, {"x": None}]}, {}) | {"targeting": {}},
    ),
    "plans": {"double11": {"kind": "emergency", "set": {"level": 0}}},
    "resiliency": {"policies": {}},
}  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "recommendations": "none",
    "payment": False,
    "off": True,
    "dark": True,
    "left": 7,
    "number": 7,
    "ratio": 7.5,
    "largest": 7,
    "thing": {"none": 1},
}


def theirs(document: dict[str, Any]) -> FlagdCore:
    core = FlagdCore()
    core.set_flags(copy.deepcopy(document))  # it takes the tree apart
    return core


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_flag_is_the_same_here_and_there(key: str) -> None:
    default = DEFAULTS[key]
    resolved = getattr(theirs(DOCUMENT), f"resolve_{KINDS[type(default)]}_value")(key, default)
    with feature_flags(DOCUMENT):
        ours = features.details(key, default)
    assert (ours.value, ours.variant, ours.reason) == (
        resolved.value,
        resolved.variant,
        str(resolved.reason.value),
    )


SAMPLES: dict[str, Any] = json.loads((Path(__file__).parent / "flagd/samples.json").read_text())
CALLERS: dict[str, dict[str, Any]] = {
    "nobody": {},
    "gold": {
        "targetingKey": "account-7",
        "tier": "gold",
        "email": "jobs@shop.example",
        "age": 30,
        "time": 2**33,
    },
    "basic": {
        "targetingKey": "account-8",
        "tier": "basic",
        "version": "2.0.0",
        "time": 1,
        "age": 60,
        "roles": ["x"],
    },
    "known": {"fn": "Sulisław", "age": 29, "customer": False, "version": "v3.1", "user": {"name": "ann"}},
    "admin": {
        "roles": ["admin"],
        "version": "3.1.4",
        "email": "ann@shop.example",
        "user": {"name": "rachel"},
    },
    "strange": {"roles": "admin", "version": "x", "email": 7, "age": "old", "tier": ["gold"], "user": "ann"},
    "guest": {"roles": ["guest", ""], "version": "2.5.0+build", "tier": "", "age": -1.5, "targetingKey": "é"},
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("key", SAMPLES["flags"])
def test_row_38_each_sample_is_the_same_here_and_there_for_each_caller(key: str, caller: str) -> None:
    default = DEFAULT_OF[type(next(iter(SAMPLES["flags"][key]["variants"].values())))]
    context = CALLERS[caller]
    with feature_flags(SAMPLES):
        ours = features.details(key, default, context=context)
    assert (ours.value, ours.variant, ours.reason, ours.error) == as_theirs(SAMPLES, key, default, context)


DEFAULT_OF: dict[type, Any] = {bool: True, str: "none", int: 7, float: 7.5, dict: {"none": 1}}
KINDS = {bool: "boolean", str: "string", int: "integer", float: "float", dict: "object"}
_CORES: dict[int, FlagdCore] = {}


def as_theirs(tree: dict[str, Any], key: str, default: Any, context: dict[str, Any]) -> tuple[Any, ...]:
    """Value, variant, reason and error of their evaluator, as its callers get them."""
    core = _CORES.get(id(tree)) or _CORES.setdefault(id(tree), theirs(tree))
    who = EvaluationContext(context.get("targetingKey"), {**context, "degradation": {"level": 0}})
    try:
        found = getattr(core, f"resolve_{KINDS[type(default)]}_value")(key, default, who)
    except OpenFeatureError as error:
        return default, None, "ERROR", error.error_code.value
    return found.value, found.variant, found.reason.value, None


SPLITS = {
    "even": [["a", 1], ["b", 1]],
    "canary": [["a", 99], ["b", 1]],
    "four": [["a", 25], ["b", 25], ["c", 25], ["d", 25]],
    "by account": [{"var": "account"}, ["a", 30], ["b", 70]],
    "by name": [
        {"cat": ["seed", {"var": "targetingKey"}]},
        ["a", 5],
        ["b", 0],
        ["c", {"-": [1, 3]}],
        ["d", 12_345_678],
    ],
}
SPLIT = {
    "flags": {
        name: {
            "state": "ENABLED",
            "variants": {each: each for each in "abcd"},
            "defaultVariant": "a",
            "targeting": {"fractional": split},
        }
        for name, split in SPLITS.items()
    }
}


def compare_splits(keys: int) -> None:
    with feature_flags(SPLIT):
        seen: dict[str, Counter[str]] = {name: Counter() for name in SPLITS}
        for i in range(keys):
            context = {"targetingKey": f"user-{i}", "account": i}
            for name in SPLITS:
                ours = features.details(name, "none", context=context)
                assert (ours.value, ours.variant, ours.reason, ours.error) == as_theirs(
                    SPLIT, name, "none", context
                )
                seen[name][str(ours.variant)] += 1
    assert abs(seen["even"]["a"] / keys - 0.5) < 0.05
    assert abs(seen["by account"]["a"] / keys - 0.3) < 0.05


def test_row_37_splits_are_theirs() -> None:
    compare_splits(1_000)


@pytest.mark.soak
def test_row_37_splits_are_theirs_for_many() -> None:
    compare_splits(100_000)


@pytest.mark.parametrize(
    "raw",
    [
        {"variants": {"a": 1}, "defaultVariant": "a"},
        flag_of(1) | {"state": "ON"},
        flag_of() | {"state": "ENABLED"},
        flag_of(1) | {"protected": True},
        flag_of(1) | {"metadata": {"owner": ["x"]}},
    ],
)
def test_what_their_evaluator_refuses_is_refused_here(raw: dict[str, Any]) -> None:
    with pytest.raises(OpenFeatureError):
        theirs({"flags": {"a": raw}})
    with pytest.raises(DocumentError):
        parse_flags({"flags": {"a": raw}})


def test_a_default_that_is_no_variant_is_found_when_it_is_loaded_and_not_at_the_first_read() -> None:
    document = {"flags": {"a": flag_of(1, default="gone")}}
    core = theirs(document)
    with pytest.raises(OpenFeatureError, match="not in variants"):
        core.resolve_integer_value("a", 7)
    with pytest.raises(DocumentError, match="no variant 'gone'"):
        parse_flags(document)


def test_an_empty_document_is_taken_by_both() -> None:
    theirs(json.loads('{"flags": {}}'))
    assert parse_flags(json.loads('{"flags": {}}')).flags == {}
