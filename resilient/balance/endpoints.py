"""The endpoints of one dependency: who is there, who is fit, and which one a call takes.

Each has a breaker of its own, of the same options as the dependency's, which does nothing but *eject*: its endpoint is
passed over while others are fit. When its open time is over, single calls are sent to it as probes. More than half are
never passed over (*panic*: then the fault is not one endpoint's), and so never the last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Generic, TypeVar

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.errors import CircuitOpen
from ..core.events import RUNTIME, EndpointsChanged, EndpointTransition, emit, logger
from ..core.forks import tell_after_fork
from ..core.registry import REGISTRY
from ..discovery.address import Address
from ..discovery.source import Source
from ..policies.breaker.options import CircuitBreakerOptions
from ..policies.breaker.state import CLOSED, OPEN, Change, Permit
from .endpoint import Endpoint
from .p2c import among, choose

E = TypeVar("E")


class Endpoints(Generic[E]):
    """What a source of addresses says, as endpoints that can be called.

    Args:
        dependency: its name, in errors and events.
        source: where the addresses come from.
        make: makes what sends to an address; called when the address comes.
        retire: closes what sends to an address that went: idle connections now, the others as their calls end.
        options: of the endpoints' breakers.
        clock: where time comes from.

    Attributes:
        unknown: whether the source has said nothing yet: wait for it first.

    Thread-safe. A pick takes no lock: it reads snapshots, which are replaced when something changes.
    """

    watched = True
    """Whether calls are to be told: entered, heard and left."""

    def __init__(
        self,
        dependency: str,
        source: Source,
        make: Callable[[Address], E],
        *,
        retire: Callable[[E], None],
        options: CircuitBreakerOptions | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.dependency = dependency
        self.source = source
        self.unknown = True
        self._make = make
        self._retire = retire
        self._options = options or CircuitBreakerOptions()
        self._clock = clock
        self._lock = threading.RLock()
        self._all: dict[Address, Endpoint[E]] = {}  # replaced under _lock
        self._unfit: set[Endpoint[E]] = set()  # whose breaker is not closed; guarded by _lock
        self._fit: Sequence[Endpoint[E]] = ()  # those to choose from; replaced under _lock
        self._trial: Sequence[Endpoint[E]] = ()  # those that a probe is to be sent to; replaced under _lock
        self._due = float("inf")  # when one that is ejected may be tried again; written under _lock
        self.panic = False  # written under _lock
        tell_after_fork(self)
        REGISTRY.add_endpoints(self)
        source.listen(self)
        self.changed()

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Endpoint[E]]:
        return iter(self._all.values())

    # ------------------------------------------------------------------------------------------------ the choice
    def pick(self, tried: Sequence[Endpoint[E]], now: float) -> tuple[Endpoint[E], Permit | None]:
        """The endpoint for one more call, entered.

        Args:
            tried: those that this call has tried, the last one last: another one is taken while there is one.
            now: the clock's monotonic time.

        Raises:
            NoEndpoints: there is none.
        """
        if self.source.asleep:  # not begun yet, or this is a forked child
            self.source.start()
        if now >= self._due:
            self._sort(now)
        for endpoint in self._trial:
            if endpoint not in tried:
                try:
                    return endpoint, endpoint.enter(now)
                except CircuitOpen:  # a probe is on its way already
                    continue
        fit = self._fit
        if not fit:
            self.changed()  # the source may have some, and be about to tell
            fit = self._fit
            if not fit:
                raise self.source.nothing()
        endpoint = choose(fit, now, tried) or among(fit, now, tried[-1:]) or fit[0]
        try:
            return endpoint, endpoint.enter(now)
        except CircuitOpen:  # it opened just now, or nobody is fit
            endpoint.enter_anyway()
            return endpoint, None

    def wait(self, seconds: float, clock: Clock) -> None:
        """Wait until the source has said anything, at most so long. Blocks the thread.

        Raises:
            NoEndpoints: it has not.
        """
        self.source.start()
        lock = threading.Lock()
        lock.acquire()
        if self.source.arm(lock.release):
            clock.acquire(lock, seconds)
        self._waited()

    async def await_(self, seconds: float) -> None:
        """The same for async code."""
        from ..core.loops import wait_for_wake

        self.source.start()
        await wait_for_wake(self.source.arm, seconds)
        self._waited()

    def _waited(self) -> None:
        self.unknown = not self.source.answered
        if self.unknown:
            raise self.source.nothing()

    def untried(self, tried: Collection[Endpoint[E]]) -> bool:
        """Whether there is one that this call has not tried."""
        return any(each not in tried for each in self._all.values())

    def close(self) -> None:
        """No call will come any more; the exchanges are whose they are."""
        self.source.leave(self)

    def connect_failed(self, endpoint: Endpoint[E]) -> None:
        """A connection to it could not be made."""
        self.source.connect_failed(endpoint.address)

    # ------------------------------------------------------------------------------------------------- who is there
    def changed(self) -> None:
        """The source has other addresses: those that stay keep all that is known of them."""
        with self._lock:
            old, addresses = self._all, self.source.addresses
            if self.source.answered:
                self.unknown = False
            if tuple(old) == addresses:
                return
            new = {address: old.get(address) or self._new(address) for address in addresses}
            gone = [endpoint for address, endpoint in old.items() if address not in new]
            added = len(new) - (len(old) - len(gone))
            self._all = new
            self._unfit.difference_update(gone)
            self._sort(self._clock.monotonic())
        for endpoint in gone:
            endpoint.draining = True
            self._retire(endpoint.exchange)
        logger().info("%s: %d endpoints: %d came, %d went", self.dependency, len(new), added, len(gone))
        if RUNTIME.listeners:
            emit(EndpointsChanged(self.dependency, "", added=added, removed=len(gone), count=len(new)))

    def _new(self, address: Address) -> Endpoint[E]:
        return Endpoint(address, self._make(address), self._options, self._transition)

    def _transition(self, endpoint: Endpoint[E], change: Change) -> None:
        """The breaker of an endpoint changed state."""
        with self._lock:
            if self._all.get(endpoint.address) is not endpoint:
                return
            if change.new == CLOSED:
                endpoint.forgive()
                self._unfit.discard(endpoint)
            else:
                self._unfit.add(endpoint)
            self._sort(self._clock.monotonic())
        level, told = 20 if change.new == CLOSED else 30, f"{change.old} -> {change.new}: {change.reason}"
        logger().log(level, "%s: endpoint %s: %s", self.dependency, endpoint.text, told)
        if RUNTIME.listeners:
            emit(
                EndpointTransition(
                    self.dependency,
                    "",
                    endpoint=endpoint.text,
                    old=change.old,
                    new=change.new,
                    reason=change.trigger,
                )
            )
        if change.new == OPEN:
            self.source.hurry()

    def _sort(self, now: float) -> None:
        """Who is fit, who is to be probed, and until when that holds."""
        with self._lock:
            everybody, unfit = tuple(self._all.values()), self._unfit
            self.panic = len(unfit) * 2 > len(everybody)
            out = [each for each in unfit if each.ejected and now < each.until]
            self._due = min((each.until for each in out), default=float("inf"))
            if self.panic or not unfit:
                self._fit, self._trial = everybody, ()
            else:
                self._fit = tuple(each for each in everybody if each not in unfit)
                self._trial = tuple(each for each in unfit if each not in out)


class Fixed(Generic[E]):
    """The one place where everything goes: neither compared nor ejected. For the URL's own host, and for a transport of
    the user's."""

    watched = False
    unknown = False

    def __init__(self, address: Address | None, exchange: E) -> None:
        self._endpoint: Endpoint[Any] = Endpoint(address or Address("", 0), exchange)
        if address is None:
            self._endpoint.text = ""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Endpoint[E]]:
        return iter((self._endpoint,))

    def pick(self, tried: Sequence[Endpoint[E]], now: float) -> tuple[Endpoint[E], Permit | None]:
        """The endpoint; not entered."""
        return self._endpoint, None

    def untried(self, tried: Collection[Endpoint[E]]) -> bool:
        """Never: there is no other."""
        return False
