"""A caller's own deadline, and a process without descriptors, counted as pods at which nobody listens: they emptied a
set that was fading, for every caller."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import resilient.httpx
from resilient import Pipeline, Retry, deadline
from resilient.discovery.address import Address
from resilient.http.attempt import unreachable
from resilient.testing import ManualClock
from tests.http.calls import PLAIN, Caller, both


def listen(client: Any) -> list[Address]:
    """What the endpoints tell their source, as it comes."""
    told: list[Address] = []
    client._transport.endpoints.source.connect_failed = told.append
    return told


@pytest.fixture
def silent() -> Iterator[list[str]]:
    """Two pods whose network drops what is sent to them: nobody takes connections out of full queues."""
    held: list[socket.socket] = []
    places = []
    for _ in range(2):
        server = socket.create_server(("127.0.0.1", 0), backlog=0)
        held.append(server)
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            held.append(filler)
        places.append(f"127.0.0.1:{server.getsockname()[1]}")
    try:
        yield places
    finally:
        for sock in held:
            sock.close()


def fails(mode: str, places: list[str], **given: Any) -> list[Address]:
    """One call, in real time; what it tells of connects that failed."""
    policies = Pipeline(Retry(1), name="payments")

    def make(kind: Any) -> Any:
        return kind("payments", base_url="http://payments", endpoints=places, policies=policies, verify=PLAIN)

    if mode == "sync":
        with make(resilient.httpx.client) as client:
            told = listen(client)
            with pytest.raises(httpx.TimeoutException):
                client.post("/", **given)
        return told

    async def main() -> list[Address]:
        async with make(resilient.httpx.async_client) as client:
            told = listen(client)
            with pytest.raises(httpx.TimeoutException):
                await client.post("/", **given)
        return told

    return asyncio.run(main())


@both
def test_the_callers_deadline(mode: str, silent: list[str]) -> None:
    with deadline(0.05):
        assert fails(mode, silent) == []
    assert fails(mode, silent, timeout=httpx.Timeout(5.0, connect=0.05)), "its own time-out does tell"


@pytest.mark.parametrize(
    ("number", "counts"),
    [
        (errno.ECONNREFUSED, True),
        (errno.EHOSTUNREACH, True),
        (errno.ENETUNREACH, True),
        (errno.ETIMEDOUT, True),
        (errno.ECONNRESET, True),
        (errno.EMFILE, False),
        (errno.ENFILE, False),
        (errno.ENOBUFS, False),
        (errno.EADDRNOTAVAIL, False),
    ],
)
@both
def test_what_the_system_says(
    mode: str, number: int, counts: bool, monkeypatch: pytest.MonkeyPatch, manual_clock: ManualClock
) -> None:
    places = ["127.0.0.1:1", "127.0.0.1:2"]
    with Caller(mode, "http://payments", manual_clock, endpoints=places) as caller:
        told = listen(caller.client)

        def fails(*_: object, **__: object) -> Any:
            raise OSError(number, "no")

        monkeypatch.setattr(socket.socket, "connect", fails)
        monkeypatch.setattr(socket, "create_connection", fails)
        exc = caller.fails("POST")
    assert isinstance(exc, httpx.ConnectError if number != errno.ETIMEDOUT else httpx.ConnectTimeout)
    assert unreachable(exc) is counts
    assert bool(told) is counts
