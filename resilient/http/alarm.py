"""A time limit around one await that can be moved while it runs, and rung before its time; asyncio and trio.

It ends the await by cancelling it, so what is shared with others is not touched by it. Told from a cancellation of
somebody else's by ``rung``, after the block."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any, Self

from ..core.loops import current_task, running_loop


class AsyncioAlarm:
    """As ``asyncio.timeout``, for an asyncio task."""

    __slots__ = ("_cancelling", "_loop", "_task", "_timer", "_until", "rung")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.rung = False
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until: float | None = None
        self._cancelling = 0

    def __enter__(self) -> Self:
        task = current_task(self._loop)
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        return self

    def move(self, seconds: float | None) -> None:
        """It rings so many seconds from now; None: never by itself."""
        self._until = until = None if seconds is None else self._loop.time() + seconds
        timer = self._timer
        if timer is not None and (until is None or until < timer.when()):
            timer.cancel()
            timer = self._timer = None
        if timer is None and until is not None:
            self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        """The time is over, or was moved meanwhile: moving it costs no timer."""
        self._timer = None
        if self._until is not None:
            if self._until <= self._loop.time():
                self._ring()
            else:
                self._timer = self._loop.call_at(self._until, self._look)

    def ring(self) -> None:
        """End the await soon: not now, because it may be its own task that says so."""
        self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        if self._task is not None and not self.rung:
            self.rung = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.rung or task is None:
            return False
        ours = task.uncancel() <= self._cancelling  # else somebody else wants the task ended too
        return ours and isinstance(exc, asyncio.CancelledError)


class TrioAlarm:
    """As ``trio.CancelScope``."""

    __slots__ = ("_scope", "_trio", "rung")

    def __init__(self, trio: Any) -> None:
        self.rung = False
        self._trio = trio
        self._scope = trio.CancelScope()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def move(self, seconds: float | None) -> None:
        self._scope.deadline = float("inf") if seconds is None else self._trio.current_time() + seconds

    def ring(self) -> None:
        self._scope.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        caught: bool = self._scope.__exit__(kind, exc, traceback)
        self.rung = self._scope.cancelled_caught
        return caught


Alarm = AsyncioAlarm | TrioAlarm


def new_alarm() -> Alarm:
    """One for the caller's task, to be used once."""
    loop = running_loop()
    return AsyncioAlarm(loop) if loop is not None else TrioAlarm(sys.modules["trio"])
