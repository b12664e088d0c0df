"""The parts of the document that others understand."""

from __future__ import annotations

from typing import Any

from ..flags.document import parse_flags
from ..flags.snapshot import Flags
from ..flags.state import NOTHING, STATE, publish
from .center import CENTER
from .feed import BUNDLED, CACHE
from .section import Section


def _flags(tree: dict[str, Any]) -> Flags:
    # What is protected now does not go in the change that takes the protection away. What only stood in for the
    # document protects nothing from it: it may be older, and what it protects may be gone by now, step by step.
    followed = CENTER.status().source not in (CACHE, BUNDLED)
    return parse_flags(tree, before=STATE.flags if STATE.ready and followed else None)


def _schema() -> dict[str, Any]:
    from ..flags.schema import sections_schema

    return sections_schema()


SECTIONS: tuple[Section, ...] = (
    Section(frozenset({"flags", "$evaluators", "degradation"}), _flags, publish, _schema, NOTHING),
)
