"""One replica of a service: a process of its own, that does its work until it is told to misbehave.

`payments` charges into books that all replicas share, and honours idempotency keys; `recommendations` gives a list."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..books import Books, KeyReused
from ..child import Inbox, tell
from ..serving import Answer, Server, send

WORK = 0.005
"""Seconds that a request takes."""
SLOW = 2.0


class Replica(Server):
    """A replica of either service.

    Args:
        books: where charges are recorded; None for recommendations.

    Attributes:
        mode: ``"well"``, ``"sick"`` or ``"slow"``.
        requests: that it received.
        peak: the most of them within one second.
    """

    def __init__(self, books: Books | None) -> None:
        super().__init__()
        self.books = books
        self.mode = "well"
        self.requests = 0
        self.peak = 0
        self._last_second: deque[float] = deque()

    async def _request(
        self,
        line: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        used: bool,
    ) -> None:
        self._count()
        if self.mode == "sick":
            return await send(writer, (500, {}, {"error": "out of order"}))
        await asyncio.sleep(SLOW if self.mode == "slow" else WORK)
        await send(writer, self._answer(headers, body))

    def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        self.requests += 1
        recent = self._last_second
        recent.append(now)
        while recent[0] <= now - 1.0:
            recent.popleft()
        self.peak = max(self.peak, len(recent))

    def _answer(self, headers: dict[str, str], body: bytes) -> Answer:
        if self.books is None:
            return 200, {}, {"items": ["a book", "a lamp"]}
        posted = json.loads(body)
        try:
            receipt, replayed = self.books.charge(
                uuid4().hex, posted["order"], posted["cents"], headers.get("idempotency-key")
            )
        except KeyReused:
            return 422, {}, {"error": "this key was used for another order"}
        return 201, {"Idempotent-Replayed": "true"} if replayed else {}, {"receipt": receipt}

    async def tell_counts(self) -> None:
        """What it received so far, ten times a second."""
        while True:
            await asyncio.sleep(0.1)
            tell({"requests": self.requests, "peak": self.peak})


async def main() -> None:
    inbox = Inbox()
    settings: dict[str, Any] = await inbox.open()
    path = settings["books"]
    books = None if path is None else Books(Path(path))
    replica = Replica(books)
    await replica.listen(settings["port"], settings["host"])
    await inbox.ready()
    telling = asyncio.create_task(replica.tell_counts())
    try:
        async for message in inbox.messages():
            replica.mode = message["mode"]
    finally:
        telling.cancel()
        if books is not None:
            books.close()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
