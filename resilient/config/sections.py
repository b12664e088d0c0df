"""The parts of the document that others understand."""

from __future__ import annotations

from typing import Any

from ..flags.document import parse_flags
from ..flags.snapshot import Flags
from ..flags.state import NOTHING, STATE, publish
from .decode import Section


def _flags(tree: dict[str, Any]) -> Flags:
    # What is protected now does not go in the change that takes the protection away.
    return parse_flags(tree, before=STATE.flags if STATE.ready else None)


def _schema() -> dict[str, Any]:
    from ..flags.schema import sections_schema

    return sections_schema()


SECTIONS: tuple[Section, ...] = (
    Section(frozenset({"flags", "$evaluators", "degradation"}), _flags, publish, _schema, NOTHING),
)
