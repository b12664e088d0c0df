"""One script of outcomes, run by tenacity and by us."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import tenacity

from resilient import Budget, Pipeline, Retry
from resilient.core.events import RetryScheduled
from resilient.testing import ManualClock, capture_events

AMPLE = {"stock": 1_000_000, "floor": 1_000, "window": 600, "ratio": 10}


@dataclass
class Script:
    """A function that does what it is told, once for each attempt.

    Attributes:
        outcomes: what each attempt does: an exception to raise, or a result. The last one is repeated.
        seed: of the random numbers that a strategy draws after an attempt; each attempt has its own.
        takes: virtual seconds that each attempt takes.
        clock: whose time these are.
        attempts: how many there were.
    """

    outcomes: Sequence[Any]
    seed: int = 0
    takes: float = 0.0
    clock: ManualClock = field(default_factory=ManualClock)
    attempts: int = 0

    def __call__(self) -> Any:
        outcome = self.outcomes[min(self.attempts, len(self.outcomes) - 1)]
        self.attempts += 1
        self.clock.advance(self.takes)
        random.seed(self.seed * 1_000 + self.attempts)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def acall(self) -> Any:
        return self()


@dataclass
class Seen:
    """What came of a script: the delays between attempts, how many there were, and the end."""

    delays: list[float]
    attempts: int
    end: Any


def end_of(call: Callable[[], Any]) -> Any:
    """The result, or the exception; tenacity's `RetryError` around a result that was not wanted is that result."""
    try:
        return call()
    except tenacity.RetryError as exc:
        return exc.last_attempt.result()
    except Exception as exc:
        return exc


def ours(script: Script, **options: Any) -> Seen:
    call = Pipeline(Retry(**{"attempts": 100, "budget": Budget(**AMPLE), **options}), clock=script.clock)(
        script
    )
    with capture_events() as seen:
        end = end_of(call)
    return Seen(
        [each.delay for each in seen.events if isinstance(each, RetryScheduled)], script.attempts, end
    )


def ours_async(script: Script, **options: Any) -> Seen:
    retry = Retry(**{"attempts": 100, "budget": Budget(**AMPLE), **options})
    call = Pipeline(retry, clock=script.clock)(script.acall)
    with capture_events() as seen:
        end = end_of(lambda: script.clock.run(call()))
    return Seen(
        [each.delay for each in seen.events if isinstance(each, RetryScheduled)], script.attempts, end
    )


def theirs(script: Script, **options: Any) -> Seen:
    delays: list[float] = []

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        script.clock.sleep(seconds)

    options = {"stop": tenacity.stop_after_attempt(100), "sleep": sleep, "reraise": True, **options}
    with tenacity_on(script.clock):
        end = end_of(lambda: tenacity.Retrying(**options)(script))
    return Seen(delays, script.attempts, end)


def theirs_async(script: Script, **options: Any) -> Seen:
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)
        script.clock.sleep(seconds)

    options = {"stop": tenacity.stop_after_attempt(100), "sleep": sleep, "reraise": True, **options}
    with tenacity_on(script.clock):
        end = end_of(lambda: script.clock.run(tenacity.AsyncRetrying(**options)(script.acall)))
    return Seen(delays, script.attempts, end)


@contextmanager
def tenacity_on(clock: ManualClock) -> Iterator[None]:
    """Inside, tenacity reads the time from ``clock``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenacity, "time", clock)
        yield


def assert_same(ours: Seen, theirs: Seen) -> None:
    assert ours.delays == theirs.delays
    assert ours.attempts == theirs.attempts
    assert type(ours.end) is type(theirs.end)
    assert ours.end is theirs.end or ours.end == theirs.end
