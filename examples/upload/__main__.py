"""`python -m examples.upload`: connections that break in the middle of a piece, lost answers, a process that is killed.

Waits are on a clock that jumps; the process that is killed is a real one."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx

import resilient.httpx
from examples.promises import Promises
from resilient import OutcomeUnknown
from resilient.testing import Behaviour, Exchange, ManualClock, Origin, answer

from .server import Store
from .uploader import PIECE, open_client, upload

WORKER = [sys.executable, "-m", "examples.upload"]
SIZE = 2 * PIECE + 1_000_003
FAULTS: dict[str, Callable[[Store], list[Behaviour | int]]] = {
    "is reset in the middle of a piece": lambda store: [store.breaks(PIECE // 2)] * 6,
    "loses an answer": lambda store: [store.serves(), store.serves(), store.then("reset_before_effect")],
    "meets a store that has enough for now": lambda store: [store.serves(), store.serves(), answer(503), 429],
}


def main() -> int:
    """Run all of it; the exit status."""
    promises = Promises(f"An upload of {SIZE:,} bytes: the same bytes arrive")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "film")
        file.write_bytes(b"".join(number.to_bytes(4) for number in range(SIZE // 4 + 1))[:SIZE])
        for what in FAULTS:
            fault(promises, what, file)
        outage(promises, file)
        killed(promises, file)
        in_one(promises, file)
    return promises.status


def fault(promises: Promises, what: str, file: Path) -> None:
    """An upload with one kind of fault."""
    clock, store = ManualClock(), Store()
    with Origin(store.serves(), clock=clock) as origin, open_client(origin.url, clock) as client:
        origin.script(*FAULTS[what](store))
        upload(client, file, file.with_suffix(".memo"), clock)
    check(promises, f"an upload that {what}", store, file)


def outage(promises: Promises, file: Path) -> None:
    """The store is down for a minute."""
    clock, store = ManualClock(), Store()

    def down(exchange: Exchange) -> None:
        (answer(503) if store.sent and clock.monotonic() < 60.0 else store.serves())(exchange)

    with Origin(down, clock=clock) as origin, open_client(origin.url, clock) as client:
        upload(client, file, file.with_suffix(".memo"), clock)
    check(promises, f"a store that is down for a minute, asked {len(origin.requests)} times", store, file)


def killed(promises: Promises, file: Path) -> None:
    """The process is killed while a piece is under way, and another one goes on."""
    store = Store()
    with Origin(store.serves()) as origin:
        origin.script(store.serves(), store.serves(), store.then("hang"))
        command = [*WORKER, origin.url, str(file)]
        first = subprocess.Popen(command)
        try:
            origin.wait_until(lambda origin: len(origin.effects) == 3, timeout=30.0)
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        second = subprocess.run(command, check=False, timeout=30)
    kept = (first.returncode, second.returncode) == (-signal.SIGKILL, 0)
    check(promises, "a process that is killed", store, file, kept)


def in_one(promises: Promises, file: Path) -> None:
    """The same file in one request, for comparison: what breaks begins anew, with the same bytes."""
    with Origin(201) as origin, resilient.httpx.client("films", base_url=origin.url) as client:

        def late(exchange: Exchange) -> None:
            exchange.read(up_to=SIZE * 9 // 10)
            exchange.reset()

        origin.script(late, late)
        with file.open("rb") as data:
            status = client.put("/film", content=data, timeout=httpx.Timeout(30.0)).status_code
        sent = sum(len(request.body) for request in origin.requests)
        same = origin.requests[-1].body == file.read_bytes()
        seen = f"the store took {sent / SIZE:.1f} times its bytes"
        promises.check("in one request it is repeated, from its start", status == 201 and same, seen)


def check(promises: Promises, what: str, store: Store, file: Path, kept: bool = True) -> None:
    """Whether the store has the file, once, and what it took."""
    received = [bytes(data) for data in store.files.values()]
    kept = kept and received == [file.read_bytes()] and not file.with_suffix(".memo").exists()
    promises.check(what, kept, f"the store took {store.sent / SIZE:.2f} times its bytes")


def worker(url: str, file: str) -> int:
    """A process of the service: uploads the file, or goes on with it."""
    with open_client(url) as client:
        try:
            upload(client, Path(file), Path(file).with_suffix(".memo"))
        except OutcomeUnknown:
            return 1
    return 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # one line for each retry
    sys.exit(worker(*sys.argv[1:]) if sys.argv[1:] else main())
