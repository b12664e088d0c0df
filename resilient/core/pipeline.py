"""How policies compose: an ordered tuple, the first one outermost, bound once per function."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from .clock import SYSTEM_CLOCK, Clock
from .errors import DeadlineExceeded, PolicyError, Rejected, TimedOut
from .events import FELL_BACK, RUNTIME, CallFinished, emit
from .outcome import Unfinished, error_type
from .policy import Gate, Policy, Site
from .registry import REGISTRY
from .rows import abind_row, bind_row

P = ParamSpec("P")
R = TypeVar("R")


class PolicyWarning(UserWarning):
    """A pipeline that works, but probably not as meant. The message says what to write instead."""


class Pipeline(Policy):
    """Policies around a call, read in the order in which they run: the first is outermost.

    Args:
        *policies: policies and other pipelines; the latter are flattened.
        name: the dependency that is called. A named pipeline is registered: it shares its retry budget with
            others of the name, has call metrics, and is found by operators.
        clock: where time comes from.

    Raises:
        PolicyError: an order that makes no sense; the message says what to write instead.

    Warns:
        PolicyWarning: an order or numbers that probably are not meant.

    Safe to share between functions, threads and tasks. Functions decorated by one pipeline share its breaker,
    limits and permits. Stacked decorators are separate calls: each keeps its own rules.

    Example:
        >>> from resilient import CircuitBreaker, Retry, Timeout
        >>> catalog = Pipeline(Timeout(2.0), Retry(3), CircuitBreaker(), Timeout(0.5), name="catalog")
        >>> @catalog
        ... def lookup(sku: str) -> str:
        ...     return sku.upper()
        >>> lookup("a-7")
        'A-7'
    """

    kind = "pipeline"
    connect_timeout: float | None
    """Seconds to connect at most, for client bindings: set by presets, kept where one stands in another pipeline."""

    def __init__(self, *policies: Policy, name: str | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.policies = tuple(_flatten(policies))
        nested = [each.connect_timeout for each in policies if isinstance(each, Pipeline)]
        self.connect_timeout: float | None = next((each for each in nested if each is not None), None)
        if name is not None and (not isinstance(name, str) or not name):
            raise PolicyError(
                f"Pipeline: name={name!r} must be a text that names the dependency, or None; write name='payments'"
            )
        self.name = name
        if isinstance(clock, type) or not hasattr(clock, "monotonic"):
            raise PolicyError(
                f"Pipeline: clock={clock!r} must be a clock; write clock=ManualClock() in tests"
            )
        self.clock = clock  # policies take theirs from here when they are put on a function
        self._first_function: str | None = None
        if not self.policies:
            raise PolicyError("Pipeline: no policies; write Pipeline(Retry(), CircuitBreaker(), ...)")
        for policy in self.policies:  # before any of them looks at its neighbours
            if not isinstance(policy, Policy):
                raise PolicyError(f"Pipeline: {policy!r} is not a policy; {_instead(policy)}")
        self._falls_back = any(policy.kind == "fallback" for policy in self.policies)
        for i, policy in enumerate(self.policies):
            if any(policy is other for other in self.policies[:i]):
                raise PolicyError(
                    f"Pipeline: the same {type(policy).__name__} object stands in it twice and would count "
                    "every call "
                    "twice; make a second one"
                )
            policy.check(self.policies[:i], self.policies[i + 1 :])
        if name is not None:
            REGISTRY.add(self)

    def derived(self, numbers: Mapping[str, Any], said: Set[str], /) -> Mapping[str, Any]:
        """Numbers that follow from others, by name such as ``timeout.attempt``; asked when some of them change.

        Args:
            numbers: all that the pipeline has.
            said: the names of those that were said from outside.
        """
        return {}

    def __getitem__(self, kind: str, /) -> Any:
        """The policy of a kind, such as ``pipeline["breaker"]``; the outermost where there are two."""
        for policy in self.policies:
            if policy.kind == kind:
                return policy
        raise KeyError(f"no {kind!r} in {self}; there are {[policy.kind for policy in self.policies]}")

    def __contains__(self, kind: str, /) -> bool:
        return any(policy.kind == kind for policy in self.policies)

    def __iter__(self) -> Iterator[Policy]:
        return iter(self.policies)

    def __str__(self) -> str:
        return " -> ".join(
            policy.describe(self.policies[:i], self.policies[i + 1 :])
            for i, policy in enumerate(self.policies)
        )

    def __repr__(self) -> str:
        return f"<Pipeline {self.name + ': ' if self.name else ''}{self}>"

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        if isinstance(fn, (classmethod, staticmethod)):
            return type(fn)(self(fn.__func__))
        if not callable(fn):
            raise PolicyError(
                f"{self}: {fn!r} is no function; a policy decorates functions, and as a decorator it is written with "
                "parentheses, such as @Fallback([])"
            )
        site = self._site(fn)
        target: Any = fn
        bound: Any = self.abind(target, site) if is_async(fn) else self.bind(fn, site)
        functools.update_wrapper(bound, fn)
        bound.pipeline = self
        return bound  # type: ignore[no-any-return]  # the user's own type

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``fn(*args, **kwargs)`` under these policies, without decorating it."""
        if is_async(fn):
            raise PolicyError(f"{_name(fn)} is async; write `await pipeline.acall({_name(fn)}, ...)`")
        return self.bind(fn, self._site(fn))(*args, **kwargs)

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``await fn(*args, **kwargs)`` under these policies, without decorating it."""
        given = fn if is_async(fn) else _awaited(fn)
        return await self.abind(given, self._site(fn))(*args, **kwargs)  # type: ignore[no-any-return]  # an awaitable of any kind

    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        run: Callable[..., Any] = inner
        for policies, place in self._parts(site):
            bare, run = run, _bind(policies, run, place)
        watched = _watched(run, inner, site, self._falls_back)
        return (
            _bind(policies, bare, replace(place, watched=watched))
            if policies[0].watches
            else _asking(run, watched)
        )

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        run: Callable[..., Any] = inner
        for policies, place in self._parts(site):
            bare, run = run, _abind(policies, run, place)
        watched = _awatched(run, inner, site, self._falls_back)
        return (
            _abind(policies, bare, replace(place, watched=watched))
            if policies[0].watches
            else _aasking(run, watched)
        )

    def _parts(self, site: Site) -> Iterator[tuple[tuple[Any, ...], Site]]:
        """From the inside out: a wrapping policy alone, or neighbouring gates together, each with its
        place."""
        end = len(self.policies)
        while end:
            start = end - 1
            if _mergeable(self.policies[start]):
                while start and _mergeable(self.policies[start - 1]):
                    start -= 1
            yield (
                self.policies[start:end],
                replace(site, outer=self.policies[:start], inner=self.policies[end:]),
            )
            end = start

    def _site(self, fn: Callable[..., Any]) -> Site:
        refuse_generators(fn)
        qualname = _name(fn)
        if self._first_function is None:
            self._first_function = f"{getattr(fn, '__module__', None) or '?'}.{qualname}"
        site = Site(self.name or self._first_function, qualname, self.clock, fn, self.name is not None)
        for policy in self.policies:
            policy.adopt(site)
        return site


def _bind(policies: tuple[Any, ...], inner: Callable[..., Any], site: Site) -> Callable[..., Any]:
    if _mergeable(policies[0]):
        return bind_row(policies, inner, site)
    return policies[0].bind(inner, site)  # type: ignore[no-any-return]  # the user's own type


def _abind(policies: tuple[Any, ...], inner: Callable[..., Any], site: Site) -> Callable[..., Any]:
    if _mergeable(policies[0]):
        return abind_row(policies, inner, site)
    return policies[0].abind(inner, site)  # type: ignore[no-any-return]  # the user's own type


# While nobody watches, a call pays one attribute read of the outermost driver for all of the below.
def _watched(
    run: Callable[..., Any], fn: Callable[..., Any], site: Site, falls_back: bool
) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        if RUNTIME.pending is not None:
            RUNTIME.begin()
        if not RUNTIME.active:
            return fn(*args, **kwargs)
        watch = _Watch(site, falls_back)
        try:
            result = run(*args, **kwargs)
        except BaseException as exc:
            watch.left()
            watch.finished(exc)
            raise
        watch.left()
        if result.__class__ is Unfinished:
            result.on_end(watch.finished)
        else:
            watch.finished(None)
        return result

    return watched


def _awatched(
    run: Callable[..., Any], fn: Callable[..., Any], site: Site, falls_back: bool
) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        if RUNTIME.pending is not None:
            RUNTIME.begin()
        if not RUNTIME.active:
            return await fn(*args, **kwargs)
        watch = _Watch(site, falls_back)
        try:
            result = await run(*args, **kwargs)
        except BaseException as exc:
            watch.left()
            watch.finished(exc)
            raise
        watch.left()
        if result.__class__ is Unfinished:
            result.on_end(watch.finished)
        else:
            watch.finished(None)
        return result

    return watched


class _Watch:
    """One logical call that somebody wants to hear of."""

    __slots__ = ("_began", "_fell_back", "_outer", "_site")

    def __init__(self, site: Site, falls_back: bool) -> None:
        self._site = site
        self._fell_back: list[None] | None = None
        self._began = site.clock.monotonic()
        if falls_back:
            self._outer = FELL_BACK.get()
            self._fell_back = []
            FELL_BACK.set(self._fell_back)

    def left(self) -> None:
        """The call returned or raised; what it returned may still be arriving."""
        if self._fell_back is not None:
            FELL_BACK.set(self._outer)

    def finished(self, exc: BaseException | None) -> None:
        site = self._site
        emit(
            CallFinished(
                site.dependency,
                site.operation,
                outcome="fallback" if self._fell_back and exc is None else outcome_of(exc),
                duration=site.clock.monotonic() - self._began,
                error_type=None if exc is None else error_type(exc),
            )
        )


def _asking(run: Callable[..., Any], watched: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return watched(*args, **kwargs) if RUNTIME.attention else run(*args, **kwargs)

    return call


def _aasking(run: Callable[..., Any], watched: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await (watched(*args, **kwargs) if RUNTIME.attention else run(*args, **kwargs))

    return call


def outcome_of(exc: BaseException | None, /) -> str:
    """How metrics name what became of a call."""
    if exc is None:
        return "success"
    if not isinstance(exc, Exception):
        return "cancelled"
    if isinstance(exc, Rejected):
        return "rejected"
    return "timeout" if isinstance(exc, (TimedOut, DeadlineExceeded)) else "error"


def _instead(given: Any) -> str:
    """What to write in place of something that is no policy."""
    if isinstance(given, type):
        return f"write {given.__name__}(), an object, not a class"
    if isinstance(given, (list, tuple)):
        return "write the policies one after the other: Pipeline(Retry(), CircuitBreaker())"
    if isinstance(given, str):
        return f"the name comes last: Pipeline(..., name={given!r})"
    return "write an object such as Retry()"


def _flatten(policies: tuple[Policy, ...]) -> Iterator[Policy]:
    for policy in policies:
        if isinstance(policy, Pipeline):
            yield from policy.policies
        else:
            yield policy


def _mergeable(policy: Policy) -> bool:
    return isinstance(policy, Gate) and not policy.binds_itself


def _name(fn: Callable[..., Any]) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def is_async(fn: Callable[..., Any], /) -> bool:
    """Whether calling ``fn`` gives a coroutine: an ``async def``, a partial of one, an object whose call is
    one."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or (
        not inspect.isclass(fn) and inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004  (callable() tells less)
    )


def _awaited(fn: Callable[P, Any]) -> Callable[P, Coroutine[Any, Any, Any]]:
    """What is no coroutine function may give an awaitable all the same; anything else is a mistake of the caller's."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        result = fn(*args, **kwargs)
        if not inspect.isawaitable(result):
            raise PolicyError(
                f"{_name(fn)} gave {type(result).__name__}, which cannot be awaited; write pipeline.call({_name(fn)}, "
                "...), without await"
            )
        return await result

    return call


def refuse_generators(fn: Callable[..., Any], /) -> None:
    """A generator's body runs after the call is over: no policy would see it."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    target = fn if inspect.isroutine(fn) else getattr(fn, "__call__", fn)  # noqa: B004  (see above)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise PolicyError(
            f"{_name(fn)} is a generator function: its body runs after the call has returned, where no "
            "policy sees it; "
            "decorate the function that makes one item, or use the block form inside it: "
            "`for attempt in retry.attempts(): with attempt: ...`, `with breaker.guard(): ...`"
        )


def warn(message: str, /) -> None:
    """A `PolicyWarning` that points at the code which builds the pipeline."""
    warnings.warn(message, PolicyWarning, stacklevel=_outside())


def _outside() -> int:
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith("resilient."):
        frame, level = frame.f_back, level + 1
    return level
