"""A POST with a key that was answered 500 and then turned away, or not sent, was told as one that did not happen: only
the last attempt was looked at, and what a 500 did before it failed is not known."""

from __future__ import annotations

import httpx
import pytest

from resilient import Evidence, OutcomeUnknown
from resilient.testing import ManualClock, Origin, answer
from resilient.testing.exchange import Exchange
from tests.http.calls import Bank, Caller, both, policies, report


@both
def test_it_may_have_happened(mode: str, manual_clock: ManualClock) -> None:
    bank = Bank(honours=True)

    def fails_after_the_effect(exchange: Exchange) -> None:
        bank.do(exchange.read())
        exchange.send(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")

    def goes_after_the_effect(exchange: Exchange) -> None:
        fails_after_the_effect(exchange)
        exchange.origin.refuse()
        exchange.close()

    twice = policies(manual_clock, attempts=2)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=twice, profile="supported") as caller,
    ):
        manual_clock.advance(3.0)
        origin.script(fails_after_the_effect, answer(429))
        response = caller.post()
        assert response.status_code == 429
        assert report(response).evidence is Evidence.ANSWERED
        origin.script(goes_after_the_effect)
        exc = caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.TransportError)
        assert report(exc).evidence in (Evidence.ANSWERED, Evidence.UNKNOWN)
        assert exc.first_sent == pytest.approx(manual_clock.time())
        assert sum(bank.effects.values()) == 2
        assert isinstance(caller.fails("GET"), httpx.ConnectError)
