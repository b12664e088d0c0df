"""tenacity's strategies in our loop, through its public API.

From the first failure on: a call that succeeds at once touches nothing of tenacity, unless a strategy may
look at results. The order of evaluation is tenacity's: ``retry``, ``wait``, ``stop``, with the state's fields
set in between."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def is_strategy(value: Any, /) -> bool:
    """Whether ``value`` is one of tenacity's ``retry_*``; false without importing tenacity, if nobody has."""
    return is_a("retry_base", value)


def is_a(base: str, value: Any, /) -> bool:
    """Whether ``value`` is of one of tenacity's families: ``retry_base``, ``wait_base``, ``stop_base``."""
    module = sys.modules.get(f"tenacity.{base.partition('_')[0]}")
    return module is not None and isinstance(value, getattr(module, base))


def looks_at_results(strategy: Any, /) -> bool:
    """Whether a ``retry_*`` may want a result retried. Only those known to look at exceptions alone are left
    out: all that decide as `retry_if_exception` does (`retry_unless_exception_type` for one does not)."""
    import tenacity

    if isinstance(strategy, (tenacity.retry_any, tenacity.retry_all)):
        parts = getattr(strategy, "retries", None)
        return parts is None or any(looks_at_results(part) for part in parts)
    return type(strategy).__call__ is not tenacity.retry_if_exception.__call__


def wants_again(exc: BaseException, /) -> bool:
    """Whether the function raised ``tenacity.TryAgain``."""
    tenacity = sys.modules.get("tenacity")
    return tenacity is not None and isinstance(exc, tenacity.TryAgain)


class Strategies:
    """The state that tenacity's strategies of one logical call look at; made at the first failure."""

    __slots__ = ("_policy", "_state", "_stop", "_wait")

    def __init__(
        self,
        on: Any,
        wait: Any,
        stop: Any,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        elapsed: float,
    ) -> None:
        import time

        import tenacity

        self._policy = on if is_strategy(on) else None
        self._wait = wait
        self._stop = stop
        retrying = tenacity.Retrying(
            **({"retry": on} if self._policy is not None else {}),
            **({"wait": wait} if wait is not None else {}),
            **({"stop": stop} if stop is not None else {}),
        )
        self._state = tenacity.RetryCallState(retrying, fn, args, kwargs)
        # tenacity measures with time.monotonic; with a test's clock, the same distances on that scale
        self._state.start_time = time.monotonic() - elapsed

    def failed(self, exc: BaseException, /) -> None:
        self._state.set_exception((type(exc), exc, exc.__traceback__))

    def returned(self, result: Any, /) -> None:
        self._state.set_result(result)

    def wants(self) -> Any:
        """Whether ``retry_*`` wants another attempt; may be an awaitable (``tenacity.asyncio``)."""
        return self._policy(self._state) if self._policy is not None else None

    def delay(self, default: float, /, now: float, started: float) -> float:
        """The delay of ``wait_*``, or ``default`` where there is none."""
        state = self._state
        state.outcome_timestamp = state.start_time + (now - started)
        state.upcoming_sleep = float(self._wait(state)) if self._wait is not None else default
        return float(state.upcoming_sleep)

    def stops(self) -> bool:
        """Whether ``stop_*`` says that this was the last attempt."""
        return bool(self._stop(self._state)) if self._stop is not None else False

    def next_attempt(self) -> None:
        self._state.idle_for += self._state.upcoming_sleep
        self._state.prepare_for_next_attempt()
