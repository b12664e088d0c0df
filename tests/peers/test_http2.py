"""httpx itself, over HTTP/2: what one request does to those beside it. Ours: `tests/http/test_http2_connections.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import httpx
import pytest

from resilient.testing import ManualClock, Origin, goaway, hang, slow
from resilient.testing.exchange import Request
from tests.peers.peer import defect


def beside(manual_clock: ManualClock, scene: Callable[[httpx.AsyncClient, Origin], Awaitable[None]]) -> None:
    """A bare client with a connection that is in use."""
    with Origin(clock=manual_clock, http2=True) as origin:

        @origin.handle
        def by_path(request: Request) -> Any:
            return {"/slow": slow(2.0), "/hang": hang(), "/bye": goaway("all")}.get(request.target, 200)

        async def main() -> None:
            async with httpx.AsyncClient(base_url=origin.url, http2=True, http1=False) as client:
                await client.get("/")
                await scene(client, origin)

        work: Coroutine[Any, Any, None] = main()
        manual_clock.run(work)


async def waiting(client: httpx.AsyncClient) -> list[asyncio.Task[httpx.Response]]:
    tasks = [asyncio.create_task(client.get("/slow")) for _ in range(5)]
    await asyncio.sleep(0.1)
    return tasks


@pytest.mark.peers
def test_httpx_lets_the_timeout_of_one_request_end_all(manual_clock: ManualClock) -> None:
    async def scene(client: httpx.AsyncClient, origin: Origin) -> None:
        first = asyncio.create_task(client.get("/hang", timeout=1.0))
        await asyncio.sleep(0.1)
        ended = await asyncio.gather(first, *await waiting(client), return_exceptions=True)
        seen = all(isinstance(each, httpx.ReadTimeout) for each in ended)
        defect(
            seen and manual_clock.monotonic() < 1.5, "httpcore", "one time-out ends all requests beside it"
        )

    beside(manual_clock, scene)


@pytest.mark.peers
def test_httpx_lets_an_answer_wait_for_those_beside_it(manual_clock: ManualClock) -> None:
    async def scene(client: httpx.AsyncClient, origin: Origin) -> None:
        tasks = await waiting(client)
        await client.get("/")
        late = manual_clock.monotonic()
        await asyncio.gather(*tasks)
        defect(late > 1.0, "httpcore", "an answer that came in the read of another waits for the next bytes")

    beside(manual_clock, scene)


@pytest.mark.peers
def test_httpx_tells_no_server_that_a_request_was_cancelled(manual_clock: ManualClock) -> None:
    async def scene(client: httpx.AsyncClient, origin: Origin) -> None:
        for _ in range(100):
            task = asyncio.create_task(client.get("/hang"))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        told = any(each.cancelled for each in origin.requests)
        with pytest.raises(Exception) as caught:
            await client.get("/")
        seen = not told and isinstance(caught.value, httpx.LocalProtocolError)
        defect(seen, "httpcore", "a cancelled request stays open: after 100 the connection takes no more")

    beside(manual_clock, scene)


@pytest.mark.peers
def test_httpx_fails_what_is_still_answered_after_a_goodbye(manual_clock: ManualClock) -> None:
    async def scene(client: httpx.AsyncClient, origin: Origin) -> None:
        tasks = await waiting(client)
        ended = await asyncio.gather(client.get("/bye"), *tasks, return_exceptions=True)
        failed = [each for each in ended if isinstance(each, httpx.HTTPError)]
        defect(len(failed) == 6, "httpcore", "GOAWAY fails requests that the server answers")

    beside(manual_clock, scene)
