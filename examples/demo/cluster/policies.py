"""The calls of the second act, with what guards them: found by DNS, steered by the operator's document."""

from __future__ import annotations

import httpx

import resilient.httpx
from resilient import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Pipeline,
    RateLimit,
    Retry,
    Timeout,
    degradable,
)

from .timeline import BURST, FIRST_RATE

PAYMENTS = Pipeline(
    Timeout(2.0),
    Retry(4),
    CircuitBreaker(open_for=0.5, max_open=1.0),
    RateLimit(f"{FIRST_RATE}/second", burst=BURST),
    Bulkhead(50),
    Timeout(0.4),
    name="payments",
)


def bestsellers(request: httpx.Request) -> httpx.Response:
    """What stands in for recommendations that fail."""
    return httpx.Response(200, json={"items": ["a bestseller"]}, headers={"X-Stand-In": "yes"})


RECOMMENDATIONS = Pipeline(
    Fallback(bestsellers),
    CircuitBreaker(consecutive=5, open_for=0.5, max_open=1.0),
    Bulkhead(50),
    Timeout(0.25),
    name="recommendations",
)


def payments() -> httpx.AsyncClient:
    return resilient.httpx.async_client(
        "payments", base_url="http://payments.shop.svc", port="http", policies=PAYMENTS, profile="required"
    )


def recommendations() -> httpx.AsyncClient:
    return resilient.httpx.async_client(
        "recommendations", base_url="http://recommendations.shop.svc", port="http", policies=RECOMMENDATIONS
    )


async def charge(client: httpx.AsyncClient, order: str, cents: int) -> str:
    response = await client.post("/charges", json={"order": order, "cents": cents})
    response.raise_for_status()
    receipt: str = response.json()["receipt"]
    return receipt


@degradable("recommendations", fallback="off")
async def recommended(client: httpx.AsyncClient) -> str:
    """Where the recommendations of a page come from: ``live``, ``stand-in`` or ``off``."""
    response = await client.get("/recommendations")
    return "stand-in" if "X-Stand-In" in response.headers else "live"
