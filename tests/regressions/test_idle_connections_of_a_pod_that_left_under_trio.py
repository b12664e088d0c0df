"""Under trio the idle connections of a pod that had left stayed open until the next use of a client, or for ever: they
were closed from a thread in which trio does not run, and refused."""

from __future__ import annotations

import threading

import pytest
import trio

import resilient.httpx
from resilient.http.pool import Connection
from resilient.testing import Origin
from tests.http.calls import PLAIN, wait_until_left


async def test_they_are_closed_from_another_thread(anyio_backend: str) -> None:
    with Origin() as origin:
        async with resilient.httpx.async_client("payments", base_url=origin.url, verify=PLAIN) as client:
            assert (await client.get("/")).status_code == 200
            (endpoint,) = client._transport.endpoints
            assert endpoint.exchange.pool.idle == 1
            retiring = threading.Thread(target=endpoint.exchange.retire)
            retiring.start()
            await trio.to_thread.run_sync(retiring.join)
            await trio.to_thread.run_sync(wait_until_left, origin)


def test_those_of_a_run_that_is_over_are_not_used_by_the_next() -> None:
    with Origin() as origin:
        client = resilient.httpx.async_client("payments", base_url=origin.url, verify=PLAIN)
        taken: list[Connection] = []

        async def call() -> None:
            assert (await client.get("/")).status_code == 200
            (endpoint,) = client._transport.endpoints
            taken.extend(endpoint.exchange.pool._idle)

        trio.run(call)
        trio.run(call)
        assert len(taken) == 2
        assert taken[0] is not taken[1]
        for connection in taken:
            connection.core._connection._network_stream._inner.get_extra_info("socket")._sock.close()


@pytest.fixture
def anyio_backend() -> str:
    return "trio"
