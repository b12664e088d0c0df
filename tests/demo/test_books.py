"""The books of payments: a key gets its receipt again, and a charge and its key stand or fall together."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from examples.demo.books import Books, KeyReused, audit, doubles


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "books.sqlite"


@pytest.fixture
def books(path: Path) -> Iterator[Books]:
    with closing(Books(path)) as opened:
        yield opened


def test_the_same_key_gets_the_same_receipt(books: Books, path: Path) -> None:
    assert books.charge("r-1", "order-1", 995, "key") == ("r-1", False)
    assert books.charge("r-2", "order-1", 995, "key") == ("r-1", True)
    assert books.charge("r-3", "order-1", 995, "key") == ("r-1", True)
    found = audit(path)
    assert (found.charges, found.replays, found.doubles) == ({"order-1": ["r-1"]}, 2, 0)


def test_without_a_key_every_request_charges(books: Books, path: Path) -> None:
    for receipt in ("r-1", "r-2", "r-3"):
        assert books.charge(receipt, "order-1", 995, None) == (receipt, False)
    books.charge("r-4", "order-2", 995, None)
    assert audit(path).doubles == doubles(path) == 2


def test_a_key_belongs_to_one_order(books: Books, path: Path) -> None:
    books.charge("r-1", "order-1", 995, "key")
    with pytest.raises(KeyReused):
        books.charge("r-2", "order-2", 995, "key")
    assert audit(path).charges == {"order-1": ["r-1"]}


def test_a_charge_that_cannot_have_its_key_is_not_made(books: Books, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TRIGGER no_keys BEFORE INSERT ON keys BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(sqlite3.IntegrityError, match="full"):
        books.charge("r-1", "order-1", 995, "key")
    assert audit(path).charges == {}
    books.charge("r-2", "order-2", 995, None)  # and the books are open for the next one
    assert audit(path).charges == {"order-2": ["r-2"]}


def test_they_outlive_the_process(path: Path) -> None:
    with closing(Books(path)) as first:
        first.charge("r-1", "order-1", 995, "key")
        first.fault("hang")
    with closing(Books(path)) as second:
        assert second.charge("r-2", "order-1", 995, "key") == ("r-1", True)
        second.fault("hang")
        second.fault("drip")
    assert audit(path).faults == {"hang": 2, "drip": 1}
