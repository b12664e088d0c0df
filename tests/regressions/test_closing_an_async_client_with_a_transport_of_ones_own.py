"""`async with async_client(..., transport=...)` ended in an AttributeError: the wrapped transport has only `aclose`.
And a wrapped transport was closed twice: it stands for the endpoint and for all other places."""

from __future__ import annotations

import asyncio

import httpx

import resilient.httpx


class Counting(httpx.BaseTransport, httpx.AsyncBaseTransport):
    closed = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(204)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(204)

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def test_async() -> None:
    transport = Counting()

    async def main() -> None:
        async with resilient.httpx.async_client(
            "bank", base_url="http://bank.svc", transport=transport
        ) as client:
            assert (await client.get("/")).status_code == 204

    asyncio.run(main())
    assert transport.closed == 1


def test_sync() -> None:
    transport = Counting()
    with resilient.httpx.client("bank", base_url="http://bank.svc", transport=transport) as client:
        assert client.get("/").status_code == 204
    assert transport.closed == 1
