"""Memory of a keyed rate limit, and what it starts to run.

Counted by tracemalloc after one call for each key, and divided by the keys. The keys exist before: what a key itself
takes is the caller's.
"""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import limits
import nopanic

from benchmarks.measure import Outcome, Settings, Spread
from benchmarks.rows import exactly
from resilient import RateLimit

PEERS_SHARE = 10
"""The peers get a tenth of the keys; `limits` walks through all of them a hundred times a second."""


def measure(settings: Settings) -> Outcome:
    keys = [f"tenant-{number:09}" for number in range(settings.keys)]
    before = threading.active_count()
    ours, limit = _ours(keys)
    assert limit.keys == len(keys), f"{limit.keys} of {len(keys)} keys are held"
    started = threading.active_count() - before
    del limit
    few = keys[::PEERS_SHARE]
    values = {
        "keys.bytes": ours,
        "keys.threads": exactly(started),
        "keys.bytes_limits": _limits(few),
        "keys.bytes_nopanic": _nopanic(few),
    }
    return Outcome(values)


def per_key(keys: list[str], touch: Callable[[str], Any]) -> Spread:
    """Bytes that are allocated for a key."""
    gc.collect()
    tracemalloc.start()
    try:
        for key in keys:
            touch(key)
        gc.collect()
        return exactly(tracemalloc.get_traced_memory()[0] / len(keys))
    finally:
        tracemalloc.stop()


def _ours(keys: list[str]) -> tuple[Spread, RateLimit]:
    # An hour: within the run no key's bucket is full again, and so no key may be let go.
    limit = RateLimit("100/hour", key=lambda key: key)
    touch = limit(str)
    return per_key(keys, touch), limit


def _limits(keys: list[str]) -> Spread:
    limiter = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.parse("100/hour")
    return per_key(keys, lambda key: limiter.hit(item, key))


def _nopanic(keys: list[str]) -> Spread:
    limit = nopanic.keyed(
        lambda key: nopanic.rate_limit(100, per=3600.0, max_wait=0), key=lambda key: key, maxsize=len(keys)
    )
    return per_key(keys, limit(str))
