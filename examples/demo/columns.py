"""The three ways to call payments that the demo compares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import httpx

import resilient.httpx

from . import baseline, guarded

Charge = Callable[[str, int], Awaitable[str]]


class Column(NamedTuple):
    """One way to call payments: its httpx client, and what charges an order and gives its receipt."""

    client: httpx.AsyncClient
    charge: Charge


TITLES = {"baseline": "baseline", "keyed": "baseline + key", "resilient": "resilient"}
"""The columns, and what stands above them: httpx and tenacity; the same with a key made by hand; `resilient`."""

UNKNOWN_TO_PAYMENTS = "X-Request-Key"
"""With ``--break-key``: the caller believes that payments reads its key here. It does not."""


def make(name: str, url: str, *, break_key: bool = False) -> Column:
    """A column by its name, calling the payments process at ``url``."""
    if name == "resilient":
        broken = resilient.httpx.Profile(honours=True, header=UNKNOWN_TO_PAYMENTS)
        client = guarded.client(url, broken if break_key else "required")
        return Column(client, lambda order, cents: guarded.charge(client, order, cents))
    client = baseline.client(url)
    if name == "keyed":
        return Column(client, lambda order, cents: baseline.charge(client, order, cents, f"charge-{order}"))
    return Column(client, lambda order, cents: baseline.charge(client, order, cents))
