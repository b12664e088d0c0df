"""Which endpoint a call takes: what that costs, and whether it grows with the endpoints.

A pick is the choice, entering and leaving. Endpoints have been measured before, as those of a running service have.
There is no peer: no library for Python chooses in process by load.

Ten endpoints lie in the processor's caches, 10,000 do not, and that is more than twice the time whoever chooses among
them. So what is compared is one of 10,000 with one of ten *of the same 10,000*, another ten each time: the memory is
the same, the rest is the algorithm's. In a service a request lies between two picks, and its caches are cold for ten
endpoints too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from time import process_time
from typing import Any

from benchmarks.measure import ARGUMENT, Contender, Outcome, Settings, Spread, race, spread
from resilient.balance.endpoint import Endpoint
from resilient.balance.endpoints import Endpoints
from resilient.balance.p2c import choose
from resilient.core.outcome import SUCCESS
from resilient.discovery.address import Address
from resilient.discovery.source import Static

FEW, MANY = 10, 10_000
NOW = 2.0


class Call:
    """What enters an endpoint."""

    endpoint: Any = None


def addresses(count: int, first: int = 0) -> list[Address]:
    return [Address(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 8080) for i in range(first, first + count)]


def endpoints(count: int) -> Endpoints[str]:
    made = Endpoints("bench", Static(addresses(count)), lambda _: ARGUMENT, retire=lambda _: None)
    for endpoint in made:
        endpoint.heard(None, SUCCESS, random.uniform(0.02, 0.04), NOW)
    return made


def picks(count: int) -> Callable[[int], float]:
    pick, call = endpoints(count).pick, Call()

    def run(calls: int) -> float:
        began = process_time()
        for _ in range(calls):
            pick((), NOW, call)
            call.endpoint.leave(call)
        return process_time() - began

    return run


def choices(sets: Sequence[Sequence[Endpoint[str]]]) -> Callable[[int], float]:
    """The choice alone, of one set after the other."""
    them, call = cycle(sets), Call()

    def run(calls: int) -> float:
        began = process_time()
        for some in islice(them, calls):
            chosen = choose(some, NOW)
            assert chosen is not None
            chosen.enter(call, NOW)
            chosen.leave(call)
        return process_time() - began

    return run


class Changing(Static):
    """A list that is replaced."""

    def set(self, new: list[Address]) -> None:
        self.addresses = tuple(new)


def diff(rounds: int) -> Spread:
    """Milliseconds in which one endpoint of a hundred is replaced by another, of MANY."""
    times: list[float] = []
    for _ in range(rounds):
        source = Changing(addresses(MANY))
        made = Endpoints("bench", source, lambda _: ARGUMENT, retire=lambda _: None)
        source.set([*addresses(MANY - MANY // 100, MANY // 100), *addresses(MANY // 100, MANY)])
        began = process_time()
        made.changed()
        times.append((process_time() - began) * 1e3)
    return spread(times)


def measure(settings: Settings) -> Outcome:
    does = "choose, enter, leave; of {}"
    many = endpoints(MANY)
    they = list(many)
    random.shuffle(they)  # in memory they lie in their order; a set of ten does not
    tens = [tuple(they[i : i + FEW]) for i in range(0, MANY, FEW)]
    contenders = [
        *(
            Contender(f"of {count:,}", does.format(f"{count:,}"), picks(count))
            for count in (2, FEW, 100, MANY)
        ),
        Contender("one set", "the choice alone; of 10,000", choices([tuple(they)])),
        Contender("sets of ten", "the choice alone; of ten of the same 10,000", choices(tens)),
    ]
    result = race(contenders, settings)
    few, all_of_them = result.seconds(f"of {FEW:,}"), result.seconds(f"of {MANY:,}")
    values = {
        "pick.time": Spread(few.median * 1e6, few.low * 1e6, few.high * 1e6),
        "pick.flat": result.ratio("one set", "sets of ten"),
        "pick.many": Spread(all_of_them.median * 1e6, all_of_them.low * 1e6, all_of_them.high * 1e6),
        "pick.diff": diff(max(3, settings.rounds // 3)),
    }
    return Outcome(values, {"pick": result})
