"""What happens when: the faults of `payments` and the arrivals of orders, from a seed. Pure.

Every process makes the schedule itself from the same seed; so all three columns see the same faults, and an
order meets the same fate in each."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

GRACE = 3.0
"""Seconds after an outage that belong to it: the time that a caller has to recover."""


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        name: in the scorecard.
        outage: whether it lets no request succeed.
        what: what payments does meanwhile.
    """

    name: str
    outage: bool
    what: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("refuse", True, "the port is closed, open connections are reset"),
        Kind("unavailable", True, "every answer is 503 with Retry-After: 1"),
        Kind("hang", True, "no answer ever comes; half of the charges are made all the same"),
        Kind("kill", True, "the process dies by SIGKILL; a new one takes the port later"),
        Kind("reset-before", False, "some connections are reset before the charge"),
        Kind("reset-after", False, "some connections are reset after the charge"),
        Kind("overloaded", False, "some orders get 503 with Retry-After: 1, and are served after that"),
        Kind("throttled", False, "some orders get 429 with Retry-After: 1, and are served after that"),
        Kind("drip", False, "some answers come byte by byte over 3 s, after the charge"),
        Kind("stale", False, "some kept connections are closed as a request arrives on them"),
        Kind("slow", False, "every answer takes 200 ms longer"),
        Kind("rush", False, "120 orders per second arrive; payments takes 90"),
    )
}


class Fault(NamedTuple):
    """One fault: its kind, when it begins and ends, in seconds from the start of the run."""

    kind: str
    start: float
    end: float

    @property
    def outage(self) -> bool:
        return KINDS[self.kind].outage


class Shape(NamedTuple):
    """The proportions of a run; times in seconds.

    Attributes:
        rate: orders per second.
        total: until the last order arrives.
        lead: before the first fault.
        outage, partial, rush: how long a fault lasts.
        quiet_after_outage, quiet: at least, between a fault and the next one.
        share: of the requests that a fault hits which does not hit all.
        patience: how long answers are waited for after the last arrival.
    """

    rate: float
    total: float
    lead: float
    outage: float
    partial: float
    rush: float
    quiet_after_outage: float
    quiet: float
    share: float
    patience: float


RUSH_RATE = 120.0
"""Orders per second in a rush."""
FULL = Shape(50.0, 60.0, 2.0, 2.5, 2.5, 1.5, GRACE + 0.5, 1.3, 0.10, 4.0)
FAST = Shape(40.0, 7.5, 0.3, 0.5, 0.5, 0.4, 0.2, 0.05, 0.25, 2.0)


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        seed: what it was made of.
        fast: whether it is the short form.
        faults: in order; they never overlap.
        arrivals: when orders arrive, in seconds from the start; order number `i` at ``arrivals[i]``.
        total: seconds.
        share: of the requests that a fault hits which does not hit all.
        patience: seconds after the last arrival until which answers are waited for.
        deadline: seconds that an order has, from its arrival.
    """

    seed: int
    fast: bool
    faults: tuple[Fault, ...]
    arrivals: tuple[float, ...]
    total: float
    share: float
    patience: float
    deadline: float = 2.0

    @cached_property
    def _starts(self) -> list[float]:
        return [fault.start for fault in self.faults]

    @property
    def outages(self) -> list[Fault]:
        """The faults that let no request succeed."""
        return [fault for fault in self.faults if fault.outage]

    def at(self, moment: float, /) -> Fault | None:
        """The fault in force, ``moment`` seconds from the start."""
        i = bisect_right(self._starts, moment) - 1
        return self.faults[i] if i >= 0 and moment < self.faults[i].end else None

    def fate(self, order: str, request: int, /) -> float:
        """A number in [0, 1) that decides what the order's n-th request meets, the same in every column."""
        return random.Random(f"{self.seed}/{order}/{request}").random()

    def strikes(self, order: str, request: int, /) -> bool:
        """Whether a fault that hits only some requests hits this one."""
        return self.fate(order, request) < self.share


def plan(seed: int, *, fast: bool = False) -> Plan:
    """The run of a seed."""
    shape = FAST if fast else FULL
    rand = random.Random(f"faults/{seed}")
    kinds = list(KINDS)
    rand.shuffle(kinds)
    lengths = {kind: shape.outage if KINDS[kind].outage else shape.partial for kind in kinds}
    lengths["rush"] = shape.rush
    quiets = {kind: shape.quiet_after_outage if KINDS[kind].outage else shape.quiet for kind in kinds}
    # What is left of the time is spread over the quiet stretches.
    left = shape.total - shape.lead - sum(lengths.values()) - sum(quiets.values())
    assert left > 0, "the faults do not fit into the run"
    weights = [rand.random() for _ in kinds]
    now, faults = shape.lead, []
    for kind, weight in zip(kinds, weights, strict=True):
        faults.append(Fault(kind, round(now, 3), round(now + lengths[kind], 3)))
        now += lengths[kind] + quiets[kind] + left * weight / sum(weights)
    bare = Plan(seed, fast, tuple(faults), (), shape.total, shape.share, shape.patience)
    return replace(bare, arrivals=tuple(_arrivals(bare, shape.rate)))


def _arrivals(made: Plan, rate: float) -> list[float]:
    """Orders arrive independently of each other and of what becomes of them: a Poisson process."""
    rand = random.Random(f"arrivals/{made.seed}")
    times: list[float] = []
    now = 0.0
    while True:
        fault = made.at(now)
        now += rand.expovariate(RUSH_RATE if fault is not None and fault.kind == "rush" else rate)
        if now >= made.total:
            return times
        times.append(round(now, 4))
