"""A trace of the user's that suspended when a head was about to be sent over HTTP/2 let the next request take the same
stream: one of the two ended in a KeyError, or both with the connection and all that was on it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient.testing import ManualClock, Origin, answer
from resilient.testing.behaviours import Stepish
from resilient.testing.exchange import Request
from tests.http.calls import Caller


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_each_has_its_own(method: str, manual_clock: ManualClock) -> None:
    seen: list[str] = []

    async def trace(name: str, info: dict[str, Any]) -> None:
        seen.append(name)
        await asyncio.sleep(0.01)

    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller("async", origin.url, manual_clock, http2=True, http1=False) as caller,
    ):

        @origin.handle
        def echo(request: Request) -> Stepish:
            return answer(200, request.target)

        async def together() -> list[Any]:
            asked = [
                caller.client.request(method, f"/{i}", extensions={"trace": trace} if i % 2 else {})
                for i in range(6)
            ]
            return await asyncio.gather(*asked)

        caller.get()
        assert [each.text for each in caller.run(together())] == [f"/{i}" for i in range(6)]
        assert (origin.connections, caller.pool.in_use) == (1, 0)
    begun, done = "http2.send_request_headers.started", "http2.send_request_headers.complete"
    assert (seen.count(begun), seen.count(done)) == (3, 3)
    assert seen.index(begun) < seen.index(done)
