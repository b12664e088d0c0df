"""`degradable`: a function that a level switches to a cheaper one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from types import CoroutineType
from typing import Any, Final, Generic, Never, ParamSpec, TypeVar, overload

from ..core.errors import FeatureDisabled, PolicyError
from ..core.events import RUNTIME, FeatureExecuted, Rejection, emit
from ..core.pipeline import is_async, refuse_generators
from ..policies.fallback.state import maker
from .context import note
from .evaluation import find
from .evaluations import EVALUATIONS
from .snapshot import FlagDetails
from .state import STATE, in_force, unknown

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class _Reject:
    """In place of a fallback: there is none."""

    def __repr__(self) -> str:
        return "REJECT"


REJECT: Final = _Reject()


class Degradable(Generic[S]):
    """What `degradable` makes: a decorator."""

    def __init__(self, feature: str, variants: Mapping[str, Callable[..., Any]], fallback: Any) -> None:
        if not isinstance(feature, str) or not feature:
            raise PolicyError(
                f"degradable: feature={feature!r} must be a text that names the feature; "
                "write @degradable('recommendations')"
            )
        if not isinstance(variants, Mapping):
            raise PolicyError(
                f"degradable: variants={variants!r} must be a dict of functions by variant; "
                "write variants={'cached': cached_for}"
            )
        for name, fn in variants.items():
            if not isinstance(name, str) or not callable(fn):
                raise PolicyError(
                    f"degradable: variants has {name!r}: {fn!r}, and must have functions by the names of variants; "
                    "write variants={'cached': cached_for}, and a plain value as fallback="
                )
        self.feature = feature
        self.variants = dict(variants)
        self.fallback = fallback

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R | S]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R | S]: ...
    def __call__(self, fn: Callable[P, Any], /) -> Callable[P, Any]:
        if isinstance(fn, (classmethod, staticmethod)):
            return type(fn)(self(fn.__func__))
        if not callable(fn):
            raise PolicyError(
                f"degradable: {fn!r} is no function; as a decorator it is written with the feature's name, "
                "@degradable('recommendations')"
            )
        refuse_generators(fn)
        site = _Site(self, fn)
        bound = _asynchronous(fn, site) if is_async(fn) else _synchronous(fn, site)
        functools.update_wrapper(bound, fn)
        return bound


@overload
def degradable(
    feature: str, /, *, variants: Mapping[str, Callable[..., Any]] | None = ...
) -> Degradable[Never]: ...
@overload
def degradable(
    feature: str,
    /,
    *,
    variants: Mapping[str, Callable[..., Any]] | None = ...,
    fallback: Callable[..., Coroutine[Any, Any, S]],
) -> Degradable[S]: ...
@overload
def degradable(
    feature: str,
    /,
    *,
    variants: Mapping[str, Callable[..., Any]] | None = ...,
    fallback: Callable[..., S],
) -> Degradable[S]: ...
@overload
def degradable(
    feature: str, /, *, variants: Mapping[str, Callable[..., Any]] | None = ..., fallback: S
) -> Degradable[S]: ...
def degradable(
    feature: str,
    /,
    *,
    variants: Mapping[str, Callable[..., Any]] | None = None,
    fallback: Any = REJECT,
) -> Degradable[Any]:
    """A function that gives way to a cheaper one while the feature is degraded.

    Args:
        feature: its name in the document.
        variants: functions by the names of variants, called with the arguments of the call. For async calls they may
            be async. They give what the function gives.
        fallback: what is given while the feature is ``off``, or degraded to a variant that has no function here: a
            value, or a function, called with the arguments of the call, and with the rejection if it has a
            keyword-only parameter ``error``.

    Raises:
        PolicyError: when decorating: something of the wrong kind, an async variant for a sync function, a generator.
            From a call: a plain ``def`` gave a coroutine.
        FeatureDisabled: from a call: the feature is off, and there is no fallback.

    The function itself runs at level 0, while the document does not know the feature, and where it is degraded to a
    variant that has neither a function nor a fallback: it may ask `features` for it, and the log says so once. What a
    variant or fallback raises is raised. Thread-safe; one document holds for all of a call.

    Example:
        >>> @degradable("recommendations", fallback=["bestseller"])
        ... def recommendations(user: str) -> list[str]:
        ...     return [f"for {user}"]
        >>> recommendations("ann")
        ['for ann']
    """
    return Degradable(feature, {} if variants is None else variants, fallback)


_BY = {"targeting": "by a rule of the document", "override": "by a person"}


class _Site:
    """A function that is decorated, and what may stand in for it."""

    __slots__ = ("fallback", "feature", "operation", "variants")

    def __init__(self, degradable: Degradable[Any], fn: Callable[..., Any]) -> None:
        inner = fn.func if isinstance(fn, functools.partial) else fn
        self.feature = degradable.feature
        self.operation: str = getattr(inner, "__qualname__", type(inner).__qualname__)
        self.variants = degradable.variants
        self.fallback = None if degradable.fallback is REJECT else maker(degradable.fallback)
        if not is_async(fn):
            for name, each in [*degradable.variants.items(), ("fallback", degradable.fallback)]:
                if callable(each) and is_async(each):
                    raise PolicyError(
                        f"degradable: {self.operation} is sync and its {name} is async; write a sync one for it"
                    )

    def enter(self, found: FlagDetails[Any] | None) -> Callable[..., Any] | None:
        """A call begins: what runs in place of the function; None: nothing does.

        Raises:
            FeatureDisabled: nothing may.
        """
        if found is None:
            unknown(self.feature)
        elif found.variant is not None:
            run = self._stand_in(found, found.variant)
            if run is not None:
                self._note(found)
                return run
        self.tell(found, "normal")
        return None

    def _stand_in(self, found: FlagDetails[Any], variant: str) -> Callable[..., Any] | None:
        run = self.variants.get(variant)
        if run is not None:
            return run
        fallback = self.fallback
        if not found.enabled or (found.degraded and fallback is not None):
            error = self._disabled(found, variant)
            if fallback is not None:
                return lambda *args, **kwargs: fallback(args, kwargs, error)
            self._note(found)  # whoever answers all the same answers without it
            if RUNTIME.listeners:
                emit(Rejection(self.feature, self.operation, by="degradation", reason=error.reason))
            raise error
        if found.degraded:
            STATE.complain(
                f"{self.feature}: {variant}",
                "feature %r is degraded to %r, for which %s has neither a function nor a fallback: it runs in full",
                self.feature,
                variant,
                self.operation,
            )
        return None

    def _note(self, found: FlagDetails[Any]) -> None:
        if found.degraded and found.variant is not None:
            note(self.feature, found.variant)

    def _disabled(self, found: FlagDetails[Any], variant: str) -> FeatureDisabled:
        why = (
            f"at level {found.level}" if found.level is not None else _BY.get(found.cause, "by the document")
        )
        if found.cause.startswith("plan:"):
            why = f"by the plan {found.cause.removeprefix('plan:')}"
        return FeatureDisabled(
            f"the feature is {variant} {why}; give @degradable a fallback= to answer all the same",
            dependency=self.feature,
            operation=self.operation,
            reason=found.cause,
            feature=self.feature,
            variant=variant,
        )

    def refuse_coroutine(self, result: Coroutine[Any, Any, Any], who: str) -> PolicyError:
        """It would be awaited while the function runs, and not while a plain value stands in for it."""
        result.close()
        return PolicyError(
            f"degradable: {self.operation} is a plain `def`, and {who} returned a coroutine; write `async def`"
        )

    def tell(self, found: FlagDetails[Any] | None, path: str) -> None:
        if RUNTIME.listeners:
            variant, cause = (None, "code_default") if found is None else (found.variant, found.cause)
            emit(FeatureExecuted(self.feature, self.operation, path=path, variant=variant, cause=cause))


def _synchronous(fn: Callable[..., Any], site: _Site) -> Callable[..., Any]:
    runtime, feature = RUNTIME, site.feature

    def call(*args: Any, **kwargs: Any) -> Any:
        if not runtime.active:
            return fn(*args, **kwargs)
        flags = in_force()
        found = flags.fixed.get(feature) or find(flags, feature)
        if EVALUATIONS.on:
            EVALUATIONS.tell(feature, found)
        run = site.enter(found)
        if run is None:
            result = fn(*args, **kwargs)
            if result.__class__ is CoroutineType:
                raise site.refuse_coroutine(result, "it")
            return result
        try:
            result = run(*args, **kwargs)
            if result.__class__ is CoroutineType:
                raise site.refuse_coroutine(result, "what stands in for it")
        except Exception:
            site.tell(found, "fallback_error")
            raise
        site.tell(found, "degraded")
        return result

    return call


def _asynchronous(fn: Callable[..., Any], site: _Site) -> Callable[..., Coroutine[Any, Any, Any]]:
    runtime, feature = RUNTIME, site.feature

    async def call(*args: Any, **kwargs: Any) -> Any:
        if not runtime.active:
            return await fn(*args, **kwargs)
        flags = in_force()
        found = flags.fixed.get(feature) or find(flags, feature)
        if EVALUATIONS.on:
            EVALUATIONS.tell(feature, found)
        run = site.enter(found)
        if run is None:
            return await fn(*args, **kwargs)
        try:
            result = run(*args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
        except Exception:
            site.tell(found, "fallback_error")
            raise
        site.tell(found, "degraded")
        return result

    return call
