"""The books of `payments`: charges and idempotency keys in SQLite, written in one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

_TABLES = """
CREATE TABLE IF NOT EXISTS charges (receipt TEXT PRIMARY KEY, order_id TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS keys (
    key TEXT PRIMARY KEY, order_id TEXT NOT NULL, receipt TEXT NOT NULL REFERENCES charges, replays INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS faults (kind TEXT PRIMARY KEY, times INTEGER NOT NULL);
"""


class KeyReused(Exception):
    """The key was used for another order before."""


class Books:
    """Where a payments process writes.

    A process that is killed leaves them as they were before or after a transaction, never in between."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._share()
        # Survives the death of the process; that of the machine is not part of the script.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_TABLES)

    def _share(self) -> None:
        """Replicas that start at once open it at once, and SQLite does not wait for who changes its mode."""
        until = time.monotonic() + 5.0
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def charge(self, receipt: str, order: str, cents: int, key: str | None) -> tuple[str, bool]:
        """Charge an order; its receipt, and whether that was given before, for the same key.

        Raises:
            KeyReused: the key was used for another order.
        """
        with self._transaction() as db:
            if key is not None:
                found = db.execute("SELECT receipt, order_id FROM keys WHERE key = ?", (key,)).fetchone()
                if found is not None:
                    if found[1] != order:
                        raise KeyReused(key)
                    db.execute("UPDATE keys SET replays = replays + 1 WHERE key = ?", (key,))
                    return found[0], True
            db.execute("INSERT INTO charges VALUES (?, ?, ?)", (receipt, order, cents))
            if key is not None:
                db.execute("INSERT INTO keys VALUES (?, ?, ?, 0)", (key, order, receipt))
            return receipt, False

    def fault(self, kind: str) -> None:
        """Note that a request met a fault."""
        self._db.execute(
            "INSERT INTO faults VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET times = times + 1", (kind,)
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


class Audit(NamedTuple):
    """What the books say.

    Attributes:
        charges: the receipts of each order.
        replays: requests that were answered with a receipt given before.
        faults: how many requests met each kind of fault.
    """

    charges: dict[str, list[str]]
    replays: int
    faults: dict[str, int]

    @property
    def doubles(self) -> int:
        """Charges beyond the first of an order."""
        return sum(len(receipts) - 1 for receipts in self.charges.values())


def audit(path: Path) -> Audit:
    """Read the books; payments may be writing."""
    charges: dict[str, list[str]] = {}
    with closing(sqlite3.connect(path)) as db:
        for order, receipt in db.execute("SELECT order_id, receipt FROM charges ORDER BY rowid"):
            charges.setdefault(order, []).append(receipt)
        (replays,) = db.execute("SELECT coalesce(sum(replays), 0) FROM keys").fetchone()
        faults = Counter(dict(db.execute("SELECT kind, times FROM faults")))
    return Audit(charges, replays, dict(faults))


def doubles(path: Path) -> int:
    """Charges beyond the first of an order, quickly: for a screen that is drawn often."""
    with closing(sqlite3.connect(path)) as db:
        (found,) = db.execute("SELECT count(*) - count(DISTINCT order_id) FROM charges").fetchone()
    return int(found)
