"""One document that is followed: when to read it again, what of it is in force, and how it stands.

What is refused, or gone, changes nothing but the status."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import ConfigError, DocumentError
from ..core.events import RUNTIME, ConfigApplied, ConfigRecovered, ConfigRejected, Event, emit
from .log import INFO, WARNING, write
from .snapshot import Snapshot
from .source import Changing, Directory, Files, Mark, Origin

NOT_READY, READY, STALE = "not_ready", "ready", "stale"
STATES = (NOT_READY, READY, STALE)

_READ_ANYWAY = 60
"""Looks after which a plain directory is read though nothing seems to have changed: not every file system tells."""


@dataclass(frozen=True)
class Status:
    """How the config document stands in this process.

    Attributes:
        state: ``"not_ready"``: no good document yet, the code's numbers hold; ``"ready"``: what is there is in force;
            ``"stale"``: what is there was refused or is gone, and the last good document is in force.
        generation: how many documents were applied; 0 before the first.
        digest: SHA-256 of the content in force; None before the first.
        version: ``metadata.version`` of the document in force.
        problem: what is wrong with what is there now; None while nothing is.
    """

    state: str = NOT_READY
    generation: int = 0
    digest: str | None = None
    version: str | None = None
    problem: ConfigError | None = field(default=None, compare=False)


class Feed:
    """Looks at one origin, and keeps what is known of its document. Used by one thread; ``status`` is read by all.

    Args:
        origin: where the document is.

    Attributes:
        status: how it stands.
        good: the files that are in force; None before the first good ones.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self.status = Status()
        self.good: Files | None = None
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
            self.refuse(exc, str(exc))
            return None
        if self.good is not None and files.digest == self.good.digest:
            self._recover()
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

    # ----------------------------------------------------------------------------------------------- what came of it
    def accept(self, files: Files, snapshot: Snapshot, changes: int) -> None:
        """These are in force, with so many changes."""
        self.good = files
        self._refused = None
        self.status = Status(READY, snapshot.generation, snapshot.digest, snapshot.version)
        self._look_at_mount(files)
        self._tell(
            INFO,
            f"generation {snapshot.generation} of {self} is in force; {changes} values changed",
            ConfigApplied(
                "config",
                str(self),
                generation=snapshot.generation,
                digest=snapshot.digest[:12],
                version=snapshot.version,
                changes=changes,
            ),
        )

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
        self.status = Status(state, old.generation, old.digest, old.version, problem)
        if known:
            return
        reason = problem.reason if isinstance(problem, DocumentError) else "missing"
        in_force = (
            "the numbers of the code hold" if self.good is None else f"generation {old.generation} stays"
        )
        # What was never there may just not be there yet.
        level = INFO if reason == "missing" and self.good is None else WARNING
        self._tell(
            level,
            f"{self}: {problem}; {in_force}",
            ConfigRejected("config", str(self), reason=reason, generation=old.generation),
        )

    def _recover(self) -> None:
        """What is in force is there again."""
        self._refused = None
        old = self.status
        if old.state == READY:
            return
        self.status = Status(READY, old.generation, old.digest, old.version)
        self._tell(
            INFO,
            f"generation {old.generation} is there again",
            ConfigRecovered("config", str(self), generation=old.generation),
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

    @staticmethod
    def _tell(level: int, text: str, event: Event) -> None:
        write(level, f"config: {text}", extra=event.attributes())
        if RUNTIME.listeners:
            emit(event)
