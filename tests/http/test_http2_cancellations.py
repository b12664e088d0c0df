"""HTTP/2 requests that are cancelled at any moment leave nothing behind: no stream, task, descriptor or permit."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import trio
import uvloop

from resilient.testing import ManualClock, Origin, answer, drip_body, goaway, slow
from resilient.testing.behaviours import Stepish
from resilient.testing.exchange import Request
from tests.http.calls import descriptors, wait_until_left
from tests.http.sdk import httpx
from tests.http.test_cancellations import (
    AT_ONCE,
    Called,
    by_turns,
    cancelled_at,
    get,
    kept_alive,
    left_early,
    nothing_is_left,
    steps,
    storm,
    streamed,
    works,
)

CANCELLED = 4_000
"""Requests that ended by a cancellation, in all cases of `test_storm` together."""
SHARES = 4


def shared(origin: Origin, clock: ManualClock | None) -> Called:
    """A client with every policy that takes something, over HTTP/2."""
    return Called(origin, clock, http2=True, http1=origin.url.startswith("https"))


def origin_of(clock: ManualClock | None, seed: int, tls: bool) -> Origin:
    """A server of every temper, over HTTP/2."""
    origin = Origin(clock=clock, tls=tls, http2=True, max_connections=1024)
    chance = random.Random(seed)

    def temper(request: Request) -> Stepish:
        if request.target == "/quiet":
            return 200
        kind = chance.random()
        if kind < 0.3:
            return answer(200, b"x" * chance.choice([0, 10, 3000]))
        if kind < 0.4:
            return answer(200, b"x" * 100_000, chunked=True)
        if kind < 0.6 and clock is not None:
            return slow(chance.uniform(0, 2.0))
        if kind < 0.65 and clock is not None:
            return drip_body(chance.uniform(0, 0.2), answer(200, b"y" * 20))
        if kind < 0.68:
            return goaway(chance.choice(["none", "this", "all"]))
        if kind < 0.7:
            return "lose_connection"
        # Failures come in bouts, so that the breaker opens now and then and is not open all the time.
        if request.order // 50 % 8:
            return 200
        return (
            503
            if kind < 0.8
            else chance.choice(["refused_stream", "enhance_your_calm", "reset_after_effect"])
        )

    origin.handle(temper)
    return origin


@pytest.mark.parametrize("tls", [False, True], ids=["known", "agreed"])
@pytest.mark.parametrize("seed", range(SHARES))
def test_storm(seed: int, tls: bool) -> None:
    wanted = CANCELLED // SHARES // 5 * (1 if tls else 4)
    clock = ManualClock()
    chance = random.Random(f"storm over HTTP/2 {seed} {tls}")

    async def pause(chance: random.Random) -> None:
        if chance.random() < 0.6:
            await steps(chance.randrange(40))
        else:
            await asyncio.sleep(chance.uniform(0, 1.5))

    with origin_of(clock, seed, tls) as origin:
        before = descriptors()

        async def main() -> None:
            called = shared(origin, clock)
            await storm(called, wanted, chance, pause)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert called.ended["done"] > wanted // 10
            assert called.pool.opened > wanted // 20
            await nothing_is_left(called)
            await called.client.aclose()
            assert called.pool.idle == 0

        clock.run(main())
        wait_until_left(origin)
        assert descriptors() == before


async def upload(called: Called) -> int:
    return (await called.client.put("/quiet", content=b"z" * 100_000)).status_code


WHAT: dict[str, tuple[Callable[[Called], Coroutine[Any, Any, int]], Stepish]] = {
    "get": (get, 200),
    "used again": (kept_alive, 200),
    "small body": (get, drip_body(0.1, answer(200, b"abc"))),
    "stream": (streamed, answer(200, b"x" * 200_000, chunked=True)),
    "stream left early": (left_early, answer(200, b"x" * 1_000_000)),
    "retried": (get, by_turns(slow(0.1, 503), slow(0.1, 200))),
    "refused": (get, by_turns("refused_stream", 200)),
    "goodbye": (get, by_turns(goaway("before"), 200)),
    "upload": (upload, slow(0.1)),
}


@pytest.mark.parametrize(
    ("what", "tls"),
    [*((what, False) for what in WHAT), ("get", True), ("upload", True), ("stream left early", True)],
)
def test_cancelled_at_each_place_beside_another(what: str, tls: bool) -> None:
    # Not at random moments but at every one there is; and somebody else's request, on the same connection where there
    # is one already, is answered as if nothing had been.
    clock = ManualClock()
    work, does = WHAT[what]

    async def at(place: int) -> bool:
        """Whether it was cancelled: False when it suspends less often."""
        called = shared(origin, clock)
        beside = httpx.AsyncClient(base_url=origin.url, transport=called.transport, timeout=None)
        origin.always(200)
        assert (await beside.get("/")).status_code == 200
        origin.script(slow(0.5, answer(200, b"y" * 1000)))
        sibling = asyncio.create_task(beside.get("/"))
        await asyncio.sleep(0.1)
        origin.always(does)
        task = asyncio.create_task(cancelled_at(work(called), place))
        ended: Any = (await asyncio.gather(task, return_exceptions=True))[0]
        origin.always(200)
        response = await sibling
        assert response.content == b"y" * 1000
        assert response.extensions["resilient"].attempts == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await nothing_is_left(called)
        await called.client.aclose()
        assert isinstance(ended, asyncio.CancelledError) or ended == 200
        return bool(ended != 200)

    with Origin(clock=clock, tls=tls, http2=True) as origin:
        before = descriptors()
        for place in itertools.count():
            if not clock.run(at(place)):
                break
            wait_until_left(origin)
            assert descriptors() == before
        assert place > 0


@pytest.mark.parametrize("tls", [False, True], ids=["known", "agreed"])
def test_storm_under_uvloop(tls: bool) -> None:
    chance = random.Random(f"uvloop {tls}")

    async def pause(chance: random.Random) -> None:
        await steps(chance.randrange(60))

    with origin_of(None, 11, tls) as origin:

        async def main() -> None:
            called = shared(origin, None)
            await storm(called, 400, chance, pause)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            called.breaker.reset()  # here time is real: its open time is not waited for
            await works(called)
            await called.client.aclose()

        uvloop.run(asyncio.sleep(0))  # the first loop of a process opens what all of them use
        before = descriptors()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        wait_until_left(origin)
        assert descriptors() == before


# The SDK's own stream of a request body, left in the middle by the core: so it is with a bare client too.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx._content.ByteStream:ResourceWarning")
@pytest.mark.parametrize("tls", [False, True], ids=["known", "agreed"])
def test_storm_under_trio(tls: bool) -> None:
    chance = random.Random(f"trio {tls}")

    async def cancelled(called: Called, number: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(called.one, number)
            for _ in range(chance.randrange(60)):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    async def timed_out(called: Called, number: int) -> None:
        with trio.move_on_after(chance.uniform(0, 0.003)):
            await called.one(number)

    async def worker(called: Called, numbers: Iterator[int]) -> None:
        while called.ended["cancelled"] < 400:
            await chance.choice([cancelled, timed_out])(called, next(numbers))

    with origin_of(None, 12, tls) as origin:

        async def main() -> None:
            called = shared(origin, None)
            numbers = itertools.count()
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(worker, called, numbers)
            called.breaker.reset()
            await works(called)
            await called.client.aclose()

        before = descriptors()
        trio.run(main)
        wait_until_left(origin)
        assert descriptors() == before
