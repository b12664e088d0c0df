"""The part to copy: a stream that is taken up again where it broke, and the place in it that survives a crash.

A connection that lives for hours does break, and the standard says how to go on (WHATWG HTML, 9.2: `Last-Event-ID`,
`retry:`, 204)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
from httpx_sse import ServerSentEvent, SSEError, connect_sse

import resilient.httpx
from resilient import CircuitBreaker, DeadlineExceeded, Pipeline, Retry, backoff
from resilient.core.clock import SYSTEM_CLOCK, Clock

SILENCE = 45.0
"""Seconds without a byte after which nobody is there any more: three times the server's heartbeat (comments)."""
LONGEST = 300.0
"""Seconds for which no server can send us away, whatever it asks for."""
PAUSE = 1.0
"""Seconds before the stream is taken up again; the server may say another time (`retry:`)."""


def open_client(url: str, clock: Clock = SYSTEM_CLOCK, silence: float = SILENCE) -> httpx.Client:
    """A client for streams that do not end: no `Timeout`, since an attempt lasts as long as its stream is read."""
    return resilient.httpx.client(
        "feed",
        base_url=url,
        policies=Pipeline(Retry(3), CircuitBreaker(), name="feed", clock=clock),
        timeout=httpx.Timeout(5.0, read=silence),
        clock=clock,
    )


def follow(
    client: httpx.Client, path: str, last_id: str = "", clock: Clock = SYSTEM_CLOCK
) -> Iterator[ServerSentEvent]:
    """The events after ``last_id``, until the server says that there will be no more (204).

    Raises:
        httpx.HTTPStatusError: an answer that asking again does not change, such as 401 or 410.
        httpx_sse.SSEError: the answer is no stream of events.
        DeadlineExceeded: a deadline around it is over.
    """
    pause, fruitless = PAUSE, 0  # fruitless: streams in a row that brought nothing
    while True:
        fruitless += 1
        asked = 0.0
        try:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            with connect_sse(client, "GET", path, headers=headers) as source:
                response = source.response
                if response.status_code == 204:
                    return
                if response.status_code == 429 or response.is_server_error:
                    asked = response.extensions["resilient"].retry_after or 0.0
                else:
                    response.raise_for_status()
                    for event in source.iter_sse():
                        if event.retry is not None:
                            pause = min(max(0.1, event.retry / 1000), 60.0)
                        if event.data:  # without it is no event, by the standard
                            fruitless = 0
                            yield event
                            last_id = event.id or last_id
        except (SSEError, DeadlineExceeded):
            raise  # the one is no stream of events, the other the caller's own end; both are TransportErrors
        except httpx.TransportError as error:
            # It broke or fell silent; or the breaker is open, and says for how long.
            asked = getattr(error, "retry_after", None) or 0.0
        wait = backoff(pause, cap=60.0, jitter="equal").delay(max(1, fruitless))
        clock.sleep(max(wait, min(asked, LONGEST)))


TABLES = """
CREATE TABLE IF NOT EXISTS orders (event_id TEXT PRIMARY KEY, what TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS place (feed TEXT PRIMARY KEY, last_id TEXT NOT NULL);
"""


def open_books(path: Path) -> sqlite3.Connection:
    """The application's own database."""
    db = sqlite3.connect(path)
    db.executescript(TABLES)
    return db


def place(db: sqlite3.Connection, feed: str) -> str:
    """The last event that was dealt with."""
    found = db.execute("SELECT last_id FROM place WHERE feed = ?", (feed,)).fetchone()
    return str(found[0]) if found else ""


def take(db: sqlite3.Connection, feed: str, event: ServerSentEvent) -> None:
    """What an event does, and the place in the stream, in one transaction: a crash leaves both or neither.

    What is done elsewhere is not in the transaction: give that call ``event.id`` as its idempotency key.

    Raises:
        ValueError: the event has no id; a feed without ids cannot be taken up again.
    """
    if not event.id:
        raise ValueError(f"an event of {feed} has no id, and could be lost or taken twice")
    with db:
        db.execute("INSERT OR IGNORE INTO orders VALUES (?, ?)", (event.id, event.data))  # it may come twice
        db.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (feed, event.id))


def consume(db: sqlite3.Connection, client: httpx.Client, feed: str, clock: Clock = SYSTEM_CLOCK) -> None:
    """Deal with all events of a feed, from where this or an earlier process stopped."""
    for event in follow(client, feed, place(db, feed), clock):
        take(db, feed, event)
