"""Of a burst over HTTP/2 the first connection took what it had places for, and each request that had waited for it in
vain opened one of its own: 350 requests opened 251 where four were enough."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient.testing import ManualClock, Origin, slow
from tests.http.calls import Caller, policies
from tests.http.sdk import httpx


async def burst(caller: Caller, size: int) -> list[Any]:
    return await asyncio.gather(*(caller.client.get("/") for _ in range(size)), return_exceptions=True)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(("takes", "size", "opened"), [(10, 50, 5), (100, 150, 2), (2, 9, 5)])
def test_as_many_as_are_needed(
    takes: int, size: int, opened: int, warm: bool, manual_clock: ManualClock
) -> None:
    with (
        Origin(clock=manual_clock, http2=takes) as origin,
        Caller("async", origin.url, manual_clock, http2=True, http1=False) as caller,
    ):
        if warm:
            caller.get()
        origin.always(slow(1.0))
        found = caller.run(burst(caller, size))
        assert [each.status_code for each in found] == [200] * size
        assert origin.connections == caller.pool.opened == opened


def test_nobody_waits_where_none_can_be_opened(manual_clock: ManualClock) -> None:
    once = policies(manual_clock, attempts=1)
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller("async", origin.url, manual_clock, policies=once, http2=True, http1=False) as caller,
    ):
        origin.refuse()
        found = caller.run(burst(caller, 20))
        assert {type(each) for each in found} == {httpx.ConnectError}
        assert manual_clock.monotonic() == 0.0
        assert caller.pool.in_use == 0
