"""The server of the HTTP benchmarks, in a process of its own: ``python -m benchmarks.server`` prints its port.

It does as little as HTTP allows, so that a client's costs are not lost in it. ``GET /item`` answers 200; ``GET /flaky``
answers 503 two times of three; ``GET /connections`` says how many connections were accepted since it was last asked. It
ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ITEM = b'{"sku": "4711", "name": "kettle", "cents": 2495, "stock": 12}'


def answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


OK = answer("200 OK", ITEM)
BUSY = answer("503 Service Unavailable", b"{}")


class Answers(asyncio.Protocol):
    """One connection. Requests have no body and come one after the other."""

    accepted = 0
    flaky = itertools.cycle([BUSY, BUSY, OK])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""
        Answers.accepted += 1

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            self.transport.write(self.answer_to(head.split(b" ", 2)[1]))

    def answer_to(self, path: bytes) -> bytes:
        if path == b"/flaky":
            return next(self.flaky)
        if path == b"/connections":
            accepted, Answers.accepted = Answers.accepted, 0
            return answer("200 OK", str(accepted).encode())
        return OK


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answers, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def running() -> Iterator[str]:
    """The server in another process; its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    asyncio.run(serve())
