"""The thread that keeps Services up to date: one for the process, a daemon, started by the first that is used.

It asks for all names that are due at once: a nameserver that is silent about one holds up none of the others."""

from __future__ import annotations

import selectors
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.events import logger
from ..core.forks import tell_after_fork
from .dns import Broken, Lookup, Steps
from .options import Dns
from .service import Service
from .state import Answer
from .wire import Exchange

if TYPE_CHECKING:
    import dns.message

LONGEST_WAIT = 60.0
"""Seconds after which the thread looks whether it is still needed."""


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

    def broke(self, exc: Exception, /) -> None:
        """A bug of ours ended the questions."""
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
        tell_after_fork(self)

    def after_fork(self) -> None:
        """In a child there is no thread; the first call that meets a sleeping thing starts one."""
        self._lock = threading.RLock()
        self._thread = None
        for inherited in (self._bell, self._hears):
            if inherited is not None:
                inherited.close()
        if self._round is not None:
            self._round.abandon()
        self._bell = self._hears = self._round = None
        self._things = weakref.WeakSet()

    def watch(self, thing: Refreshed, /) -> None:
        """Look after ``thing`` from now on."""
        with self._lock:
            self._things.add(thing)
            thing.asleep = False
            self._start()
        self.wake()

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
        if self._thread is None:
            self._bell, hears = socket.socketpair()
            for sock in (self._bell, hears):
                sock.setblocking(False)
            self._thread = threading.Thread(
                target=self._run, args=(hears,), name="resilient-refresher", daemon=True
            )
            self._thread.start()

    def _run(self, hears: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, hears:
            selector.register(hears, selectors.EVENT_READ)
            self._hears, self._round = hears, (round_ := Round(selector, self._clock))
            while True:
                with self._lock:
                    things = list(self._things)
                    if not things and not round_.busy:
                        self._thread = None
                        if self._bell is not None:
                            self._bell.close()
                        self._bell = self._hears = self._round = None
                        return
                left = round_.begin(things)
                del things  # held weakly while we wait
                round_.wait(min(left, LONGEST_WAIT))
                try:
                    while hears.recv(4_096):
                        pass
                except BlockingIOError:
                    pass

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
        self._asking: dict[int, Exchange | None] = {}  # by the id of the thing
        self._real = SYSTEM_CLOCK.monotonic

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._asking)

    def begin(self, things: list[Any]) -> float:
        """Ask for what is due and not asked for yet; seconds until something else is."""
        now = self._clock.monotonic()
        for thing in things:
            if id(thing) not in self._asking and thing.due <= now:
                self._asking[id(thing)] = None
                self._step(thing, thing.begin(), None)
        idle = (
            each.due - now for each in things if id(each) not in self._asking
        )  # also those that asked nobody
        return max(0.0, min(idle, default=float("inf")))

    def wait(self, seconds: float) -> None:
        """Wait for answers, at most so long, and hand them on."""
        now = self._real()
        waiting = [each for each in self._asking.values() if each is not None]
        until = min([now + seconds, *(each.due for each in waiting)])
        for key, _ in self._selector.select(max(0.0, until - now)):
            if key.data is not None:
                key.data.ready(self._real())
        now = self._real()
        for exchange in waiting:
            if exchange.due <= now and exchange in self._asking.values():
                exchange.late(now)

    def abandon(self) -> None:
        """In a forked child: close what was inherited, and leave the parent's selector alone."""
        for exchange in self._asking.values():
            if exchange is not None:
                exchange.abandon()
        self._selector.close()

    def _step(self, thing: Any, steps: Steps[Answer], answer: dns.message.Message | Broken | None) -> None:
        """Hand an answer to the questions of a thing, and ask the next."""
        try:
            if answer is None:
                question = next(steps)
            elif isinstance(answer, Broken):
                question = steps.throw(answer)
            else:
                question = steps.send(answer)
        except StopIteration as end:
            del self._asking[id(thing)]
            thing.finish(end.value)
        except Exception as exc:  # a bug: it must not end the thread for everybody
            logger().exception("%r could not be refreshed", thing)
            del self._asking[id(thing)]
            thing.broke(exc)
        else:
            exchange = Exchange(question, self._selector, lambda found: self._step(thing, steps, found))
            self._asking[id(thing)] = exchange
            exchange.ask(self._real())


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
