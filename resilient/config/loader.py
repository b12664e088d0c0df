"""From the directory to what is in force: look, read, parse, decode, try, publish. The last good document stays.

Nothing raised here reaches a call. The refresher's thread looks once a second; parsing is done there, off the event
loop."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.errors import DocumentError
from ..core.forks import load_unforked
from ..discovery.dns import Steps
from .feed import Feed
from .feed import Status as Status
from .log import ERROR, write
from .snapshot import Snapshot
from .source import Files, named

if TYPE_CHECKING:
    from .decode import Section

EVERY = 1.0
"""Seconds between two looks, a tenth more or less at random."""


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
        directory: where the document is, or the one file that is it.
        prepare: imports what reading needs, and gives who takes what a document says of policies, and the parts of it
            that others understand. Asked at the first look, in the thread that looks: it takes a quarter of a second.
        clock: where time comes from.
        ended: called where the refresher may have ended, so that somebody starts it again.
        undo: called where a document was put in force while this was dropped.

    Attributes:
        dropped: whether the directory is not followed any more.
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
        self.snapshot: Snapshot | None = None
        self.asleep = True
        self.looked = self._asked = threading.Event()
        self._main = Feed(named(directory))
        self._prepare = prepare
        self._follower: Follower | None = None
        self._sections: Sequence[Section] = ()
        self._clock = clock
        self._ended = ended
        self._undo = undo
        self._due = float("-inf")

    @property
    def status(self) -> Status:
        """How it stands."""
        return self._main.status

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
        self._main.forget()
        self._main.refuse(_fault(exc), repr(exc))
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
        files = self._main.look(hurry=hurry)
        if files is not None:
            self._take(files)
            self._main.dealt_with()

    def _take(self, files: Files) -> None:
        try:
            assert self._follower is not None
            snapshot = snapshot_of(files, self._sections, self.status.generation + 1)
            self._follower.check(snapshot)
        except DocumentError as exc:
            self._main.refuse(exc, files.digest)
            return
        except Exception as exc:  # a fault of ours must not end the thread, and is told as what it is
            write(ERROR, "config: a fault of this library, not of the document", exc_info=True)
            self._main.refuse(_fault(exc), files.digest)
            return
        if not self.dropped:
            self._publish(snapshot, files, self._follower)

    def _publish(self, snapshot: Snapshot, files: Files, follower: Follower) -> None:
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
        self._main.accept(files, snapshot, changes)
