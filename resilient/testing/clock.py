"""Time that tests move.

`ManualClock` stands where a pipeline takes ``clock=``. It also makes asyncio loops whose timers run on it
(module `loop`), so that sync and async code of one test share one time. Under trio use
``trio.testing.MockClock``.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from .loop import VirtualTimeLoop

T = TypeVar("T")

# 2026-01-01T00:00:00Z: a fixed date, so that a test reads the same dates every day
DEFAULT_EPOCH = 1_767_225_600.0

# A lock cannot be waited for together with a condition: who waits for one looks at the time this often.
_SLICE = 0.001

ORIGIN_THREADS = "resilient-origin"  # how the threads of origins are named: they call into no loop


class Outside(Protocol):
    """Something in other threads that a loop of ours talks to through sockets; it knows when it is idle."""

    def busy(self) -> bool:
        """Whether it has input or work left that may still change something at its sockets."""
        ...

    def serves(self, address: tuple[str, int], /) -> bool:
        """Whether connections to ``address`` end in it."""
        ...


class ManualClock:
    """A clock that stands still until it is told, or asked to wait.

    Meant for ``clock=`` of pipelines and clients. With ``autojump`` whoever waits moves time himself and goes
    on at once: no test ever waits. Without it waits are real, and end when another thread calls `advance`:
    for tests in which several threads have to be somewhere at one time.

    Args:
        start: what `monotonic` says at first, in seconds.
        epoch: what `time` says at first, in seconds since 1970; 2026-01-01 by default.
        autojump: whether waiting moves time. Threads that wait at once then each move it by their own time.
        io_grace: real seconds, 0 or more, for which a virtual-time loop listens to sockets whose other end it
            knows nothing about, before it jumps. Not spent on an `Origin` made with this clock.

    Safe to use from many threads; one loop at a time may run on a clock with ``autojump``.

    Example:
        >>> clock = ManualClock()
        >>> clock.sleep(3600.0)
        >>> clock.monotonic(), clock.sleeps
        (3600.0, [3600.0])
    """

    def __init__(
        self,
        start: float = 0.0,
        *,
        epoch: float = DEFAULT_EPOCH,
        autojump: bool = True,
        io_grace: float = 0.1,
    ) -> None:
        self.autojump = autojump
        self.io_grace = _checked("io_grace", io_grace)
        self._start = self._now = float(start)
        self._epoch = float(epoch)
        self._changed = threading.Condition(threading.Lock())
        self._sleeps: list[float] = []  # this and all below: guarded by _changed
        self._alarms: list[_Alarm] = []
        self._numbers = itertools.count()
        self._blocked: dict[object, float] = {}
        self._holds = 0
        self._wakers: list[Callable[[], None]] = []
        self._outsiders: list[Outside] = []

    def __repr__(self) -> str:
        return f"ManualClock(now={self._now!r}, autojump={self.autojump})"

    # -- what a Clock has

    def monotonic(self) -> float:
        """Virtual seconds since some start."""
        return self._now

    def time(self) -> float:
        """Virtual seconds since 1970."""
        return self._epoch + (self._now - self._start)

    def sleep(self, seconds: float, /) -> None:
        """Wait ``seconds`` (0 or more) of virtual time; noted in `sleeps`.

        Raises:
            ValueError: for a time that is negative or not finite.
        """
        _checked("sleep", seconds)
        with self._changed:
            self._sleeps.append(seconds)
            until = self._now + seconds
        if self.autojump:
            self._move(by=seconds)
            return
        with self._counted_as_blocked(until), self._changed:
            while self._now < until:
                self._changed.wait()

    def acquire(self, lock: threading.Lock, timeout: float, /) -> bool:
        """Take ``lock`` within ``timeout`` virtual seconds; False when the time is over.

        With ``autojump`` a lock that is taken now is given up on at once, ``timeout`` later: nobody is waited
        for. An infinite ``timeout`` waits in real time, in either mode: there is no time to jump to.
        """
        if lock.acquire(blocking=False):
            return True
        if timeout <= 0:
            return False
        if self.autojump:
            if timeout == math.inf:
                return lock.acquire()
            self._move(by=timeout)
            return lock.acquire(blocking=False)
        until = self._now + timeout
        with self._counted_as_blocked(until):
            while self._now < until:
                if lock.acquire(timeout=_SLICE):
                    return True
            return lock.acquire(blocking=False)

    # -- what a test does with it

    @property
    def sleeps(self) -> list[float]:
        """The seconds of every `sleep` so far, in order."""
        with self._changed:
            return list(self._sleeps)

    def advance(self, seconds: float, /) -> None:
        """Move time forward by ``seconds`` (0 or more) and wake who waited for it.

        Alarms of `call_at` that come due run in this thread, each at its own time; sleepers and timers of
        loops find the time already moved by all of ``seconds``.

        Raises:
            ValueError: for a time that is negative or not finite.
        """
        self._move(by=_checked("advance", seconds))

    def call_at(self, when: float, callback: Callable[[], object], /) -> Callable[[], None]:
        """Have ``callback`` called, once, by whoever moves time to ``when``; returns what cancels that.

        Args:
            when: a time of `monotonic`. One that is over already is called at once.
            callback: short, and does not wait on this clock; called outside all locks.

        Example:
            >>> clock = ManualClock()
            >>> cancel = clock.call_at(5.0, lambda: print("at", clock.monotonic()))
            >>> clock.sleep(60.0)
            at 5.0
        """
        alarm = _Alarm(when, next(self._numbers), callback)
        with self._changed:
            over = when <= self._now
            if not over:
                heapq.heappush(self._alarms, alarm)
        if over:
            callback()
        else:
            self._wake_loops()  # the time to jump to may be nearer now

        def cancel() -> None:
            with self._changed:
                if alarm in self._alarms:
                    self._alarms.remove(alarm)
                    heapq.heapify(self._alarms)

        return cancel

    @property
    def blocked(self) -> int:
        """How many wait for time to move: threads and, each as one, idle loops and delays of an origin.

        With ``autojump`` threads and loops do not wait, and are not counted.
        """
        with self._changed:
            return self._count_blocked()

    def wait_until_blocked(self, count: int = 1, *, timeout: float = 5.0) -> None:
        """Wait in real time until ``count`` are `blocked`, so that `advance` finds them there.

        Args:
            count: 1 or more.
            timeout: real seconds.

        Raises:
            TimeoutError: when they did not come.

        Example:
            >>> clock = ManualClock(autojump=False)
            >>> sleeper = threading.Thread(target=clock.sleep, args=(60.0,))
            >>> sleeper.start()
            >>> clock.wait_until_blocked()
            >>> clock.advance(60.0)
            >>> sleeper.join()
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._count_blocked() >= count, timeout):
                raise TimeoutError(
                    f"{self._count_blocked()} wait for the clock after {timeout} s, not {count}"
                )

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Inside, no virtual-time loop of this clock jumps: for a thread that is about to call into the loop.

        Jobs of ``run_in_executor`` and ``asyncio.to_thread`` need none, the loop knows of them.

        Example:
            >>> import asyncio
            >>> clock = ManualClock()
            >>> async def main():
            ...     loop = asyncio.get_running_loop()
            ...     done = loop.create_future()
            ...     hold = clock.hold()
            ...     hold.__enter__()
            ...     def work():
            ...         loop.call_soon_threadsafe(done.set_result, "done")
            ...         hold.__exit__(None, None, None)
            ...     threading.Thread(target=work).start()
            ...     async with asyncio.timeout(1.0):
            ...         return await done
            >>> clock.run(main())
            'done'
        """
        with self._changed:
            self._holds += 1
        try:
            yield
        finally:
            with self._changed:
                self._holds -= 1
            self._wake_loops()

    def loop(self) -> VirtualTimeLoop:
        """A new asyncio event loop whose timers run on this clock; whoever asks closes it.

        The rules by which it jumps stand at `resilient.testing.loop.VirtualTimeLoop`.

        Example:
            >>> import asyncio
            >>> with asyncio.Runner(loop_factory=ManualClock().loop) as runner:
            ...     runner.run(asyncio.sleep(3600.0, "an hour later"))
            'an hour later'
        """
        from .loop import VirtualTimeLoop  # asyncio is not loaded for tests of sync code

        return VirtualTimeLoop(self)

    def run(self, main: Coroutine[Any, Any, T], /) -> T:
        """Run a coroutine as ``asyncio.run`` does, on a loop of this clock; returns its result.

        Raises:
            DeadlockError: when nothing can ever go on.

        Example:
            >>> import asyncio
            >>> clock = ManualClock()
            >>> clock.run(asyncio.sleep(3600.0, "an hour later"))
            'an hour later'
            >>> clock.monotonic()
            3600.0
        """
        import asyncio

        with asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(main)

    # -- for loops and origins of this package

    def _move(
        self, *, to: float | None = None, by: float = 0.0, mover: Callable[[], None] | None = None
    ) -> None:
        target: float | None = to
        while True:
            with self._changed:
                if target is None:
                    target = self._now + by
                due = heapq.heappop(self._alarms) if self._alarms and self._alarms[0].when <= target else None
                self._now = max(self._now, target if due is None else due.when)
                self._changed.notify_all()
            if due is None:
                break
            due.callback()
        self._wake_loops(mover)

    def _wake_loops(self, mover: Callable[[], None] | None = None) -> None:
        with self._changed:
            wakers = [wake for wake in self._wakers if wake != mover]
        for wake in wakers:
            wake()

    def _next_alarm(self) -> float | None:
        with self._changed:
            return self._alarms[0].when if self._alarms else None

    def _count_blocked(self) -> int:
        return sum(until > self._now for until in self._blocked.values())

    @contextmanager
    def _counted_as_blocked(self, until: float) -> Iterator[None]:
        token = object()
        with self._changed:
            self._blocked[token] = until
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                del self._blocked[token]

    @contextmanager
    def _driving(self, wake: Callable[[], None]) -> Iterator[None]:
        """A loop runs on this clock; ``wake`` has it look at the time again."""
        with self._changed:
            self._wakers.append(wake)
        try:
            yield
        finally:
            with self._changed:
                self._wakers.remove(wake)

    @property
    def _driven(self) -> bool:
        return bool(self._wakers)

    def _watch(self, outside: Outside) -> None:
        with self._changed:
            self._outsiders.append(outside)

    def _unwatch(self, outside: Outside) -> None:
        with self._changed:
            self._outsiders.remove(outside)

    def _watched(self) -> list[Outside]:
        with self._changed:
            return list(self._outsiders)


class _Alarm:
    __slots__ = ("callback", "number", "when")

    def __init__(self, when: float, number: int, callback: Callable[[], object]) -> None:
        self.when = when
        self.number = number
        self.callback = callback

    def __lt__(self, other: _Alarm) -> bool:
        return (self.when, self.number) < (other.when, other.number)


def _checked(what: str, seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{what}: {seconds!r} is not a time; give finite seconds, 0 or more")
    return seconds
