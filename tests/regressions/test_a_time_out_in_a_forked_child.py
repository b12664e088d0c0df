"""A time-out never came in a process that was forked inside a task: its timer was set on the loop of the parent,
which asyncio still takes for the one that runs there."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from resilient import Pipeline, TimedOut, Timeout


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_it_comes() -> None:
    policy = Pipeline(Timeout(0.05))

    @policy
    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def child() -> int:
        for call in (work, lambda seconds: policy.acall(asyncio.sleep, seconds)):
            try:
                async with asyncio.timeout(5.0):
                    await call(60.0)
                return 1
            except TimedOut:
                pass
            except TimeoutError:
                return 2
        return 0

    async def main() -> int:
        await work(0.0)
        await policy.acall(asyncio.sleep, 0.0)
        pid = os.fork()
        if not pid:
            asyncio.events._set_running_loop(None)
            code = 3
            try:
                code = asyncio.new_event_loop().run_until_complete(child())
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        return os.waitstatus_to_exitcode(status)

    assert asyncio.run(main()) == 0
