"""What retry budgets do to a callee that fails: a simulation, the same on every machine.

Calls come evenly for 30 s; an attempt takes 50 ms and fails with a given probability, whatever happened before; three
attempts; full jitter from 25 ms between them. Load is attempts per call, success is calls that succeeded in the end.
Ours is the real thing, `Budget` and the decision of `Retry` after each failure, in virtual time.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.designs import Aws, Design, Envoy, Finagle, Fixed, Grpc, Never, Sre
from benchmarks.measure import Outcome, Settings, silence
from benchmarks.rows import exactly
from resilient import Backoff, Budget, Retry
from resilient.core.policy import Site
from resilient.policies.retry.state import Story
from resilient.testing import ManualClock

SECONDS = 30.0
LATENCY = 0.05
ATTEMPTS = 3
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)
FAST, SLOW = 1000.0, 5.0
"""Calls per second."""


@dataclass(frozen=True)
class Cell:
    """What came of 30 seconds.

    Args:
        load: attempts per call.
        success: of all calls, 0 to 1.
    """

    load: float
    success: float

    def __str__(self) -> str:
        return f"{self.load:.2f}x / {100 * self.success:.1f} %"


Ask = Callable[[float, bool], float | None]
"""After an attempt: the time, and whether it was good; the delay before the next one, or None."""


def simulate(client: Callable[[random.Random], Callable[[float], Ask]], rate: float, failing: float) -> Cell:
    """Run one client for 30 s of virtual time.

    Args:
        client: given where chance comes from, makes what begins a call; see `of_design` and `of_ours`.
        rate: calls per second.
        failing: probability that an attempt fails.
    """
    fate, begin = random.Random(5), client(random.Random(6))
    calls = round(SECONDS * rate)
    serial = itertools.count()
    starts: list[tuple[float, int, Ask | None]] = [(i / rate, next(serial), None) for i in range(calls)]
    ends: list[tuple[float, int, Ask]] = []
    attempts = successes = 0
    heapq.heapify(starts)
    while starts or ends:
        if starts and (not ends or starts[0] < ends[0]):
            now, _, known = heapq.heappop(starts)
            attempts += 1
            heapq.heappush(ends, (now + LATENCY, next(serial), known or begin(now)))
        else:
            now, _, ask = heapq.heappop(ends)
            good = fate.random() >= failing
            successes += good
            delay = ask(now, good)
            if delay is not None:
                heapq.heappush(starts, (now + delay, next(serial), ask))
    return Cell(attempts / calls, successes / calls)


def of_design(make: Callable[[], Design]) -> Callable[[random.Random], Callable[[float], Ask]]:
    """A client with three attempts and one of the designs."""

    def client(chance: random.Random) -> Callable[[float], Ask]:
        design, wait = make(), Backoff()

        def begin(now: float) -> Ask:
            design.began(now)
            attempt = 1

            def ask(now: float, good: bool) -> float | None:
                nonlocal attempt
                design.ended(now, good, attempt)
                if good or attempt >= ATTEMPTS or not design.allows(now):
                    return None
                attempt += 1
                return wait.delay(attempt - 1, 0.0, rand=chance.random)

            return ask

        return begin

    return client


def of_ours(chance: random.Random) -> Callable[[float], Ask]:
    """A client with our retry, as it comes: `Budget()` and `Retry(3)`. What the driver of `Retry` does, without it."""
    retry, budget, clock = Retry(ATTEMPTS), Budget(), ManualClock()
    site = Site("benchmark", "call", clock, of_ours)

    def begin(started: float) -> Ask:
        story: Story | None = None

        def ask(now: float, good: bool) -> float | None:
            nonlocal story
            if good:
                if story is None:
                    budget.succeeded(started)
                else:
                    story.succeeded()
                return None
            if story is None:
                story = Story(retry.options, budget, site, started, (), {}, retry, chance.random)
            error = ConnectionError()
            delay = story.failed(error, now, story.wants(error))
            story.attempts += delay is not None
            return delay

        return ask

    return begin


CLIENTS: dict[str, Callable[[random.Random], Callable[[float], Ask]]] = {
    "resilient": of_ours,
    "no retry": of_design(Never),
    "3 attempts, no budget": of_design(Fixed),
    "gRPC 10 / 0.1": of_design(Grpc),
    "Finagle 20 % + 10/s": of_design(Finagle),
    "AWS, cost 5": of_design(Aws),
    "AWS, cost 14": of_design(lambda: Aws(cost=14)),
    "Envoy 20 % / 3": of_design(Envoy),
    "SRE book 10 % / 2 min": of_design(Sre),
}


def table(names: tuple[str, ...] = tuple(CLIENTS)) -> dict[str, dict[str, Cell]]:
    """Every client at every share of failing attempts; the last column at 5 calls a second."""
    with silence():
        return {
            name: {
                **{f"{100 * share:g} %": simulate(CLIENTS[name], FAST, share) for share in SHARES},
                "100 %, 5 calls/s": simulate(CLIENTS[name], SLOW, 1.0),
            }
            for name in names
        }


def lines(cells: dict[str, dict[str, Cell]]) -> list[str]:
    """The table as text."""
    columns = list(next(iter(cells.values())))
    head = f"{'load / success':<24}" + "".join(f"{column:>18}" for column in columns)
    return [
        head,
        *(f"{name:<24}" + "".join(f"{cell!s:>18}" for cell in row.values()) for name, row in cells.items()),
    ]


def measure(settings: Settings) -> Outcome:
    with silence():
        outage, errors = simulate(of_ours, SLOW, 1.0), simulate(of_ours, FAST, 0.1)
    tables: dict[str, Any] = {}
    if settings.table:
        cells = table()
        tables["retry budgets"] = {
            name: {column: [cell.load, cell.success] for column, cell in row.items()}
            for name, row in cells.items()
        }
        tables["retry budgets, as text"] = lines(cells)
    values = {"budget.outage": exactly(outage.load), "budget.errors": exactly(100 * errors.success)}
    return Outcome(values, tables=tables)
