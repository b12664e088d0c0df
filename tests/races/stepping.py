"""A coroutine that is driven by hand: cancelled at its n-th suspension, for every n there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class Step:
    """One suspension, after which whoever waits for its turn may go on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Stepped:
    """Awaits ``coro`` by calling ``send`` and ``throw`` itself, inside whatever task runs it.

    At suspension number ``cancel_at`` (from 1) it throws ``CancelledError`` in, as a loop would, and drives what the
    coroutine still does. ``suspensions`` tells how many there were."""

    def __init__(self, coro: Coroutine[Any, Any, Any], cancel_at: int) -> None:
        self._coro = coro
        self._cancel_at = cancel_at
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        coro = self._coro
        try:
            waits_for = coro.send(None)
            while True:
                self.suspensions += 1
                if self.suspensions == self._cancel_at:
                    if waits_for is not None:
                        waits_for._asyncio_future_blocking = False  # nobody awaits it any more
                    waits_for = coro.throw(asyncio.CancelledError())
                    continue
                try:
                    got = yield waits_for
                except BaseException as exc:
                    waits_for = coro.throw(exc)
                else:
                    waits_for = coro.send(got)
        except StopIteration as stop:
            return stop.value


class Left:
    """Awaits ``coro`` up to suspension number ``leave_at`` (from 1), and leaves it there; says whether it got there."""

    def __init__(self, coro: Coroutine[Any, Any, Any], leave_at: int) -> None:
        self._coro = coro
        self._leave_at = leave_at

    def __await__(self) -> Generator[Any, Any, bool]:
        coro = self._coro
        try:
            waits_for = coro.send(None)
            for _ in range(self._leave_at - 1):
                try:
                    got = yield waits_for
                except BaseException as exc:
                    waits_for = coro.throw(exc)
                else:
                    waits_for = coro.send(got)
        except StopIteration:
            return False
        if waits_for is not None:
            waits_for._asyncio_future_blocking = False
        return True


async def cancel_everywhere(
    make: Callable[[], tuple[Callable[[], Awaitable[Any]], Callable[[], None]]], *, most: int = 60
) -> int:
    """Run fresh calls from ``make``, cancelling the n-th at its n-th suspension, until one is over before that.

    Args:
        make: gives the call, and the check of what must hold after it.
        most: suspensions that a call may have.

    Returns:
        How many suspensions the call has.
    """
    for n in range(1, most):
        call, check = make()
        coro: Any = call()
        stepped = Stepped(coro, n)
        try:
            await stepped
        except asyncio.CancelledError:
            assert stepped.suspensions >= n
        check()
        if stepped.suspensions < n:
            return stepped.suspensions
    raise AssertionError(f"it is not over after {most} suspensions")
