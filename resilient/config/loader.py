"""From the directory to what is in force: look, read, parse, decode, try, publish. The last good document stays.

Nothing raised here reaches a call. The refresher's thread looks once a second; parsing is done there, off the event
loop."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.errors import ConfigError, DocumentError
from ..core.events import RUNTIME, ConfigApplied, ConfigRecovered, ConfigRejected, Event, emit
from ..core.forks import load_unforked
from ..discovery.dns import Steps
from ..flags.following import FOLLOWING
from .log import ERROR, INFO, WARNING, write
from .snapshot import Snapshot
from .source import Changing, Directory, Files, Mark

if TYPE_CHECKING:
    from .decode import Section

NOT_READY, READY, STALE = "not_ready", "ready", "stale"
STATES = (NOT_READY, READY, STALE)

EVERY = 1.0
"""Seconds between two looks, a tenth more or less at random."""

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


class Follower(Protocol):
    """Takes what a snapshot says of policies."""

    def check(self, snapshot: Snapshot, /) -> None:
        """Raise `DocumentError` where something that lives here cannot take it; change nothing."""
        ...

    def apply(self, snapshot: Snapshot, /) -> int:
        """Take it; how many values changed."""
        ...


def snapshot_of(files: Files, sections: Sequence[Section], generation: int = 1) -> Snapshot:
    """What the files come to.

    Raises:
        DocumentError: with file, line and what to write instead.
    """
    from .decode import decode, placed
    from .document import parse

    document = parse(files)
    targets = decode(document, sections)
    try:
        parts = tuple((section, section.parse(document.tree)) for section in sections)
    except DocumentError as exc:
        raise placed(exc, document) from exc
    version = document.tree.get("metadata", {}).get("version")
    said = None if version is None else str(version)
    return Snapshot(generation, document.digest, said, document.sources, targets, parts)


def _fault(exc: BaseException) -> DocumentError:
    """What is wrong here, and not in the document."""
    return DocumentError(f"a fault of this library: {exc!r}", reason="fault")


class Loader:
    """Keeps the document of a directory in force. Used by one thread; ``status`` and ``snapshot`` are read by all.

    Args:
        directory: where the document is.
        prepare: imports what reading needs, and gives who takes what a document says of policies, and the parts of it
            that others understand. Asked at the first look, in the thread that looks: it takes a quarter of a second.
        clock: where time comes from.
        ended: called where the refresher may have ended, so that somebody starts it again.
        undo: called where a document was put in force while this was dropped.

    Attributes:
        dropped: whether the directory is not followed any more.
        status: how it stands.
        snapshot: what is in force; None before the first good document.
        asleep: for the refresher.
    """

    def __init__(
        self,
        directory: Path,
        prepare: Callable[[], tuple[Follower, Sequence[Section]]],
        clock: Clock = SYSTEM_CLOCK,
        ended: Callable[[], None] = lambda: None,
        undo: Callable[[], None] = lambda: None,
    ) -> None:
        self.directory = directory
        self.dropped = False
        self.status = Status()
        self.snapshot: Snapshot | None = None
        self.asleep = True
        self.looked = self._asked = threading.Event()
        self._source = Directory(directory)
        self._prepare = prepare
        self._follower: Follower | None = None
        self._sections: Sequence[Section] = ()
        self._clock = clock
        self._ended = ended
        self._undo = undo
        self._due = float("-inf")
        self._seen: Mark | None = None  # at the last look
        self._read: Mark | None = None  # when the files were read last; what could not be read is tried again
        self._refused: object = None  # what was refused last: a digest, or the error's text
        self._looks = 0

    # ---------------------------------------------------------------------------------------- for the refresher
    @property
    def due(self) -> float:
        """When to look again."""
        return self._due

    def begin(self) -> Steps[Any]:
        """Look; there is nobody to ask."""
        before, self._asked = self._asked, self.looked
        if self._follower is None:
            load_unforked(self._get_ready)
        self.look(hurry=self._asked is not before)
        return None
        yield  # as those do that ask nameservers

    def _get_ready(self) -> None:
        self._follower, self._sections = self._prepare()

    def finish(self, answer: Any, /) -> None:
        self._due = self._clock.monotonic() + EVERY * (0.9 + 0.2 * random.random())
        if self._asked is not self.looked:  # somebody asked for a look while this one was under way
            self._due = float("-inf")
        self._asked.set()

    def broke(self, exc: BaseException, /) -> None:
        # Who waits must not take it for a look that found nothing new.
        self._read = None
        self._refuse(_fault(exc), repr(exc))
        self.finish(None)
        self._ended()

    def look_now(self) -> threading.Event:
        """Have the refresher look at once, also at what may not have settled; the event is set afterwards.

        One caller at a time. Who asks before the look has begun waits for the same one."""
        if self.looked is self._asked:
            self.looked = threading.Event()
        self._due = float("-inf")
        return self.looked

    def after_fork(self) -> None:
        """In a child nobody waits, and no thread looks: what was under way is begun anew."""
        self.asleep = True
        self.looked = self._asked = threading.Event()  # a thread of the parent's may have been in the other
        self.look_now()

    def drop(self) -> None:
        """Put nothing in force any more; who waits for a look does so no longer."""
        self.dropped = True
        self.looked.set()

    # -------------------------------------------------------------------------------------------------- looking
    def look(self, *, hurry: bool = False) -> None:
        """Look whether there is another document, and put it in force if it is good.

        Args:
            hurry: read what is there: somebody says that it is whole.
        """
        self._looks += 1
        mark = self._source.mark()
        # Who writes into a plain directory may be in the middle of it: wait until two looks in a row see the same.
        settled = mark.atomic or self._seen in (None, mark)
        self._seen = mark
        unchanged = mark == self._read and (mark.atomic or self._looks % _READ_ANYWAY)
        if not hurry and (unchanged or not settled):
            return
        try:
            files = self._source.read()
        except Changing:
            return  # the next look is soon
        except ConfigError as exc:
            self._refuse(exc, str(exc))
        else:
            self._take(files, again=hurry)
            self._read = mark

    def _take(self, files: Files, *, again: bool) -> None:
        if self.snapshot is not None and files.digest == self.snapshot.digest:
            self._recover()
            return
        if files.digest == self._refused and not again:
            return
        try:
            assert self._follower is not None
            snapshot = snapshot_of(files, self._sections, self.status.generation + 1)
            self._follower.check(snapshot)
        except DocumentError as exc:
            self._refuse(exc, files.digest)
            return
        except Exception as exc:  # a fault of ours must not end the thread, and is told as what it is
            write(ERROR, "config: a fault of this library, not of the document", exc_info=True)
            self._refuse(_fault(exc), files.digest)
            return
        if not self.dropped:
            self._publish(snapshot, self._follower)

    def _publish(self, snapshot: Snapshot, follower: Follower) -> None:
        for section, part in snapshot.parts:
            try:
                section.publish(part)
            except Exception:
                write(ERROR, f"config: not everybody was told of {sorted(section.keys)}", exc_info=True)
        changes = follower.apply(snapshot)
        if self.dropped:
            self._undo()
            return
        # Only now: a child that is forked meanwhile begins anew.
        self.snapshot = snapshot
        self._refused = None
        self.status = Status(READY, snapshot.generation, snapshot.digest, snapshot.version)
        self._tell(
            INFO,
            f"generation {snapshot.generation} of {self.directory} is in force; {changes} values changed",
            ConfigApplied(
                "config",
                str(self.directory),
                generation=snapshot.generation,
                digest=snapshot.digest[:12],
                version=snapshot.version,
                changes=changes,
            ),
        )

    def _refuse(self, problem: ConfigError, what: object) -> None:
        # It is kept: what it was raised from, and in, would keep the whole document.
        problem.__traceback__ = problem.__cause__ = problem.__context__ = None
        known = what == self._refused
        self._refused = what
        old = self.status
        state = NOT_READY if self.snapshot is None else STALE
        self.status = Status(state, old.generation, old.digest, old.version, problem)
        if known:
            return
        reason = problem.reason if isinstance(problem, DocumentError) else "missing"
        in_force = (
            "the numbers of the code hold" if self.snapshot is None else f"generation {old.generation} stays"
        )
        # What was never there may just not be there yet.
        level = INFO if reason == "missing" and self.snapshot is None else WARNING
        self._tell(
            level,
            f"{self.directory}: {problem}; {in_force}",
            ConfigRejected("config", str(self.directory), reason=reason, generation=old.generation),
        )
        FOLLOWING.refused(str(problem))

    def _recover(self) -> None:
        """What is in force is there again."""
        self._refused = None
        if self.status.state == READY:
            return
        assert self.snapshot is not None
        self.status = Status(READY, self.snapshot.generation, self.snapshot.digest, self.snapshot.version)
        generation = self.snapshot.generation
        self._tell(
            INFO,
            f"generation {generation} is there again",
            ConfigRecovered("config", str(self.directory), generation=generation),
        )
        FOLLOWING.recovered()

    @staticmethod
    def _tell(level: int, text: str, event: Event) -> None:
        write(level, f"config: {text}", extra=event.attributes())
        if RUNTIME.listeners:
            emit(event)
