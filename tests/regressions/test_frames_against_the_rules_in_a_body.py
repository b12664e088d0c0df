"""A server that broke the rules of HTTP/2 in the middle of a body was an exception of the package ``h2`` to the caller,
and the POST that it had answered so not one whose outcome is unknown."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from resilient import Evidence, OutcomeUnknown
from resilient.testing import ManualClock, Origin
from resilient.testing.behaviours import Cut
from resilient.testing.exchange import Answer, Exchange
from resilient.testing.http2 import stream_of
from tests.http.calls import Caller, policies, report
from tests.http.sdk import httpx

_ROOM_OF_NOTHING = (4).to_bytes(3) + b"\x08\x00" + bytes(4) + bytes(4)  # WINDOW_UPDATE by 0


def begins_then_breaks(size: int, head_was_read: threading.Event) -> Any:
    def does(exchange: Exchange) -> None:
        home = stream_of(exchange)._home

        def breaks() -> None:
            assert head_was_read.wait(5.0)
            with home.changed:
                home.flush(_ROOM_OF_NOTHING)

        exchange.cut = Cut("body", reset=True, after=2)
        exchange.reset = breaks  # type: ignore[method-assign]  # the fault
        exchange.respond(Answer(200, b"x" * size))

    return does


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_small_one(method: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller(
            "async",
            origin.url,
            manual_clock,
            policies=policies(manual_clock, attempts=1),
            http2=True,
            http1=False,
        ) as caller,
    ):
        now = threading.Event()
        now.set()
        origin.script(begins_then_breaks(10, now))
        exc = caller.fails(method)
        assert isinstance(exc, httpx.ProtocolError)  # the local one where the head came with it
        assert isinstance(exc, OutcomeUnknown) == (method == "POST")
        assert report(exc).evidence is Evidence.UNKNOWN


def test_one_that_is_streamed(manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller("async", origin.url, manual_clock, http2=True, http1=False) as caller,
    ):
        head_was_read = threading.Event()
        origin.script(begins_then_breaks(100_000, head_was_read))

        async def read() -> None:
            async with caller.client.stream("GET", "/") as response:
                head_was_read.set()
                await response.aread()

        with pytest.raises(httpx.RemoteProtocolError):
            caller.run(read())
        assert caller.pool.in_use == 0
