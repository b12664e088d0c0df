"""Run as a program by test_signals: a signal handler raises inside policies, again and again.

Prints, as JSON, what was left locked, how many permits were lost, and whether everything still works."""

from __future__ import annotations

import json
import logging
import random
import signal
import sys
from typing import Any

from resilient import (
    Budget,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    RateLimit,
    RateLimited,
    Retry,
    Timeout,
    current_call,
    subscribe,
)
from resilient.core.call import NO_CALL
from resilient.core.events import RUNTIME


class Boom(Exception):
    """As Celery's SoftTimeLimitExceeded: raised by a signal handler, wherever the main thread is."""


def handler(*_: object) -> None:
    raise Boom


def held(lock: Any) -> bool:
    """Whether the lock of a policy is still held by this thread, the only one; or, as a plain lock, at all."""
    return bool(lock._is_owned() if hasattr(lock, "_is_owned") else lock.locked())


def main(rounds: int) -> None:
    signal.signal(signal.SIGALRM, handler)
    budget = Budget(stock=10**6, floor=1_000)
    breaker = CircuitBreaker(consecutive=2, open_for=1e-5, max_open=1e-5, probes=1, probe_lease=1e-4)
    limit, keyed = RateLimit("1000000/second"), RateLimit("1000000/second", key=lambda n: n % 7)
    bulkhead = Bulkhead(10**6, queue=2, max_wait=1e-6)
    tiny = Bulkhead(1, queue=2, max_wait=1e-6)

    @Pipeline(
        Timeout(60.0),
        Retry(attempts=2, wait=0, on=LookupError, budget=budget),
        breaker,
        limit,
        keyed,
        bulkhead,
    )
    def work(n: int) -> None:
        if n % 3 == 0:
            raise LookupError
        if n % 10 == 0:
            subscribe(lambda event: None)()

    bounded = tiny(work)
    logging.getLogger("resilient").setLevel(
        logging.CRITICAL
    )  # logging swallows what is raised while it formats

    locks: dict[str, Any] = {
        "breaker": lambda: breaker._state._lock,
        "budget": lambda: budget._lock,
        "limit": lambda: limit._bucket._lock,
        "keyed": lambda: keyed._buckets._lock,  # type: ignore[union-attr]
        "bulkhead": lambda: bulkhead._seats._lock,
        "tiny": lambda: tiny._seats._lock,
        "events": lambda: RUNTIME._lock,
    }
    leaked = dict.fromkeys([*locks, "deadline", "telling of transitions"], 0)
    booms, calls = 0, 0
    for _ in range(rounds):
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1.5e-4))
            for _ in range(2_000):  # a handler that runs inside a listener is swallowed there
                calls += 1
                try:
                    work(calls)
                    bounded(calls)
                except (LookupError, CircuitOpen, RateLimited, BulkheadFull):
                    pass
        except Boom:
            booms += 1
        for name, lock in locks.items():
            leaked[name] += held(lock())
        leaked["deadline"] += current_call() is not NO_CALL
        leaked["telling of transitions"] += breaker._state._telling
    breaker.reset()
    works = [work(n) for n in (1, 2, 4)] == [None] * 3
    lost = bulkhead.in_flight + tiny.in_flight
    json.dump({"booms": booms, "leaked": leaked, "lost": lost, "works": works}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
