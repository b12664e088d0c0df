"""Over a transport of the user's, our own time-out of an async attempt and an error of another client inside an
application of this process were both taken for proof that nothing was sent: one POST made three charges."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

import resilient.httpx
from resilient import Evidence, OutcomeUnknown, Pipeline, Retry, Timeout
from resilient.testing import ManualClock
from tests.http.calls import report


def test_our_own_time_out(manual_clock: ManualClock) -> None:
    charges: list[str] = []

    async def bank(request: httpx.Request) -> httpx.Response:
        charges.append(request.method)
        await asyncio.sleep(9.0)
        return httpx.Response(201)

    pipeline = Pipeline(Timeout(5.0), Retry(3, wait=0), Timeout(0.5), name="bank", clock=manual_clock)

    async def main() -> None:
        async with resilient.httpx.async_client(
            "bank", base_url="http://bank", policies=pipeline, transport=httpx.MockTransport(bank)
        ) as client:
            with pytest.raises(OutcomeUnknown) as caught:
                await client.post("/charges")
        assert report(caught.value).evidence is Evidence.UNKNOWN

    manual_clock.run(main())
    assert charges == ["POST"]


def test_an_error_of_another_client_inside(manual_clock: ManualClock) -> None:
    charges: list[str] = []

    def ledger(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("the ledger is down")

    inner = httpx.Client(base_url="http://ledger", transport=httpx.MockTransport(ledger))

    def app(environ: Any, start_response: Any) -> list[bytes]:
        charges.append(environ["REQUEST_METHOD"])  # the effect, and then the second step fails
        inner.get("/")
        return []

    pipeline = Pipeline(Retry(3, wait=0), name="bank", clock=manual_clock)
    transport = httpx.WSGITransport(app=app)
    with (
        inner,
        resilient.httpx.client(
            "bank", base_url="http://bank", policies=pipeline, transport=transport
        ) as client,
        pytest.raises(OutcomeUnknown),
    ):
        client.post("/charges")
    assert charges == ["POST"]


@pytest.mark.parametrize("own", [True, False], ids=["its own authority", "another one"])
def test_without_a_time_out_in_the_pipeline_the_callers_deadline_holds(
    own: bool, manual_clock: ManualClock
) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(99.0)
        return httpx.Response(200)

    async def main() -> None:
        async with resilient.httpx.async_client(
            "svc",
            base_url="http://svc",
            policies=Pipeline(Retry(1), name="svc", clock=manual_clock),
            transport=httpx.MockTransport(never),
        ) as client:
            with resilient.deadline(0.5, clock=manual_clock), pytest.raises(resilient.DeadlineExceeded):
                await client.get("/" if own else "http://elsewhere/")

    manual_clock.run(main())
    assert manual_clock.monotonic() == pytest.approx(0.5)
