"""The flags in force: one published reference, replaced as a whole.

Whoever has a document (the config center, a test) parses it and publishes what it gives. Readers take the reference
once and see one document, old or new; no lock is on their way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from ..core.errors import PolicyError
from ..core.events import RUNTIME, FeatureChanged, FeatureUnknown, LevelChanged, emit
from ..core.forks import tell_after_fork
from ..core.log import INFO, WARNING, write
from .following import FOLLOWING
from .snapshot import FlagDetails, Flags, changed

MOST_COMPLAINTS = 100
"""Lines in the log about features that the document and the code see differently, until another is published; and as
many about names that no document has, which may come from outside."""
_LONGEST = 100  # characters of a feature's name that came from who knows where
_MOST_SHOWN = 10  # changes that are told one by one in a line of the log


NOTHING = Flags()
"""In force until flags are published."""


class State:
    """What is in force in this process. Thread-safe.

    Attributes:
        flags: the published ones.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.flags = NOTHING  # replaced under _lock
        self._complaints: set[str] = set()  # guarded by _lock
        self._strangers: set[str] = set()  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    @property
    def ready(self) -> bool:
        """Whether any flags are published."""
        return self.flags is not NOTHING

    def replace(self, flags: Flags, /) -> Flags:
        """Put ``flags`` in force; returns those that were. Who does so tells of it: `announce`."""
        with self._lock:
            old, self.flags = self.flags, flags
            self._complaints.clear()
            self._strangers.clear()
        return old

    def complain(self, subject: str, message: str, *args: object, stranger: bool = False) -> None:
        """Write a line about ``subject``, if that is the first since the last document; not of many subjects.

        Args:
            stranger: the subject is a name that no document has: however many there are, they hide none that one has.
        """
        seen = self._strangers if stranger else self._complaints
        if subject in seen or len(seen) > MOST_COMPLAINTS:
            return
        with self._lock:
            if subject in seen or len(seen) > MOST_COMPLAINTS:
                return
            seen.add(subject)
            last = len(seen) > MOST_COMPLAINTS
        if last:
            write(WARNING, "further disagreements between code and flags are not logged")
        else:
            write(WARNING, message % args)


STATE = State()


def publish(flags: Flags, /) -> None:
    """Put ``flags`` in force, for all threads and tasks, from their next read on.

    What changed is logged in one line (WARNING where the level rose, else INFO) and told as events. Thread-safe.

    Raises:
        PolicyError: these are no `Flags`.

    Example:
        >>> from resilient.flags.document import parse_flags
        >>> publish(parse_flags({"degradation": {"levels": ["normal", "light"], "level": "light"}}))
        >>> STATE.flags.level
        1
        >>> publish(NOTHING)
    """
    if not isinstance(flags, Flags):
        raise PolicyError(
            f"publish: {type(flags).__name__} is not Flags; write publish(parse_flags(document))"
        )
    announce(STATE.replace(flags), flags)


def announce(published: Flags, flags: Flags, /) -> None:
    """Tell that other flags are in force than were ``published``. The first ones follow themselves at level 0."""
    old = Flags(flags.flags, flags.levels) if published is NOTHING else published
    changes = list(_changes(old, flags))
    if old.level != flags.level:
        event = LevelChanged(
            "degradation", "level", old=old.level, new=flags.level, level=flags.levels[flags.level]
        )
        why = "" if flags.overlay is None or flags.overlay.why == "document" else f" by {flags.overlay.why}"
        text = f"degradation: level {old.shown(old.level)} -> {flags.shown(flags.level)}{why}"
        _log(WARNING if flags.level > old.level else INFO, text, changes, event.attributes())
        if RUNTIME.listeners:
            emit(event)
    elif changes:
        _log(INFO, "flags changed", changes, {"event.name": FeatureChanged.name})
    if RUNTIME.listeners:
        for before, now, key in changes:
            emit(
                FeatureChanged(
                    key,
                    "variant",
                    old=None if before is None else before.variant,
                    new=None if now is None else now.variant,
                    cause="code_default" if now is None else now.cause,
                )
            )
    if flags is not NOTHING:
        FOLLOWING.published(changed(published, flags))
    else:
        FOLLOWING.withdrawn(changed(published, flags))


Change = tuple[FlagDetails[Any] | None, FlagDetails[Any] | None, str]


def _changes(old: Flags, new: Flags) -> Iterator[Change]:
    for key in dict.fromkeys([*old.table, *new.table]):
        before, now = old.table.get(key), new.table.get(key)
        if before is not now and before != now:
            yield before, now, key


def _log(level: int, text: str, changes: list[Change], attributes: dict[str, Any]) -> None:
    shown = [f"{key} {_variant(before)} -> {_variant(now)}" for before, now, key in changes[:_MOST_SHOWN]]
    if len(changes) > _MOST_SHOWN:
        shown.append(f"{len(changes) - _MOST_SHOWN} more")
    write(level, f"{text}: {', '.join(shown)}" if shown else text, extra=attributes)


def _variant(details: FlagDetails[Any] | None) -> str:
    return "(code default)" if details is None or details.variant is None else details.variant


def in_force() -> Flags:
    """The flags, for who reads one. That may be the first here who needs the document, also where flags are known: a
    forked child has its parent's, and nobody yet who looks for others."""
    if RUNTIME.pending is not None:
        RUNTIME.begin()
    return STATE.flags


def unknown(feature: str, /) -> None:
    """A feature was asked for that the flags in force do not have. Told only where there are any."""
    shown = str(feature)[:_LONGEST]
    if not STATE.ready:
        STATE.complain("", "feature %r was asked for before flags were published: code defaults hold", shown)
        return
    STATE.complain(shown, "feature %r is in no document: the code's default holds", shown, stranger=True)
    if RUNTIME.listeners:
        emit(FeatureUnknown(shown, "unknown"))
