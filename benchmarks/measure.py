"""How things are timed: in interleaved rounds, in CPU seconds of this process, compared round by round.

Speed of a machine drifts. So all contenders of a group run in every round, in a shuffled order, a batch of about 20 ms
each, and what is reported is the median over the rounds of a ratio within one round. CPU time and not wall time,
because others may use the machine. The garbage collector is on, with its usual thresholds, as in a service.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import process_time
from typing import Any

ARGUMENT = "sku-4711"


@dataclass(frozen=True)
class Settings:
    """How thorough a run is."""

    rounds: int = 25
    batch: float = 0.02
    """CPU seconds of one contender in one round."""
    requests: int = 12_000
    """HTTP requests per client."""
    keys: int = 1_000_000
    thread_rounds: int = 9
    import_rounds: int = 25
    table: bool = True
    """Whether the simulation fills the whole table, or only what has a budget."""


THOROUGH = Settings()
QUICK = Settings(
    rounds=5, batch=0.004, requests=300, keys=50_000, thread_rounds=3, import_rounds=5, table=False
)


@dataclass(frozen=True)
class Contender:
    """Something that is timed.

    Args:
        name: as the table shows it.
        does: what it does for a call; the same for all of a group, unless it says otherwise.
        run: makes so many calls, and gives the CPU seconds that they took.
    """

    name: str
    does: str
    run: Callable[[int], float]


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of one value, that value three times."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


@dataclass(frozen=True)
class Series:
    """Seconds per call of one contender, one figure per round."""

    name: str
    does: str
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Race:
    """What a group of contenders took, round by round.

    Args:
        series: by name.
        bare: the contender that is subtracted from all others to give their overhead; None: nothing is.
    """

    series: dict[str, Series]
    bare: str | None = None

    def overheads(self, name: str) -> tuple[float, ...]:
        """Seconds per call over the bare call of the same round."""
        own = self.series[name].seconds
        if self.bare is None:
            return own
        return tuple(a - b for a, b in zip(own, self.series[self.bare].seconds, strict=True))

    def ratio(self, name: str, other: str) -> Spread:
        """The overhead of ``name`` in overheads of ``other``."""
        pairs = zip(self.overheads(name), self.overheads(other), strict=True)
        return spread([a / b for a, b in pairs])

    def seconds(self, name: str) -> Spread:
        """Overhead per call."""
        return spread(self.overheads(name))


@dataclass(frozen=True)
class Outcome:
    """What a group gives: values for its rows, and the races that they come from."""

    values: dict[str, Spread]
    races: dict[str, Race] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)


def race(
    contenders: Sequence[Contender], settings: Settings, *, bare: str | None = None, calls: int | None = None
) -> Race:
    """Run all contenders in interleaved rounds.

    Args:
        contenders: with different names.
        settings: how many rounds, and how long a batch is.
        bare: see `Race`.
        calls: per batch; None: as many as fill the batch's time.
    """
    sizes = {each.name: calls or _fitting(each, settings.batch) for each in contenders}
    assert len(sizes) == len(contenders), "two contenders of one name"
    taken: dict[str, list[float]] = {each.name: [] for each in contenders}
    order = list(contenders)
    shuffle = random.Random(11).shuffle
    gc.collect()
    for _ in range(settings.rounds):
        shuffle(order)
        for each in order:
            taken[each.name].append(each.run(sizes[each.name]) / sizes[each.name])
    return Race(
        {each.name: Series(each.name, each.does, tuple(taken[each.name])) for each in contenders}, bare
    )


def _fitting(contender: Contender, batch: float) -> int:
    """How many calls fill a batch; finding it out warms the contender up."""
    calls = 1
    while True:
        took = contender.run(calls)
        if took >= batch / 4:
            return max(1, int(calls * batch / took))
        calls *= 4


def looped(fn: Callable[[str], Any]) -> Callable[[int], float]:
    """Batches of a sync function."""

    def run(calls: int) -> float:
        again = itertools.repeat(None, calls)
        began = process_time()
        for _ in again:
            fn(ARGUMENT)
        return process_time() - began

    return run


def alooped(runner: asyncio.Runner, fn: Callable[[str], Awaitable[Any]]) -> Callable[[int], float]:
    """Batches of an async function, in one task of the runner's loop."""

    async def batch(calls: int) -> float:
        again = itertools.repeat(None, calls)
        began = process_time()
        for _ in again:
            await fn(ARGUMENT)
        return process_time() - began

    def run(calls: int) -> float:
        return runner.run(batch(calls))

    return run


@contextmanager
def silence() -> Iterator[None]:
    """No log record up to WARNING is made: with no handler set up, each would be a line on stderr."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
