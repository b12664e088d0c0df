"""``python -m benchmarks.retune``: what a change of numbers does under load, as a picture: docs/images/retune.svg.

A rate limit that is asked a thousand times a second, a bulkhead with more callers than places, and a breaker's window,
while an operator changes each of them three times. In virtual time, on the state machines themselves."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

from matplotlib import pyplot as plt

from benchmarks.plot import FLOOR, IMAGES, OURS, same_everywhere, save
from resilient import BulkheadFull, CircuitBreaker, RateLimit, RateLimited, Verdict
from resilient.policies.bulkhead import Bulkhead
from resilient.policies.ratelimit.options import parse_rate

SECONDS = 8
CHANGES = (2.0, 4.0, 6.0)
TICK = 0.001


def bucket(
    rates: tuple[int, ...] = (50, 20, 200, 50), burst: int = 10
) -> tuple[list[float], list[int], list[int]]:
    """Calls admitted in each tenth of a second, and the rate in force then."""
    limit = RateLimit(f"{rates[0]}/second", burst=burst)
    admitted, wanted, ends = [0] * (SECONDS * 10), [0] * (SECONDS * 10), list(CHANGES)
    left = list(rates)
    for n in range(SECONDS * 1_000):
        now = n * TICK
        if ends and now >= ends[0]:
            ends.pop(0)
            left.pop(0)
            limit.retune(replace(limit.options, rate=parse_rate(f"{left[0]}/second")), now)
        wanted[n // 100] = left[0]
        try:
            limit.admit(now)
        except RateLimited:
            continue
        admitted[n // 100] += 1
    return [n / 10 for n in range(SECONDS * 10)], admitted, wanted


def bulkhead(limits: tuple[int, ...] = (20, 8, 30, 20)) -> tuple[list[float], list[int], list[int]]:
    """Calls in flight, and the limit in force; each takes 0.25 s, and more callers come than there are places."""
    seats = Bulkhead(limits[0])
    running: list[tuple[float, int, Any]] = []
    times, in_flight, wanted, left, ends = [], [], [], list(limits), list(CHANGES)
    for n in range(SECONDS * 1_000):
        now = n * TICK
        if ends and now >= ends[0]:
            ends.pop(0)
            left.pop(0)
            seats.retune(replace(seats.options, limit=left[0]), now)
        while running and running[0][0] <= now:
            _, _, permit = heapq.heappop(running)
            seats.record(permit, Verdict.SUCCESS, 0.25, now)
        try:
            heapq.heappush(running, (now + 0.25, n, seats.admit(now)))
        except BulkheadFull:
            pass
        if n % 20 == 0:
            times.append(now)
            in_flight.append(len(running))
            wanted.append(left[0])
    return times, in_flight, wanted


def window(windows: tuple[float, ...] = (2.0, 1.0, 4.0, 2.0)) -> tuple[list[float], list[int], list[float]]:
    """Calls that a breaker's window holds, of 100 a second, and what a window of that length holds in the long run."""
    breaker = CircuitBreaker(window=windows[0])
    times, held, wanted, left, ends = [], [], [], list(windows), list(CHANGES)
    for n in range(SECONDS * 100):
        now = n / 100
        if ends and now >= ends[0]:
            ends.pop(0)
            left.pop(0)
            breaker.retune(replace(breaker.options, window=left[0]), now)
        breaker.record(breaker.admit(now), Verdict.SUCCESS, 0.01, now)
        if n % 10 == 9:
            times.append(now)
            held.append(breaker._state.totals(now).calls)
            wanted.append(100 * left[0])
    return times, held, wanted


def main() -> None:
    same_everywhere()
    figure, panels = plt.subplots(1, 3, figsize=(12.0, 3.4))
    parts: tuple[tuple[str, str, Any, float], ...] = (
        ("rate limit, 1,000 calls/s offered", "calls admitted / s", bucket(), 10.0),
        ("bulkhead, more callers than places", "calls in flight", bulkhead(), 1.0),
        ("breaker window, 100 calls/s", "calls that count", window(), 1.0),
    )
    for axes, (title, label, (times, values, wanted), scale) in zip(panels, parts, strict=True):
        axes.step(times, wanted, where="post", color=FLOOR, linewidth=1.2, label="in force")
        axes.plot(times, [scale * value for value in values], color=OURS, linewidth=1.8, label="measured")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("seconds")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=8, frameon=False)
    save(figure, IMAGES / "retune.svg")


if __name__ == "__main__":
    main()
