"""From what happened in the second act to a scorecard and verdicts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..books import Audit
from ..orders import REJECTED
from ..score import Verdict, percentile
from . import timeline as tl
from .shop import Served
from .timeline import Timeline

ADMITTED_AT_LEAST = 0.999
REFUSED_WITHIN = 0.05
SHARE_WITHIN = 5.0
SICK_AT_MOST = 0.02
OPERATOR_WITHIN = 2.0
"""Seconds from the change of the mounted file until it holds: the kubelet's own delay is not in it."""
SHARE = 0.6
"""Of an even share, over two seconds: what a replica must have to count as taken up."""


class Counted(Protocol):
    """A pod, as far as it is counted."""

    name: str
    peak: int

    def between(self, start: float, end: float, /) -> int:
        """Requests that it received in a stretch of time."""


@dataclass(frozen=True)
class Card:
    """The scorecard of the second act; times in seconds.

    Attributes:
        orders: that arrived; ``refused`` of them locally, by the rate limit.
        in_time: of those that were not refused, charged within their deadline.
        refused_p99: until a refused caller knew it.
        charged_twice, uncharged: as in the first act.
        peak: the most requests that any replica of payments received within one second.
        received: by each replica of payments.
        share_after: from the record of the new replica until it had its share; None: never.
        sick_share: of all requests while a replica failed fast, those that it received.
        off_after: from the change of the level until no page had recommendations any more; None: never.
        live_after: from the change back until a page had them.
        stood_in: pages with a stand-in while recommendations were slow.
        forced_requests: that reached recommendations while their breaker was forced open.
        spike_rate: requests per second that payments received in the spike.
        pages: where all recommendations came from.
        allowed: orders for which the protected feature was on.
        documents: that were put in force, and that were refused.
    """

    orders: int
    refused: int
    in_time: int
    refused_p99: float | None
    charged_twice: int
    uncharged: int
    peak: int
    received: dict[str, int]
    share_after: float | None
    sick_share: float
    off_after: float | None
    live_after: float | None
    stood_in: int
    forced_requests: int
    spike_rate: float
    pages: dict[str, int]
    allowed: int
    documents: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def score(
    plan: Timeline,
    orders: Sequence[Served],
    pods: Sequence[Counted],
    recommenders: Sequence[Counted],
    audit: Audit,
    tally: dict[str, int],
) -> Card:
    """The scorecard."""
    at = plan.at
    refused = [order for order in orders if order.outcome == REJECTED]
    charged = [order for order in orders if order.receipt]

    def received(pods: Sequence[Counted], start: float, end: float) -> int:
        return sum(pod.between(start, end) for pod in pods)

    sick = (at(tl.SICK), at(tl.WELL))
    forced = (at(tl.FORCE) + OPERATOR_WITHIN, at(tl.RELEASE))
    slow = [order for order in orders if at(tl.SLOW) <= order.arrived < at(tl.QUICK)]
    return Card(
        orders=len(orders),
        refused=len(refused),
        in_time=sum(order.in_time for order in orders),
        refused_p99=percentile([order.took for order in refused], 0.99),
        charged_twice=audit.doubles,
        uncharged=sum(order.receipt not in audit.charges.get(order.id, ()) for order in charged),
        peak=max(pod.peak for pod in pods),
        received={pod.name: pod.between(0.0, plan.total + tl.PATIENCE) for pod in pods},
        share_after=share_after(plan, pods),
        sick_share=pods[1].between(*sick) / max(1, received(pods, *sick)),
        off_after=_lasted(orders, at(tl.DEGRADE), at(tl.RESTORE), lambda order: order.page != "off"),
        live_after=_lasted(orders, at(tl.RESTORE), at(tl.FORCE), lambda order: order.page == "off"),
        stood_in=sum(order.page == "stand-in" for order in slow),
        forced_requests=received(recommenders, *forced),
        spike_rate=received(pods, *plan.spike) / (plan.spike[1] - plan.spike[0]),
        pages=dict(Counter(order.page for order in orders)),
        allowed=sum(order.allowed for order in orders),
        documents=(tally.get("resilient.config.applied", 0), tally.get("resilient.config.rejected", 0)),
    )


def share_after(plan: Timeline, pods: Sequence[Counted]) -> float | None:
    """Seconds from the record of the newest pod until it had its share."""
    record, end = plan.at(tl.SCALE_UP), plan.at(tl.KILL)
    moment = record
    while moment + 2.0 <= end:
        total = sum(pod.between(moment, moment + 2.0) for pod in pods)
        if total and pods[-1].between(moment, moment + 2.0) >= SHARE * total / len(pods):
            return round(moment + 2.0 - record, 1)
        moment += 0.1
    return None


def _lasted(
    orders: Sequence[Served], start: float, end: float, holds: Callable[[Served], bool]
) -> float | None:
    """Seconds from ``start`` to the last order before ``end`` for which something still held; None: to the very end."""
    window = sorted(
        (order for order in orders if start <= order.arrived < end), key=lambda order: order.arrived
    )
    if not window or holds(window[-1]):
        return None
    return round(max((order.arrived - start for order in window if holds(order)), default=0.0), 2)


def judge(card: Card, *, fast: bool) -> list[Verdict]:
    """The rules that the exit status depends on; the short form is judged by its counts alone."""
    verdicts = [
        Verdict("no double charge", card.charged_twice == 0, str(card.charged_twice)),
        Verdict("no confirmed order without its charge", card.uncharged == 0, str(card.uncharged)),
        Verdict(
            "the protected feature never degrades",
            card.allowed == card.orders,
            f"{card.allowed} of {card.orders}",
        ),
        Verdict(
            "a broken file and one that degrades what is protected change nothing and are reported",
            card.documents[1] == 2,
            f"{card.documents[1]} refused",
        ),
    ]
    if fast:
        return verdicts
    admitted = card.orders - card.refused
    return [
        *verdicts,
        Verdict(
            f"{ADMITTED_AT_LEAST:.1%} of admitted orders charged in time, whatever a replica does",
            card.in_time >= ADMITTED_AT_LEAST * admitted,
            f"{card.in_time} of {admitted}",
        ),
        Verdict(
            f"no replica receives more than the {tl.TESTED}/s that it was tested for",
            card.peak <= tl.TESTED,
            f"{card.peak}/s",
        ),
        Verdict(
            f"refused orders are refused within {REFUSED_WITHIN * 1000:.0f} ms",
            card.refused > 0 and card.refused_p99 is not None and card.refused_p99 <= REFUSED_WITHIN,
            "none was refused" if card.refused_p99 is None else f"p99 {card.refused_p99 * 1000:.0f} ms",
        ),
        _within("a new replica has its share", SHARE_WITHIN, card.share_after),
        Verdict(
            f"a replica that fails fast gets at most {SICK_AT_MOST:.0%} of the traffic",
            card.sick_share <= SICK_AT_MOST,
            f"{card.sick_share:.1%}",
        ),
        Verdict("slow recommendations are stood in for", card.stood_in > 0, f"{card.stood_in} pages"),
        _within("the level holds", OPERATOR_WITHIN, card.off_after),
        _within("and is lifted", OPERATOR_WITHIN, card.live_after),
        Verdict(
            "a breaker that is forced open lets nothing through",
            card.forced_requests == 0,
            f"{card.forced_requests} requests",
        ),
        Verdict(
            f"the rate of {tl.LOWER_RATE}/s, set while it runs, holds in the spike",
            0 < card.spike_rate <= tl.LOWER_RATE + tl.BURST,
            f"{card.spike_rate:.0f}/s",
        ),
    ]


def _within(rule: str, seconds: float, found: float | None) -> Verdict:
    passed = found is not None and found <= seconds
    return Verdict(
        f"{rule} within {seconds:g} s", passed, "not at all" if found is None else f"{found:.1f} s"
    )
