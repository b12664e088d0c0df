"""The same call with `resilient`: a plain httpx client comes back, with every policy inside."""

from __future__ import annotations

import httpx

import resilient.httpx
from resilient import Bulkhead, CircuitBreaker, Pipeline, RateLimit, Retry, Timeout

POLICIES = Pipeline(
    Timeout(2.0),
    Retry(4),
    CircuitBreaker(open_for=0.5, max_open=1.0),
    RateLimit("80/second", burst=10, max_wait=1.0),
    Bulkhead(50),
    Timeout(0.4),
    name="payments",
)


def client(url: str, profile: resilient.httpx.Profile | str = "required") -> httpx.AsyncClient:
    return resilient.httpx.async_client("payments", base_url=url, policies=POLICIES, profile=profile)


async def charge(client: httpx.AsyncClient, order: str, cents: int) -> str:
    response = await client.post("/charges", json={"order": order, "cents": cents})
    response.raise_for_status()
    receipt: str = response.json()["receipt"]
    return receipt
