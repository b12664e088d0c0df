"""The streams of a client end a wait at the call's deadline themselves; where that came before the timer of the total,
an async call said that its attempt had run out of time, and whoever repeats time-outs repeated it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from resilient import DeadlineExceeded, Pipeline, Retry, TimedOut, Timeout, current_call
from resilient.core.clock import SYSTEM_CLOCK


async def cut() -> None:
    """As a stream that notices the deadline without having suspended since."""
    deadline = current_call().deadline
    assert deadline is not None
    while SYSTEM_CLOCK.monotonic() < deadline:
        pass
    raise TimedOut("the attempt ran out of time while it waited for the network")


@pytest.mark.parametrize("run", [lambda fn: asyncio.run(fn()), trio.run], ids=["asyncio", "trio"])
@pytest.mark.parametrize(
    ("pipeline", "error"),
    [
        (Pipeline(Timeout(0.02), Retry(3), name="svc"), DeadlineExceeded),
        (Pipeline(Retry(1), Timeout(0.02), name="svc"), TimedOut),
    ],
    ids=["total", "attempt"],
)
def test_what_ran_out(
    run: Callable[[Callable[[], Awaitable[None]]], Any], pipeline: Pipeline, error: type[Exception]
) -> None:
    with pytest.raises(TimedOut) as caught:
        run(pipeline(cut))
    assert caught.value.__class__ is error
