"""Over HTTP/2 any text was taken for a status: ``abc`` was a ValueError to whoever had sent a POST, and 0 a success."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Evidence, OutcomeUnknown
from resilient.core.outcome import FAILURE
from resilient.testing import ManualClock, Origin
from resilient.testing.exchange import Answer, Exchange
from tests.http.calls import Caller, policies, report
from tests.http.sdk import httpx


@pytest.mark.parametrize("status", ["abc", "", "200 OK", "-5", "0", "99", "99999"])
def test_it_is_no_answer(status: Any, manual_clock: ManualClock) -> None:
    def answers(exchange: Exchange) -> None:
        exchange.respond(Answer(status, b"ok", effect=True))

    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller(
            "async",
            origin.url,
            manual_clock,
            policies=policies(manual_clock),
            http2=True,
            http1=False,
        ) as caller,
    ):
        origin.script(answers)
        exc = caller.fails("POST", content=b"pay")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.RemoteProtocolError)
        assert report(exc).evidence is Evidence.UNKNOWN
        assert report(exc).verdict is FAILURE
        origin.script(answers)
        assert caller.get().status_code == 200
        assert caller.pool.in_use == 0
        origin.wait_until(lambda origin: origin.open_connections == 1)
