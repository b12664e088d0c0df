"""The emergency document: the few switches that are thrown in an incident, beside the config document and above it.

It is small, and checked apart: a config document that is broken does not keep an emergency change out, nor the reverse.
So it says nothing that needs the other to be read: no names of policies, no features, only values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core.errors import DocumentError
from .decode import Target, decode, noted_in, placed
from .document import Pointer, Sources, parse
from .guard import refuse_too_many
from .snapshot import Noted
from .source import Files

MAY = "degradation.level, plans.<name>.active, and numbers in resiliency.targets"
"""What it may say, for people."""

_THERE = "it belongs in the config document; here stand " + MAY


class Emergency(NamedTuple):
    """What an emergency document says.

    Attributes:
        targets: of each dependency.
        over: what stands above the same places of the config document.
        noted: what it notes of itself.
        digest: of the content.
        values: how many it says.
        sources: tells file and line.
    """

    targets: Mapping[str, Target]
    over: Mapping[Pointer, Any]
    noted: Noted
    digest: str
    values: int
    sources: Sources


def read_emergency(files: Files, /) -> Emergency:
    """What the files say.

    Raises:
        DocumentError: with all that is wrong, each with file and line.
    """
    document = parse(files)
    refuse_too_many(document)
    read = _Reader(document.tree)
    over = read.over()
    read.targets()
    if read.problems:
        error = read.problems[0]
        if len(read.problems) > 1:
            said = f"{len(read.problems)} things are wrong"
            error = DocumentError(said, problems=tuple(read.problems))
        raise placed(error, document)
    rest: dict[str, Any] = {
        key: document.tree[key] for key in ("metadata", "resiliency") if key in document.tree
    }
    targets, _ = decode(document._replace(tree=rest))
    values = len(over) + _leaves(rest.get("resiliency", {}))
    return Emergency(targets, over, noted_in(document), document.digest, values, document.sources)


def _leaves(tree: Any) -> int:
    return sum(map(_leaves, tree.values())) if isinstance(tree, dict) else 1


def laid_over(tree: dict[str, Any], over: Mapping[Pointer, Any], /) -> dict[str, Any]:
    """The config document with what the emergency says in its places; the one that is given stays as it was.

    Raises:
        DocumentError: the document has no such place.
    """
    found = dict(tree)
    for pointer, value in over.items():
        inner = found
        for step in map(str, pointer[:-1]):
            there = inner.get(step)
            if not isinstance(there, dict):
                what = "levels" if pointer[0] == "degradation" else f"plan {pointer[1]!r}"
                raise DocumentError(
                    f"the config document has no {what}; write it there first", pointer=pointer
                )
            inner[step] = dict(there)
            inner = inner[step]
        inner[str(pointer[-1])] = value
    return found


class _Reader:
    """One walk over one document."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self._tree = tree
        self.problems: list[DocumentError] = []

    def _refuse(self, message: str, pointer: Pointer) -> None:
        self.problems.append(DocumentError(message, pointer=pointer))

    def _inside(self, pointer: Pointer) -> dict[str, Any]:
        found: Any = self._tree
        for step in pointer:
            if not isinstance(found, dict):  # that was refused where it was met first
                return {}
            found = found.get(step, {})
        if isinstance(found, dict):
            return found
        self._refuse("must be a mapping: {...}", pointer)
        return {}

    def over(self) -> dict[Pointer, Any]:
        """What stands above the config document, and whether all else may stand here."""
        found: dict[Pointer, Any] = {}
        for key in self._tree:
            if key not in ("$schema", "metadata", "degradation", "plans", "resiliency"):
                self._refuse(f"must not stand in the emergency document: {_THERE}", (key,))
        for key, value in self._inside(("degradation",)).items():
            pointer: Pointer = ("degradation", key)
            if key != "level":
                self._refuse(f"must not stand in the emergency document: {_THERE}", pointer)
            elif isinstance(value, bool) or not isinstance(value, (int, str)):
                self._refuse(f"{value!r} must be a level; write its number or its name", pointer)
            else:
                found[pointer] = value
        for name in self._inside(("plans",)):
            for key, value in self._inside(("plans", name)).items():
                pointer = ("plans", name, key)
                if key != "active":
                    self._refuse(f"must not stand in the emergency document: {_THERE}", pointer)
                elif not isinstance(value, bool):
                    self._refuse(f"{value!r} must be true or false; write active: true", pointer)
                else:
                    found[pointer] = value
        return found

    def targets(self) -> None:
        """No names of policies: what they stand for is in the config document."""
        for key in self._inside(("resiliency",)):
            if key != "targets":
                self._refuse(f"must not stand in the emergency document: {_THERE}", ("resiliency", key))
        at: Pointer = ("resiliency", "targets")
        for target in self._inside(at):
            for kind, given in self._inside((*at, target)).items():
                if isinstance(given, str):
                    self._refuse(
                        f"{given!r} names a policy of the config document; write its numbers",
                        (*at, target, kind),
                    )
                elif isinstance(given, dict) and "use" in given:
                    self._refuse(
                        "names a policy of the config document; write its numbers", (*at, target, kind, "use")
                    )
