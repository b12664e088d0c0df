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


options = resilient.httpx.RequestOptions(deadline=0.5, idempotent=True, operation="search")
profile = resilient.httpx.Profile(honours=True, in_progress=resilient.httpx.Signal(409), window=86_400.0)
with resilient.httpx.client("typed", base_url="http://typed.svc", transport=mock, profile=profile) as keyed:
    keyed.post("/a", content=resilient.httpx.buffered(iter([b"a"])), extensions={"resilient": options})
    try:
        keyed.post("/a")
    except resilient.InProgress as error:
        assert_type(error.idempotency_key, str | None)
        assert_type(error.retry_after, float | None)


def wrong() -> None:
    resilient.httpx.RequestOptions(timeout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    resilient.httpx.client("typed")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    resilient.httpx.client("typed", base_url=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
