"""A POST that was sent while the caller handled the failure of another one (``except: client.post(...)``) was judged by
that one's cause too: after a REFUSED_STREAM a lost connection proved that nothing had happened: it was sent again."""

from __future__ import annotations

import pytest

from resilient import Evidence, OutcomeUnknown
from resilient.testing import ManualClock, Origin, lose_connection
from tests.http.calls import Caller, policies, report
from tests.http.sdk import httpx


@pytest.mark.parametrize("whose", ["ours", "the user's"])
def test_it_is_no_cause(whose: str, manual_clock: ManualClock) -> None:
    by = {"http2": True, "http1": False}
    given = by if whose == "ours" else {"transport": httpx.AsyncHTTPTransport(**by)}
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller(
            "async", origin.url, manual_clock, policies=policies(manual_clock, attempts=1), **given
        ) as caller,
    ):

        async def pay() -> None:
            try:
                await caller.client.post("/card")
            except httpx.TransportError:
                origin.script(lose_connection())
                await caller.client.post("/transfer")

        refusals = 2 if whose == "ours" else 1  # ours asks again at once, on another connection
        origin.script(*["refused_stream"] * refusals)
        with pytest.raises(OutcomeUnknown) as caught:
            caller.run(pay())
        assert report(caught.value).evidence is Evidence.UNKNOWN
        assert [request.target for request in origin.requests].count("/transfer") == 1
