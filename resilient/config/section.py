"""What others understand of the document: how the loader reads it, and what they are handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Section(NamedTuple):
    """A part of the document that others understand.

    Attributes:
        keys: its keys at the top level.
        parse: makes something of the whole tree; raises `DocumentError`.
        publish: is handed that, once the document is in force.
        schema: gives the JSON Schema of each key.
        nothing: what is published when no document is followed any more.
    """

    keys: frozenset[str]
    parse: Callable[[dict[str, Any]], Any]
    publish: Callable[[Any], None]
    schema: Callable[[], dict[str, Any]] = dict
    nothing: Any = None
