"""Three attempts that all fail, with no delay between them.

Ours gets a retry budget that pays for all of them, new for each batch; else it would soon stop to retry, which is what
it is for. Log records are off, but for the contender that says so.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import Any

import nopanic

from benchmarks import floors
from benchmarks.measure import ARGUMENT, Contender, Outcome, Settings, Spread, race, silence
from benchmarks.stacks import TRANSIENT, tenacious, with_stamina
from resilient import Budget, Retry

Function = Callable[[str], Any]
Decorate = Callable[[Function], Function]


def ours(fn: Function) -> Function:
    budget = Budget(ratio=10, floor=1000, stock=1_000_000, cost=1)
    return Retry(3, wait=0, budget=budget)(fn)


def floor(fn: Function) -> Function:
    return floors.retry(fn)


def with_nopanic(fn: Function) -> Function:
    ample = nopanic.RetryBudget(ratio=10, min_retries_per_sec=1_000_000)
    return nopanic.retry(attempts=3, on=TRANSIENT, backoff=0.0, budget=ample)(fn)


class Refused(ConnectionError, ValueError):
    """What the function raises; the floor catches ValueError."""


@contextmanager
def dropped() -> Iterator[None]:
    """Log records are made, and given to a handler that drops them."""
    logger = logging.getLogger("resilient")
    handler, propagate = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def batches(decorate: Decorate, logs: Any = silence) -> Callable[[int], float]:
    def run(calls: int) -> float:
        attempts = itertools.count()

        def fails(sku: str) -> str:
            next(attempts)
            raise Refused(sku)

        decorated = decorate(fails)
        again = itertools.repeat(None, calls)
        with logs():
            began = process_time()
            for _ in again:
                try:
                    decorated(ARGUMENT)
                except Refused:
                    pass
            took = process_time() - began
        made = next(attempts)
        assert made == 3 * calls, f"{made} attempts for {calls} calls"
        return took

    return run


def measure(settings: Settings) -> Outcome:
    does = "three attempts, each raises; the last one is raised"
    contenders = [
        Contender("floor", f"{does}; hand-written", batches(floor)),
        Contender("resilient", f"{does}; retry budget, report and note on it", batches(ours)),
        Contender("resilient, logged", "the same, and a log record for each retry", batches(ours, dropped)),
        Contender("nopanic", f"{does}; retry budget", batches(with_nopanic)),
        Contender("tenacity", does, batches(tenacious)),
        Contender("stamina", does, batches(with_stamina)),
    ]
    result = race(contenders, settings)
    values = {
        "retry.three": _microseconds(result.seconds("resilient")),
        "retry.three_logged": _microseconds(result.seconds("resilient, logged")),
        "retry.three_tenacity": result.ratio("tenacity", "resilient"),
        "retry.three_nopanic": result.ratio("nopanic", "resilient"),
    }
    return Outcome(values, {"retry: three failing attempts, no delay": result})


def _microseconds(value: Spread) -> Spread:
    return Spread(value.median * 1e6, value.low * 1e6, value.high * 1e6)
