"""An asyncio event loop whose time is a `ManualClock`."""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from .clock import ORIGIN_THREADS, ManualClock, Outside

T = TypeVar("T")

_Events = list[tuple[selectors.SelectorKey, int]]
_LOOK_AGAIN = 0.001  # how often an origin that is at work is asked whether it still is
_PATIENCE = 1.0  # for a thread that nobody told us of to call in, before nothing is declared to be coming


class DeadlockError(RuntimeError):
    """A virtual-time loop has tasks that wait, and nothing is left that could ever wake one.

    The message says where each of them waits.
    """


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The event loop of `ManualClock.run` and `ManualClock.loop`: ``time()`` is the clock's.

    With ``autojump`` the loop moves the clock to the next timer, of its own or of `ManualClock.call_at`, when
    it has nothing else to do. That is, in this order, when

    1. no callback is ready and no socket is;
    2. no job of ``run_in_executor``, ``asyncio.to_thread`` or name resolution is running, and nobody is
       inside `ManualClock.hold`. A thread that the loop does not know of (a plain `threading.Thread`,
       ``anyio.to_thread``) holds nothing: wrap it in `hold`. A job that was cancelled or timed out holds
       nothing any more;
    3. no `Origin` of the same clock has anything left to do;
    4. sockets that it waits for, other than to such an origin, were silent for ``io_grace`` real seconds.

    A job that waits for an origin which itself waits for time to pass holds the clock for ``io_grace`` only.
    Where nothing is ready or running, no timer is set and no socket's other end may speak, that is a
    `DeadlockError`; after one real second if other threads are alive, which may be about to call in.

    Without ``autojump`` the loop waits, in real time, for sockets, other threads and `ManualClock.advance`.

    Safe from other threads where asyncio's loops are. Not for uvloop, whose timers cannot be replaced.
    """

    def __init__(self, clock: ManualClock, /) -> None:
        self._manual = clock
        self._jobs = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """The clock's time."""
        return self._manual.monotonic()

    def run_forever(self) -> None:
        """Run until `stop`; while it does, the clock is this loop's to move."""
        with self._manual._driving(self._wake):
            super().run_forever()

    def run_in_executor(  # type: ignore[override]  # typeshed's TypeVarTuple says the same
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As asyncio's; time does not jump until the job is back."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_is_back)
        return future

    def _job_is_back(self, _: asyncio.Future[Any]) -> None:
        self._jobs -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As asyncio's; time does not jump meanwhile (from 3.12 on there is a timer on it, of 300 s)."""
        with self._manual.hold():
            if sys.version_info >= (3, 12):
                await super().shutdown_default_executor(timeout)
            else:
                await super().shutdown_default_executor()

    def _wake(self) -> None:
        try:
            self.call_soon_threadsafe(_nothing)
        except RuntimeError:
            pass  # closed in the meantime: nobody is left to be woken

    def _next_timer(self) -> float | None:
        # asyncio has no public way to ask. It drops cancelled timers from the head before it asks us.
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # private
        return scheduled[0].when() if scheduled else None

    def _idle(self, poll: Callable[[float | None], _Events]) -> _Events:
        """Nothing is ready now: wait for I/O, or move the time. What it returns is asyncio's to process."""
        clock = self._manual
        if not clock.autojump:
            timer = self._next_timer()
            with clock._counted_as_blocked(math.inf if timer is None else timer):
                return poll(None)
        listened = False
        while True:
            outsiders = clock._watched()
            if any(each.busy() for each in outsiders):
                if events := poll(_LOOK_AGAIN):
                    return events
                continue
            # Only now: what an origin did before it became idle has reached our sockets.
            if events := poll(0):
                return events
            if clock._holds:
                return poll(None)  # `hold` wakes us when it ends
            alarm = clock._next_alarm()
            if self._jobs and alarm is None:
                return poll(None)
            if not listened and (self._jobs or self._may_hear(outsiders)):
                listened = True
                if events := poll(clock.io_grace):
                    return events
                continue  # somebody may have become busy
            times = [time for time in (self._next_timer(), alarm) if time is not None]
            if times:
                self._jump(min(times))
                return []
            if self._may_hear(outsiders):
                return poll(None)
            return self._nothing_comes(poll)

    def _jump(self, when: float) -> None:
        # asyncio runs a timer whose time is less than `time()` plus this; to a large time 1e-9 adds nothing.
        self._clock_resolution = max(1e-9, 2 * math.ulp(when))
        self._manual._move(to=when, mover=self._wake)

    def _may_hear(self, outsiders: list[Outside]) -> bool:
        """Whether it waits for a socket other than those to origins, which told us that they are idle."""
        for key in self._selector.get_map().values():  # type: ignore[attr-defined]  # private
            if key.fd == self._ssock.fileno():  # type: ignore[attr-defined]  # for other threads
                continue
            peer = _peer_of(key.fd)
            if peer is None or not any(each.serves(peer) for each in outsiders):
                return True
        return False

    def _nothing_comes(self, poll: Callable[[float | None], _Events]) -> _Events:
        others = [
            thread.name
            for thread in threading.enumerate()
            if thread is not threading.current_thread() and not thread.name.startswith(ORIGIN_THREADS)
        ]
        if others and (events := poll(_PATIENCE)):
            return events
        lines = [f"nothing can wake this loop any more, at time {self.time()}: no timer, no socket, no job."]
        for task in asyncio.all_tasks(self):
            stack = task.get_stack(limit=1)
            where = f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}" if stack else "?"
            lines.append(
                f"  {task.get_name()} waits in {getattr(task.get_coro(), '__qualname__', '?')} at {where}"
            )
        if others:
            lines.append(
                f"  threads alive: {', '.join(others)}; one that is to call in takes ManualClock.hold()"
            )
        raise DeadlockError("\n".join(lines))


class _Selector(selectors.DefaultSelector):
    """The real selector, which asks the loop instead of blocking."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._idle = loop._idle

    def select(self, timeout: float | None = None) -> _Events:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        return self._idle(super().select)


def _peer_of(fd: int) -> tuple[str, int] | None:
    try:
        borrowed = socket.socket(fileno=fd)
    except OSError:
        return None  # not a socket
    try:
        name = borrowed.getpeername()
    except OSError:
        return None  # not connected
    finally:
        borrowed.detach()
    return (name[0], name[1]) if isinstance(name, tuple) else None


def _nothing() -> None:
    pass
