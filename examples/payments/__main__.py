"""`python -m examples.payments`: lost answers, a process that is killed, keys that are forgotten, and what they cost.

The process that is killed is a real one, and so is its signal."""

from __future__ import annotations

import logging
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx

from examples.bank import Bank
from examples.promises import Promises
from resilient.testing import Origin

from .client import DAY, open_books, open_client, pay, settle

Scene = Callable[[Promises, Bank, Origin, Path], None]
WORKER = [sys.executable, "-m", "examples.payments"]


def main() -> int:
    """Run all of it; the exit status."""
    promises = Promises("Payments: one charge for each order")
    for scene in (lost_answer, killed, nobody_knows, too_old, without_keys):
        play(scene, promises)
    return promises.status


def play(scene: Scene, promises: Promises) -> None:
    """One of those below, with a bank and books of its own."""
    bank = Bank()
    with tempfile.TemporaryDirectory() as directory, Origin(bank.serve()) as origin:
        scene(promises, bank, origin, Path(directory, "books"))


def lost_answer(promises: Promises, bank: Bank, origin: Origin, path: Path) -> None:
    """The order is charged and the answer is lost: the next attempt gets it."""
    origin.script(bank.then("reset_before_effect"))
    with closing(open_books(path)) as db, open_client(origin.url) as client:
        state = pay(db, client, "order-1", 995)
    kept = state == "paid" and bank.charged_once("order-1")
    seen = f"{bank.charges['order-1']} charge, {len(origin.requests)} requests, 1 key"
    promises.check("an answer that was lost is asked for again", kept, seen)


def killed(promises: Promises, bank: Bank, origin: Origin, path: Path) -> None:
    """The process is killed between send and answer, and another one takes over."""
    origin.script(bank.then("hang"))
    command = [*WORKER, origin.url, str(path)]
    first = subprocess.Popen([*command, "order-2"])
    try:
        origin.wait_until(lambda origin: origin.effects, timeout=30.0)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    second = subprocess.run(command, check=False, timeout=30)
    ended = (first.returncode, second.returncode) == (-signal.SIGKILL, 0)
    kept = ended and state_of(path, "order-2") == "paid" and bank.charged_once("order-2")
    seen = f"{bank.charges['order-2']} charge, {len(origin.requests)} requests, 2 processes"
    promises.check("a process that is killed in the middle charges nobody twice", kept, seen)


def nobody_knows(promises: Promises, bank: Bank, origin: Origin, path: Path) -> None:
    """No attempt is answered: it is written down, and asked again later."""
    origin.script(*[bank.then("reset_before_effect")] * 3)
    with closing(open_books(path)) as db, open_client(origin.url) as client:
        first = pay(db, client, "order-3", 995)
        settle(db, client)
    state = state_of(path, "order-3")
    kept = (first, state) == ("unknown", "paid") and bank.charged_once("order-3")
    seen = f"{first}, then {state}; {bank.charges['order-3']} charge, {len(origin.requests)} requests"
    promises.check("what nobody knows is written down and asked again", kept, seen)


def too_old(promises: Promises, bank: Bank, origin: Origin, path: Path) -> None:
    """The API has forgotten the key: sent again, it would charge again."""
    with closing(open_books(path)) as db, open_client(origin.url) as client:
        with db:
            yesterday = time.time() - DAY
            db.execute("INSERT INTO payments VALUES ('order-4', 995, 'unknown', ?, NULL)", (yesterday,))
        settle(db, client)
    state = state_of(path, "order-4")
    kept = state == "ask" and not origin.requests
    seen = f"{state}, {len(origin.requests)} requests"
    promises.check("a key that the API has forgotten is not sent", kept, seen)


def without_keys(promises: Promises, bank: Bank, origin: Origin, path: Path) -> None:
    """The same fault with a retry around a bare client: without keys, and with one made up each time."""
    for order, keyed in (("order-5", False), ("order-6", True)):
        origin.script(bank.then("reset_before_effect"))
        for _ in range(2):  # the attempts of a loop, or of a job that is run again
            headers = {"Idempotency-Key": str(uuid.uuid4())} if keyed else {}
            try:
                httpx.post(f"{origin.url}/charges", json={"order": order, "cents": 995}, headers=headers)
            except httpx.TransportError:
                continue
    promises.check(
        "without a business key an order is charged twice",
        bank.charges == {"order-5": 2, "order-6": 2},
        f"{bank.charges['order-5']} charges without a key, {bank.charges['order-6']} with one made up each time",
    )


def state_of(path: Path, order: str) -> str:
    """What the books say of an order."""
    with closing(sqlite3.connect(path)) as db:
        (state,) = db.execute("SELECT state FROM payments WHERE order_id = ?", (order,)).fetchone()
    return str(state)


def worker(url: str, path: str, *orders: str) -> int:
    """A process of the service: goes on with what was begun, then pays the orders that it is given."""
    with closing(open_books(Path(path))) as db, open_client(url) as client:
        settle(db, client)
        for order in orders:
            pay(db, client, order, 995)
    return 0


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # a line for each retry, and for what somebody has to look at
    sys.exit(worker(*sys.argv[1:]) if sys.argv[1:] else main())
