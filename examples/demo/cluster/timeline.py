"""What happens when in the second act: replicas that come, fail and go, and what the operator does. Pure.

It is the same in every run but for the arrivals of orders, which come from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

SCALE_UP, KILL, GONE, SICK, WELL = "scale-up", "kill", "gone", "sick", "well"
SLOW, QUICK = "slow", "quick"
DEGRADE, RESTORE, FORCE, RELEASE = "degrade", "restore", "force", "release"
BREAK, PROTECTED, RATE = "break", "protected", "rate"

SAYS = {
    SCALE_UP: "a fourth replica of payments starts, and is in DNS",
    KILL: "a replica of payments dies by SIGKILL; DNS still has it",
    GONE: "the dead replica is gone from DNS",
    SICK: "a replica of payments answers 500 to everything, at once",
    WELL: "it is well again",
    SLOW: "recommendations take two seconds to answer",
    QUICK: "recommendations are quick again",
    DEGRADE: "the operator raises the level: recommendations are off",
    RESTORE: "the operator lowers the level again",
    FORCE: "the operator forces the breaker of recommendations open",
    RELEASE: "the operator lets it go",
    BREAK: "somebody ships a broken file",
    PROTECTED: "somebody tries to degrade payments, which are protected",
    RATE: "the operator lowers the rate of payments, as many more orders come",
}


class Step(NamedTuple):
    """One thing that happens, in seconds from the start of the run."""

    at: float
    what: str


STEPS = {
    SCALE_UP: (3.0, 0.5),
    KILL: (9.0, 1.5),
    GONE: (12.0, 2.0),
    SICK: (14.0, 2.5),
    WELL: (20.0, 3.5),
    SLOW: (21.5, 4.0),
    QUICK: (25.0, 5.0),
    DEGRADE: (27.0, 5.2),
    BREAK: (31.0, 6.8),
    PROTECTED: (33.0, 8.4),
    RESTORE: (35.0, 10.0),
    FORCE: (39.0, 11.6),
    RELEASE: (42.5, 13.2),
    RATE: (44.5, 13.3),
}
"""When each thing happens, in the full and in the short form. A mounted file is looked at once a second."""
SPIKE = (47.0, 50.0), (14.5, 15.0)
"""When many more orders come than payments was tested for."""
TOTAL = (53.0, 15.5)

ORDERS, SPIKE_ORDERS = 40.0, 160.0
"""Orders per second, and in the spike."""
TESTED = 50
"""Requests per second that one replica of payments was tested for."""
REPLICAS, RECOMMENDERS = 3, 2
FIRST_RATE, LOWER_RATE, BURST = 90, 60, 10
"""Requests per second to payments as a whole, before and after the operator lowers it; and how many at once."""
DEADLINE = 2.0
PATIENCE = 3.0


@dataclass(frozen=True)
class Timeline:
    """A run.

    Attributes:
        seed: what the arrivals were made of.
        fast: whether it is the short form.
        steps: in order.
        spike: when it begins and ends.
        total: seconds until the last order arrives.
        arrivals: when orders arrive.
    """

    seed: int
    fast: bool
    steps: tuple[Step, ...]
    spike: tuple[float, float]
    total: float
    arrivals: tuple[float, ...]

    def at(self, what: str, /) -> float:
        """When something happens."""
        return next(step.at for step in self.steps if step.what == what)

    def in_spike(self, moment: float, /) -> bool:
        """Whether a moment lies in the spike."""
        return self.spike[0] <= moment < self.spike[1]


def timeline(seed: int, *, fast: bool = False) -> Timeline:
    """The run of a seed."""
    form = int(fast)
    steps = tuple(Step(times[form], what) for what, times in STEPS.items())
    spike, total = SPIKE[form], TOTAL[form]
    rand = random.Random(f"cluster/{seed}")
    arrivals: list[float] = []
    now = 0.0
    while True:
        now += rand.expovariate(SPIKE_ORDERS if spike[0] <= now < spike[1] else ORDERS)
        if now >= total:
            return Timeline(seed, fast, steps, spike, total, tuple(arrivals))
        arrivals.append(round(now, 4))
