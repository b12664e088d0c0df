"""The seam to asyncio and trio: sleep, a wake-up from another thread, a time limit.

Imported by async drivers only, so that sync programs never load asyncio. Trio is looked up where it is loaded
already: code that runs under it has imported it."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, TypeVar

from .forks import tell_after_fork

T = TypeVar("T")

current_task = asyncio.current_task
running_loop = asyncio._get_running_loop
"""The asyncio loop that runs in this thread, or None: documented for those who build on event loops."""


def in_trio() -> bool:
    """Whether the caller runs under trio."""
    return running_loop() is None and "trio" in sys.modules


async def sleep(seconds: float, /) -> None:
    """Let other tasks run for ``seconds``."""
    if in_trio():
        await sys.modules["trio"].sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def within(seconds: float | None, work: Callable[..., Awaitable[T]], /, *args: Any) -> T:
    """Await ``work(*args)``, and end it after so many seconds; None: never.

    Raises:
        TimeoutError: it was ended.
    """
    if seconds is None:
        return await work(*args)
    if in_trio():
        with sys.modules["trio"].move_on_after(seconds):
            return await work(*args)
        raise TimeoutError
    async with asyncio.timeout(seconds):
        return await work(*args)


async def wait_for_wake(arm: Callable[[Callable[[], None]], bool], timeout: float, /) -> None:
    """Wait until somebody calls the wake function, at most ``timeout`` seconds.

    Args:
        arm: takes the wake function, which any thread may call; returns False where there is nothing to wait
        for.
    """
    if in_trio():
        trio: Any = sys.modules["trio"]
        token = trio.lowlevel.current_trio_token()
        event = trio.Event()

        def wake_trio() -> None:
            try:
                token.run_sync_soon(event.set)
            except trio.RunFinishedError:
                pass  # nobody is left to be woken

        if arm(wake_trio):
            with trio.move_on_after(timeout):
                await event.wait()
        return
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def done() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(done)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be woken

    if not arm(wake):
        return
    timer = None if timeout == float("inf") else loop.call_later(timeout, done)
    try:
        await future
    finally:
        if timer is not None:
            timer.cancel()


class Limit:
    """One running time limit: cancels its task when it expires, and tells its own cancellation from others'.

    When the limited code is over, set ``task`` to None; if ``expired``, ask `is_own` for a ``CancelledError``
    first, and call `forget` in any case."""

    __slots__ = ("cancelling", "expired", "task", "when")

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.when = 0.0
        self.cancelling = 0
        self.expired: asyncio.Task[Any] | None = None

    def expire(self) -> None:
        task = self.task
        if task is not None:
            self.expired = task
            task.cancel()

    def is_own(self) -> bool:
        """Whether the cancellation that ended the limited code is this limit's, and nobody else wants the
        task ended."""
        task, self.expired, self.task = self.expired, None, None
        return task is not None and task.uncancel() <= self.cancelling

    def forget(self) -> None:
        """The limited code ended otherwise, although its time was over: the task is not to be cancelled for
        it."""
        self.is_own()


class Limits:
    """The time limits of one duration on one loop: they expire in the order in which they began, so one timer
    serves all of them.

    Args:
        loop: where the limited tasks run.
        duration: seconds.
        monotonic: the clock that ``when`` is told in.
    """

    __slots__ = ("__weakref__", "_armed", "_running", "_thread", "duration", "loop", "monotonic")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, duration: float, monotonic: Callable[[], float]
    ) -> None:
        self.loop = loop
        self.duration = duration
        self.monotonic = monotonic
        self._thread = get_ident()
        self._running: deque[Limit] = deque()
        self._armed = False
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._thread = 0  # of nobody: the loop is the parent's, though asyncio still knows its task here

    def begin(self, when: float) -> Limit | None:
        """Limit the current task; ``when`` is ``duration`` from now. None: it does not run on this loop."""
        # Asking for the running loop costs three times as much: a loop that runs a task of its own in its own
        # thread is it.
        task = current_task(self.loop) if self._thread == get_ident() else None
        if task is None:
            return None
        running = self._running
        if running and running[0].task is None:
            limit = running.popleft()  # over: used again
            if running and running[0].task is None:
                running.popleft()  # one more, so that a burst does not stay for ever
        else:
            limit = Limit()
        limit.task = task
        limit.when = when
        limit.cancelling = task.cancelling()
        running.append(limit)
        if not self._armed:
            self._armed = True
            self.loop.call_later(self.duration, self._tick)
        return limit

    def _tick(self) -> None:
        running, now = self._running, self.monotonic()
        while running and (running[0].task is None or running[0].when <= now):
            running.popleft().expire()
        if running:
            self.loop.call_later(running[0].when - now, self._tick)
        else:
            self._armed = False


def begin_limit(loop: asyncio.AbstractEventLoop, seconds: float, /) -> tuple[Limit, asyncio.TimerHandle]:
    """A time limit with a timer of its own, for a duration that is not repeated; cancel the handle at its
    end."""
    limit = Limit()
    limit.task = task = current_task(loop)
    limit.cancelling = task.cancelling()  # type: ignore[union-attr]  # drivers run in tasks
    return limit, loop.call_later(seconds, limit.expire)
