"""What a policy is: something that stands around a call.

Two kinds. An *admission policy* (`Gate`) lets a call in or not and hears how it went: breaker, rate limit,
bulkhead. Its author writes a state machine without I/O; the drivers of `rows` run it for sync and async code.
A *wrapping policy* (`Policy` itself) decides how often and how long the inner call runs: retry, timeout,
fallback. Its author writes two thin drivers."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar

from .clock import SYSTEM_CLOCK, Clock
from .errors import ConfigError, PolicyError, Rejected
from .events import RUNTIME, RejectionObserved, emit
from .outcome import FAILURE, IGNORED, SUCCESS, Verdict, report_of

if TYPE_CHECKING:
    from .guard import Guard

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """Where a policy is being bound: handed to `Policy.bind` and `Policy.abind`.

    Attributes:
        dependency: name of the pipeline, else ``module.qualname`` of the function.
        operation: name of the function.
        clock: the pipeline's clock.
        function: the function that is being decorated.
        named: whether the pipeline has a name, and so shares what is registered under it.
        outer: the policies outside this one, outermost first.
        inner: the policies inside this one, outermost first.
        repeatable: tells from a call's arguments whether the operation may be repeated after it may have happened,
            where a client binding knows (an HTTP client knows its methods); it makes the idempotency keys then, too.
            None leaves both to the retry's own options.
        watched: set where the driver is the outermost of its pipeline: while ``RUNTIME.attention`` is set,
            the driver hands the call over to it. Policies that do so say `Policy.watches`; for others the
            pipeline adds a frame.
    """

    dependency: str
    operation: str
    clock: Clock
    function: Callable[..., Any]
    named: bool = False
    outer: tuple[Policy, ...] = ()
    inner: tuple[Policy, ...] = ()
    repeatable: Callable[..., bool] | None = None
    watched: Callable[..., Any] | None = None


class Policy:
    """Base of everything that can stand in a pipeline; by itself a decorator.

    Safe to share between functions, threads and tasks: what a policy learns, it learns for all that it
    decorates."""

    kind: ClassVar[str] = "policy"
    """The policy's name in pipelines (``pipeline["breaker"]``), errors and metrics."""
    repeats: ClassVar[bool] = False
    """Whether it may run the inner call more than once."""

    watches: ClassVar[bool] = False
    """Whether its drivers look at `Site.watched`."""
    name: str | None = None
    """What errors and events call it: as given, else the dependency or function that it was put on first."""
    operation: str = ""
    """The function that it was put on first."""
    clock: Clock = SYSTEM_CLOCK
    """The clock of the pipeline that it was put in first."""
    _adopted: bool = False

    def adopt(self, site: Site, /) -> None:
        """The policy is put on a function: it takes its name and clock from the first one. Called when
        binding."""
        if not self._adopted:
            self._adopted = True
            self.name, self.operation, self.clock = self.name or site.dependency, site.operation, site.clock

    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        """The sync driver around ``inner``; made once per function."""
        raise NotImplementedError(f"{type(self).__name__} does not work on sync functions")

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        """The async driver around ``inner``; made once per function."""
        raise NotImplementedError(f"{type(self).__name__} does not work on async functions")

    def check(self, outer: tuple[Policy, ...], inner: tuple[Policy, ...], /) -> None:
        """Refuse a place in a pipeline that makes no sense: raise `PolicyError`, or warn. Asked when it is
        built."""

    def retune(self, options: Any, now: float, /) -> str | None:
        """Go on with other numbers and with all that was learnt: calls in flight, tokens, outcomes.

        Returns what had to be forgotten, in a few words, or None. A call that is under way ends under the numbers
        with which it began. Asked by one thread at a time.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be retuned")

    def describe(self, outer: tuple[Policy, ...] = (), inner: tuple[Policy, ...] = (), /) -> str:
        """How the policy prints itself at a place in a pipeline, with every number."""
        return type(self).__name__

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function, an async function, a method, a partial or an (async) callable; its signature
        stays."""
        return self._alone()(fn)

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``fn(*args, **kwargs)`` under this policy, without decorating it."""
        return self._alone().call(fn, *args, **kwargs)

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for an async function."""
        return await self._alone().acall(fn, *args, **kwargs)

    def _alone(self) -> Policy:
        from .pipeline import Pipeline

        return Pipeline(self)


class Wait(Generic[T]):
    """What `Gate.admit` returns in place of a permit when the call has to wait. Not to be subclassed.

    Attributes:
        ready_at: the permit is reserved and good from this time on (a rate limit).
        until: give up at this time (a queue); used where ``ready_at`` is None.
        permit: the permit, set by the gate when it serves this wait (a queue).
        wake: called by the gate after it has set ``permit``, from any thread, outside its lock; set by the
        driver.
        cost: for the gate's own use.
    """

    __slots__ = ("cost", "permit", "ready_at", "until", "wake")

    def __init__(self, *, ready_at: float | None = None, until: float = float("inf"), cost: int = 1) -> None:
        self.ready_at = ready_at
        self.until = until
        self.permit: T | None = None
        self.wake: Callable[[], None] | None = None
        self.cost = cost


class Gate(Policy, Generic[T]):
    """An admission policy: a state machine without I/O, which the engine asks before each call and tells
    after it.

    Write `admit`, and `record` if it learns; a gate that queues or reserves also writes `settle` and
    `abandon`. All are called from many threads at once; a lock of the gate is never held over anything of the
    caller's."""

    watches = True
    judges_results: ClassVar[bool] = False
    """Whether `judge` wants to see results; set where `judge` is overridden, unless the class says
    otherwise."""

    selects: bool = False
    """Whether `select` is to be asked; set where it is overridden, unless the class or object says
    otherwise."""
    binds_itself: bool = False
    """Whether it wants a frame of its own (`bind` is asked), instead of one shared with neighbouring
    gates."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for method in ("admit", "record", "cancel", "settle", "abandon", "select", "judge"):
            if inspect.iscoroutinefunction(cls.__dict__.get(method)):
                raise PolicyError(
                    f"{cls.__name__}.{method} is async, and a gate is a state machine without I/O; write a plain def, "
                    "and let admit() return a Wait where the call has to wait"
                )
        if "judge" in cls.__dict__ and "judges_results" not in cls.__dict__:
            cls.judges_results = True
        if "select" in cls.__dict__ and "selects" not in cls.__dict__:
            cls.selects = True

    def admit(self, now: float, /) -> T | Wait[T]:
        """A permit, or a wait; raises `Rejected`. ``now`` is the clock's monotonic time."""
        raise NotImplementedError(
            f"{type(self).__name__} is a gate without admit(); write admit(self, now, /)"
        )

    def record(self, permit: T, verdict: Verdict, latency: float, now: float, /) -> None:
        """The call ran, and took ``latency`` seconds since it was admitted."""

    def cancel(self, permit: T, now: float, /) -> None:
        """The call never ran: take the permit, the token back."""
        self.record(permit, IGNORED, 0.0, now)

    def settle(self, wait: Wait[T], now: float, /) -> T:
        """The wait is over: the permit, or raises `Rejected`.

        Called before ``ready_at`` where the call's deadline cannot pay the wait: then take the reservation
        back and raise."""
        raise NotImplementedError(f"{type(self).__name__}.admit returned a Wait, but it has no settle()")

    def abandon(self, wait: Wait[T], now: float, /) -> None:
        """The waiter was cancelled: take back what was reserved for it, or what it was served."""
        raise NotImplementedError(f"{type(self).__name__}.admit returned a Wait, but it has no abandon()")

    def select(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Gate[T]:
        """The gate to ask for a call with these arguments: keyed limits, a cost per call."""
        return self

    def judge(self, result: Any, exc: Exception | None, /) -> Verdict:
        """This gate's own verdict. By default: SUCCESS; for an exception what its report says, else
        FAILURE."""
        return SUCCESS if exc is None else verdict_on(exc)

    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        from .rows import bind_row

        return bind_row((self,), inner, site)

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        from .rows import abind_row

        return abind_row((self,), inner, site)

    def guard(self, *, clock: Clock | None = None) -> Guard[T]:
        """Admission as a block, ``with`` or ``async with``: entered when admitted, recorded when left.

        Raises:
            Rejected: on entering.
            PolicyError: on entering with ``with`` inside a running event loop, where it would have to wait.

        Example:
            >>> from resilient import Bulkhead
            >>> bulkhead = Bulkhead(10)
            >>> with bulkhead.guard():
            ...     bulkhead.in_flight
            1
        """
        from .guard import Guard

        return Guard(self, clock or self.clock)


def teller(gate: Gate[Any], /) -> Callable[[Rejected], None]:
    """For the state machine of a gate that is only observed: tells of a call that would have been turned away. It keeps
    no gate alive."""
    known = weakref.ref(gate)

    def tell(error: Rejected) -> None:
        gate = known()
        if gate is not None and RUNTIME.listeners:
            name = gate.name or error.dependency or gate.kind
            emit(RejectionObserved(name, gate.operation, by=error.policy, reason=error.reason))

    return tell


def verdict_on(exc: BaseException, /) -> Verdict:
    """What an exception says about the callee, where nobody knows better."""
    if not isinstance(exc, Exception):
        return IGNORED
    report = report_of(exc)
    if report is not None:
        return report.verdict
    return IGNORED if isinstance(exc, (Rejected, ConfigError)) else FAILURE
