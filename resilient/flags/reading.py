"""Typed keys out of plain dicts, with everything that is wrong told at once.

msgspec says what each key must be; what it cannot say is here: which key is unknown and which one was probably meant,
and where all of it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from reprlib import repr as shown
from typing import Any

import msgspec

from ..core.errors import DocumentError

MOST_PROBLEMS = 20
"""Problems that an error carries; its message counts all."""
_NEAR = 0.85  # "protectd" is near to "protected"; "grade" is not to "degrade"

Pointer = tuple[str | int, ...]
Shape = type[msgspec.Struct]


class Reading:
    """One document being read.

    Args:
        examples: what to write, for each key.

    Attributes:
        problems: what is wrong so far.
    """

    def __init__(self, examples: dict[str, str]) -> None:
        self._examples = examples
        self.problems: list[DocumentError] = []

    def of(self, examples: dict[str, str], /) -> Reading:
        """Of the same document what has other keys."""
        found = Reading(examples)
        found.problems = self.problems
        return found

    def wrong(
        self,
        message: str,
        pointer: Pointer,
        instead: str,
        *,
        meant: str | None = None,
        reason: str = "structure",
    ) -> None:
        """Something is wrong at a place.

        Args:
            meant: the word that was probably meant; it is what to write then.
            reason: which check says so, in one word.
        """
        said = f"{message}; write {meant or instead}"
        self.problems.append(DocumentError(said, pointer=pointer, suggestion=meant, reason=reason))

    def error(self, what: str) -> DocumentError:
        """All that is wrong with ``what``; there is something."""
        if len(self.problems) == 1:
            return self.problems[0]
        first = tuple(self.problems[:MOST_PROBLEMS])
        more = f", of which these are the first {len(first)}" if len(first) < len(self.problems) else ""
        said = f"{len(self.problems)} things are wrong with {what}{more}"
        return DocumentError(said, reason=first[0].reason, problems=first)

    def object(self, raw: Any, pointer: Pointer) -> dict[str, Any] | None:
        """The object itself; None where it is none."""
        if not isinstance(raw, dict):
            self.wrong(f"{shown(raw)} must be an object", pointer, "{...} with names as keys")
            return None
        for key in raw:
            if not isinstance(key, str) or not key.isprintable() or not key:
                self.wrong(f"the key {shown(key)} must be a text that can be printed", pointer, "a name")
        return {key: value for key, value in raw.items() if isinstance(key, str)}

    def fields(self, shape: Shape, raw: dict[str, Any], pointer: Pointer) -> dict[str, Any] | None:
        """What the keys of ``shape`` say, defaults filled in; None where one of them is missing or wrong."""
        found: dict[str, Any] = {}
        for each in keys_of(shape).values():
            if each.name in raw:
                example = self._examples[each.name]
                ok, value = self.value(each.type, raw[each.name], each.name, (*pointer, each.name), example)
                if ok:
                    found[each.name] = value
            elif each.required:
                self.wrong(f"{each.name} is missing", pointer, f"{each.name}: {self._examples[each.name]}")
            elif each.default_factory is not msgspec.NODEFAULT:
                found[each.name] = each.default_factory()
            else:
                found[each.name] = each.default
        return found if len(found) == len(keys_of(shape)) else None

    def value(self, kind: Any, raw: Any, name: str, pointer: Pointer, instead: str) -> tuple[bool, Any]:
        """A value of type ``kind``, and whether it is one."""
        try:
            return True, msgspec.convert(raw, kind)
        except msgspec.ValidationError as exc:
            # Its message ends with the place inside the value, which is shown as a whole.
            why = str(exc).partition(" - at ")[0]
            why = why if len(why) <= 80 else f"{why[:77]}..."
            self.wrong(f"{name}: {shown(raw)} will not do: {why}", pointer, instead)
            return False, None

    def unknown(self, shape: Shape, raw: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        """Keys that ``shape`` does not have, each with the one that is probably meant."""
        known = {name.lower(): name for name in keys_of(shape)}
        for key in raw:
            if key not in keys_of(shape):
                near = difflib.get_close_matches(key.lower(), list(known), 1, _NEAR)
                yield key, known[near[0]] if near else None


@cache
def keys_of(shape: Shape, /) -> dict[str, msgspec.structs.FieldInfo]:
    """The keys of a shape; finding them out takes longer than decoding a flag."""
    return {each.name: each for each in msgspec.structs.fields(shape)}
