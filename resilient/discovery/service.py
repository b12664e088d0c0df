"""A Service of the cluster as a source of addresses, by DNS."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.errors import NoEndpoints
from ..core.events import RUNTIME, DiscoveryFailed, emit, logger
from ..core.forks import tell_after_fork
from .address import Address
from .dns import Steps
from .source import Listener
from .state import Answer, Kind, Resolution

if TYPE_CHECKING:
    from .refresher import Refresher


def complain(text: str, *args: object, exc_info: bool = True) -> None:
    """Log a fault of ours. Handlers and filters are the user's: theirs must not end the thread either."""
    try:
        logger().error(text, *args, exc_info=exc_info)
    except Exception:  # noqa: S110 - whom could we tell?
        pass


class Asks(Protocol):
    """What a Service is looked up with."""

    def steps(self) -> Steps[Answer]:
        """The questions, one after the other; returns what their answers come to."""
        ...


class Service:
    """One name and port of the cluster. The refresher's thread asks; everybody else reads a snapshot.

    Args:
        name: absolute, with a dot at its end.
        port: a number, or the name of a Service's port.
        refresher: whose thread keeps it up to date.
        lookup: knows what to ask the nameservers.
        verified: whether a certificate proves to callers whom they reached.
        clock: where time comes from.
    """

    def __init__(
        self,
        name: str,
        port: int | str,
        refresher: Refresher,
        lookup: Asks,
        *,
        verified: bool,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.port = port
        self.addresses: tuple[Address, ...] = ()
        self.answered = False
        self.asleep = True
        self._refresher = refresher
        self._lookup = lookup
        self._clock = clock
        self._lock = threading.RLock()
        self._resolution = Resolution(verified=verified)  # guarded by _lock
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()  # guarded by _lock
        self._waiters: list[Callable[[], None]] = []  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self._waiters = []  # who waits, waits in the parent
        self.asleep = True  # so does the thread

    # ------------------------------------------------------------------------------------------- for the refresher
    @property
    def due(self) -> float:
        """When to ask again."""
        return self._resolution.due

    @property
    def status(self) -> str:
        """``unresolved``, ``ready``, ``fading``, ``empty`` or ``stale``."""
        return self._resolution.status

    @property
    def why(self) -> str:
        """The last answer that was not good, for people; empty where it was."""
        return self._resolution.why

    def begin(self) -> Steps[Answer]:
        """The questions to ask now."""
        with self._lock:
            self._resolution.age(self._clock.monotonic())
        self._publish()  # what can no longer be believed is gone before the nameservers have timed out
        return self._lookup.steps()

    def finish(self, answer: Answer, /) -> None:
        """The answer: publish what is new."""
        with self._lock:
            before = self._resolution.status
            self._resolution.tell(answer, self._clock.monotonic())
            after = self._resolution.status
        self._publish()
        self._tell(answer, before, after)  # last: a handler or filter of the user's may raise

    def broke(self, exc: BaseException, /) -> None:
        """A bug of ours ended the questions: what is known stays in force."""
        self.finish(Answer(Kind.FAILED, why=type(exc).__name__))

    def _publish(self) -> None:
        with self._lock:
            new = self._resolution.addresses
            changed, self.addresses = new != self.addresses, new
            self.answered = self._resolution.answered
            waiters: list[Callable[[], None]] = []
            if self.answered:
                waiters, self._waiters = self._waiters, []
            listeners = list(self._listeners) if changed else []
        for listener in listeners:
            try:
                listener.changed()
            except Exception:  # the others are to be told all the same
                complain("%r failed on new addresses of %s", listener, self.name)
        for wake in waiters:
            wake()

    def _tell(self, answer: Answer, before: str, after: str) -> None:
        """A nameserver that fails is told of each time, and logged when it begins."""
        if answer.kind is Kind.FAILED and RUNTIME.listeners:
            emit(DiscoveryFailed(self.name, str(self.port), reason=answer.why))
        if before != after:
            level = 20 if answer.kind is Kind.FOUND else 30
            logger().log(
                level,
                "%s port %s: %s -> %s%s",
                self.name,
                self.port,
                before,
                after,
                answer.why and f": {answer.why}",
            )

    def __repr__(self) -> str:
        return f"<Service {self.name} port {self.port}: {self.status}, {len(self.addresses)} addresses>"

    # --------------------------------------------------------------------------------------------------- for callers
    def start(self) -> None:
        with self._lock:
            if self.asleep:
                self._resolution.wake(self._clock.monotonic())
        self._publish()
        failed = self._refresher.watch(self)
        if failed:
            with self._lock:
                self._resolution.why = failed

    def listen(self, listener: Listener, /) -> None:
        with self._lock:
            self._listeners.add(listener)

    def leave(self, listener: Listener, /) -> None:
        with self._lock:
            self._listeners.discard(listener)
            nobody = not self._listeners
        if nobody:
            self._refresher.forget(self)

    def arm(self, wake: Callable[[], None], /) -> bool:
        with self._lock:
            if self.answered:
                return False
            self._waiters.append(wake)
            return True

    def connect_failed(self, address: Address, /) -> None:
        with self._lock:
            self._resolution.connect_failed(address, self._clock.monotonic())
        self._publish()
        self._refresher.wake()

    def hurry(self) -> None:
        with self._lock:
            self._resolution.hurry(self._clock.monotonic())
        self._refresher.wake()

    def nothing(self) -> NoEndpoints:
        with self._lock:
            status, why = self._resolution.status, self._resolution.why
        self.hurry()
        told = f": {why}" if why else ""
        if status == "empty":
            text = f"no pod of {self.name} is ready, or there is no such Service{told}"
        else:
            text = f"{self.name} could not be resolved in time{told}"
        return NoEndpoints(text, reason=status, service=self.name)
