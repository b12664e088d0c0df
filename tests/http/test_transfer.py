"""What goes over a connection arrives as it was sent, and the connection is good for the next exchange."""

from __future__ import annotations

import asyncio
import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilient import OutcomeUnknown
from resilient.testing import ManualClock, Origin, answer
from resilient.testing.exchange import Exchange
from tests.http.calls import Caller, both, policies, report, wait_until_left
from tests.http.sdk import httpx

NOISE = random.Random(7).randbytes(6_000_000)


@both
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 6_000_000])
def test_bodies_arrive_whole(
    size: int, chunked: bool, tls: bool, mode: str, manual_clock: ManualClock
) -> None:
    body = NOISE[:size]
    with Origin(answer(200, body, chunked=chunked), clock=manual_clock, tls=tls) as origin:
        verify: Any = origin.client_context if tls else False
        with Caller(mode, origin.url, manual_clock, verify=verify) as caller:
            for _ in range(2):
                response = caller.post(content=body)
                assert hashlib.sha256(response.content).digest() == hashlib.sha256(body).digest()
        assert [each.body == body for each in origin.requests] == [True, True]
        assert origin.connections == 1


def test_a_slow_reader_holds_the_sender_back(manual_clock: ManualClock) -> None:
    # Without that, a large answer would lie in memory before anybody wants it.
    with (
        Origin(answer(200, NOISE), clock=manual_clock) as origin,
        Caller("async", origin.url, manual_clock) as caller,
    ):

        async def read() -> int:
            async with caller.client.stream("GET", "/") as response:
                for _ in range(200):
                    await asyncio.sleep(0)
                held = len(response.extensions["network_stream"]._buffer)
                assert hashlib.sha256(await response.aread()).digest() == hashlib.sha256(NOISE).digest()
            return held

        assert caller.run(read()) < 1_000_000


@both
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("status", [200, 204, 304])
def test_answers_without_a_body(status: int, method: str, mode: str, manual_clock: ManualClock) -> None:
    length = {"Content-Length": "1000"} if method == "HEAD" and status != 204 else {}
    with (
        Origin(answer(status, headers=length), clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock) as caller,
    ):
        for _ in range(3):
            response = caller.send(method)
            assert (response.status_code, response.content) == (status, b"")
        assert origin.connections == 1


@both
def test_interim_answers(mode: str, manual_clock: ManualClock) -> None:
    def hints_first(exchange: Exchange) -> None:
        exchange.read()
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Origin(hints_first, clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        for _ in range(2):
            response = caller.post(content=b"x", headers={"Expect": "100-continue"})
            assert (response.status_code, response.text) == (200, "ok")
        assert origin.connections == 1


@both
def test_an_answer_before_the_whole_request_was_read(mode: str, manual_clock: ManualClock) -> None:
    def too_large(exchange: Exchange) -> None:
        exchange.read_head()
        exchange.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        exchange.wait_for_more()
        exchange.close()

    with Origin(too_large, clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        response = caller.post(content=b"x" * 1000)
        assert (response.status_code, response.text) == (413, "no")
        assert caller.pool.idle == 0


@both
def test_what_the_stream_beneath_tells(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock, tls=True) as origin,
        Caller(mode, origin.url, manual_clock, verify=origin.client_context) as caller,
    ):
        stream = caller.get().extensions["network_stream"]
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", origin.port)
        assert stream.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert stream.get_extra_info("no such thing") is None


@both
def test_a_client_closed_while_a_stream_is_open(mode: str, manual_clock: ManualClock) -> None:
    with Origin(answer(200, NOISE), clock=manual_clock) as origin:
        caller = Caller(mode, origin.url, manual_clock)
        if mode == "sync":
            response = caller.client.send(caller.client.build_request("GET", "/"), stream=True)
            with caller:
                pass
            response.close()
        else:

            async def work() -> None:
                response = await caller.client.send(caller.client.build_request("GET", "/"), stream=True)
                await caller.client.aclose()
                await response.aclose()

            with caller:
                caller.run(work())
        assert caller.pool.in_use == 0
        assert caller.pool.idle == 0
        wait_until_left(origin)


@both
def test_a_request_that_cannot_be_written_is_not_sent(mode: str, manual_clock: ManualClock) -> None:
    # Refused by the SDK itself, before anything goes out; nothing of it is for a retry or the breaker.
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        exc = caller.fails("POST", headers={"X-Bad": "a\r\nb: c"})
        assert isinstance(exc, httpx.LocalProtocolError)
        assert not isinstance(exc, OutcomeUnknown)
        assert report(exc).attempts == 1
        assert report(exc).why_not_retried == "not_transient"
        assert origin.requests == []
        assert caller.pool.in_use == 0
        assert caller.get().status_code == 200


@both
def test_many_at_once(mode: str, manual_clock: ManualClock) -> None:
    # Each answer reaches the one who asked.
    five = policies(manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=five) as caller,
    ):

        @origin.handle
        def echo(request: Any) -> Any:
            return answer(200, request.target, chunked=request.order % 2 == 0)

        async def ask(number: int) -> bool:
            response = await caller.client.get(f"/{number}")
            return bool(response.text == f"/{number}")

        async def all_of_them() -> list[bool]:
            return await asyncio.gather(*(ask(number) for number in range(200)))

        if mode == "async":
            assert all(caller.run(all_of_them()))
        else:
            with ThreadPoolExecutor(16) as threads:
                texts = threads.map(lambda number: caller.client.get(f"/{number}").text, range(200))
                assert list(texts) == [f"/{number}" for number in range(200)]
        assert caller.pool.in_use == 0
