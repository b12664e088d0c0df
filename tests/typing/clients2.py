"""Clients are httpx2's own: whoever takes those takes ours."""

from __future__ import annotations

from typing import assert_type

import httpx2

import resilient.httpx2
from resilient import Pipeline, Retry, standard


def answer(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"path": request.url.path})


mock = httpx2.MockTransport(answer)

with resilient.httpx2.client("typed", base_url="http://typed.svc", transport=mock) as client:
    assert_type(client, httpx2.Client)
    assert_type(client.get("/a"), httpx2.Response)

sync_transport = resilient.httpx2.Transport("typed", base_url="http://typed.svc", transport=mock)
as_transport: httpx2.BaseTransport = sync_transport
with httpx2.Client(transport=sync_transport, base_url="http://typed.svc") as plain:
    assert_type(plain.get("/a"), httpx2.Response)


async def check_all() -> None:
    made = resilient.httpx2.async_client(
        "typed", base_url="http://typed.svc", policies=standard("typed"), transport=mock
    )
    assert_type(made, httpx2.AsyncClient)
    async with made as async_client:
        assert_type(await async_client.get("/a"), httpx2.Response)
    transport = resilient.httpx2.AsyncTransport(
        "typed", base_url=httpx2.URL("http://typed.svc"), policies=Pipeline(Retry(2)), transport=mock
    )
    as_transport: httpx2.AsyncBaseTransport = transport
    await as_transport.aclose()


def wrong() -> None:
    resilient.httpx2.client("typed")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    resilient.httpx2.client("typed", base_url=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
