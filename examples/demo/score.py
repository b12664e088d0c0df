"""From what happened to a scorecard and verdicts. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from .books import Audit
from .orders import Order
from .schedule import GRACE, Plan

JUDGED = "resilient"
"""The column that decides the exit status."""
SERVED_AT_LEAST = 0.999
RECOVERED_WITHIN = 3.0
RETRY_BUDGET = 0.2
"""The share of retries that the budget of a `Retry` allows: what it sends at most, per order, is 1 more."""


class Recovery(NamedTuple):
    """How a column came back after a fault.

    Attributes:
        kind: of the fault.
        seconds: from the end of the fault to the end of the first whole second in which at most one of the
            orders that arrived failed; so never less than 1. None: there was none until the end of the run.
    """

    kind: str
    seconds: float | None


@dataclass(frozen=True)
class Card:
    """The scorecard of one column.

    Attributes:
        orders: that arrived.
        served: of those, answered 2xx within their deadline.
        late: answered 2xx, but after it.
        rejected: refused locally, at once.
        charged_twice: charges beyond the first of an order.
        uncharged: orders that were confirmed with a receipt that the books do not hold for them.
        unknown: orders that were charged and for which checkout has no receipt; whether a customer paid is not
            known to it.
        warned: of these, orders whose error said so, `OutcomeUnknown`, with the key to ask again by.
        outside, outside_served: orders that no outage touched, and those of them that were served.
        p50, p99: seconds to the answer of orders that were charged.
        told_p50, told_p99: seconds until a caller whose order was not charged knew it.
        requests_per_order: sent, or tried in vain.
        outage_requests_per_order: the same, of the orders that arrived in an outage.
        saved: orders that were served by more than one request.
        replays: requests that payments answered with a receipt given before.
        met: how many requests met each kind of fault, as far as they reached the process; ``quota``: were one
            too many for payments.
        recoveries: in the order of the faults.
        tally: what the policies did; empty for the baselines.
        lag_p99: seconds by which orders were begun late; large on a machine that is too busy.
    """

    name: str
    orders: int
    served: int
    late: int
    rejected: int
    charged_twice: int
    uncharged: int
    unknown: int
    warned: int
    outside: int
    outside_served: int
    p50: float | None
    p99: float | None
    told_p50: float | None
    told_p99: float | None
    requests_per_order: float
    outage_requests_per_order: float
    saved: int
    replays: int
    met: dict[str, int]
    recoveries: tuple[Recovery, ...]
    tally: dict[str, Any] = field(default_factory=dict)
    lag_p99: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "recoveries": [each._asdict() for each in self.recoveries]}


class Verdict(NamedTuple):
    """One judged rule: whether it holds, and what was found."""

    rule: str
    passed: bool
    found: str


def score(name: str, plan: Plan, orders: Sequence[Order], audit: Audit, tally: dict[str, Any]) -> Card:
    """The scorecard of a column."""
    charged = [order for order in orders if order.receipt]
    outside = [order for order in orders if not touched(order, plan)]
    in_outage = [order for order in orders if any(f.start <= order.arrived < f.end for f in plan.outages)]
    told = [order.took for order in orders if not order.receipt]
    return Card(
        name=name,
        orders=len(orders),
        served=_count(order.served(plan.deadline) for order in orders),
        late=_count(not order.served(plan.deadline) for order in charged),
        rejected=_count(order.outcome == "rejected" for order in orders),
        charged_twice=audit.doubles,
        uncharged=_count(order.receipt not in audit.charges.get(order.id, ()) for order in charged),
        unknown=_count(not order.receipt and order.id in audit.charges for order in orders),
        warned=_count(
            order.error == "OutcomeUnknown" and order.id in audit.charges and not order.receipt
            for order in orders
        ),
        outside=len(outside),
        outside_served=_count(order.served(plan.deadline) for order in outside),
        p50=percentile([order.took for order in charged], 0.50),
        p99=percentile([order.took for order in charged], 0.99),
        told_p50=percentile(told, 0.50),
        told_p99=percentile(told, 0.99),
        requests_per_order=_mean([order.requests for order in orders]),
        outage_requests_per_order=_mean([order.requests for order in in_outage]),
        saved=_count(order.served(plan.deadline) and order.requests > 1 for order in orders),
        replays=audit.replays,
        met=audit.faults,
        recoveries=tuple(Recovery(fault.kind, recovery(fault.end, plan, orders)) for fault in plan.faults),
        tally=tally if name == JUDGED else {},
        lag_p99=tally.get("lag_p99", 0.0),
    )


def touched(order: Order, plan: Plan) -> bool:
    """Whether an outage touched the order: it arrived in one or within 3 s after it, or was waiting for its
    answer, still in time, when one began."""
    until = order.arrived + min(order.took, plan.deadline)
    return any(order.arrived < outage.end + GRACE and outage.start <= until for outage in plan.outages)


def recovery(end: float, plan: Plan, orders: Sequence[Order]) -> float | None:
    """Seconds from the end of a fault until a whole second of arrivals with at most one failure was over."""
    after = [order for order in orders if order.arrived >= end]
    failed = sorted(order.arrived for order in after if not order.served(plan.deadline))
    served = [order.arrived for order in after if order.served(plan.deadline)]
    # Such a second begins at the end of the fault, or just after a failure; between those nothing changes.
    candidates = [(end, failed), *((at, failed[i + 1 :]) for i, at in enumerate(failed))]
    for start, failures in candidates:
        if start + 1.0 > plan.total:
            return None
        crowded = len(failures) > 1 and failures[1] < start + 1.0
        if not crowded and any(start <= at < start + 1.0 for at in served):
            return round(start + 1.0 - end, 2)
    return None


def judge(card: Card, *, fast: bool) -> list[Verdict]:
    """The rules that the exit status depends on; the short form is judged by its counts alone."""
    budget = 1.0 + RETRY_BUDGET
    verdicts = [
        Verdict("no double charge", card.charged_twice == 0, str(card.charged_twice)),
        Verdict("no confirmed order without its charge", card.uncharged == 0, str(card.uncharged)),
        Verdict(
            f"requests per order within the budget of {budget:g}",
            0 < card.requests_per_order <= budget,
            f"{card.requests_per_order:.2f}",
        ),
    ]
    if fast:
        return verdicts
    share = card.outside_served / card.outside if card.outside else 0.0
    slowest = max(card.recoveries, key=lambda each: math.inf if each.seconds is None else each.seconds)
    recovered = slowest.seconds is not None and slowest.seconds <= RECOVERED_WITHIN
    return [
        *verdicts,
        Verdict(
            f"outside outages {SERVED_AT_LEAST:.1%} of orders served in time",
            share >= SERVED_AT_LEAST,
            f"{card.outside_served} of {card.outside}, {share:.2%}",
        ),
        Verdict(
            f"recovered within {RECOVERED_WITHIN:g} s of every fault",
            recovered,
            f"{'not at all' if slowest.seconds is None else f'{slowest.seconds:.1f} s'} after {slowest.kind}",
        ),
    ]


def percentile(values: Sequence[float], q: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _count(holds: Iterable[bool]) -> int:
    return sum(1 for each in holds if each)
