"""One test for both drivers: what is said of a function holds for an async one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import Policy
from resilient.testing import ManualClock

both = pytest.mark.parametrize("mode", ["sync", "async"])


class Script:
    """A function that does what is written: raises the exceptions, returns the rest; the last one for ever.

    Attributes:
        calls: how often it ran.
        at: when it began, each time.
    """

    def __init__(self, *outcomes: Any, clock: ManualClock | None = None, takes: float = 0.0) -> None:
        self.outcomes = outcomes
        self.clock = clock
        self.takes = takes
        self.calls = 0
        self.at: list[float] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.calls += 1
        if self.clock is not None:
            self.at.append(self.clock.monotonic())
            self.clock.advance(self.takes)
        if callable(outcome) and not isinstance(outcome, type):
            outcome = outcome()
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, type) and issubclass(outcome, BaseException):
            raise outcome(f"call {self.calls}")
        return outcome


def call(
    mode: str, policy: Policy, fn: Callable[..., Any], clock: ManualClock, *args: Any, **kwargs: Any
) -> Any:
    """One call of ``fn`` under ``policy``; in mode ``async`` of an async function that does the same."""
    if mode == "sync":
        return policy.call(fn, *args, **kwargs)

    async def work(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return clock.run(policy.acall(work, *args, **kwargs))


def raised(
    mode: str, policy: Policy, fn: Callable[..., Any], clock: ManualClock, *args: Any, **kwargs: Any
) -> Exception:
    """What one call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call(mode, policy, fn, clock, *args, **kwargs)
    return caught.value


def notes(exc: BaseException) -> list[str]:
    return list(getattr(exc, "__notes__", ()))
