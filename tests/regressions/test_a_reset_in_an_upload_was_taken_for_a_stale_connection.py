"""Over HTTP/2 a server that reset an upload on a connection that had been used before was taken for one that had closed
it meanwhile: the upload was sent again at once, beside retries, budget and breaker."""

from __future__ import annotations

from resilient import Evidence
from resilient.core.outcome import FAILURE
from resilient.testing import ManualClock, Origin
from resilient.testing.exchange import Exchange
from resilient.testing.http2 import stream_of
from tests.http.calls import Caller, policies, report
from tests.http.sdk import httpx


def resets(exchange: Exchange) -> None:
    exchange.read(up_to=1_000)
    stream_of(exchange).reset_stream(0x2)


def test_it_is_a_failure(manual_clock: ManualClock) -> None:
    once = policies(manual_clock, attempts=1)
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller("async", origin.url, manual_clock, policies=once, http2=True, http1=False) as caller,
    ):
        caller.get()
        origin.script(resets, resets)
        exc = caller.fails("PUT", content=b"x" * 3_000_000)
        assert isinstance(exc, httpx.RemoteProtocolError)
        assert [request.method for request in origin.requests] == ["GET", "PUT"]
        assert (report(exc).evidence, report(exc).verdict, report(exc).attempts) == (
            Evidence.UNKNOWN,
            FAILURE,
            1,
        )
