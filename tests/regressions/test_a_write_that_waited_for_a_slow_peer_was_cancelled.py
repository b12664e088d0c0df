"""A request over HTTP/2 that was cancelled while the peer took no bytes cancelled the future that the next write on the
connection waited for: a request beside it ended with a CancelledError that nobody had sent."""

from __future__ import annotations

import asyncio
import socket

import httpcore
import pytest

from resilient.http.astreams import AsyncBackend

MUCH = b"x" * 8_000_000


@pytest.mark.parametrize("how", ["cancelled", "late"])
def test_the_next_write_goes_on(how: str) -> None:
    asyncio.run(_two_writes(how))


async def _two_writes(how: str) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = await AsyncBackend(httpcore, None).connect_tcp(*listener.getsockname())
        peer, _ = listener.accept()
        peer.setblocking(False)
        with peer:
            first = asyncio.create_task(stream.write(MUCH, 0.05 if how == "late" else None))
            await asyncio.sleep(0)
            if how == "cancelled":
                first.cancel()
            with pytest.raises((asyncio.CancelledError, httpcore.WriteTimeout)):
                await first
            second = asyncio.create_task(stream.write(b"y"))
            await asyncio.sleep(0)
            assert not second.done()
            came = 0
            while came < len(MUCH) + 1:
                came += len(await loop.sock_recv(peer, 1_000_000))
            await second
        stream.kill()
