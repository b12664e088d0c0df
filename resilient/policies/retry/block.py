"""The block form of a retry: ``for attempt in retry.attempts(): with attempt: ...``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any

from ...core.budget import Budget
from ...core.call import CURRENT, Call, put_back
from ...core.events import RUNTIME
from ...core.policy import Site
from .options import RetryOptions
from .state import Story
from .steps import is_over, now, tell, too_late


class Attempts:
    """The attempts of one block, for one use: iterate with ``for`` or ``async for``. Made by `Retry.attempts`."""

    def __init__(self, options: RetryOptions, site: Site, budget: Budget, owner: object) -> None:
        self._options = options
        self._site = site
        self._budget = budget
        self._owner = owner
        self._call: Call | None = None  # of all attempts, where the block is inside a keyed call
        self._story: Story | None = None
        self._delay: float | None = 0.0

    def __iter__(self) -> Iterator[Attempt]:
        attempt = Attempt(self, 1)
        yield attempt
        while not attempt.over:
            if self._delay:
                with self._budget.paid():
                    self._site.clock.sleep(self._delay)
            attempt = Attempt(self, attempt.number + 1)
            yield attempt

    async def __aiter__(self) -> AsyncIterator[Attempt]:
        from ...core.loops import sleep

        attempt = Attempt(self, 1)
        yield attempt
        while not attempt.over:
            if self._delay:
                with self._budget.paid():
                    await sleep(self._delay)
            attempt = Attempt(self, attempt.number + 1)
            yield attempt

    def call_of(self, number: int) -> Call | None:
        """The Call to put in force for an attempt; None: the one outside does."""
        outer = CURRENT.get()
        if number == 1:
            if is_over(outer, self._site.clock.monotonic()):
                raise too_late(self._site)
            if outer.idempotency_key is not None:
                self._call = outer.for_retry(self._site.operation)
            return self._call
        return (self._call or outer).with_attempt(number)

    def ended(self, attempt: Attempt, started: float, exc: BaseException | None) -> bool:
        """An attempt is over; True where its failure is swallowed because another one follows."""
        if RUNTIME.listeners:
            tell(self._site, attempt.number, started, exc)
        if exc is None:
            if self._story is None:
                self._budget.succeeded(started)
            else:
                self._story.attempts = attempt.number
                self._story.succeeded()
            return False
        if not isinstance(exc, Exception):
            return False
        if self._story is None:
            self._story = Story(self._options, self._budget, self._site, started, (), {}, self._owner)
        story = self._story
        story.attempts = attempt.number
        self._delay = story.failed(exc, self._site.clock.monotonic(), now(story.wants(exc), self._site))
        return self._delay is not None


class Attempt:
    """One attempt of a block: ``with attempt:``.

    Attributes:
        number: from 1.
        over: whether the loop ends after it.
    """

    __slots__ = ("_attempts", "_started", "_token", "number", "over")

    def __init__(self, attempts: Attempts, number: int) -> None:
        self._attempts = attempts
        self.number = number
        self.over = True  # a body that never enters the block has nothing to repeat
        self._started = 0.0
        self._token: Any = None

    def __enter__(self) -> Attempt:
        self._started = self._attempts._site.clock.monotonic()
        call = self._attempts.call_of(self.number)
        if call is not None:
            self._token = CURRENT.set(call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        if self._token is not None:
            put_back(self._token)
        swallowed = self._attempts.ended(self, self._started, exc)
        self.over = not swallowed
        return swallowed
