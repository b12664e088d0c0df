"""What is seen: the columns while they run, and the scorecard after it."""

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

from .columns import TITLES
from .runner import Lane
from .schedule import KINDS, Plan
from .score import JUDGED, RECOVERED_WITHIN, Card, Verdict

_GOOD, _BAD, _DIM = "green", "bold red", "dim"
_TITLE: Any = {"title_justify": "left", "title_style": "bold"}


def _table(title: str | None = None) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, **_TITLE)
    table.add_column("", min_width=27, no_wrap=True)
    for above in TITLES.values():
        table.add_column(above, justify="right", min_width=13, no_wrap=True)
    return table


# -------------------------------------------------------------------------------------------- while it runs
class Screen:
    """The live table."""

    def __init__(self, console: Console) -> None:
        self.console = console

    async def watch(self, plan: Plan, lanes: dict[str, Lane]) -> None:
        """Draw the columns four times a second, until cancelled."""
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._draw(plan, lanes), refresh=True)
                await asyncio.sleep(0.25)

    def _draw(self, plan: Plan, lanes: dict[str, Lane]) -> RenderableType:
        start = next(iter(lanes.values())).start or time.monotonic()
        now = time.monotonic() - start
        fault = plan.at(now)
        if now > plan.total:
            line = Text("no more orders; waiting for the last answers", style=_DIM)
        elif fault is None:
            line = Text("payments is well", style=_GOOD)
        else:
            line = Text.assemble(
                (fault.kind, _BAD if fault.outage else "yellow"), f": {KINDS[fault.kind].what}"
            )
        table = _table()
        each = list(lanes.values())
        due = sum(1 for arrival in plan.arrivals if arrival <= now)
        table.add_row("orders arrived", *(str(due) for _ in each))
        table.add_row(
            "served in time", *(str(sum(o.served(plan.deadline) for o in lane.orders)) for lane in each)
        )
        table.add_row("not served", *(_not_served(lane, plan) for lane in each))
        table.add_row("waiting for an answer", *(str(max(0, due - len(lane.orders))) for lane in each))
        table.add_row("double charges", *(_sign(lane.charged_twice) for lane in each))
        table.add_row("requests per order", *(_ratio(lane) for lane in each))
        table.add_row("circuit breaker", *(_breaker(lane) for lane in each))
        head = Table.grid(padding=(0, 1))
        done = min(max(now, 0.0), plan.total)
        head.add_row(ProgressBar(total=plan.total, completed=done, width=40), f"{plan.total - done:3.0f} s")
        line.no_wrap, line.overflow = True, "ellipsis"  # lines that come and go would make the table jump
        return Group(head, line, table)


def _not_served(lane: Lane, plan: Plan) -> str:
    return str(sum(not order.served(plan.deadline) for order in lane.orders))


def _ratio(lane: Lane) -> str:
    return f"{sum(order.requests for order in lane.orders) / len(lane.orders):.2f}" if lane.orders else "–"


def _breaker(lane: Lane) -> Text:
    state = lane.tally.get("breaker", "closed") if lane.name == JUDGED else "–"
    return Text(state.replace("_", "-"), style={"closed": _GOOD, "open": _BAD}.get(state, _DIM))


def _sign(count: int) -> Text:
    return Text(str(count), style=_BAD if count else _GOOD)


# ------------------------------------------------------------------------------------------------ after it
def scorecard(plan: Plan, cards: dict[str, Card], verdicts: list[Verdict]) -> RenderableType:
    """The scorecard: what became of the orders, how soon each fault was over, what did it, and the verdicts.

    The short form has no time to recover between its faults, so nothing is said of that."""
    parts: list[RenderableType] = [_main(plan, cards)]
    if not plan.fast:
        parts.append(_recoveries(cards))
    parts.append(_capabilities(cards[JUDGED]))
    for verdict in verdicts:
        mark = Text("PASS ", style=_GOOD) if verdict.passed else Text("FAIL ", style=_BAD)
        parts.append(Text.assemble(mark, f"{JUDGED}: {verdict.rule}: ", (verdict.found, "bold")))
    return Group(*parts)


def _main(plan: Plan, cards: dict[str, Card]) -> Table:
    each = [cards[name] for name in TITLES]
    table = _table(f"{each[0].orders} orders in {plan.total:g} s, faults of seed {plan.seed}")
    table.caption = "baseline: httpx with tenacity's retry; + key: the same with a key made by hand"
    table.caption_justify = "left"
    table.add_row("double charges", *(_sign(card.charged_twice) for card in each), style="bold")
    table.add_row("confirmed without a charge", *(_sign(card.uncharged) for card in each))
    table.add_row("orders served in time", *(_share(card.served, card.orders) for card in each))
    table.add_row("  outside outages", *(_share(card.outside_served, card.outside) for card in each))
    inside = [(card.served - card.outside_served, card.orders - card.outside) for card in each]
    table.add_row("  in them and 3 s after", *(_share(*parts) for parts in inside))
    table.add_row("  by more than one request", *(str(card.saved) for card in each))
    table.add_row("charged, but too late", *(str(card.late) for card in each))
    table.add_row("charged, but told a failure", *(str(card.unknown) for card in each))
    table.add_row("  and told it may be so", *(str(card.warned) for card in each))
    table.add_row("time to a charge, p50", *(_time(card.p50) for card in each))
    table.add_row("time to a charge, p99", *(_time(card.p99) for card in each))
    table.add_row("time to a no, p50", *(_time(card.told_p50) for card in each))
    table.add_row("time to a no, p99", *(_time(card.told_p99) for card in each))
    table.add_row("requests per order", *(f"{card.requests_per_order:.2f}" for card in each))
    table.add_row("  of orders in outages", *(f"{card.outage_requests_per_order:.2f}" for card in each))
    return table


def _recoveries(cards: dict[str, Card]) -> Table:
    table = _table("Seconds to recover; 1.0: at once")
    for rows in zip(*(cards[name].recoveries for name in TITLES), strict=True):
        kind = KINDS[rows[0].kind]
        label = f"{kind.name}, outage" if kind.outage else kind.name
        table.add_row(label, *(_recovered(row.seconds) for row in rows))
    return table


def _recovered(seconds: float | None) -> Text:
    if seconds is None:
        return Text("not at all", style=_BAD)
    return Text(f"{seconds:.1f}", style=_GOOD if seconds <= RECOVERED_WITHIN else _BAD)


def _capabilities(card: Card) -> Table:
    counts = card.tally.get("counts", {})

    def n(key: str) -> int:
        return int(counts.get(key, 0))

    table = Table(title="What each part of resilient did", box=SIMPLE_HEAD, show_header=False, **_TITLE)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("idempotency key", f"{card.replays} requests answered with the receipt of an earlier one")
    unsent = sum(count for key, count in counts.items() if key.startswith("rejected_"))
    resent = max(0, round(card.requests_per_order * card.orders) - (n("attempts") - unsent))
    table.add_row(
        "retry",
        f"{n('retries')} retries, {n('retries_after_asked')} of them when payments asked for (Retry-After); "
        f"{resent} more on a fresh connection, at once, for a kept one that broke",
    )
    table.add_row(
        "retry budget", f"{n('not_retried_budget')} retries not made, so as not to make an outage worse"
    )
    table.add_row(
        "circuit breaker",
        f"opened {n('breaker_open')} times, closed again {n('breaker_closed')} times; "
        f"kept {n('rejected_breaker')} attempts away",
    )
    longest = card.tally.get("longest_wait", 0.0)
    table.add_row(
        "rate limit",
        f"{n('waited_ratelimit')} attempts waited for their turn, {longest * 1000:.0f} ms at most",
    )
    peak = card.tally.get("peak_in_flight", 0)
    table.add_row("bulkhead", f"{peak} requests in flight at most; {n('rejected_bulkhead')} refused")
    table.add_row(
        "time-outs",
        f"{n('attempts_timed_out')} attempts cut off; {n('deadlines') + n('not_retried_deadline')} orders "
        "ended for want of time",
    )
    return table


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else "–"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
