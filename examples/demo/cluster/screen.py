"""What is seen of the second act: the replicas while it runs, and its scorecard."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..score import Verdict
from . import timeline as tl
from .card import Card
from .director import Cluster
from .timeline import Timeline

_GOOD, _BAD, _DIM = "green", "bold red", "dim"
_TITLE: Any = {"title_justify": "left", "title_style": "bold"}


class Screen:
    """The live table."""

    def __init__(self, console: Console) -> None:
        self.console = console

    async def watch(self, plan: Timeline, cluster: Cluster) -> None:
        """Draw the cluster four times a second, until cancelled."""
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._draw(plan, cluster), refresh=True)
                await asyncio.sleep(0.25)

    def _draw(self, plan: Timeline, cluster: Cluster) -> RenderableType:
        now = time.monotonic() - cluster.start if cluster.start else 0.0
        spike = plan.in_spike(now)
        line = Text(
            f"{tl.SPIKE_ORDERS:g} orders per second arrive" if spike else cluster.happened or "all is well"
        )
        line.no_wrap, line.overflow = True, "ellipsis"
        head = Table.grid(padding=(0, 1))
        done = min(max(now, 0.0), plan.total)
        head.add_row(ProgressBar(total=plan.total, completed=done, width=40), f"{plan.total - done:3.0f} s")
        table = Table(box=SIMPLE_HEAD)
        table.add_column("", min_width=27, no_wrap=True)
        table.add_column("last second", justify="right")
        table.add_column("in all", justify="right")
        for pod in (*cluster.pods, *cluster.recommenders):
            total = pod.counts[-1][1] if pod.counts else 0
            table.add_row(f"{pod.name} {pod.address}", str(pod.between(now - 1.0, now)), str(total))
        recent = [order for order in cluster.orders if order.arrived >= now - 1.5]
        table.add_row(
            "orders charged", str(sum(o.in_time for o in recent)), str(sum(o.in_time for o in cluster.orders))
        )
        pages = ", ".join(sorted({order.page for order in recent}))
        return Group(head, line, table, Text(f"recommendations: {pages or '–'}", style=_DIM))


def scorecard(plan: Timeline, card: Card, verdicts: list[Verdict]) -> RenderableType:
    """The scorecard: what each replica got, what the operator's changes did, and the verdicts."""
    table = Table(
        title=f"Through a cluster: {card.orders} orders in {plan.total:g} s, seed {plan.seed}",
        box=SIMPLE_HEAD,
        show_header=False,
        **_TITLE,
    )
    table.add_column(no_wrap=True, min_width=27)
    table.add_column()
    table.add_row(
        "orders charged in time", f"{card.in_time} of {card.orders}; {card.refused} refused by the rate limit"
    )
    received = ", ".join(f"{count}" for count in card.received.values())
    table.add_row("discovery, balancing", f"requests to payments-0 to -{len(card.received) - 1}: {received}")
    table.add_row("", f"at most {card.peak} in one second; a failing one got {card.sick_share:.1%}")
    pages = ", ".join(f"{count} {page}" for page, count in sorted(card.pages.items()))
    table.add_row("degradation, fallback", f"recommendations: {pages}")
    applied, refused = card.documents
    table.add_row("config center", f"{applied} documents put in force, {refused} refused")
    parts: list[RenderableType] = [table]
    for verdict in verdicts:
        mark = Text("PASS ", style=_GOOD) if verdict.passed else Text("FAIL ", style=_BAD)
        parts.append(Text.assemble(mark, f"{verdict.rule}: ", (verdict.found, "bold")))
    return Group(*parts)
