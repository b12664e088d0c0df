"""Sixteen threads with calls of 10 ms through one policy set, beside sixteen bare threads: wall time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from time import perf_counter, sleep

from benchmarks.measure import ARGUMENT, Outcome, Settings, Spread, spread
from benchmarks.stacks import with_tenacity_pybreaker_limits
from resilient import standard

THREADS = 16
CALLS = 60
"""Per thread and round."""
CALL_SECONDS = 0.01
SERIAL_CALLS = 3
"""Per thread and round for pybreaker, which lets through one call at a time."""

Function = Callable[[str], str]


def work(sku: str) -> str:
    sleep(CALL_SECONDS)
    return sku


def rate(fn: Function, calls: int) -> float:
    """Calls per second of all threads together."""
    start = threading.Barrier(THREADS + 1)

    def run() -> None:
        start.wait()
        for _ in range(calls):
            fn(ARGUMENT)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for each in threads:
        each.start()
    start.wait()
    began = perf_counter()
    for each in threads:
        each.join()
    return THREADS * calls / (perf_counter() - began)


def measure(settings: Settings) -> Outcome:
    ours = standard("benchmark", rate="1000000/second", concurrency=THREADS, idempotent=True)(work)
    contenders = {
        "bare": (work, CALLS),
        "ours": (ours, CALLS),
        "pybreaker": (with_tenacity_pybreaker_limits(work), SERIAL_CALLS),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    shuffle = random.Random(11).shuffle
    for _ in range(settings.thread_rounds):
        shuffle(order)
        for name in order:
            rates[name].append(rate(*contenders[name]))
    values = {
        "threads.share": _share(rates["ours"], rates["bare"]),
        "threads.share_pybreaker": _share(rates["pybreaker"], rates["bare"]),
    }
    return Outcome(values)


def _share(some: list[float], bare: list[float]) -> Spread:
    return spread([100 * a / b for a, b in zip(some, bare, strict=True)])
