"""A consumer of server-sent events: none lost, none taken twice, in order, through all that happens to streams."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, SSEError

import resilient
from examples.events import __main__ as program
from examples.events import consumer as recipe
from examples.events.consumer import consume, follow, open_books, open_client, place
from examples.events.server import ORDERS, breaks, ends_early, falls_silent, overlaps, serves
from examples.promises import Promises
from resilient import CircuitBreaker, DeadlineExceeded
from resilient.testing import ManualClock, Origin, answer, retry_later, truncated
from tests.examples.programs import ROOT, run

DIES_BETWEEN = """
import os, signal, sqlite3, sys
from examples.events import consumer

class Books(sqlite3.Connection):  # the process is killed between the two statements of a transaction
    def execute(self, sql, *args):
        if sql.startswith("INSERT OR REPLACE INTO place") and args[0][1] == "2":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(sql, *args)

db = sqlite3.connect(sys.argv[2], factory=Books)
db.executescript(consumer.TABLES)
with consumer.open_client(sys.argv[1]) as client:
    consumer.consume(db, client, "/orders")
"""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_books(tmp_path / "books")) as books:
        yield books


def taken(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT what FROM orders ORDER BY rowid")]


def begins(origin: Origin) -> list[str | None]:
    return [request.header("last-event-id") for request in origin.requests]


def test_the_program_keeps_its_promises() -> None:
    told = run("events")
    assert len(told) == 9
    assert all(line.startswith("  kept") for line in told[1:])


# ------------------------------------------------------------------------------------- what each line is there for
def broken(what: str) -> bool:
    promises = Promises("a recipe without one of its lines")
    program.fault(promises, what, program.FAULTS[what])
    return promises.status == 1


def test_without_last_event_id_events_are_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """By those who do not look at the ids; who does look still reads everything again."""

    def store(db: sqlite3.Connection, feed: str, event: ServerSentEvent) -> None:
        with db:
            db.execute("INSERT INTO orders VALUES ((SELECT count(*) FROM orders), ?)", (event.data,))

    assert not broken("breaks in the middle of an event")
    connect = recipe.connect_sse
    monkeypatch.setattr(
        recipe, "connect_sse", lambda client, method, url, headers: connect(client, method, url)
    )
    monkeypatch.setattr(recipe, "take", store)
    with Origin(answer(204)) as origin, closing(sqlite3.connect(":memory:")) as db:
        db.executescript(recipe.TABLES)
        origin.script(breaks(truncated), breaks(truncated))
        clock = ManualClock()
        with open_client(origin.url, clock) as client:
            consume(db, client, "/orders", clock)
        assert taken(db) == list(ORDERS[:3]) * 2


def test_without_a_look_at_the_id_an_overlap_is_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def store(db: sqlite3.Connection, feed: str, event: ServerSentEvent) -> None:
        with db:
            db.execute("INSERT INTO orders VALUES ((SELECT count(*) FROM orders), ?)", (event.data,))

    what = "repeats what it sent before"
    assert not broken(what)
    monkeypatch.setattr(recipe, "take", store)
    assert broken(what)


def test_without_a_read_timeout_silence_is_for_ever() -> None:
    """Told by a deadline of the test's own, which the recipe does not have."""
    with Origin(falls_silent()) as origin, open_client(origin.url) as client:
        client.timeout = None
        with resilient.deadline(0.5), pytest.raises(DeadlineExceeded):
            list(follow(client, "/orders"))
        assert len(origin.requests) == 1
    clock = ManualClock()
    with Origin(serves()) as origin, open_client(origin.url, clock, silence=0.1) as client:
        origin.script(falls_silent())
        assert len(list(follow(client, "/orders", clock=clock))) == len(ORDERS)


def test_a_process_that_dies_between_the_effect_and_the_place_leaves_neither(tmp_path: Path) -> None:
    with Origin(serves()) as origin:
        path = tmp_path / "books"
        died = subprocess.run(
            [sys.executable, "-c", DIES_BETWEEN, origin.url, str(path)], cwd=ROOT, check=False, timeout=30
        )
        assert died.returncode == -signal.SIGKILL
        with closing(open_books(path)) as db, open_client(origin.url) as client:
            assert (taken(db), place(db, "/orders")) == ([ORDERS[0]], "1")
            consume(db, client, "/orders")
            assert taken(db) == list(ORDERS)


# ----------------------------------------------------------------------------------------------- what the feed saw
def test_a_stream_goes_on_after_the_last_whole_event(db: sqlite3.Connection) -> None:
    clock = ManualClock()
    with Origin(serves(), clock=clock) as origin, open_client(origin.url, clock) as client:
        origin.script(breaks(truncated, 3), ends_early(2), retry_later(7))
        consume(db, client, "/orders", clock)
        assert begins(origin) == [None, "3", "5", "5", "8"]
    assert taken(db) == list(ORDERS)
    assert place(db, "/orders") == "8"
    assert len(clock.sleeps) == 4, "before each but the first; one of them is the retry's"
    assert all(1.0 <= each <= 2.0 for each in (clock.sleeps[0], clock.sleeps[1])), (
        "retry: 2000, half of it jitter"
    )
    assert clock.sleeps[2] >= 7.0


def test_an_id_that_was_taken_is_not_taken_again(db: sqlite3.Connection) -> None:
    clock = ManualClock()
    with Origin(serves(), clock=clock) as origin, open_client(origin.url, clock) as client:
        origin.script(breaks(truncated, 5), overlaps())
        consume(db, client, "/orders", clock)
    assert taken(db) == list(ORDERS)


@pytest.mark.parametrize("status", [401, 404, 410, 301])
def test_what_asking_again_does_not_change_is_raised(status: int) -> None:
    with (
        Origin(status) as origin,
        open_client(origin.url, ManualClock()) as client,
        pytest.raises(httpx.HTTPStatusError),
    ):
        list(follow(client, "/orders"))
    assert len(origin.requests) == 1


def test_what_is_no_stream_is_no_stream_without_events() -> None:
    page = answer(200, "<html>sign in</html>", {"Content-Type": "text/html"})
    with Origin(page) as origin, open_client(origin.url) as client, pytest.raises(SSEError):
        list(follow(client, "/orders", clock=ManualClock()))


def test_a_feed_without_ids_is_refused(db: sqlite3.Connection) -> None:
    """Taken for one event, all but the first would be lost."""
    said = answer(200, "data: one\n\ndata: two\n\n", {"Content-Type": "text/event-stream"})
    with Origin(said) as origin, open_client(origin.url) as client, pytest.raises(ValueError, match="no id"):
        consume(db, client, "/orders")
    assert (taken(db), place(db, "/orders")) == ([], "")


def test_blocks_without_data_are_no_events_and_a_pause_has_bounds() -> None:
    clock = ManualClock()
    said = "retry: 0\n\nid: 7\n\n: hello\n\nretry: 86400000\n\n"
    with Origin(answer(204), clock=clock) as origin, open_client(origin.url, clock) as client:
        origin.script(answer(200, said, {"Content-Type": "text/event-stream"}))
        assert list(follow(client, "/orders", clock=clock)) == []
    assert 30.0 <= clock.sleeps[0] <= 60.0


def test_no_server_sends_us_away_for_ever() -> None:
    clock = ManualClock()
    with Origin(serves(), clock=clock) as origin, open_client(origin.url, clock) as client:
        origin.script(retry_later(86_400, 429))
        assert len(list(follow(client, "/orders", clock=clock))) == len(ORDERS)
    assert clock.sleeps[0] == 300.0


def test_streams_that_bring_nothing_are_asked_for_less_and_less_often() -> None:
    clock = ManualClock()
    with Origin(answer(204), clock=clock) as origin, open_client(origin.url, clock) as client:
        origin.script(*[answer(200, "", {"Content-Type": "text/event-stream"})] * 8)
        assert list(follow(client, "/orders", clock=clock)) == []
    assert clock.sleeps[0] <= 1.0
    assert clock.sleeps[-1] >= 30.0


def test_a_stream_that_breaks_is_a_failure_of_the_feed_and_one_that_ends_is_none() -> None:
    clock = ManualClock()
    with Origin(serves(), clock=clock) as origin, open_client(origin.url, clock) as client:
        breaker = pipeline_of(client)["breaker"]
        assert isinstance(breaker, CircuitBreaker)
        origin.script(breaks(truncated))
        list(follow(client, "/orders", clock=clock))
        assert (breaker.totals().calls, breaker.totals().failures) == (3, 1)


def pipeline_of(client: Any) -> Any:
    return client._transport.pipeline


def test_who_stops_reading_leaves_nothing_open() -> None:
    with Origin(serves()) as origin, open_client(origin.url) as client:
        events = follow(client, "/orders")
        assert next(events).id == "1"
        events.close()
        origin.wait_until(lambda origin: origin.open_connections == 0)
