"""The JSON Schema of the config document, for editors and for the checks of a repository.

Made of the same leaves that documents are read by, so it cannot say anything else. It says what a key may be; what must
fit together (``timeout.attempt`` below ``timeout.total``, a name that is referred to) is for ``resilient check``."""

from __future__ import annotations

import json
from typing import Any, get_args

from ..core.options import DURATION
from .decode import ALLOW, LONGEST_WORD
from .leaves import Duration, Leaf, Leaves, RateText, leaves
from .sections import SECTIONS

DRAFT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def schema() -> Schema:
    """The schema of a whole document.

    Example:
        >>> schema()["properties"]["resiliency"]["properties"]["targets"]["type"]
        'object'
    """
    kinds = {kind: _object(known) for kind, known in leaves().items()}
    policies = {kind: {"type": "object", "additionalProperties": _ref(kind)} for kind in kinds}
    targets = {kind: {"anyOf": [_name(kind), _ref(f"{kind}-of-target")]} for kind in kinds}
    by_target = {
        "type": "object",
        "description": "By the name of the pipeline or client.",
        "additionalProperties": {"type": "object", "additionalProperties": False, "properties": targets},
    }
    of_targets = {
        f"{kind}-of-target": {**each, "properties": {"use": _name(kind), **each["properties"]}}
        for kind, each in kinds.items()
    }
    return {
        "$schema": DRAFT,
        "title": "The config document of resilient",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string"},
            "metadata": {
                "type": "object",
                "description": "Yours; `version`, `changedBy` and `ticket` are shown with each change.",
                "properties": {
                    ALLOW: {
                        "type": "string",
                        "description": "The ticket by which this document may take away or change most of the last.",
                        "minLength": 1,
                        "maxLength": LONGEST_WORD,
                        "pattern": "\\S",
                    }
                },
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
            "resiliency": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "policies": {
                        "type": "object",
                        "description": "Named, for targets to refer to.",
                        "additionalProperties": False,
                        "properties": policies,
                    },
                    "targets": by_target,
                },
            },
            **{key: value for section in SECTIONS for key, value in section.schema(by_target).items()},
        },
        "$defs": {**kinds, **of_targets},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _name(kind: str) -> Schema:
    return {"type": "string", "description": f"A name in resiliency.policies.{kind}."}


def _object(known: Leaves) -> Schema:
    properties = {
        name: _leaf(each) if isinstance(each, Leaf) else _object(each) for name, each in known.items()
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _leaf(leaf: Leaf) -> Schema:
    kinds = [each for each in get_args(leaf.type) or (leaf.type,) if each is not type(None)]
    optional = leaf.rule.optional if leaf.rule is not None else type(None) in get_args(leaf.type)
    found: Schema = {"description": f"{leaf.wanted[0].upper()}{leaf.wanted[1:]}."}
    if Duration in kinds:
        found |= {"type": "string", "pattern": f"^{DURATION}$", "minLength": 1}
    elif RateText in kinds:
        found |= {"type": "string"}
    elif int in kinds or float in kinds:
        found |= {"type": "integer" if int in kinds else "number", **_range(leaf)}
    else:
        found |= {"enum": [*_words(leaf.type), *([None] if optional else [])]}
        return found
    if optional:
        found["type"] = [found["type"], "null"]
    if leaf.example:
        found["examples"] = [leaf.example if Duration in kinds else json.loads(leaf.example)]
    return found


def _range(leaf: Leaf) -> Schema:
    rule = leaf.rule
    assert rule is not None
    bounds = {"minimum": rule.low, "exclusiveMinimum": rule.above, "maximum": rule.high}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _words(kind: Any) -> list[str]:
    """Those of a ``Literal``, alone or beside None."""
    return [
        word
        for each in get_args(kind)
        for word in (_words(each) if get_args(each) else [each])
        if isinstance(word, str)
    ]
