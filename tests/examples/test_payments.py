"""A payment client: one charge for each order, through lost answers, killed processes and keys that are forgotten."""

from __future__ import annotations

import itertools
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from examples.bank import Bank
from examples.payments import __main__ as program
from examples.payments import client as recipe
from examples.payments.client import DAY, open_books, open_client, pay, resume, settle
from examples.promises import Promises
from resilient.httpx import Profile
from resilient.testing import Origin, answer
from tests.examples.programs import run

ODD_WORKER = """
import sys, uuid
from examples.payments import __main__ as program, client
client.key_of = lambda order: str(uuid.uuid4())
sys.exit(program.worker(*sys.argv[1:]))
"""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_books(tmp_path / "books")) as books:
        yield books


def row(db: sqlite3.Connection, order: str) -> tuple[str, float | None, str | None]:
    found: tuple[str, float | None, str | None] = db.execute(
        "SELECT state, first_sent, receipt FROM payments WHERE order_id = ?", (order,)
    ).fetchone()
    return found


def test_the_program_keeps_its_promises() -> None:
    told = run("payments")
    assert len(told) == 6
    assert all(line.startswith("  kept") for line in told[1:])
    assert any("1 charge, 2 requests, 2 processes" in line for line in told)


# ------------------------------------------------------------------------------------- what each line is there for
def broken(scene: program.Scene) -> bool:
    promises = Promises("a recipe without one of its lines")
    program.play(scene, promises)
    return promises.status == 1


def test_without_a_profile_a_lost_answer_stays_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not broken(program.lost_answer)
    monkeypatch.setattr(recipe, "API", Profile())
    assert broken(program.lost_answer)


def test_with_a_key_that_is_made_up_an_order_is_charged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not broken(program.nobody_knows)
    numbers = itertools.count()
    monkeypatch.setattr(recipe, "key_of", lambda order: f"{order}:{next(numbers)}")
    assert broken(program.nobody_knows)


def test_with_a_key_that_is_made_up_a_killed_process_charges_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "WORKER", [sys.executable, "-c", ODD_WORKER])
    assert broken(program.killed)


def test_without_a_window_a_key_that_is_forgotten_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not broken(program.too_old)
    monkeypatch.setattr(recipe, "API", Profile(honours=True))
    assert broken(program.too_old)


# ------------------------------------------------------------------------------------------------- what the bank saw
def test_every_attempt_is_the_same_request(db: sqlite3.Connection) -> None:
    bank = Bank()
    with Origin(bank.serve()) as origin, open_client(origin.url) as client:
        origin.script(bank.then("reset_before_effect"), 503)
        assert pay(db, client, "order-1", 995) == "paid"
        assert {request.header("idempotency-key") for request in origin.requests} == {"charge:order-1"}
        assert len({request.body for request in origin.requests}) == 1
        assert len(origin.requests) == 3
        assert pay(db, client, "order-1", 995) == "paid"
        assert len(origin.requests) == 3, "what is paid is not asked for again"
    assert bank.charged_once("order-1")
    assert row(db, "order-1")[2] == "order-1/1"


def test_the_first_time_stays_the_first_time(db: sqlite3.Connection) -> None:
    bank = Bank()
    with Origin(bank.serve()) as origin, open_client(origin.url) as client:
        origin.always(bank.then("reset_before_effect"))
        assert pay(db, client, "order-1", 995) == "unknown"
        first = row(db, "order-1")[1]
        assert first is not None
        settle(db, client)
        assert row(db, "order-1")[:2] == ("unknown", first)
        origin.always(bank.serve())
        settle(db, client)
    assert row(db, "order-1")[:2] == ("paid", first)
    assert bank.charged_once("order-1")


def test_a_refusal_is_an_answer(db: sqlite3.Connection) -> None:
    with Origin(answer(402)) as origin, open_client(origin.url) as client:
        assert pay(db, client, "order-1", 995) == "refused"
        settle(db, client)
        assert resume(db, client, "order-1") == "refused"
        assert len(origin.requests) == 1


@pytest.mark.parametrize("status", [500, 401, 403, 404, 429])
def test_any_other_error_is_none_and_leaves_the_row_to_go_on_with(
    db: sqlite3.Connection, status: int
) -> None:
    bank = Bank()
    with Origin(answer(status, headers={"Retry-After": "60"})) as origin, open_client(origin.url) as client:
        with pytest.raises(httpx.HTTPStatusError):
            pay(db, client, "order-1", 995)
        assert row(db, "order-1")[0] == "new"
        origin.always(bank.serve())
        settle(db, client)
    assert row(db, "order-1")[0] == "paid"
    assert bank.charged_once("order-1")


def test_a_charge_that_still_runs_is_waited_for(db: sqlite3.Connection) -> None:
    bank = Bank()
    with Origin(bank.serve()) as origin, open_client(origin.url) as client:
        origin.script(answer(409, headers={"Retry-After": "0"}))
        assert pay(db, client, "order-1", 995) == "paid"
        assert len(origin.requests) == 2


def test_an_order_that_cannot_be_settled_keeps_no_other_waiting(db: sqlite3.Connection) -> None:
    bank = Bank()
    with Origin(bank.serve()) as origin, open_client(origin.url) as client:
        with db:
            db.executemany(
                "INSERT INTO payments VALUES (?, 995, 'new', NULL, NULL)", [("order-1",), ("order-2",)]
            )
        origin.script(401)
        settle(db, client)
    assert (row(db, "order-1")[0], row(db, "order-2")[0]) == ("new", "paid")


def test_an_old_key_is_for_people_to_look_at(db: sqlite3.Connection) -> None:
    with Origin() as origin, open_client(origin.url) as client:
        with db:
            db.execute("INSERT INTO payments VALUES ('order-1', 995, 'new', ?, NULL)", (time.time() - DAY,))
        settle(db, client)
        settle(db, client)
        assert origin.requests == []
    assert row(db, "order-1")[0] == "ask"


def test_the_time_is_written_down_before_anything_is_sent(db: sqlite3.Connection) -> None:
    """Killed in the first attempt, and started again when the key is forgotten."""
    with Origin() as origin, open_client(origin.url) as client:

        def die(request: httpx.Request) -> None:
            raise KeyboardInterrupt

        client.event_hooks = {"request": [die]}
        with pytest.raises(KeyboardInterrupt):
            pay(db, client, "order-1", 995)
        with db:
            db.execute("UPDATE payments SET first_sent = first_sent - ?", (DAY,))
        client.event_hooks = {}
        settle(db, client)
        assert origin.requests == []
    assert row(db, "order-1")[0] == "ask"


def test_another_amount_is_refused_by_the_books_and_by_the_bank(db: sqlite3.Connection) -> None:
    bank = Bank()
    with Origin(bank.serve()) as origin, open_client(origin.url) as client:
        pay(db, client, "order-1", 995)
        with pytest.raises(ValueError, match="begun with 995 cents"):
            pay(db, client, "order-1", 996)
        with db:  # books that were restored from a backup, say
            db.execute("UPDATE payments SET cents = 996, state = 'unknown'")
        settle(db, client)
    assert row(db, "order-1")[0] == "ask"
    assert bank.charges == {"order-1": 1}


def test_what_one_process_has_found_out_another_does_not_forget(db: sqlite3.Connection) -> None:
    bank = Bank()
    with Origin(bank.serve()) as origin, open_client(origin.url) as client:
        origin.always(bank.then("reset_before_effect"))

        def paid_meanwhile(request: httpx.Request) -> None:
            db.execute("UPDATE payments SET state = 'paid', receipt = 'order-1/1'")
            db.commit()

        client.event_hooks = {"request": [paid_meanwhile]}
        assert pay(db, client, "order-1", 995) == "paid"
    assert row(db, "order-1")[0::2] == ("paid", "order-1/1")
