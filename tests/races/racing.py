"""Threads that really race: all start at one moment, and the interpreter switches between them every 10 us."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SWITCH = 1e-5
PATIENCE = 30.0


@contextmanager
def quick_switches() -> Iterator[None]:
    """Inside, a thread runs for 10 us at most before another one gets its turn."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def race(*jobs: Callable[[], object], threads: int = 1) -> None:
    """Run each job in ``threads`` threads, all from one moment on; raise what one of them raised.

    Ends by itself: threads that are not over after 30 s fail the test, and are left behind as daemons."""
    start = threading.Barrier(len(jobs) * threads)
    errors: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            start.wait(PATIENCE)
            job()
        except BaseException as exc:
            errors.append(exc)

    running = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs for _ in range(threads)]
    with quick_switches():
        for each in running:
            each.start()
        for each in running:
            each.join(PATIENCE)
    if errors:
        raise errors[0]
    assert not any(each.is_alive() for each in running), "a thread hangs"


class Room:
    """Counts who is inside: ``with room: ...``. Its counts are exact, under a lock of its own.

    Attributes:
        inside: how many are.
        peak: how many were at most.
        entered: how often somebody came in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.peak = self.entered = 0

    def __enter__(self) -> Room:
        with self._lock:
            self.inside += 1
            self.entered += 1
            self.peak = max(self.peak, self.inside)
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.inside -= 1


class Tally:
    """Counts without losing any: ``tally.add("served")``, ``tally["served"]``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, what: str, n: int = 1) -> None:
        with self._lock:
            self._counts[what] = self._counts.get(what, 0) + n

    def __getitem__(self, what: str) -> int:
        return self._counts.get(what, 0)


def dawdle(turns: int = 20) -> None:
    """Some bytecode, and now and then a real pause of the thread, so that others get their turn meanwhile."""
    for _ in range(turns):
        pass
    if random.random() < 0.1:
        time.sleep(0)
