"""What others understand of the document: how the loader reads it, and what they are handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Item(NamedTuple):
    """One thing that a document says.

    Attributes:
        meant: all that counts of it, to tell whether that is another.
        shown: what is in force by it, as people read it.
        lever: whether operators turn it in an incident, as the level or a forced state: it comes and goes as they need.
    """

    meant: Any
    shown: Any
    lever: bool = False


class Section(NamedTuple):
    """A part of the document that others understand.

    Attributes:
        keys: its keys at the top level.
        parse: makes something of the whole tree; raises `DocumentError`.
        publish: is handed that, once the document is in force.
        schema: gives the JSON Schema of each key, from that of the numbers of targets.
        nothing: what is published when no document is followed any more.
        items: what it says, by path, such as ``flags.search``.
        test: uses all of it once, as calls will; what it raises keeps the document out.
        degrades: whether the second of two only takes load off, beside the first: that is never held back.
        look: called at every look, for what changes without the document.
    """

    keys: frozenset[str]
    parse: Callable[[dict[str, Any]], Any]
    publish: Callable[[Any], None]
    schema: Callable[[dict[str, Any]], dict[str, Any]] = lambda targets: {}
    nothing: Any = None
    items: Callable[[Any], Mapping[str, Item]] = lambda part: {}
    test: Callable[[Any], None] = lambda part: None
    degrades: Callable[[Any, Any], bool] = lambda before, after: bool(before == after)
    look: Callable[[], None] = lambda: None
