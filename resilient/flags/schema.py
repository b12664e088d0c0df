"""The JSON Schema of the sections ``flags`` and ``degradation``, made of what `parse_flags` reads them with."""

from __future__ import annotations

from typing import Any

import msgspec

from .document import SCALAR, VALUE, Degradation, FlagFields, Metadata


def sections_schema() -> dict[str, Any]:
    """The properties that the two sections are, at the top of a document's schema."""
    found = msgspec.json.schema_components([FlagFields, Metadata, Degradation])[1]
    flag, metadata, degradation = (
        _plain(found[each.__name__]) for each in (FlagFields, Metadata, Degradation)
    )
    metadata["additionalProperties"] = msgspec.json.schema(SCALAR)
    flag["properties"] |= {
        "variants": {**flag["properties"]["variants"], "additionalProperties": msgspec.json.schema(VALUE)},
        "targeting": {"type": "object", "maxProperties": 0},
        "metadata": metadata,
    }
    flag["additionalProperties"] = degradation["additionalProperties"] = False
    return {
        "flags": {
            "type": "object",
            "description": "A flag set as flagd has it.",
            "additionalProperties": flag,
        },
        "degradation": degradation,
    }


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the names and words that are for readers of our source."""
    return {name: each for name, each in schema.items() if name not in ("title", "description")}
