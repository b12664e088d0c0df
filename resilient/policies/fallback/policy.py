"""Fallback as a policy."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from ...core.errors import PolicyError, Rejected
from ...core.events import FELL_BACK, RUNTIME, FallbackUsed, emit
from ...core.outcome import Discarded, error_type
from ...core.pipeline import is_async
from ...core.policy import Policy, Site
from ...core.rows import refuse_coroutine
from ...core.when import ANY_ERROR, When
from .options import FallbackOptions
from .state import maker

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class Fallback(Policy, Generic[S]):
    """A stand-in for the result where the call fails or is rejected.

    Args:
        fallback: a value, or a function: it is called with the arguments of the call, and with the exception
            if it has a keyword-only parameter ``error``. For async calls it may be async.
        on: which failures: exception classes, predicates, or a `When`. Local rejections (`Rejected`) are
            exceptions too: ``on=Rejected`` stands in for these alone.

    Raises:
        PolicyError: an option of the wrong kind; an async fallback on a sync function.

    Cancellation is never caught. If the fallback function fails, its exception is raised, from the first one.
    Thread-safe.

    Source: Hystrix; resilience4j.

    Example:
        >>> from resilient import Fallback
        >>> @Fallback(["bestseller"])
        ... def recommendations(user: str) -> list[str]:
        ...     raise ConnectionError("down")
        >>> recommendations("ann")
        ['bestseller']
    """

    kind = "fallback"
    watches = True

    @overload
    def __init__(self, fallback: Callable[..., Coroutine[Any, Any, S]], /, *, on: Any = ...) -> None: ...
    @overload
    def __init__(self, fallback: Callable[..., S], /, *, on: Any = ...) -> None: ...
    @overload
    def __init__(self, fallback: S, /, *, on: Any = ...) -> None: ...
    def __init__(self, fallback: Any, /, *, on: Any = ANY_ERROR) -> None:
        self.options = FallbackOptions(fallback, on)

    @property
    def stands_in_for(self) -> When:
        """The failures that never get past it."""
        return self.options.on  # type: ignore[no-any-return]  # the user's own type

    @overload  # type: ignore[override]  # it may give another type than the function
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R | S]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R | S]: ...
    def __call__(self, fn: Callable[P, Any], /) -> Callable[P, Any]:
        return super().__call__(fn)

    def describe(self, outer: tuple[Policy, ...] = (), inner: tuple[Policy, ...] = (), /) -> str:
        fallback = self.options.fallback
        shown = (
            getattr(fallback, "__qualname__", type(fallback).__qualname__)
            if callable(fallback)
            else "a value"
        )
        on = "" if self.options.on is ANY_ERROR else f" on {self.options.on}"
        return f"Fallback({shown}{on})"

    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        fallback, on = self.options.fallback, self.options.on
        if callable(fallback) and is_async(fallback):
            raise PolicyError(
                f"Fallback: {site.operation} is sync and its fallback is async; write a sync fallback for it"
            )
        make, runtime, watched = maker(fallback), RUNTIME, site.watched

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if watched is not None and runtime.attention:
                return watched(*args, **kwargs)  # type: ignore[no-any-return]  # the user's own type
            try:
                result = inner(*args, **kwargs)
                if result.__class__ is CoroutineType:
                    raise refuse_coroutine(result, site)
                return result
            except PolicyError:
                raise
            except Exception as exc:
                if not on.covers(exc):
                    raise
                _tell(site, exc)
                try:
                    return make(args, kwargs, exc)  # type: ignore[no-any-return]  # the user's own type
                finally:
                    if isinstance(exc, Discarded):
                        exc.discard(0.0)

        return call

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        make, on = maker(self.options.fallback), self.options.on
        runtime, watched = RUNTIME, site.watched

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if watched is not None and runtime.attention:
                return await watched(*args, **kwargs)  # type: ignore[no-any-return]  # the user's own type
            try:
                return await inner(*args, **kwargs)
            except PolicyError:
                raise
            except Exception as exc:
                if not on.covers(exc):
                    raise
                _tell(site, exc)
                try:
                    result = make(args, kwargs, exc)
                    return await result if inspect.isawaitable(result) else result  # type: ignore[no-any-return]  # the user's own type
                finally:
                    if isinstance(exc, Discarded):
                        await exc.adiscard(0.0)

        return call


def _tell(site: Site, exc: Exception) -> None:
    if RUNTIME.listeners:
        used = FELL_BACK.get()
        if used is not None:
            used.append(None)
        emit(
            FallbackUsed(
                site.dependency,
                site.operation,
                error_type=error_type(exc),
                rejected=isinstance(exc, Rejected),
            )
        )
