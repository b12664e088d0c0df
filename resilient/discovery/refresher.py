"""The thread that keeps Services up to date: one for the process, a daemon, started by the first that is used.

It asks for all names that are due at once: a nameserver that is silent about one holds up none of the others."""

from __future__ import annotations

import selectors
import socket
import threading
import weakref
from collections import deque
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.forks import load_unforked, tell_after_fork
from .dns import Broken, Lookup, Question, Steps, load
from .options import Dns
from .service import Service, complain
from .state import Answer
from .wire import Exchange

if TYPE_CHECKING:
    import dns.message

LONGEST_WAIT = 60.0
"""Seconds after which the thread looks whether it is still needed."""
MOST_ASKED = 64
"""Questions that are on their way at once, each by a socket: thousands must not take all descriptors of the process.
The others wait for their turn, the name that is due longest first. Who asks nothing does not wait for them."""
REST = 5.0
"""Seconds for which a thing is left alone that cannot even be told of a bug."""


class Refreshed(Protocol):
    """What the refresher looks after."""

    asleep: bool

    @property
    def due(self) -> float:
        """When to look again, in the clock's time."""
        ...

    def begin(self) -> Steps[Answer]:
        """The questions to ask now; is sent their answers."""
        ...

    def finish(self, answer: Answer, /) -> None:
        """They came to this."""
        ...

    def broke(self, exc: BaseException, /) -> None:
        """A bug of ours ended the questions, or something ended the thread."""
        ...


class Refresher:
    """Looks after whatever is due. Things are held weakly; without any the thread ends.

    Args:
        clock: where time comes from; the nameservers are given real time.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._things: weakref.WeakSet[Refreshed] = weakref.WeakSet()  # guarded by _lock
        self._thread: threading.Thread | None = None  # guarded by _lock
        self._bell: socket.socket | None = None  # what is sent here, the thread hears; guarded by _lock
        self._round: Round | None = None  # the thread's
        self._hears: socket.socket | None = None  # the thread's
        self._told = False  # whether it was logged that the thread cannot be started; guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        """In a child there is no thread; the first call that meets a sleeping thing starts one."""
        self._lock = threading.RLock()
        self._thread = None
        self._told = False
        for inherited in (self._bell, self._hears):
            if inherited is not None:
                inherited.close()
        if self._round is not None:
            self._round.abandon()
        self._bell = self._hears = self._round = None
        self._things = weakref.WeakSet()

    def watch(self, thing: Refreshed, /) -> str:
        """Look after ``thing`` from now on; returns why that cannot be, for people: then it stays asleep."""
        with self._lock:
            try:
                self._start()
            except (RuntimeError, OSError) as exc:  # no more threads, or descriptors, for this process
                why = f"{type(exc).__name__}: {exc}"
                first, self._told = not self._told, True
            else:
                why, first = "", False
                self._told = False
                self._things.add(thing)
                thing.asleep = False
        if first:
            complain("the thread that resolves names cannot be started: %s", why, exc_info=False)
        self.wake()
        return why

    def forget(self, thing: Refreshed, /) -> None:
        """Do not look after it any more."""
        with self._lock:
            self._things.discard(thing)
            thing.asleep = True

    def wake(self) -> None:
        """Something may be due earlier than it was."""
        with self._lock:
            bell = self._bell
        if bell is not None:
            try:
                bell.send(b"!")
            except OSError:
                pass  # it has been rung already, or the thread has just ended

    def _start(self) -> None:
        if self._thread is not None:
            return
        bell, hears = socket.socketpair()
        try:
            for sock in (bell, hears):
                sock.setblocking(False)
            thread = threading.Thread(
                target=self._run, args=(hears,), name="resilient-refresher", daemon=True
            )
            self._thread, self._bell = thread, bell
            thread.start()
        except BaseException:
            self._thread = self._bell = None
            bell.close()
            hears.close()
            raise

    def _run(self, hears: socket.socket) -> None:
        me = threading.current_thread()
        try:
            with (
                selectors.DefaultSelector() as selector,
                hears,
                closing(Round(selector, self._clock)) as round_,
            ):
                selector.register(hears, selectors.EVENT_READ)
                self._hears, self._round = hears, round_
                self._serve(me, hears, round_)
        except BaseException as exc:
            complain("the thread that resolves names ends; the next call begins another")
            for thing in self._ended(me):
                try:
                    thing.broke(exc)  # who waits for it waits in vain
                except Exception:
                    complain("%r could not be told", thing)

    def _serve(self, me: threading.Thread, hears: socket.socket, round_: Round) -> None:
        while True:
            with self._lock:
                things = list(self._things)
                if not things and not round_.busy:
                    self._ended(me)  # under the same lock: who comes later begins another
                    return
            left = round_.begin(things)
            del things  # held weakly while we wait
            round_.wait(min(left, LONGEST_WAIT))
            try:
                while hears.recv(4_096):
                    pass
            except BlockingIOError:
                pass

    def _ended(self, thread: threading.Thread) -> list[Refreshed]:
        """This thread is none any more, for whatever reason: what it looked after sleeps, until the next call that
        needs it."""
        with self._lock:
            if self._thread is not thread:
                return []
            self._thread = None
            if self._bell is not None:
                self._bell.close()
            self._bell = self._hears = self._round = None
            things, self._things = list(self._things), weakref.WeakSet()
            for thing in things:
                thing.asleep = True
            return things

    def run_due(self) -> float | None:
        """Look after what is due, and wait for the answers; seconds until the next, or None where there is nothing to
        look after. For tests, which turn it in place of the thread."""
        with self._lock:
            things = list(self._things)
        with selectors.DefaultSelector() as selector:
            round_ = Round(selector, self._clock)
            round_.begin(things)
            while round_.busy:
                round_.wait(LONGEST_WAIT)
                round_.begin(things)
        if not things:
            return None
        return max(0.0, min(each.due for each in things) - self._clock.monotonic())


class Round:
    """What is being asked now. Used by one thread.

    Args:
        selector: where sockets are registered.
        clock: of the things that are looked after.
    """

    def __init__(self, selector: selectors.BaseSelector, clock: Clock) -> None:
        self._selector = selector
        self._clock = clock
        self._begun: set[int] = set()  # ids of things that are not finished
        self._asked: dict[int, Exchange] = {}  # what they wait for, by their id
        self._queue: deque[tuple[Any, Steps[Answer], Question]] = deque()  # to be asked next
        self._resting: dict[int, float] = {}  # until when one is left alone, by its id
        self._loaded = False  # what asking needs; not everything that is looked after asks
        self._sick: weakref.WeakSet[Any] = weakref.WeakSet()  # of whose bugs was told
        self._real = SYSTEM_CLOCK.monotonic

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._begun)

    def begin(self, things: list[Any]) -> float:
        """Ask for what is due and not asked for yet; seconds until something else is."""
        now = self._clock.monotonic()
        self._resting = {key: until for key, until in self._resting.items() if until > now}
        idle = [each for each in things if id(each) not in self._begun]
        due = [each for each in idle if self._due(each) <= now]
        due.sort(key=self._due)
        for thing in due:
            self._begun.add(id(thing))
            self._step(thing, None, None)
        self._ask()
        left = [self._due(each) - now for each in idle if id(each) not in self._begun]
        return max(0.0, min(left, default=float("inf")))  # also of those that asked nobody

    def _due(self, thing: Any) -> float:
        due: float = thing.due
        return max(due, self._resting.get(id(thing), due))

    def wait(self, seconds: float) -> None:
        """Wait for answers, at most so long, and hand them on."""
        now = self._real()
        waiting = list(self._asked.values())
        until = min([now + seconds, *(each.due for each in waiting)])
        for key, _ in self._selector.select(max(0.0, until - now)):
            if key.data is not None:
                key.data.ready(self._real())
        now = self._real()
        for exchange in waiting:
            if exchange.due <= now and exchange in self._asked.values():
                exchange.late(now)
        self._ask()

    def abandon(self) -> None:
        """In a forked child: close what was inherited, and leave the parent's selector alone."""
        for exchange in self._asked.values():
            exchange.abandon()
        self._selector.close()

    def close(self) -> None:
        """Nobody waits for the answers any more."""
        for exchange in self._asked.values():
            exchange.drop()

    def _ask(self) -> None:
        """Ask what is to be asked next, as far as there is room."""
        while self._queue and len(self._asked) < MOST_ASKED:
            thing, steps, question = self._queue.popleft()
            try:
                if not self._loaded:
                    load_unforked(load)
                    self._loaded = True
                exchange = Exchange(question, self._selector, partial(self._step, thing, steps))
                self._asked[id(thing)] = exchange
                exchange.ask(self._real())
            except Exception as exc:
                self._broke(thing, exc)

    def _step(
        self, thing: Any, steps: Steps[Answer] | None, answer: dns.message.Message | Broken | None
    ) -> None:
        """Hand an answer to the questions of a thing; what it asks next is put into the queue."""
        self._asked.pop(id(thing), None)
        try:
            if steps is None:
                steps = thing.begin()
            try:
                if answer is None:
                    question = next(steps)
                elif isinstance(answer, Broken):
                    question = steps.throw(answer)
                else:
                    question = steps.send(answer)
            except StopIteration as end:
                self._begun.discard(id(thing))
                thing.finish(end.value)
                self._sick.discard(thing)
            else:
                self._queue.append((thing, steps, question))
        except Exception as exc:
            self._broke(thing, exc)

    def _broke(self, thing: Any, exc: Exception) -> None:
        """Something went wrong that should not: it is this thing's alone. Called with the exception in hand."""
        self._begun.discard(id(thing))
        asked = self._asked.pop(id(thing), None)
        if asked is not None:
            asked.drop()
        if thing not in self._sick:
            self._sick.add(thing)
            complain("%r could not be refreshed; what follows from it is not logged", thing)
        try:
            thing.broke(exc)
        except Exception:  # noqa: S110 - as a rule the same again, and that was told
            pass
        if thing.due <= self._clock.monotonic():  # or it would be asked for without a pause
            self._resting[id(thing)] = self._clock.monotonic() + REST


class Services:
    """The Services that this process uses; each once, however many clients ask for it. Held weakly."""

    def __init__(self, refresher: Refresher) -> None:
        self._refresher = refresher
        self._lock = threading.RLock()
        self._found: weakref.WeakValueDictionary[tuple[Dns, str, int | str, bool], Service] = (
            weakref.WeakValueDictionary()
        )  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def get(self, name: str, port: int | str, dns: Dns, /, *, verified: bool) -> Service:
        """The source of a Service.

        Args:
            name: absolute, with a dot at its end.
            port: a number, or the name of a Service's port.
            dns: whom to ask.
            verified: whether a certificate proves to callers whom they reached.
        """
        key = (dns, name, port, verified)
        with self._lock:
            found = self._found.get(key)
            if found is None:
                lookup = Lookup(name, port, dns)
                found = self._found[key] = Service(name, port, self._refresher, lookup, verified=verified)
            return found


REFRESHER = Refresher()
SERVICES = Services(REFRESHER)
