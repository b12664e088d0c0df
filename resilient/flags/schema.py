"""The JSON Schema of the sections ``flags``, ``$evaluators``, ``degradation`` and ``plans``, made of what `parse_flags`
reads them with."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.options import DURATION
from .document import SCALAR, VALUE, Degradation, FlagFields, Metadata
from .planning import MOST_PLANS, AutoFields, PlanFields, SetFields, SignalFields, WindowFields
from .rules import EVALUATORS, LISTS, NEGATIONS, OURS, RANGES, STRINGS, VERSION, Arity

_RULE = {"$ref": f"#/properties/{EVALUATORS}/$defs/rule"}
_VALUE = {"$ref": f"#/properties/{EVALUATORS}/$defs/value"}
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_DURATION = {"type": "string", "pattern": f"^{DURATION}$", "minLength": 1}
_NAMED = {"propertyNames": {"minLength": 1}}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_REFERENCE = {
    "type": "object",
    "required": ["$ref"],
    "additionalProperties": False,
    "properties": {"$ref": _TEXT},
}
_SINGLE = (_RULE, _REFERENCE, _SCALAR)


def sections_schema(targets: dict[str, Any]) -> dict[str, Any]:
    """The properties that these sections are, at the top of a document's schema.

    Args:
        targets: the schema of the numbers that a plan may set.
    """
    flag, metadata, degradation, auto, signal, plan, sets, window = _shapes()
    metadata["additionalProperties"] = msgspec.json.schema(SCALAR)
    flag["properties"] |= {
        "variants": {
            **flag["properties"]["variants"],
            **_NAMED,
            "additionalProperties": msgspec.json.schema(VALUE),
        },
        "targeting": {"anyOf": [_RULE, {"type": "object", "maxProperties": 0}]},
        "metadata": metadata,
    }
    for key in ("restoreAfter", "restoreRamp"):
        degradation["properties"][key] |= _DURATION
    for key in ("enterFor", "exitFor"):
        auto["properties"][key] |= _DURATION
    for key in ("enter", "exit"):
        signal["properties"][key] = {"anyOf": [{"type": "number", "minimum": 0}, _DURATION]}
    auto["properties"]["signals"] |= {"additionalProperties": signal}
    degradation["properties"]["auto"] = {"anyOf": [auto, {"type": "object", "maxProperties": 0}]}
    sets["properties"]["targets"] = targets
    plan["properties"] |= {"set": sets, "window": {"anyOf": [window, {"type": "null"}]}}
    return {
        "flags": {
            "type": "object",
            "description": "A flag set as flagd has it.",
            "additionalProperties": flag,
            **_NAMED,
        },
        EVALUATORS: {
            "type": "object",
            "description": "Rules that those of flags refer to.",
            "additionalProperties": _RULE,
            **_NAMED,
            "$defs": {"rule": _rule(), "value": _value()},
        },
        "degradation": degradation,
        "plans": {
            "type": "object",
            "description": "Changes that are prepared together, for a time or for an emergency.",
            "maxProperties": MOST_PLANS,
            "additionalProperties": plan,
            **_NAMED,
        },
    }


def _shapes() -> list[dict[str, Any]]:
    """Those of the objects that we read by their fields; none of them has other keys, but for metadata."""
    shapes = (
        FlagFields,
        Metadata,
        Degradation,
        AutoFields,
        SignalFields,
        PlanFields,
        SetFields,
        WindowFields,
    )
    found = msgspec.json.schema_components(shapes)[1]
    return [{**_plain(found[each.__name__]), "additionalProperties": False} for each in shapes]


def _rule() -> dict[str, Any]:
    """One operator and what it takes."""
    lists = {name: _list(_VALUE, arity) for name, arity in LISTS.items()}
    negations = {name: {"anyOf": [*_SINGLE, _list(_VALUE, Arity(1, 1))]} for name in NEGATIONS}
    strings = {name: _list({"anyOf": [_TEXT, _RULE]}, Arity(2, 2)) for name in STRINGS}
    version = {"anyOf": [{**_TEXT, "pattern": VERSION}, {"type": "object", "required": ["var"], **_RULE}]}
    by_name = {"anyOf": [{**_TEXT, "pattern": r"^(?!\$flagd\.)"}, {"enum": list(OURS)}]}
    bucket = _tuple(_VALUE, {"anyOf": [{"type": "integer", "minimum": 0}, _RULE]}, least=1)
    special = {
        "var": {
            "anyOf": [
                by_name,
                {"type": ["number", "boolean", "null"]},
                _RULE,
                {"type": "array", "minItems": 1, "prefixItems": [_TEXT], "items": _SCALAR},
            ]
        },
        "missing": _TEXTS,
        "missing_some": _tuple({"type": "number"}, _TEXTS, least=2),
        "sem_ver": _tuple(version, {"enum": list(RANGES)}, version, least=3),
        "fractional": {
            "type": "array",
            "minItems": 1,
            "prefixItems": [{"anyOf": [_RULE, bucket]}],
            "items": bucket,
        },
    }
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {**lists, **negations, **strings, **special},
    }


def _value() -> dict[str, Any]:
    """What an operator may be given: a rule, a reference to one, or what stands for itself."""
    return {"anyOf": [*_SINGLE, {"type": "array", "items": _VALUE}]}


def _list(items: dict[str, Any], arity: Arity) -> dict[str, Any]:
    found = {"type": "array", "items": items, "minItems": arity.least}
    return found if arity.most is None else {**found, "maxItems": arity.most}


def _tuple(*items: dict[str, Any], least: int) -> dict[str, Any]:
    return {"type": "array", "prefixItems": [*items], "items": False, "minItems": least}


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the names and words that are for readers of our source."""
    return {name: each for name, each in schema.items() if name not in ("title", "description")}
