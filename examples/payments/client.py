"""The part to copy: a table of what was begun, and a client that asks again under the same key.

The row of an order is written before anything is sent, and gives the key and the body; so whoever comes after a crash
sends the same request under the same key."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx

import resilient.httpx
from resilient import KeyReused, OutcomeUnknown, WindowExceeded
from resilient.httpx import Profile, Signal

DAY = 86_400.0
API = Profile(
    honours=True,  # it charges once per key
    in_progress=Signal(409),  # while the first request with the key still runs
    reused=Signal(422, "idempotency_error"),  # the key came with another body before
    window=DAY,  # it forgets keys after that
)
"""From the documentation of the API: what is not written there is not to be written here."""

TABLE = """CREATE TABLE IF NOT EXISTS payments (
    order_id TEXT PRIMARY KEY, cents INTEGER NOT NULL, state TEXT NOT NULL, first_sent REAL, receipt TEXT)"""
log = logging.getLogger(__name__)


def open_client(url: str) -> httpx.Client:
    """A client of the API."""
    return resilient.httpx.client("payments", base_url=url, profile=API)


def open_books(path: Path) -> sqlite3.Connection:
    """The application's own database."""
    db = sqlite3.connect(path)
    db.execute(TABLE)
    return db


def key_of(order: str) -> str:
    """Names the intent, and nothing that differs another time: no attempt, no host, no date."""
    return f"charge:{order}"


def pay(db: sqlite3.Connection, client: httpx.Client, order: str, cents: int) -> str:
    """Charge an order, once however often this is called.

    Returns:
        ``paid``; ``refused`` by the API; ``unknown``: `settle` will find it out; ``ask``: somebody has to look.

    Raises:
        httpx.HTTPError: it was not charged yet, or the API cannot say; `settle` goes on with it.
        ValueError: the order was begun with another amount.
    """
    with db:
        db.execute("INSERT OR IGNORE INTO payments VALUES (?, ?, 'new', NULL, NULL)", (order, cents))
    (begun,) = db.execute("SELECT cents FROM payments WHERE order_id = ?", (order,)).fetchone()
    if begun != cents:
        raise ValueError(f"{order} was begun with {begun} cents, and these are {cents}")
    return resume(db, client, order)


def resume(db: sqlite3.Connection, client: httpx.Client, order: str) -> str:
    """Go on with what the row of an order says, after whatever happened."""
    state, cents, first_sent = db.execute(
        "SELECT state, cents, first_sent FROM payments WHERE order_id = ?", (order,)
    ).fetchone()
    if state not in ("new", "unknown"):
        return str(state)
    options: dict[str, Any] = {"idempotency_key": key_of(order)}
    if first_sent is not None:
        options["first_sent"] = first_sent  # somebody may have sent it then, and been killed
    else:
        with db:  # before it is sent: who is killed while it is under way says nothing any more
            db.execute("UPDATE payments SET first_sent = ? WHERE order_id = ?", (time.time(), order))
    body = {"order": order, "cents": cents}  # from the row, and so the same bytes each time
    try:
        response = client.post("/charges", json=body, extensions={"resilient": options})
    except OutcomeUnknown:
        return _store(db, order, "unknown")
    except (WindowExceeded, KeyReused) as error:
        log.error("%s: %s", order, error)
        return _store(db, order, "ask")
    if response.status_code == 402:
        return _store(db, order, "refused")
    # Any other error is no answer to "was it charged?": a 5xx, a key of ours that is wrong, a limit. The row stays.
    response.raise_for_status()
    return _store(db, order, "paid", response.json()["receipt"])


def settle(db: sqlite3.Connection, client: httpx.Client) -> None:
    """Go on with all that was begun: when a process starts, and every few minutes."""
    begun = db.execute("SELECT order_id FROM payments WHERE state IN ('new', 'unknown')").fetchall()
    for (order,) in begun:
        try:
            resume(db, client, order)
        except httpx.HTTPError as error:  # one that fails does not keep the others waiting
            log.warning("%s is not settled: %s", order, error)


def _store(db: sqlite3.Connection, order: str, state: str, receipt: str | None = None) -> str:
    with db:  # what another process has found out in the meantime stays
        db.execute(
            "UPDATE payments SET state = ?, receipt = ? WHERE order_id = ? AND state IN ('new', 'unknown')",
            (state, receipt, order),
        )
    (now,) = db.execute("SELECT state FROM payments WHERE order_id = ?", (order,)).fetchone()
    return str(now)
