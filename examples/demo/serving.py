"""An HTTP/1.1 server on a loopback socket: no framework lets one reset a connection between the work and the answer."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

Answer = tuple[int, dict[str, str], dict[str, Any]]
"""Status, further headers, content."""
_REASONS = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


class Gone(Exception):
    """The connection is to be reset now."""


class Server:
    """A server that its subclass has answer requests."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def listen(self, port: int, host: str = "127.0.0.1") -> None:
        """Open the port."""
        self._server = await asyncio.start_server(self._connected, host, port, backlog=1024)

    async def close(self) -> None:
        """Close the port and reset what is open."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            _reset(writer)
        if self._connections:
            await asyncio.wait(list(self._connections))  # they see that their callers are gone

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
        """Answer one request, by `send`, or raise `Gone`; ``used``: it is not the first on its connection."""
        raise NotImplementedError


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a farewell: the peer reads ECONNRESET."""
    sock = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it is closed already
    writer.transport.abort()


async def send(writer: asyncio.StreamWriter, answer: Answer, *, over: float = 0.0) -> None:
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
