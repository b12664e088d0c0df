"""A block such as ``criticality("sheddable")`` that stands in a module and is entered by two tasks at once put back
what the other task had found: its Call stayed behind, with a deadline that ended every later call of the task."""

from __future__ import annotations

import asyncio
import contextvars
import threading

from resilient import Criticality, criticality, current_call, deadline
from resilient.core.call import NO_CALL


def test_each_leaves_what_it_found() -> None:
    low = criticality("sheddable")
    found: list[object] = []

    async def work(before: float, inside: float) -> None:
        await asyncio.sleep(before)
        with low:
            await asyncio.sleep(inside)
            found.append(current_call().criticality)
        found.append(current_call())

    async def main() -> None:
        await asyncio.gather(work(0.0, 0.02), work(0.01, 0.05))

    asyncio.run(main())
    assert found == [Criticality.SHEDDABLE, NO_CALL] * 2


def test_in_threads_too() -> None:
    block = deadline(60.0)
    left: list[object] = []
    both = threading.Barrier(2)

    def work() -> None:
        with block:
            both.wait()
        left.append(current_call())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left == [NO_CALL, NO_CALL]


def test_closed_elsewhere_it_changes_nothing_there() -> None:
    low, high = criticality("sheddable"), criticality("critical_plus")

    def generator() -> object:
        with low:
            yield

    left_behind = generator()
    contextvars.copy_context().run(next, left_behind)  # type: ignore[arg-type]
    with high:
        left_behind.close()  # type: ignore[attr-defined]
        assert current_call().criticality is Criticality.CRITICAL_PLUS
    assert current_call() is NO_CALL
