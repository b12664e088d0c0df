"""Clients are httpx's own: whoever takes those takes ours."""

from __future__ import annotations

from typing import assert_type

import httpx

import resilient.httpx
from resilient import Pipeline, Retry, standard


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"path": request.url.path})


mock = httpx.MockTransport(answer)

with resilient.httpx.client("typed", base_url="http://typed.svc", transport=mock) as client:
    assert_type(client, httpx.Client)
    assert_type(client.get("/a"), httpx.Response)

sync_transport = resilient.httpx.Transport("typed", base_url="http://typed.svc", transport=mock)
as_transport: httpx.BaseTransport = sync_transport
with httpx.Client(transport=sync_transport, base_url="http://typed.svc") as plain:
    assert_type(plain.get("/a"), httpx.Response)


async def check_all() -> None:
    made = resilient.httpx.async_client(
        "typed", base_url="http://typed.svc", policies=standard("typed"), transport=mock
    )
    assert_type(made, httpx.AsyncClient)
    async with made as async_client:
        assert_type(await async_client.get("/a"), httpx.Response)
    transport = resilient.httpx.AsyncTransport(
        "typed", base_url=httpx.URL("http://typed.svc"), policies=Pipeline(Retry(2)), transport=mock
    )
    as_transport: httpx.AsyncBaseTransport = transport
    await as_transport.aclose()


def wrong() -> None:
    resilient.httpx.client("typed")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    resilient.httpx.client("typed", base_url=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
