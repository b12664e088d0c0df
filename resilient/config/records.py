"""What became of the configuration of this process: one record for each change, the last fifty."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.forks import tell_after_fork

if TYPE_CHECKING:
    from .snapshot import Snapshot

KEPT = 50
"""Records; and changes that one of them names."""

APPLIED, REJECTED, RECOVERED, ROLLED_BACK = "applied", "rejected", "recovered", "rolled_back"
OVERRIDE, OVERRIDE_ENDED = "override", "override_ended"
PLAN, PLAN_ENDED, AUTO_LEVEL = "plan", "plan_ended", "auto_level"


class Difference(NamedTuple):
    """One thing that changed. None: nothing was said, or is said, of it.

    Attributes:
        path: such as ``payments.retry.attempts``, ``flags.search``, ``degradation.level``.
        before: the number, or the variant of a feature.
        after: the same.
    """

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Change:
    """One change of the configuration of this process, or one that was refused.

    Attributes:
        result: ``"applied"``; ``"rejected"``: a document was refused, or is gone; ``"recovered"``: what is in force is
            there again; ``"rolled_back"``: a person put an older document in force; ``"override"``,
            ``"override_ended"``: a person set something for a time; ``"plan"``, ``"plan_ended"``: a plan of the
            document holds, or does not any more; ``"auto_level"``: signals moved the level.
        at: when, in seconds since the epoch.
        source: the directory or file; of an override or a plan, its key.
        generation: of that document, in force afterwards.
        digest: SHA-256 of the content that was applied or refused; None where there was none.
        previous: that of what was in force before.
        version: as ``metadata`` says.
        changed_by: as ``metadata.changedBy`` says.
        ticket: as ``metadata`` says.
        reason: why it was refused, in one word, as in `DocumentError`, or ``missing``; why a person did it, in theirs.
        differences: what changed, the first fifty.
        count: of all that changed.
        rollback_of: the generation that had this content before; None where none had.
        latency: seconds from the read of the files until they were in force.
    """

    result: str
    at: float
    source: str
    generation: int = 0
    digest: str | None = None
    previous: str | None = None
    version: str | None = None
    changed_by: str | None = None
    ticket: str | None = None
    reason: str | None = None
    differences: tuple[Difference, ...] = ()
    count: int = 0
    rollback_of: int | None = None
    latency: float | None = field(default=None, compare=False)


class History:
    """The last changes, the oldest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changes: deque[Change] = deque(maxlen=KEPT)  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def add(self, change: Change, /) -> None:
        with self._lock:
            self._changes.append(change)

    def changes(self) -> tuple[Change, ...]:
        with self._lock:
            return tuple(self._changes)


def differences(
    before: Snapshot | None, after: Snapshot, numbers: Iterable[Difference], /
) -> tuple[Difference, ...]:
    """What differs between two documents, with the emergency's above them.

    Args:
        numbers: what that made of the policies that live here; it stands above what the documents say.
    """
    old, new = _said(before), _said(after)
    said = {
        path: Difference(path, old.get(path), new.get(path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    }
    return tuple((said | {each.path: each for each in numbers}).values())


def _said(snapshot: Snapshot | None) -> dict[str, Any]:
    from .guard import items_of, numbers_of

    if snapshot is None:
        return {}
    found = {path: item.shown for path, item in items_of(snapshot).items()}
    if snapshot.emergency is not None:
        found |= {path: item.shown for path, item in numbers_of(snapshot.emergency.targets).items()}
    return found
