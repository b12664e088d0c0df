"""How well the total holds in real time, whatever the server does with the bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import trio

import resilient.httpx
from resilient import DeadlineExceeded, Pipeline, Retry, Timeout
from resilient.testing import Origin, answer, drip_body, drip_head, hang, stall_upload
from resilient.testing.behaviours import Stepish
from tests.http.calls import PLAIN

TOTAL = 0.06
OVERSHOOT = 0.005
CALLS = 15

SLOW: dict[str, tuple[Stepish, bytes]] = {
    "never answers": (hang(), b""),
    "drips its head": (drip_head(0.002, answer(200, b"x", {"X-Long": "y" * 5000})), b""),
    "drips its body": (drip_body(0.002, answer(200, b"x" * 5000)), b""),
    "drips chunks": (drip_body(0.002, answer(200, b"x" * 5000, chunked=True)), b""),
    "stops reading": (stall_upload(), b"x" * 30_000_000),
}


def policies() -> Pipeline:
    return Pipeline(Timeout(TOTAL), Retry(3), name="slow")


def sync(url: str, body: bytes) -> list[float]:
    with resilient.httpx.client("slow", base_url=url, policies=policies(), verify=PLAIN) as client:

        def one() -> float:
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                client.put("/", content=body)
            return time.monotonic() - began

        one()
        return [one() for _ in range(CALLS)]


async def asynchronous(url: str, body: bytes) -> list[float]:
    async with resilient.httpx.async_client(
        "slow", base_url=url, policies=policies(), verify=PLAIN
    ) as client:

        async def one() -> float:
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await client.put("/", content=body)
            return time.monotonic() - began

        await one()
        return [await one() for _ in range(CALLS)]


DRIVERS: dict[str, Callable[[str, bytes], Any]] = {
    "sync": sync,
    "asyncio": lambda url, body: asyncio.run(asynchronous(url, body)),
    "trio": lambda url, body: trio.run(asynchronous, url, body),
}


# The SDK's own stream of a request body, left in the middle by the core: so it is with a bare client too.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx._content.ByteStream:ResourceWarning")
@pytest.mark.realtime
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("what", SLOW)
def test_the_total_is_held_to_five_milliseconds(what: str, driver: str) -> None:
    behaviour, body = SLOW[what]
    with Origin(behaviour, max_body=100_000_000) as origin:
        took = DRIVERS[driver](origin.url, body)
    assert min(took) >= TOTAL
    assert median(took) <= TOTAL + OVERSHOOT, took
