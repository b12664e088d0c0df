"""`python -m examples.events`: streams that break, fall silent, repeat themselves, and a consumer that is killed.

Waits between streams are on a clock that jumps; the silence of a server is waited for in real time, for a moment."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import httpx

from examples.promises import Promises
from resilient.testing import (
    Behaviour,
    ManualClock,
    Origin,
    Request,
    by_handler,
    reset_mid_body,
    retry_later,
    truncated,
)

from .consumer import consume, follow, open_books, open_client, place, take
from .server import ORDERS, breaks, ends_early, falls_silent, overlaps, serves

WORKER = [sys.executable, "-m", "examples.events"]
FAULTS: dict[str, Behaviour] = {
    "breaks in the middle of an event": breaks(truncated),
    "is reset in the middle of an event": breaks(reset_mid_body),
    "ends in order in the middle of an event": ends_early(),
    "falls silent": falls_silent(),
    "repeats what it sent before": overlaps(),
}


def main() -> int:
    """Run all of it; the exit status."""
    promises = Promises("Server-sent events: each is taken once, in order")
    for what, step in FAULTS.items():
        fault(promises, what, step)
    outage(promises)
    killed(promises)
    naive(promises)
    return promises.status


def fault(promises: Promises, what: str, step: Behaviour) -> None:
    """One fault, twice in a row; a first stream that breaks is what the second one of `overlaps` repeats."""
    clock = ManualClock()
    with Origin(serves(), clock=clock) as origin, tempfile.TemporaryDirectory() as directory:
        origin.script(breaks(truncated, 2), step, retry_later(4))
        with closing(open_books(Path(directory, "books"))) as db:
            with open_client(origin.url, clock, silence=0.2) as client:
                consume(db, client, "/orders", clock)
            taken = [row[0] for row in db.execute("SELECT what FROM orders ORDER BY rowid")]
        promises.check(
            f"a stream that {what}",
            taken == list(ORDERS),
            f"{len(taken)} events, {len(origin.requests)} requests",
        )


def outage(promises: Promises) -> None:
    """The feed is down for ten minutes: it is asked now and then, and the stream goes on when it is back."""
    clock = ManualClock()

    def down(request: Request) -> Behaviour | int:
        return 503 if clock.monotonic() < 600.0 else serves()

    with Origin(by_handler(down), clock=clock) as origin, tempfile.TemporaryDirectory() as directory:
        with closing(open_books(Path(directory, "books"))) as db, open_client(origin.url, clock) as client:
            consume(db, client, "/orders", clock)
            (count,) = db.execute("SELECT count(*) FROM orders").fetchone()
        took, requests = clock.monotonic(), len(origin.requests)
        kept = count == len(ORDERS) and took < 800.0 and requests < 60
        promises.check("a feed that is down is left alone", kept, f"{requests} requests in {took:.0f} s")


def killed(promises: Promises) -> None:
    """The consumer is killed, and another one goes on where it stopped."""
    with Origin(serves()) as origin, tempfile.TemporaryDirectory() as directory:
        origin.script(falls_silent())
        command = [*WORKER, origin.url, str(Path(directory, "books"))]
        first = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert first.stdout is not None
        with first.stdout:
            first.stdout.readline()  # it has taken one; the others may or may not be
            first.send_signal(signal.SIGKILL)
            first.wait()
        second = subprocess.run(command, check=False, timeout=30, stdout=subprocess.DEVNULL)
        with closing(open_books(Path(directory, "books"))) as db:
            taken = [row[0] for row in db.execute("SELECT what FROM orders ORDER BY rowid")]
        kept = (first.returncode, second.returncode) == (-signal.SIGKILL, 0) and taken == list(ORDERS)
        began = origin.requests[1].header("last-event-id")
        promises.check(
            "a consumer that is killed", kept, f"{len(taken)} events; the second process began after {began}"
        )


def naive(promises: Promises) -> None:
    """What a loop over `iter_lines` does: it begins anew, and ends a line where none ends (U+2028)."""
    taken: list[str] = []
    with Origin(serves()) as origin:
        origin.script(breaks(truncated))
        for _ in range(2):
            try:
                with httpx.stream("GET", f"{origin.url}/orders") as response:
                    taken.extend(line[6:] for line in response.iter_lines() if line.startswith("data: "))
            except httpx.TransportError:
                continue
    wrong = len(taken) == 12 and not set(taken) & set(ORDERS)
    seen = f"{len(taken)} events of {len(ORDERS)}, the first is {taken[0]!r}"
    promises.check("a loop over lines takes events twice, and none of them whole", wrong, seen)


def worker(url: str, path: str) -> int:
    """A process of the service: takes events until there are no more."""
    with closing(open_books(Path(path))) as db, open_client(url) as client:
        for event in follow(client, "/orders", place(db, "/orders")):
            take(db, "/orders", event)
            print(event.id, flush=True)
    return 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # one line for each retry
    sys.exit(worker(*sys.argv[1:]) if sys.argv[1:] else main())
