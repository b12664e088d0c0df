"""What a good document must not do to the one in force: take most of it away, by mistake.

A document that lost its half, or that a template left empty, reads like one that was meant. So what takes away or
changes a large share of what was said needs a word of the person who wrote it: ``metadata.allowMassChange``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..core.errors import DocumentError
from .decode import ALLOW, Target
from .document import Document, Pointer
from .section import Item
from .snapshot import Snapshot

MOST_ITEMS = 50_000
"""Flags, and numbers of policies, in one document."""

FEW = 20
"""Items below which shares mean nothing."""
MOST_GONE = 0.2
MOST_CHANGED = 0.5
_SHOWN = 3
_TARGETS = ("resiliency", "targets")
_FORCED = "state"

Items = Mapping[str, Item]
"""What a document says, by path, such as ``payments.retry.attempts``."""


def refuse_too_many(document: Document, /) -> None:
    """Raise where a document says more than a process should hold.

    Raises:
        DocumentError: it has more than `MOST_ITEMS`.
    """
    flags = document.tree.get("flags")
    count = (len(flags) if isinstance(flags, dict) else 0) + _values(document.tree.get("resiliency"))
    if count > MOST_ITEMS:
        file, line = document.sources.place(())
        said = (
            f"{count:,} flags and numbers; at most {MOST_ITEMS:,}: leave out what this service does not use"
        )
        raise DocumentError(said, file=file, line=line, reason="size")


def _values(tree: Any) -> int:
    return sum(map(_values, tree.values())) if isinstance(tree, dict) else 1


def items_of(snapshot: Snapshot, /) -> Items:
    """All that the config document says."""
    return {path: item for items in _groups(snapshot).values() for path, item in items.items()}


def numbers_of(targets: Mapping[str, Target], /) -> dict[str, Item]:
    """The numbers of the targets."""
    return {
        f"{target}.{kind}.{leaf}": Item(value, value, leaf == _FORCED)
        for target, kinds in targets.items()
        for kind, said in kinds.items()
        for leaf, value in said.values.items()
    }


def guard(before: Snapshot, after: Snapshot, held: Collection[str], /) -> None:
    """Raise where too much of what is in force would go, or change.

    Args:
        before: in force.
        after: what is to be.
        held: the digests of all that was in force in this process: one may go back to them.

    Raises:
        DocumentError: with how to say that it is meant.
    """
    if after.noted.allowed not in (None, before.noted.allowed):
        return
    instead = f'write metadata: {{{ALLOW}: "{before.noted.allowed or "CHG-4711"}"}}'
    if before.noted.allowed is not None:
        instead += f", with another ticket: {before.noted.allowed!r} allowed the change that is in force"
    old, new = _groups(before), _groups(after)
    for pointer, items in old.items():
        if _lasting(items) and not _lasting(new.get(pointer, {})):
            said = f"it would take away all of {'.'.join(map(str, pointer))}; if that is meant, {instead}"
            raise _refused(after, said, pointer)
    if after.digest not in held:
        _compare(_all_lasting(old), _all_lasting(new), after, instead)


def _compare(old: Items, new: Items, after: Snapshot, instead: str) -> None:
    if len(old) < FEW:
        return
    gone = [path for path in old if path not in new]
    changed = [path for path, item in old.items() if path in new and new[path].meant != item.meant]
    for paths, verb, most in ((gone, "take away", MOST_GONE), (changed, "change", MOST_CHANGED)):
        if len(paths) > most * len(old):
            said = f"it would {verb} {len(paths)} of {len(old)} items ({_some(paths)}), more than {most:.0%}"
            raise _refused(after, f"{said}; if that is meant, {instead}")


def _groups(snapshot: Snapshot) -> dict[Pointer, dict[str, Item]]:
    """What it says, by the part of the document."""
    groups: dict[Pointer, dict[str, Item]] = {_TARGETS: numbers_of(snapshot.targets)}
    for section, part in snapshot.parts:
        for path, item in section.items(part).items():
            groups.setdefault((path.partition(".")[0],), {})[path] = item
    return groups


def _lasting(items: Items) -> dict[str, Item]:
    return {path: item for path, item in items.items() if not item.lever}


def _all_lasting(groups: Mapping[Pointer, Items]) -> Items:
    return {path: item for items in groups.values() for path, item in _lasting(items).items()}


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(paths[:_SHOWN])}{more}"


def _refused(after: Snapshot, message: str, pointer: Pointer = ()) -> DocumentError:
    file, line = after.sources.place(pointer)
    return DocumentError(message, pointer=pointer, file=file, line=line, reason="guard")
