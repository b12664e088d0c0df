"""The service: a process of its own that charges orders, and misbehaves as its script says.

It honours ``Idempotency-Key``: the same key gets the same receipt, and no second charge."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from . import schedule
from .books import Books, KeyReused
from .child import Inbox
from .serving import Answer, Gone, Server, send

QUOTA, QUOTA_DEPTH = 90.0, 20.0
"""Requests per second that payments was tested for, and how many may come at once; more get a 429."""
WORK = 0.008
"""Seconds that a charge takes."""
SLOWER, DRIP = 0.2, 3.0
RETRY_AFTER = 1.0


class Payments(Server):
    """One process' service.

    Args:
        books: where charges are recorded.
        plan: the script.
        start: the moment at which the run starts, monotonic.
    """

    def __init__(self, books: Books, plan: schedule.Plan, start: float) -> None:
        super().__init__()
        self.books = books
        self.plan = plan
        self.start = start
        self._requests: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        self._tokens, self._filled = QUOTA_DEPTH, 0.0

    def now(self) -> float:
        return time.monotonic() - self.start

    async def serve(self, port: int) -> None:
        """Listen, and close the port while the script says so, until the end of the process."""
        kill = next(fault for fault in self.plan.faults if fault.kind == "kill")
        if kill.start <= self.now() < kill.end:  # this process stands in for the one that was killed
            await self._until(kill.end)
        refuse = next(fault for fault in self.plan.faults if fault.kind == "refuse")
        await self.listen(port)
        if self.now() < refuse.end:
            await self._until(refuse.start)
            await self.close()
            await self._until(refuse.end)
            await self.listen(port)
        await asyncio.get_running_loop().create_future()

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self.now()))

    async def _request(
        self,
        line: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        used: bool,
    ) -> None:
        try:
            posted = json.loads(body)
            order, cents = str(posted["order"]), int(posted["cents"])
        except (ValueError, KeyError, TypeError):
            return await send(writer, (400, {}, {"error": "write POST /charges with order and cents"}))
        self._requests[order] += 1
        fault = self.plan.at(self.now())
        kind = None if fault is None else fault.kind
        strikes = self.plan.strikes(order, self._requests[order])
        key = headers.get("idempotency-key")

        refusal = self._refusal(kind, order, strikes)
        if refusal is not None:
            return await send(writer, refusal)
        if kind == "hang":
            self.books.fault("hang")
            if self.plan.fate(order, self._requests[order]) < 0.5:
                self._charge(order, cents, key)
            await reader.read()  # until the caller has had enough
            raise Gone
        if (kind == "reset-before" and strikes) or (kind == "stale" and strikes and used):
            self.books.fault(kind)
            raise Gone
        await asyncio.sleep(WORK + (SLOWER if kind == "slow" else 0.0))
        if kind == "slow":
            self.books.fault("slow")
        answer = self._charge(order, cents, key)
        if kind == "reset-after" and strikes:
            self.books.fault("reset-after")
            raise Gone
        if kind == "drip" and strikes:
            self.books.fault("drip")
            return await send(writer, answer, over=DRIP)
        await send(writer, answer)

    def _refusal(self, kind: str | None, order: str, strikes: bool) -> Answer | None:
        """A 503 or 429, where the script has one for this request, or the quota is used up."""
        now = self.now()
        if kind == "unavailable":
            self.books.fault(kind)
            return _later(503, RETRY_AFTER)
        left = self._not_before.get(order, 0.0) - now
        if left > 0:  # it came back too early
            return _later(429, left)
        if kind in ("overloaded", "throttled") and strikes and order not in self._not_before:
            self.books.fault(kind)
            self._not_before[order] = now + RETRY_AFTER
            return _later(503 if kind == "overloaded" else 429, RETRY_AFTER)
        self._tokens = min(QUOTA_DEPTH, self._tokens + (now - self._filled) * QUOTA)
        self._filled = now
        if self._tokens < 1:
            self.books.fault("quota")
            return _later(429, RETRY_AFTER)
        self._tokens -= 1
        return None

    def _charge(self, order: str, cents: int, key: str | None) -> Answer:
        try:
            receipt, replayed = self.books.charge(uuid4().hex, order, cents, key)
        except KeyReused:
            return 422, {}, {"error": "this key was used for another order"}
        return 201, {"Idempotent-Replayed": "true"} if replayed else {}, {"receipt": receipt}


def _later(status: int, seconds: float) -> Answer:
    return status, {"Retry-After": str(max(1, round(seconds)))}, {"error": "come back later"}


async def main() -> None:
    inbox = Inbox()
    settings = await inbox.open()
    with closing(Books(Path(settings["books"]))) as books:
        plan = schedule.plan(settings["seed"], fast=settings["fast"])
        payments = Payments(books, plan, await inbox.start())
        await payments.serve(settings["port"])


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
