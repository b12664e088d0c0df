"""The document is a flag set of flagd: its own evaluator takes it as it is, and gives what we give at level 0."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from openfeature.contrib.tools.flagd.core import FlagdCore
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
    "plans": {"double11": {}},
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
    kinds = {bool: "boolean", str: "string", int: "integer", float: "float", dict: "object"}
    resolved = getattr(theirs(DOCUMENT), f"resolve_{kinds[type(default)]}_value")(key, default)
    with feature_flags(DOCUMENT):
        ours = features.details(key, default)
    assert (ours.value, ours.variant, ours.reason) == (
        resolved.value,
        resolved.variant,
        str(resolved.reason.value),
    )


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
