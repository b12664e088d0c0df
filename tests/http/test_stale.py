"""Connections that the server has closed while they were kept: seen before they are used, or told by what happens."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resilient import OutcomeUnknown
from resilient.core.outcome import IGNORED, Evidence
from resilient.testing import ManualClock, Origin, answer, stale, wrong_length
from resilient.testing.exchange import Exchange
from tests.http.calls import Caller, both, policies, report
from tests.http.sdk import httpx, now

SENT = (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)


@both
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("profile", ["none", "unknown", "supported", "required"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_stale_keep_alive(
    method: str, profile: str, ending: Any, mode: str, manual_clock: ManualClock
) -> None:
    # The server closes when the next request has come: nobody can know that it did not execute it.
    again = method == "GET" or profile in ("supported", "required")
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.script(stale(ending=ending))
        assert caller.get("/first").status_code == 200
        if again:
            response = caller.send(method, "/second")
            assert response.status_code == 200
            assert report(response).attempts == 2
            assert [request.target for request in origin.requests] == ["/first", "/second"]
        else:
            exc = caller.fails(method, "/second")
            assert isinstance(exc, OutcomeUnknown)
            assert isinstance(exc, now(SENT))
            assert report(exc).evidence is Evidence.UNKNOWN
            assert report(exc).attempts == 1
            assert report(exc).verdict is IGNORED  # it is the connection's age that is to blame
            assert [request.target for request in origin.requests] == ["/first"]


@both
def test_a_stale_connection_costs_no_attempt_and_no_wait(mode: str, manual_clock: ManualClock) -> None:
    only = policies(manual_clock, attempts=1)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=only) as caller,
    ):
        origin.script(stale())
        caller.get()
        assert caller.get().status_code == 200
        assert manual_clock.sleeps == []
        assert origin.connections == 2


@both
def test_many_stale_connections_are_not_tried_one_after_the_other(
    mode: str, manual_clock: ManualClock
) -> None:
    # Resent on a *new* connection: those that are kept may be as old as the one that failed.

    with (
        Origin(clock=None) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(manual_clock, attempts=1)) as caller,
    ):
        gate = threading.Barrier(3)

        def together(exchange: Exchange) -> None:
            exchange.read()
            gate.wait(5.0)
            stale()(exchange)

        origin.script(together, together, together)
        if mode == "sync":
            threads = [threading.Thread(target=caller.client.get, args=("/",)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:

            async def three() -> None:
                await asyncio.gather(*(caller.client.get("/") for _ in range(3)))

            caller.run(three())
        assert caller.pool.idle == 3
        assert caller.get("/").status_code == 200
        assert origin.connections == 4


@both
def test_a_connection_that_was_closed_while_idle_is_not_used(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        assert caller.post().status_code == 200
        origin.drop_connections()
        response = caller.post()
        assert response.status_code == 200
        assert report(response).attempts == 1
        assert origin.connections == 2


@both
def test_bytes_after_the_answer_do_not_become_the_next_one(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(wrong_length(-50, answer(200, b"a" * 100)))
        assert caller.get("/first").content == b"a" * 50
        response = caller.get("/second")
        assert response.status_code == 200
        assert response.content == b""
