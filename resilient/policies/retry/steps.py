"""What the drivers and the block form do between two attempts."""

from __future__ import annotations

import inspect
from typing import Any

from ...core.budget import Budget
from ...core.call import Call
from ...core.clock import Clock
from ...core.errors import DeadlineExceeded, PolicyError
from ...core.events import RUNTIME, AttemptFinished, Rejection, emit
from ...core.outcome import IGNORED, Discarded, Evidence, Unfinished, attach, error_type
from ...core.pipeline import outcome_of
from ...core.policy import Site
from .options import RetryOptions
from .state import key_of

DRAIN_SECONDS = 0.05
"""How long letting go of an unread answer may take; part of the backoff."""


def own_call(
    outer: Call,
    makes_key: bool,
    options: RetryOptions,
    site: Site,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    /,
) -> Call:
    """The Call that all attempts of one retry share: its own key, or its place inside the keyed call outside."""
    if makes_key:
        return outer.with_key(key_of(options, site.dependency, site.operation, args, kwargs))
    return outer.for_retry(site.operation)


def is_over(call: Call, now: float, /) -> bool:
    """Whether the call's deadline is over."""
    return call.deadline is not None and now >= call.deadline


def too_late(site: Site, /) -> DeadlineExceeded:
    """The deadline was over before the first attempt: nobody's failure, and nothing was done."""
    if RUNTIME.listeners:
        emit(Rejection(site.dependency, site.operation, by="deadline", reason="the deadline was over"))
    error = DeadlineExceeded(
        "the deadline that the caller set is over", dependency=site.dependency, operation=site.operation
    )
    attach(error, evidence=Evidence.NOT_SENT, attempts=0, verdict=IGNORED, why_not_retried="deadline")
    return error


def now(wanted: Any, site: Site, /) -> bool:
    """The word of ``on=``, in sync code."""
    if wanted.__class__ is bool:
        return wanted
    if inspect.isawaitable(wanted):
        wanted.close()  # type: ignore[attr-defined]  # a coroutine, as a rule
        raise PolicyError(
            f"Retry: {site.operation} asks on= without await, and on= is an async strategy of tenacity.asyncio; write "
            "one of tenacity's"
        )
    return bool(wanted)


async def later(wanted: Any, /) -> bool:
    """The word of ``on=``, in async code."""
    if wanted.__class__ is bool:
        return wanted
    return bool(await wanted) if inspect.isawaitable(wanted) else bool(wanted)


def discard(held: Discarded | Unfinished[Any], delay: float, clock: Clock, budget: Budget, /) -> float:
    """Let go of an answer that nobody wants; what is left of the delay then."""
    began = clock.monotonic()
    with budget.paid():
        held.discard(DRAIN_SECONDS)
    return max(0.0, delay - (clock.monotonic() - began))


async def adiscard(held: Discarded | Unfinished[Any], delay: float, clock: Clock, budget: Budget, /) -> float:
    """As `discard`."""
    began = clock.monotonic()
    with budget.paid():
        await held.adiscard(DRAIN_SECONDS)
    return max(0.0, delay - (clock.monotonic() - began))


def tell(site: Site, attempt: int, began: float, exc: BaseException | None, /) -> None:
    """An attempt is over."""
    emit(
        AttemptFinished(
            site.dependency,
            site.operation,
            attempt=attempt,
            outcome=outcome_of(exc),
            duration=site.clock.monotonic() - began,
            error_type=None if exc is None else error_type(exc),
        )
    )
