"""One document that is followed: when to read it again, what of it is in force, and how it stands.

What is refused, or gone, changes nothing but the status."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..core.clock import Clock
from ..core.errors import ConfigError, DocumentError
from ..core.events import RUNTIME, Event, emit
from ..core.log import INFO, WARNING, write
from .control import Pin
from .events import ConfigApplied, ConfigFlapping, ConfigRecovered, ConfigRejected
from .records import RECOVERED, REJECTED, ROLLED_BACK, Change, History
from .source import Changing, Directory, Files, Mark, Origin

if TYPE_CHECKING:
    from .overrides import Override

NOT_READY, READY, STALE, FAILED = "not_ready", "ready", "stale", "error"
STATES = (NOT_READY, READY, STALE, FAILED)

DOCUMENT, CACHE, BUNDLED = "document", "cache", "bundled"
"""What is in force: what is followed, or what stands in for it until that has been good once."""

_READ_ANYWAY = 60
"""Looks after which a plain directory is read though nothing seems to have changed: not every file system tells."""


@dataclass(frozen=True)
class Status:
    """How the config document stands in this process.

    Attributes:
        state: ``"not_ready"``: no good document yet, the code's numbers hold; ``"ready"``: what is there is in force,
            or what a person pinned;
            ``"stale"``: what is there was refused or is gone, and the last good document is in force; ``"error"``:
            nothing is in force, and ``configure(required=True)`` has said so.
        generation: how many documents were applied; 0 before the first.
        digest: SHA-256 of the content in force; None before the first.
        version: ``metadata.version`` of the document in force.
        problem: what is wrong with what is there now; None while nothing is.
        source: what is in force: ``"document"``, what is followed; ``"cache"`` or ``"bundled"``, what stands in for it;
            None before the first.
        emergency: how the emergency document stands; None where none is followed.
        pinned: the older document that a person put in force; None: nobody did.
        flapping: whether documents come so fast that they are held back.
        overrides: what persons set in this process, for a time; of two of one key the last holds.
        plans: those of the document that hold now.
        restoring: features that are not degraded any more, and are given back in a while.
    """

    state: str = NOT_READY
    generation: int = 0
    digest: str | None = None
    version: str | None = None
    problem: ConfigError | None = field(default=None, compare=False)
    source: str | None = None
    emergency: Status | None = None
    pinned: Pin | None = None
    flapping: bool = False
    overrides: tuple[Override, ...] = ()
    plans: tuple[str, ...] = ()
    restoring: tuple[str, ...] = ()


class Feed:
    """Looks at one origin, and keeps what is known of its document. Used by one thread; ``status`` is read by all.

    Args:
        origin: where the document is.
        history: is told what came of it.
        clock: where time comes from.
        else_: what holds while there is no good one, for people.

    Attributes:
        status: how it stands.
        good: the files that are in force; None before the first good ones.
        there: the digest of what was read last; None where nothing is there.
        waits: why a part of it is not in force, though it is good; None where nothing waits.
    """

    def __init__(
        self, origin: Origin, history: History, clock: Clock, else_: str = "the numbers of the code hold"
    ) -> None:
        self._origin = origin
        self._history = history
        self._clock = clock
        self._else = else_
        self.status = Status()
        self.good: Files | None = None
        self.there: str | None = None
        self.waits: DocumentError | None = None
        self._seen: Mark | None = None  # at the last look
        self._read: Mark | None = None  # when the files were read last; what could not be read is tried again
        self._refused: object = None  # what was refused last: a digest, or the error's text
        self._looks = 0
        self._looked_at_mount = False

    def __str__(self) -> str:
        return str(self._origin)

    # -------------------------------------------------------------------------------------------------- looking
    def look(self, *, hurry: bool = False) -> Files | None:
        """Look whether there is another document: its files, which are to be tried, and then `dealt_with`.

        Args:
            hurry: read what is there: somebody says that it is whole.
        """
        self._looks += 1
        mark = self._origin.mark()
        # Who writes into a plain directory may be in the middle of it: wait until two looks in a row see the same.
        settled = mark.atomic or self._seen in (None, mark)
        self._seen = mark
        unchanged = mark == self._read and (mark.atomic or self._looks % _READ_ANYWAY)
        if not hurry and (unchanged or not settled):
            return None
        try:
            files = self._origin.read()
        except Changing:
            return None  # the next look is soon
        except ConfigError as exc:
            self.there = None
            self.refuse(exc, str(exc))
            self.forget()  # what was read before may be what is there next
            return None
        self.there = files.digest
        if self.good is not None and files.digest == self.good.digest:
            self.recover()
        elif files.digest != self._refused or hurry:
            return files
        self.dealt_with()
        return None

    def dealt_with(self) -> None:
        """What was read is in force or refused: read again when something else is there. Who is forked before this
        begins anew."""
        self._read = self._seen

    def forget(self) -> None:
        """Read again whatever is there: it is not known what became of it."""
        self._read = None

    def reconsider(self, *, surely: bool = False) -> None:
        """The other document has changed: try again what did not go together with it.

        Args:
            surely: try again whatever is there.
        """
        problem = self.status.problem
        if surely or (isinstance(problem, DocumentError) and problem.reason in ("emergency", "policies")):
            self._read = self._refused = None

    # ----------------------------------------------------------------------------------------------- what came of it
    def accept(self, files: Files, change: Change, changes: int, *, source: str = DOCUMENT) -> None:
        """These are in force.

        Args:
            change: what that is, for the history.
            changes: so many numbers of live policies are others than before.
            source: what they are.
        """
        self.good = files
        self._history.add(change)
        generation, version = change.generation, change.version
        pinned = change.result == ROLLED_BACK
        if source == DOCUMENT and not pinned:
            self._refused = None
            self.status = Status(READY, generation, files.digest, version, source=source)
            self._look_at_mount(files)
        else:
            old = self.status
            state = READY if old.problem is None else STALE
            self.status = Status(state, generation, files.digest, version, old.problem, source)
        again = "" if change.rollback_of is None else f", the content of generation {change.rollback_of}"
        again += f", pinned: {change.reason}" if pinned else ""
        self._tell(
            INFO,
            f"generation {generation} of {change.source} is in force{again}; {changes} values changed",
            ConfigApplied(
                "config",
                change.source,
                generation=generation,
                digest=files.digest[:12],
                previous=None if change.previous is None else change.previous[:12],
                version=version,
                changed_by=change.changed_by,
                ticket=change.ticket,
                changes=changes,
                differences=tuple(map(str, change.differences)),
                rollback_of=change.rollback_of,
                latency=change.latency,
                pinned=change.reason if pinned else None,
            ),
        )

    def wait(self, why: DocumentError | None) -> None:
        """A part of what was accepted waits for the other document; None: it does no longer."""
        before, self.waits = self.waits, why
        if why is None:
            if before is not None and self.status.problem is before:
                self.status = replace(self.status, state=READY, problem=None)
            return
        why.__traceback__ = why.__cause__ = why.__context__ = None
        self.status = replace(self.status, state=STALE, problem=why)
        if before is None or str(before) != str(why):
            write(WARNING, f"config: {self}: {why}; the rest of it is in force")

    def refuse(self, problem: ConfigError, what: object) -> None:
        """What is there is not put in force.

        Args:
            what: tells whether it is the same as before: then it has been told.
        """
        # It is kept: what it was raised from, and in, would keep the whole document.
        problem.__traceback__ = problem.__cause__ = problem.__context__ = None
        known = what == self._refused
        self._refused = what
        old = self.status
        state = NOT_READY if self.good is None else STALE
        self.status = replace(old, state=state, problem=problem)
        if known:
            return
        reason = problem.reason if isinstance(problem, DocumentError) else "missing"
        digest = what if isinstance(problem, DocumentError) and isinstance(what, str) else None
        self._record(REJECTED, digest=digest, reason=reason)
        in_force = self._else if self.good is None else f"generation {old.generation} stays"
        # What was never there may just not be there yet.
        level = INFO if reason == "missing" and self.good is None else WARNING
        self._tell(
            level,
            f"{self}: {problem}; {in_force}",
            ConfigRejected("config", str(self), reason=reason, generation=old.generation),
        )

    def recover(self) -> None:
        """Nothing is wrong with what is there: it is in force, or was left behind by a person."""
        self._refused = None
        old = self.status
        if old.problem is self.waits and old.source == DOCUMENT:
            return
        self.status = replace(old, state=STALE if self.waits else READY, problem=self.waits, source=DOCUMENT)
        if self.waits:
            return
        self._record(RECOVERED, digest=old.digest)
        self._tell(
            INFO,
            f"generation {old.generation} is there again",
            ConfigRecovered("config", str(self), generation=old.generation),
        )

    def _record(self, result: str, *, digest: str | None, reason: str | None = None) -> None:
        now = self.status
        self._history.add(
            Change(
                result,
                self._clock.time(),
                str(self),
                now.generation,
                digest,
                now.digest,
                reason=reason,
            )
        )

    def _look_at_mount(self, files: Files) -> None:
        if self._looked_at_mount or not isinstance(self._origin, Directory):
            return
        self._looked_at_mount = True
        if self._origin.stuck(files):
            write(
                WARNING,
                f"config: {self} is mounted by subPath or as a single file, and no change will ever be seen; mount the "
                "whole volume on a directory, and name that directory, or the file in it",
            )

    def damp(self, *, on: bool) -> None:
        """Documents come too fast from now on, or not any more."""
        said = (
            "changes too often: from now on the latest is applied every ten seconds"
            if on
            else "is calm again"
        )
        event = ConfigFlapping("config", str(self), generation=self.status.generation, on=on)
        self._tell(WARNING if on else INFO, f"{self} {said}", event)

    @staticmethod
    def _tell(level: int, text: str, event: Event) -> None:
        write(level, f"config: {text}", extra=event.attributes())
        if RUNTIME.listeners:
            emit(event)
