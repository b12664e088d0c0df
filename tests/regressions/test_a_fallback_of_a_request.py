"""That a POST may not be repeated was told to every retry below it: a lookup inside its fallback, or inside an
application that runs in the same process, was never retried."""

from __future__ import annotations

from typing import Any

import httpx

import resilient.httpx
from resilient import Fallback, Pipeline, Retry
from resilient.testing import ManualClock


def test_the_retries_inside_it_decide_by_themselves(manual_clock: ManualClock) -> None:
    tries: list[int] = []

    @Retry(3, wait=0)
    def lookup() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return "cached"

    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("down")

    fallback = Fallback(lambda request: httpx.Response(200, text=lookup()))
    pipeline = Pipeline(fallback, Retry(3, wait=0), name="svc", clock=manual_clock)
    transport = httpx.MockTransport(down)
    with resilient.httpx.client(
        "svc", base_url="http://svc", policies=pipeline, transport=transport
    ) as client:
        assert client.post("/").text == "cached"
    assert len(tries) == 3


def test_nor_those_of_an_application_in_this_process(manual_clock: ManualClock) -> None:
    tries: list[int] = []

    @Retry(3, wait=0)
    def query() -> bytes:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return b"rows"

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [query()]

    pipeline = Pipeline(Retry(3, wait=0), name="svc", clock=manual_clock)
    transport = httpx.WSGITransport(app=app)
    with resilient.httpx.client(
        "svc", base_url="http://svc", policies=pipeline, transport=transport
    ) as client:
        assert client.post("/").content == b"rows"
    assert len(tries) == 3
