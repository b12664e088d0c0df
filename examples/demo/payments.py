"""The service: a process of its own that charges orders, and misbehaves as its script says.

An HTTP/1.1 server on a loopback socket, because no framework lets one reset a connection between the charge and
the answer. It honours ``Idempotency-Key``: the same key gets the same receipt, and no second charge."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from . import schedule
from .books import Books, KeyReused
from .child import Inbox

QUOTA, QUOTA_DEPTH = 90.0, 20.0
"""Requests per second that payments was tested for, and how many may come at once; more get a 429."""
WORK = 0.008
"""Seconds that a charge takes."""
SLOWER, DRIP = 0.2, 3.0
RETRY_AFTER = 1.0

Answer = tuple[int, dict[str, str], dict[str, Any]]
_REASONS = {201: "Created", 400: "Bad Request", 422: "Unprocessable Content", 429: "Too Many Requests"}


class Gone(Exception):
    """The connection is to be reset now."""


class Payments:
    """One process' service.

    Args:
        books: where charges are recorded.
        plan: the script.
        start: the moment at which the run starts, monotonic.
    """

    def __init__(self, books: Books, plan: schedule.Plan, start: float) -> None:
        self.books = books
        self.plan = plan
        self.start = start
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
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
        await self._listen(port)
        if self.now() < refuse.end:
            await self._until(refuse.start)
            await self.close()
            await self._until(refuse.end)
            await self._listen(port)
        await asyncio.get_running_loop().create_future()

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, backlog=1024)

    async def close(self) -> None:
        """Close the port and reset what is open."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            _reset(writer)
        if self._connections:
            await asyncio.wait(list(self._connections))  # they see that their callers are gone

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self.now()))

    # -------------------------------------------------------------------------------------------- connections
    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        used = False
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.split("\r\n")
                headers = {
                    k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                await self._request(lines[0], headers, body, reader, writer, used)
                used = True
        except Gone:
            _reset(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller is gone
        finally:
            del self._connections[task]
            writer.close()

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
            return await _send(writer, (400, {}, {"error": "write POST /charges with order and cents"}))
        self._requests[order] += 1
        fault = self.plan.at(self.now())
        kind = None if fault is None else fault.kind
        strikes = self.plan.strikes(order, self._requests[order])
        key = headers.get("idempotency-key")

        refusal = self._refusal(kind, order, strikes)
        if refusal is not None:
            return await _send(writer, refusal)
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
            return await _send(writer, answer, over=DRIP)
        await _send(writer, answer)

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


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell: the peer reads ECONNRESET."""
    sock = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it is closed already
    writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, answer: Answer, *, over: float = 0.0) -> None:
    """Send an answer; ``over`` so many seconds, byte by byte."""
    status, headers, content = answer
    body = json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Service Unavailable')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    if over:
        for i in range(len(body)):
            writer.write(body[i : i + 1])
            await writer.drain()
            await asyncio.sleep(over / len(body))
    else:
        writer.write(body)
    await writer.drain()


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
