"""One call to a dead Service of 2,000 pods dialled each of them, in 9 s of CPU."""

from __future__ import annotations

import socket

import httpx
import pytest

import resilient.httpx
from resilient import Pipeline, Retry
from resilient.http.steps import MOST_TRIED
from resilient.testing import ManualClock, Origin
from tests.http.calls import Caller, both


def refusing(count: int) -> tuple[list[socket.socket], list[str]]:
    """Addresses at which nobody listens, held so that nobody will."""
    held = []
    for _ in range(count):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        held.append(sock)
    return held, [f"127.0.0.1:{sock.getsockname()[1]}" for sock in held]


@both
@pytest.mark.parametrize("attempts", [1, 3])
def test_ten_of_them_are_enough(mode: str, attempts: int, manual_clock: ManualClock) -> None:
    held, places = refusing(40)
    policies = Pipeline(Retry(attempts, wait=0), name="svc", clock=manual_clock)
    with Caller(mode, "http://payments", manual_clock, endpoints=places, policies=policies) as caller:
        exc = caller.fails("POST")
        dialled = sum(each.exchange.pool.opened for each in caller.transport.endpoints)
        tried = sum(each.exchange.pool.opened > 0 for each in caller.transport.endpoints)
    assert isinstance(exc, httpx.ConnectError)
    assert dialled == tried == MOST_TRIED + attempts - 1, "a retry goes to another one still"
    for sock in held:
        sock.close()


def test_one_that_is_well_among_nine_that_are_not() -> None:
    held, places = refusing(MOST_TRIED - 1)
    with Origin() as origin:
        places.append(f"127.0.0.1:{origin.port}")
        with resilient.httpx.client(
            "payments", base_url="http://payments", endpoints=places, policies=Retry(1)
        ) as client:
            for _ in range(20):
                assert client.post("/").status_code == 200
    for sock in held:
        sock.close()
