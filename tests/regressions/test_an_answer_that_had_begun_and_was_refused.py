"""Over HTTP/2 the word that a request was not processed was believed after its answer had begun: proxies hand on what
became of somebody else's stream. A POST that had happened was sent again, up to four times."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resilient import Evidence, OutcomeUnknown
from resilient.testing import ManualClock, Origin
from resilient.testing.behaviours import Cut
from resilient.testing.exchange import Answer, Exchange
from resilient.testing.http2 import Http2Exchange, stream_of
from tests.http.calls import Bank, Caller, policies, report
from tests.http.sdk import httpx


def resets(code: int) -> Callable[[Http2Exchange], None]:
    return lambda stream: stream.reset_stream(code)


SAID = {
    "REFUSED_STREAM": resets(0x7),
    "ENHANCE_YOUR_CALM": resets(0xB),
    "HTTP_1_1_REQUIRED": resets(0xD),
    "GOAWAY, last stream 0": lambda stream: stream.goaway(0),
    "GOAWAY to calm down, last stream 0": lambda stream: stream.goaway(0, 0xB),
}


def begins_then(bank: Bank, says: Callable[[Http2Exchange], None]) -> Callable[[Exchange], None]:
    """Do it, begin to answer, and then say that it was not done."""

    def does(exchange: Exchange) -> None:
        bank.do(exchange.read())
        exchange.cut = Cut("body", reset=True, after=2)
        exchange.reset = lambda: says(stream_of(exchange))  # type: ignore[method-assign]  # the fault
        exchange.respond(Answer(200, b"hello"))

    return does


@pytest.mark.parametrize("says", SAID.values(), ids=SAID)
@pytest.mark.parametrize("whose", ["ours", "the user's"])
def test_it_may_have_happened(
    whose: str, says: Callable[[Http2Exchange], None], manual_clock: ManualClock
) -> None:
    bank = Bank(honours=False)
    by = {"http2": True, "http1": False}
    given = by if whose == "ours" else {"transport": httpx.AsyncHTTPTransport(**by)}
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller("async", origin.url, manual_clock, policies=policies(manual_clock), **given) as caller,
    ):
        origin.script(*[begins_then(bank, says)] * 5)
        exc = caller.fails("POST", content=b"pay")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.TransportError)
        assert report(exc).evidence is Evidence.UNKNOWN
        assert sum(bank.effects.values()) == 1


def test_it_is_asked_again_where_that_is_safe(manual_clock: ManualClock) -> None:
    bank = Bank(honours=False)
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller("async", origin.url, manual_clock, http2=True, http1=False) as caller,
    ):
        origin.script(begins_then(bank, resets(0x7)))
        response = caller.get()
        assert response.status_code == 200
        assert report(response).attempts == 2
