"""The caller: a process of its own that takes orders as they come and has each charged by `payments`.

The load is open: orders arrive by the schedule, however long the earlier ones take; and their time counts from
the planned arrival, so that nobody looks quick by being late."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

import httpx

import resilient
from resilient import Rejected

from . import columns, schedule
from .child import Inbox, tell
from .orders import FAILED, OK, REJECTED, UNFINISHED, Order
from .tally import Tally

_REQUESTS: ContextVar[list[None]] = ContextVar("requests")


class Checkout:
    """One column under load.

    Args:
        column: how payments is called.
        plan: when orders arrive.
        start: the moment at which the run starts, monotonic.
        tally: counts what the policies did.
    """

    def __init__(self, column: columns.Column, plan: schedule.Plan, start: float, tally: Tally) -> None:
        self.column = column
        self.plan = plan
        self.start = start
        self.tally = tally
        self._tasks: set[asyncio.Task[None]] = set()
        column.client.event_hooks = {"request": [self._count_requests]}

    def now(self) -> float:
        return time.monotonic() - self.start

    async def run(self) -> None:
        """All orders; every one is told as it is answered."""
        telling = asyncio.create_task(self._tell_tally())
        for number, arrival in enumerate(self.plan.arrivals):
            await asyncio.sleep(max(0.0, arrival - self.now()))
            self.tally.late(self.now() - arrival)
            task = asyncio.create_task(self._order(f"order-{number}", arrival, 100 + number % 9_900))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=self.plan.patience)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        telling.cancel()
        tell({"tally": self.tally.as_dict()})

    async def _order(self, name: str, arrived: float, cents: int) -> None:
        requests: list[None] = []
        _REQUESTS.set(requests)
        outcome, error, receipt = OK, "", ""
        try:
            receipt = await self.column.charge(name, cents)
        except Rejected as exc:
            outcome, error = REJECTED, type(exc).__name__
        except httpx.HTTPStatusError as exc:
            outcome, error = FAILED, str(exc.response.status_code)
        except Exception as exc:
            outcome, error = FAILED, type(exc).__name__
        except asyncio.CancelledError:
            outcome = UNFINISHED
        took = self.now() - arrived
        tell({"order": Order(name, arrived, round(took, 4), outcome, error, len(requests), receipt)})

    async def _count_requests(self, request: httpx.Request) -> None:
        """Have httpcore tell of each request that is sent, and of each connection that fails.

        All columns are counted so, below whatever repeats their requests."""
        requests = _REQUESTS.get()

        async def trace(event: str, info: dict[str, Any]) -> None:
            if event.endswith("send_request_headers.started"):
                requests.append(None)
                self.tally.sample()
            elif event.endswith("connect_tcp.failed"):
                requests.append(None)

        request.extensions["trace"] = trace

    async def _tell_tally(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            tell({"tally": self.tally.as_dict()})


async def main() -> None:
    inbox = Inbox()
    settings = await inbox.open()
    logging.getLogger("resilient").addHandler(logging.NullHandler())  # the scorecard tells it all
    column = columns.make(settings["column"], settings["url"], break_key=settings["break_key"])
    plan = schedule.plan(settings["seed"], fast=settings["fast"])
    tally = Tally()
    stop = resilient.subscribe(tally)
    try:
        async with column.client:
            await Checkout(column, plan, await inbox.start(), tally).run()
    finally:
        stop()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
