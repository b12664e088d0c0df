"""Features switched for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..flags.document import parse_flags
from ..flags.snapshot import Flags
from ..flags.state import STATE, publish


@contextmanager
def feature_flags(document: Mapping[str, Any], /, *, level: int | str | None = None) -> Iterator[Flags]:
    """Inside, the flags of ``document`` are in force, for the whole process; afterwards those from before.

    Args:
        document: as a ConfigMap has it, as plain dicts: ``flags`` and ``degradation``.
        level: in place of the document's ``degradation.level``.

    Raises:
        DocumentError: the document is wrong.

    Example:
        >>> from resilient import features
        >>> document = {
        ...     "flags": {"search": {
        ...         "state": "ENABLED",
        ...         "variants": {"on": True, "off": False},
        ...         "defaultVariant": "on",
        ...         "metadata": {"degrade": "heavy:off"},
        ...     }},
        ...     "degradation": {"levels": ["normal", "light", "heavy"]},
        ... }
        >>> with feature_flags(document, level="heavy"):
        ...     features.enabled("search")
        False
    """
    if level is not None:
        document = {**document, "degradation": {**document.get("degradation", {}), "level": level}}
    flags = parse_flags(document)
    before = STATE.flags
    publish(flags)
    try:
        yield flags
    finally:
        publish(before)
