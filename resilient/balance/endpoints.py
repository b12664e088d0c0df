"""The endpoints of one dependency: who is there, who is fit, and which one a call takes.

Each has a breaker of its own, of the same options as the dependency's, which does nothing but *eject*: its endpoint is
passed over while others are fit. When its open time is over, single calls are sent to it as probes. More than half are
never passed over (*panic*: then the fault is not one endpoint's), and so never the last."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
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
from .endpoint import Endpoint, Entrant
from .p2c import among, choose

E = TypeVar("E")

REMEMBERED = 60.0
"""Seconds for which an endpoint that left is remembered: a pod that flaps must not look new."""
ASK_AGAIN = 16
"""Of so many calls one may go to an endpoint only because it was not called for long."""
SAMPLE = 16
"""Endpoints that are looked at to know what a call costs elsewhere."""


class Endpoints(Generic[E]):
    """What a source of addresses says, as endpoints that can be called.

    Args:
        dependency: its name, in errors and events.
        source: where the addresses come from.
        make: makes what sends to an address; called when the address comes.
        retire: closes what sends to an address that went: idle connections now, the others as their calls end.
        options: of the endpoints' breakers.
        replaced: called when none of the endpoints is left that there were, outside the lock.
        clock: where time comes from.

    Thread-safe. A pick takes no lock: it reads snapshots, which are replaced when something changes.
    """

    def __init__(
        self,
        dependency: str,
        source: Source,
        make: Callable[[Address], E],
        *,
        retire: Callable[[E], None],
        options: CircuitBreakerOptions | None = None,
        replaced: Callable[[], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.dependency = dependency
        self.source = source
        self._make = make
        self._retire = retire
        self._options = options or CircuitBreakerOptions()
        self._replaced = replaced
        self._clock = clock
        self._closed = False  # nobody is told of changes; written whole
        self._lock = threading.RLock()
        self._all: dict[Address, Endpoint[E]] = {}  # replaced under _lock
        self._gone: dict[Address, tuple[Endpoint[E], float]] = {}  # since when; guarded by _lock
        self._unfit: set[Endpoint[E]] = set()  # whose breaker is not closed; guarded by _lock
        self._fit: Sequence[Endpoint[E]] = ()  # those to choose from; replaced under _lock
        self._trial: Sequence[Endpoint[E]] = ()  # those that a probe is to be sent to; replaced under _lock
        self._due = float("inf")  # when one that is ejected may be tried again; written under _lock
        self.panic = False  # written under _lock
        self._picks = 0
        tell_after_fork(self)
        REGISTRY.add_endpoints(self)
        source.listen(self)
        self.changed()

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        # The parent may have been anywhere: in the middle of a change, or before it was told of one.
        self._due = float("-inf")

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Endpoint[E]]:
        return iter(self._all.values())

    # ------------------------------------------------------------------------------------------------ the choice
    def pick(self, tried: Sequence[Endpoint[E]], now: float, call: Entrant) -> Permit | None:
        """Choose the endpoint for one more call, and enter it: ``call`` is told which, its permit is returned.

        Args:
            tried: those that this call has tried, the last one last: another one is taken while there is one.
            now: the clock's monotonic time.
            call: what enters it.

        Raises:
            NoEndpoints: there is none.
        """
        if now >= self._due:
            self._look(now)
        for endpoint in self._trial:
            if endpoint.until <= now and endpoint not in tried:
                try:
                    return endpoint.enter(call, now)
                except CircuitOpen:  # a probe is on its way already
                    continue
        fit = self._fit
        if not fit:
            self.changed()  # the source may have some, and be about to tell
            fit = self._fit
            if not fit:
                raise self.source.nothing()
        self._picks = picks = self._picks + 1  # two threads may count as one
        found = None if picks % ASK_AGAIN else self._outdated(fit, now, tried)
        endpoint = found or choose(fit, now, tried) or among(fit, now, tried[-1:]) or fit[0]
        try:
            return endpoint.enter(call, now)
        except CircuitOpen:  # it opened just now, or nobody is fit
            endpoint.enter_anyway(call)
            return None

    def _outdated(
        self, fit: Sequence[Endpoint[E]], now: float, tried: Sequence[Endpoint[E]]
    ) -> Endpoint[E] | None:
        """One drawn by chance, if nobody calls it because it looked bad when it was called last."""
        drawn = fit[int(random.random() * len(fit))]
        return drawn if drawn.outdated(now) and drawn not in tried else None

    @property
    def unknown(self) -> bool:
        """Whether nobody keeps the addresses up to date, or there are none yet: then wait first."""
        source = self.source
        return source.asleep or not source.answered or self._closed

    def wait(self, seconds: float) -> None:
        """Wait until the source has said anything, at most so long in real time: nameservers know no other. Blocks the
        thread.

        Raises:
            NoEndpoints: it has not.
        """
        if self._begin():
            lock = threading.Lock()
            lock.acquire()
            if self.source.arm(lock.release):
                SYSTEM_CLOCK.acquire(lock, seconds)
        self._waited()

    async def await_(self, seconds: float) -> None:
        """The same for async code."""
        from ..core.loops import wait_for_wake

        if self._begin():
            # A loop in a test's time would jump to the end of the wait, as nothing happens in that time.
            with getattr(self._clock, "hold", nullcontext)():
                await wait_for_wake(self.source.arm, seconds)
        self._waited()

    def _begin(self) -> bool:
        """Have the addresses kept up to date from now on; False where nobody can."""
        if self._closed:  # a transport that one client has closed may be another's too
            self._closed = False
            self.source.listen(self)
        self.source.start()
        self.changed()
        return not self.source.asleep

    def _waited(self) -> None:
        if not self.source.answered:
            raise self.source.nothing()

    def untried(self, tried: Collection[Endpoint[E]]) -> bool:
        """Whether there is one that this call has not tried."""
        return any(each not in tried for each in self._all.values())

    def ignores(self, exc: BaseException | None) -> bool:
        """Whether the breakers are told to ignore a failure."""
        try:
            return exc is not None and self._options.ignore.covers(exc)
        except (
            Exception
        ):  # a predicate's; the pipeline's own breaker meets it too, and lets the caller see it
            return False

    def retune(self, options: CircuitBreakerOptions, now: float, /) -> None:
        """Other rules for the breakers of all endpoints, and of those that come."""
        with self._lock:
            self._options = options
            everybody = [*self._all.values(), *(endpoint for endpoint, _ in self._gone.values())]
        for endpoint in everybody:
            endpoint.retune(options, now)
        self._sort(now)  # one that is ejected may be tried earlier

    def close(self) -> None:
        """No call will come any more, or not soon; the exchanges are whose they are."""
        self._closed = True
        self.source.leave(self)

    def connect_failed(self, endpoint: Endpoint[E]) -> None:
        """A connection to it could not be made."""
        self.source.connect_failed(endpoint.address)

    # ------------------------------------------------------------------------------------------------- who is there
    def changed(self) -> None:
        """The source has other addresses: those that stay keep all that is known of them."""
        with self._lock:
            old, addresses = self._all, self.source.addresses
            if tuple(old) == addresses:
                return
            now = self._clock.monotonic()
            new = {address: old.get(address) or self._add(address) for address in addresses}
            gone = [endpoint for address, endpoint in old.items() if address not in new]
            added = len(new) - (len(old) - len(gone))
            self._all = new
            self._gone = {
                address: (endpoint, since)
                for address, (endpoint, since) in self._gone.items()
                if now - since < REMEMBERED and address not in new
            }
            self._gone.update({endpoint.address: (endpoint, now) for endpoint in gone})
            self._unfit.difference_update(gone)
            self._sort(now)
        for endpoint in gone:
            endpoint.draining = True
            self._retire(endpoint.exchange)
        if old and len(gone) == len(old) and self._replaced is not None:
            self._replaced()
        logger().info("%s: %d endpoints: %d came, %d went", self.dependency, len(new), added, len(gone))
        if RUNTIME.listeners:
            emit(EndpointsChanged(self.dependency, "", added=added, removed=len(gone), count=len(new)))

    def _add(self, address: Address) -> Endpoint[E]:
        """An endpoint that came; the same again where it was here a moment ago."""
        found, since = self._gone.get(address, (None, 0.0))
        if found is None or self._clock.monotonic() - since >= REMEMBERED:
            return Endpoint(address, self._make(address), self._options, self._transition, self._usual)
        found.exchange = self._make(address)
        found.draining = False
        if not found.fit:
            self._unfit.add(found)
        return found

    def _usual(self, now: float) -> float:
        """What one more call costs at those that did not fail just now."""
        fit = self._fit
        some = fit if len(fit) <= SAMPLE else random.sample(fit, SAMPLE)
        loads = [each.load(now) for each in some if not each.blamed and each.level > float("-inf")]
        return sum(loads) / len(loads) if loads else 0.0

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

    def _look(self, now: float) -> None:
        """Look at all of them again."""
        self.changed()
        with self._lock:
            self._unfit = {each for each in self._all.values() if not each.fit}
            self._sort(now)

    def _sort(self, now: float) -> None:
        """Who is fit, who is to be probed, and until when that holds."""
        with self._lock:
            everybody, unfit = tuple(self._all.values()), self._unfit
            self.panic = len(unfit) * 2 > len(everybody)
            out = [each for each in unfit if now < each.until]
            self._due = min((each.until for each in out), default=float("inf"))
            if self.panic or not unfit:
                self._fit, self._trial = everybody, ()
            else:
                self._fit = tuple(each for each in everybody if each not in unfit)
                self._trial = tuple(each for each in unfit if each not in out)


class Fixed(Generic[E]):
    """The one place where everything goes: neither compared nor ejected, and told nothing. For the URL's own host, and
    for a transport of the user's."""

    unknown = False

    def __init__(self, address: Address | None, exchange: E) -> None:
        self._endpoint: Endpoint[Any] = Endpoint(address or Address("", 0), exchange)
        if address is None:
            self._endpoint.text = ""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Endpoint[E]]:
        return iter((self._endpoint,))

    def pick(self, tried: Sequence[Endpoint[E]], now: float, call: Entrant) -> Permit | None:
        """The endpoint; not entered, but told."""
        call.endpoint = self._endpoint
        return None

    def untried(self, tried: Collection[Endpoint[E]]) -> bool:
        """Never: there is no other."""
        return False
