"""From the directory to what is in force: look, read, parse, decode, try, publish. The last good document stays.

Nothing raised here reaches a call. The refresher's thread looks once a second; parsing is done there, off the event
loop."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.errors import ConfigError, DocumentError
from ..core.forks import load_unforked
from ..core.log import ERROR, INFO, WARNING, write
from ..discovery.dns import Steps
from ..flags.following import FOLLOWING
from .cache import Cache
from .control import Control, Order
from .feed import BUNDLED, CACHE, DOCUMENT, FAILED, Feed
from .feed import Status as Status
from .push import Pushed
from .records import APPLIED, KEPT, ROLLED_BACK, Change, Difference, History, differences
from .snapshot import Snapshot, snapshot_of
from .source import Files, Nowhere, named

if TYPE_CHECKING:
    from .push import Source
    from .section import Section


EVERY = 1.0
"""Seconds between two looks, a tenth more or less at random."""


class Follower(Protocol):
    """Takes what a snapshot says of policies."""

    def check(self, snapshot: Snapshot, /) -> None:
        """Raise `DocumentError` where something that lives here cannot take it; change nothing."""
        ...

    def apply(self, snapshot: Snapshot, /) -> Sequence[Difference]:
        """Take it; the values that changed."""
        ...


def _fault(exc: BaseException) -> DocumentError:
    """What is wrong here, and not in the document."""
    return DocumentError(f"a fault of this library: {exc!r}", reason="fault")


class Loader:
    """Keeps the document of a directory in force. Used by one thread at a time; ``status`` and ``snapshot`` are read by
    all.

    Args:
        directory: where the document is, or the one file that is it.
        prepare: imports what reading needs, and gives who takes what a document says of policies, and the parts of it
            that others understand. Asked at the first look, in the thread that looks: it takes a quarter of a second.
        clock: where time comes from.
        ended: called where the refresher may have ended, so that somebody starts it again.
        undo: called where a document was put in force while this was dropped.
        emergency: where the emergency document is.
        bundled: a document that stands in until the first good one.
        cache: where the last good one is kept, which stands in before that.
        source: pushes the document, in place of a directory.
        history: is told what changed.

    Attributes:
        dropped: whether nothing is followed any more.
        has_document: whether a config document is followed, and not one for emergencies alone.
        pushed: what the source says; None where there is none.
        failed: whether somebody who needs a document was told that there is none.
        snapshot: what is in force; None before the first good document.
        asleep: for the refresher.
    """

    def __init__(
        self,
        directory: Path | None,
        prepare: Callable[[], tuple[Follower, Sequence[Section]]],
        clock: Clock = SYSTEM_CLOCK,
        ended: Callable[[], None] = lambda: None,
        undo: Callable[[], None] = lambda: None,
        *,
        emergency: Path | None = None,
        bundled: Path | None = None,
        cache: Path | None = None,
        source: Source | None = None,
        history: History | None = None,
    ) -> None:
        self.dropped = False
        self.failed = False
        self.has_document = directory is not None or source is not None
        self.pushed = Pushed(source, self._nudge, clock) if source is not None else None
        self.snapshot: Snapshot | None = None
        self.asleep = True
        self._lock = threading.RLock()
        self._turn = False  # whether somebody looks; taken under _lock
        self.looked = self._asked = threading.Event()
        history = history or History()
        origin = self.pushed or (named(directory) if directory else Nowhere())
        self._main = Feed(origin, history, clock)
        self._emergency = Feed(named(emergency), history, clock, "nothing of it holds") if emergency else None
        self._feeds = [each for each in (self._main, self._emergency) if each is not None]
        self._bundled = named(bundled) if bundled else None
        self._cache = Cache(cache) if cache else None
        self._held: dict[str, int] = {}  # under which generation each document was in force last, by digest
        self._control = Control(clock)
        self._orders: deque[Order] = deque()
        self._stood_in = False  # whether it was seen what could stand in for the document
        self._prepare = prepare
        self._follower: Follower | None = None
        self._sections: Sequence[Section] = ()
        self._clock = clock
        self._ended = ended
        self._undo = undo
        self._due = float("-inf")
        self._told: object = ...  # what is wrong with the document, to who follows the flags; None: nothing

    def __str__(self) -> str:
        return str(self._main)

    @property
    def status(self) -> Status:
        """How it stands."""
        status = replace(self._main.status, pinned=self._control.pin, flapping=self._control.damper.flapping)
        if self._emergency is not None:
            status = replace(status, emergency=self._emergency.status)
        return replace(status, state=FAILED) if self.failed and not status.generation else status

    # ---------------------------------------------------------------------------------------- for the refresher
    @property
    def due(self) -> float:
        """When to look again."""
        return self._due

    def begin(self) -> Steps[Any]:
        """Look; there is nobody to ask."""
        if self._takes_turn():
            try:
                before, self._asked = self._asked, self.looked
                if self._follower is None:
                    load_unforked(self._get_ready)
                if self.pushed is not None:
                    self.pushed.begin()
                self.look(hurry=self._asked is not before)
            finally:
                self._turn = False
        return None
        yield  # as those do that ask nameservers

    def _takes_turn(self) -> bool:
        with self._lock:
            free, self._turn = not self._turn, True
        return free

    def look_here(self) -> None:
        """Look in this thread, where none of ours can be started; unless another one does just now."""
        self.look_now()
        try:
            for _ in self.begin():
                pass
        except Exception as exc:
            self.broke(exc)
        else:
            self.finish(None)

    def _get_ready(self) -> None:
        self._follower, self._sections = self._prepare()

    def finish(self, answer: Any, /) -> None:
        self._due = self._clock.monotonic() + EVERY * (0.9 + 0.2 * random.random())
        if self._asked is not self.looked or self._orders:  # somebody asked while this look was under way
            self._due = float("-inf")
        self._asked.set()

    def broke(self, exc: BaseException, /) -> None:
        # Who waits must not take it for a look that found nothing new.
        for feed in self._feeds:
            feed.forget()
        self._main.refuse(_fault(exc), repr(exc))
        self._tell_followers()
        self._dismiss()
        self.finish(None)
        self._ended()

    def look_now(self) -> threading.Event:
        """Have the refresher look at once, also at what may not have settled; the event is set afterwards.

        One caller at a time. Who asks before the look has begun waits for the same one."""
        if self.looked is self._asked:
            self.looked = threading.Event()
        self._due = float("-inf")
        return self.looked

    def order(self, action: Callable[[], None]) -> Order:
        """Have the thread that looks do something, at its next look, which is now."""
        order = Order(action)
        self._orders.append(order)
        self._due = float("-inf")
        if self.dropped:
            self._dismiss()
        return order

    def _dismiss(self) -> None:
        """Who waits for an order waits in vain."""
        with suppress(IndexError):
            while True:
                order = self._orders.popleft()
                order.error = ConfigError(
                    f"{self} is not followed any more, or the thread that follows it ended"
                )
                order.done.set()

    def _nudge(self) -> None:
        """Something was pushed: look at once."""
        from ..discovery.refresher import REFRESHER

        self._due = float("-inf")
        REFRESHER.wake()

    def after_fork(self) -> None:
        """In a child nobody waits, and no thread looks: what was under way is begun anew."""
        self._lock = threading.RLock()
        self._turn = False
        self.asleep = True
        self._orders = deque()
        self.looked = self._asked = threading.Event()  # a thread of the parent's may have been in the other
        self.look_now()

    def drop(self) -> None:
        """Put nothing in force any more; who waits for a look does so no longer."""
        self.dropped = True
        if self.pushed is not None:
            self.pushed.end()
        self.looked.set()
        self._dismiss()

    # -------------------------------------------------------------------------------------------------- looking
    def look(self, *, hurry: bool = False) -> None:
        """Look whether there is another document, and put it in force if it is good.

        Args:
            hurry: read what is there: somebody says that it is whole.
        """
        obeyed = list[Order]()
        try:
            while self._orders:
                obeyed.append(self._orders.popleft())
                obeyed[-1].obey()
            self._look(hurry=hurry)
        finally:
            for order in obeyed:
                order.done.set()

    def _look(self, *, hurry: bool) -> None:
        if self._control.pin_is_over:
            self.unpin()
        for feed in self._feeds:
            files = feed.look(hurry=hurry)
            if files is not None:
                self._take(feed, files, hurry=hurry)
                feed.dealt_with()
            if feed is self._main:
                self._see_what_is_there()
            if self._main.good is None and not self._stood_in:
                self._stand_in()
                self._stood_in = True
        for section in self._sections if not self.dropped else ():
            section.look()
        self._tell_followers()

    def _see_what_is_there(self) -> None:
        """What is there may be what is in force; or may have waited long enough."""
        control, main = self._control, self._main
        if main.good is not None and main.there == main.good.digest:
            control.came(main.there)
            if control.pin is not None:
                control.entered(main.good, main.status.generation)
        waiting = control.due(main.there)
        if waiting is not None:
            self._take(main, waiting)
        if control.damper.look(self._clock.monotonic()):
            main.damp(on=control.damper.flapping)

    def rollback(self, n: int, ttl: float, reason: str) -> None:
        """Put the n-th good document before this one in force, for a time. In the thread that looks.

        Raises:
            ConfigError: there is none; a `DocumentError` where what lives here cannot take it any more.
        """
        began = self._clock.monotonic()
        older = self._control.older(n)
        snapshot = self._tried(self._main, older.files)
        self._control.go_back(n, ttl, reason)
        self._publish(snapshot, self._main, older.files, began, pinned=reason)

    def unpin(self) -> None:
        """Go back to what is there, where a person pinned something else. In the thread that looks."""
        if self._control.pin is not None:
            self._control.pin = None
            self._main.reconsider(surely=True)
            write(INFO, f"config: {self}: what was pinned is not any more")

    def _tell_followers(self) -> None:
        """Who follows the flags hears how the document stands, once what is to be in force is."""
        status = self._main.status
        problem = None if status.problem is None else str(status.problem)
        if problem == self._told or self.dropped:
            return
        if problem is not None:
            FOLLOWING.refused(problem)
        elif status.generation:
            FOLLOWING.recovered()
        else:
            return
        self._told = problem

    def _stand_in(self) -> None:
        """There is no good document yet: what was kept of an earlier process, else what came with the image."""
        kept = self._cache.read() if self._cache else None
        if kept is not None:
            self._take(self._main, kept, CACHE, str(self._cache))
        if self._bundled is not None and self._main.good is None:
            try:
                self._take(self._main, self._bundled.read(), BUNDLED, str(self._bundled))
            except ConfigError as exc:
                write(WARNING, f"config: the bundled document {self._bundled} is not used: {exc}")

    def _take(
        self,
        feed: Feed,
        files: Files,
        source: str = DOCUMENT,
        of: str | None = None,
        *,
        hurry: bool = False,
    ) -> None:
        pin = self._control.pin
        if feed is self._main and pin is not None and files.digest in pin.rejected:
            feed.recover()
            return
        began = self._clock.monotonic()
        problem: DocumentError
        try:
            snapshot = self._tried(feed, files, guarded=True)
        except DocumentError as exc:
            problem = exc
        except Exception as exc:  # a fault of ours must not end the thread, and is told as what it is
            write(ERROR, "config: a fault of this library, not of the document", exc_info=True)
            problem = _fault(exc)
        else:
            held = feed is self._main and self._control.holds(files, self.snapshot, snapshot)
            if not self.dropped and (hurry or not held):
                self._publish(snapshot, feed, files, began, source, of)
            return
        if source == DOCUMENT:
            feed.refuse(problem, files.digest)
        else:
            write(WARNING, f"config: {of} is not used: {problem}")

    def _tried(self, feed: Feed, files: Files, *, guarded: bool = False) -> Snapshot:
        """What both documents come to, with these files as one of them.

        Args:
            guarded: whether they must not take too much away.

        Raises:
            DocumentError: they are refused.
        """
        from .guard import guard
        from .selftest import try_out

        new = feed is self._main
        main = files if new else self._main.good
        above = self._emergency.good if new and self._emergency else None if new else files
        # What is in force of the emergency is not let go for a document that it does not fit.
        waited = self.snapshot is not None and self.snapshot.waits is not None
        may_wait = self._main.good is None or (new and waited)
        assert self._follower is not None
        generation = self._main.status.generation + new
        snapshot = snapshot_of(main, self._sections, generation, above, may_wait=may_wait)
        if guarded and new and self.snapshot is not None and self._main.status.source == DOCUMENT:
            guard(self.snapshot, snapshot, self._held)
        try_out(snapshot, self._follower.check)
        return snapshot

    def _publish(
        self,
        snapshot: Snapshot,
        feed: Feed,
        files: Files,
        began: float,
        source: str = DOCUMENT,
        of: str | None = None,
        pinned: str | None = None,
    ) -> None:
        assert self._follower is not None
        for section, part in snapshot.parts:
            try:
                section.publish(part)
            except Exception:
                write(ERROR, f"config: not everybody was told of {sorted(section.keys)}", exc_info=True)
        numbers = self._follower.apply(snapshot)
        if self.dropped:
            self._undo()
            return
        # Only now: a child that is forked meanwhile begins anew.
        before, self.snapshot = self.snapshot, snapshot
        noted = snapshot.noted
        if feed is self._emergency and snapshot.emergency is not None:
            noted = snapshot.emergency.noted
        changed = differences(before, snapshot, numbers)
        change = Change(
            APPLIED if pinned is None else ROLLED_BACK,
            self._clock.time(),
            of or str(feed),
            feed.status.generation + 1,
            files.digest,
            feed.status.digest,
            noted.version,
            noted.changed_by,
            noted.ticket,
            pinned,
            differences=changed[:KEPT],
            count=len(changed),
            rollback_of=self._held.get(files.digest) if feed is self._main else None,
            latency=self._clock.monotonic() - began,
        )
        self._hold(snapshot)
        if feed is self._main and pinned is None:
            self._control.entered(files, change.generation)
        feed.accept(files, change, len(numbers), source=source)
        for other in self._feeds:
            if other is not feed:
                other.reconsider()
        if self._emergency is not None and snapshot.emergency is not None:
            self._emergency.wait(snapshot.waits)
        if self._cache is not None and feed is self._main and source == DOCUMENT and pinned is None:
            self._cache.keep(files)

    def _hold(self, snapshot: Snapshot) -> None:
        self._held.pop(snapshot.digest, None)
        self._held[snapshot.digest] = snapshot.generation
        if len(self._held) > KEPT:
            del self._held[next(iter(self._held))]
