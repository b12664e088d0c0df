"""The caller of the second act: a process that takes orders as they come, charges them, and shows recommendations."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from typing import Any, NamedTuple

import httpx

import resilient
from resilient import Dns, Event, Rejected, features

from ..child import Inbox, tell
from ..orders import FAILED, OK, REJECTED, UNFINISHED
from . import policies
from .timeline import DEADLINE, PATIENCE, Timeline, timeline


class Served(NamedTuple):
    """What became of one order.

    Attributes:
        id: of the order.
        arrived, took: seconds from the start of the run, and from its arrival to the answer.
        outcome, error: as in the first act.
        receipt: what payments answered with.
        page: where its recommendations came from: ``live``, ``stand-in``, ``off``, or an error's name.
        allowed: whether the protected feature was on.
    """

    id: str
    arrived: float
    took: float
    outcome: str
    error: str
    receipt: str
    page: str
    allowed: bool

    @property
    def in_time(self) -> bool:
        """Whether it was charged within its deadline."""
        return self.outcome == OK and self.took <= DEADLINE


class Shop:
    """The load on both services.

    Args:
        payments, recommendations: clients.
        plan: when orders arrive.
        start: the moment at which the run starts, monotonic.
    """

    def __init__(
        self, payments: httpx.AsyncClient, recommendations: httpx.AsyncClient, plan: Timeline, start: float
    ) -> None:
        self.payments = payments
        self.recommendations = recommendations
        self.plan = plan
        self.start = start
        self._tasks: set[asyncio.Task[None]] = set()

    def now(self) -> float:
        return time.monotonic() - self.start

    async def run(self) -> None:
        """All orders."""
        for number, arrival in enumerate(self.plan.arrivals):
            await asyncio.sleep(max(0.0, arrival - self.now()))
            task = asyncio.create_task(self._order(f"order-{number}", arrival, 100 + number % 9_900))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=PATIENCE)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _order(self, name: str, arrived: float, cents: int) -> None:
        outcome, error, receipt, page = OK, "", "", ""
        began = self.now()
        allowed = features.enabled("payment", default=True)
        try:
            receipt = await policies.charge(self.payments, name, cents)
        except Rejected as exc:
            outcome, error = REJECTED, type(exc).__name__
        except httpx.HTTPStatusError as exc:
            outcome, error = FAILED, str(exc.response.status_code)
        except Exception as exc:
            outcome, error = FAILED, type(exc).__name__
        except asyncio.CancelledError:
            outcome = UNFINISHED
        # From when it was begun: how late a busy machine begins an order says nothing of who refuses it.
        took = self.now() - (began if outcome == REJECTED else arrived)
        try:
            page = await policies.recommended(self.recommendations)
        except Exception as exc:
            page = type(exc).__name__
        except asyncio.CancelledError:
            page = UNFINISHED
        tell({"order": Served(name, arrived, round(took, 4), outcome, error, receipt, page, allowed)})


class Tally:
    """Counts events, and keeps what was said of the document."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        self.counts[event.name] += 1

    def as_dict(self) -> dict[str, Any]:
        return dict(self.counts)


async def main() -> None:
    inbox = Inbox()
    settings = await inbox.open()
    logging.getLogger("resilient").addHandler(logging.NullHandler())  # the scorecard tells it all
    resilient.configure(settings["config"], dns=Dns(nameservers=(settings["nameserver"],), namespace="shop"))
    tally = Tally()
    stop = resilient.subscribe(tally)
    plan = timeline(settings["seed"], fast=settings["fast"])
    try:
        async with policies.payments() as payments, policies.recommendations() as recommendations:
            await Shop(payments, recommendations, plan, await inbox.start()).run()
    finally:
        stop()
        tell({"tally": tally.as_dict()})


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
