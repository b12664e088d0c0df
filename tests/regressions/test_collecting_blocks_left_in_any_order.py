"""A block of `features.collecting()` in a generator put back, when the generator was closed, what had been there before
it began: a block that was entered since collected nothing more, and its degraded answer went into shared caches. The
other stayed behind instead, in every later request of the thread. One object in several tasks mixed them up."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import pytest

from resilient import features
from resilient.testing import ManualClock, feature_flags
from tests.flags.documents import document, flag

T = TypeVar("T")

DOCUMENT = document("light", search=flag("full", "cached", degrade="light:cached"))
MET = {"search": "cached"}


def apart(run: Callable[[], T]) -> T:
    """In a context of its own, with the feature degraded."""
    with feature_flags(DOCUMENT):
        return contextvars.copy_context().run(run)


def blocks() -> Iterator[dict[str, str]]:
    while True:
        with features.collecting() as found:
            yield found


def test_a_generator_that_is_closed_inside_a_later_block() -> None:
    def run() -> None:
        pages = blocks()
        first = next(pages)
        with features.collecting() as second:
            pages.close()
            assert features.variant("search", "full") == "cached"
            assert second == features.degraded() == MET
        assert first == {}
        features.variant("search", "full")
        assert features.degraded() == first == {}

    apart(run)


def test_a_block_that_is_left_is_over_for_all_who_took_its_context_along() -> None:
    def run() -> None:
        with features.collecting() as found:
            late = contextvars.copy_context()
        late.run(features.variant, "search", "full")
        assert found == late.run(features.degraded) == {}

    apart(run)


@pytest.mark.filterwarnings("error")
def test_an_async_generator_that_is_closed_by_the_loop() -> None:
    async def each() -> AsyncIterator[dict[str, str]]:
        while True:
            with features.collecting() as found:
                yield found

    async def main() -> None:
        found = await anext(each())
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        features.variant("search", "full")
        assert features.degraded() == found == {}

    apart(lambda: asyncio.run(main()))


def test_one_object_that_several_tasks_enter() -> None:
    block = features.collecting()

    async def work(before: float, degraded: bool) -> dict[str, str]:
        await asyncio.sleep(before)
        with block as found:
            await asyncio.sleep(20.0)
            if degraded:
                features.variant("search", "full")
        features.variant("search", "full")
        assert features.degraded() == {}
        return found

    async def main() -> list[dict[str, str]]:
        return await asyncio.gather(work(0.0, True), work(5.0, False), work(10.0, True))

    assert apart(lambda: ManualClock().run(main())) == [MET, {}, MET]


def test_one_object_inside_itself() -> None:
    def run() -> None:
        block = features.collecting()
        with block as outer:
            with block as inner:
                features.variant("search", "full")
            assert features.degraded() == MET
        assert outer == inner == MET
        assert features.degraded() == {}

    apart(run)
