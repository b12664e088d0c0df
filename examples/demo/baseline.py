"""What most services have: httpx, and the retry of tenacity's documentation around it."""

from __future__ import annotations

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential


def client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=2.0)


@retry(
    stop=stop_after_attempt(3),
    wait=wait_random_exponential(multiplier=1, max=60),
    retry=retry_if_exception_type(httpx.HTTPError),
    reraise=True,
)
async def charge(client: httpx.AsyncClient, order: str, cents: int, key: str | None = None) -> str:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = await client.post("/charges", json={"order": order, "cents": cents}, headers=headers)
    response.raise_for_status()
    receipt: str = response.json()["receipt"]
    return receipt
