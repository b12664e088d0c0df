"""The choice: one of two endpoints drawn at random, or of all where they are few; the less loaded, the likelier. Pure.

Two different ones: drawn with replacement, two endpoints would give the worse one a quarter of the calls. And likelier,
not certain: latencies of equal endpoints differ by chance, and whoever always takes the least loaded sends everything
to one of them until the memory of the others' worst moment has faded."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from math import exp
from typing import Any

from .endpoint import UNMEASURED, Endpoint

FEW = 4
"""Up to so many endpoints are all looked at."""
LOTS = 50.0
"""A difference of levels that is worked out without care for the size of numbers: 22 powers of ten."""
FORGOTTEN = 1e-30
"""A load of which nothing is left: it was measured many minutes ago."""
ROLLS = 8
"""Draws that may meet an endpoint which this call has tried; then all are looked at."""


def choose(
    endpoints: Sequence[Endpoint[Any]],
    now: float,
    tried: Collection[Endpoint[Any]] = (),
    rand: Callable[[], float] = random.random,
) -> Endpoint[Any] | None:
    """The endpoint for one more call; None where all are tried.

    Args:
        endpoints: those that are fit.
        now: the clock's monotonic time.
        tried: those that this call has tried.
        rand: gives numbers in [0, 1).

    Source: Mitzenmacher, *The Power of Two Choices*; the load is that of Finagle's ``P2CPeakEwma``.
    """
    n = len(endpoints)
    if n > FEW:
        for _ in range(ROLLS):
            i = int(rand() * n)
            j = int(rand() * (n - 1))
            a, b = endpoints[i], endpoints[j + (j >= i)]
            if tried and (a in tried or b in tried):
                continue
            above = a.level - b.level
            # A difference that decides by itself, or an endpoint of which nothing is known.
            if not -LOTS < above < LOTS:
                return among((a, b), now, (), rand)
            ratio = exp(above) * (len(a.calls) + 1) / (len(b.calls) + 1)  # of Endpoint.load
            return a if rand() * (1.0 + ratio * ratio) <= 1.0 else b
    return among(endpoints, now, tried, rand)


def among(
    endpoints: Sequence[Endpoint[Any]],
    now: float,
    tried: Collection[Endpoint[Any]] = (),
    rand: Callable[[], float] = random.random,
) -> Endpoint[Any] | None:
    """The same with a look at all of them: each is as likely as it is little loaded."""
    idle, loaded, hopeful = [], [], []
    total, good = 0.0, False
    for endpoint in endpoints:
        if endpoint in tried:
            continue
        load = endpoint.load(now)
        if load < FORGOTTEN:  # nothing is known of it, and nothing is on its way to find out
            idle.append(endpoint)
        elif load >= UNMEASURED:  # nothing is known yet
            hopeful.append((load, endpoint))
        else:
            total += 1.0 / (load * load)
            loaded.append((total, endpoint))
            if not endpoint.blamed:
                good = True
    if idle:
        return idle[int(rand() * len(idle))]
    if hopeful and not good:  # of the others is known that they fail
        return min(hopeful, key=_load)[1]
    point = rand() * total
    for upto, endpoint in loaded:
        if point < upto:
            return endpoint
    return loaded[-1][1] if loaded else None


def _load(pair: tuple[float, Endpoint[Any]]) -> float:
    return pair[0]
