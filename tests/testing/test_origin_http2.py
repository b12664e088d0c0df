"""The origin over HTTP/2, seen by a bare client and by a library that speaks the protocol."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from resilient.testing import (
    ManualClock,
    Origin,
    answer,
    drip_body,
    drip_head,
    garbage,
    goaway,
    hang,
    refused_stream,
    slow,
    stall_upload,
)
from resilient.testing.exchange import Exchange, Request
from resilient.testing.http2 import stream_of


def bare(origin: Origin) -> httpx.AsyncClient:
    known: dict[str, Any] = {"http1": False}
    if origin.url.startswith("https"):
        known = {"verify": origin.client_context}
    return httpx.AsyncClient(base_url=origin.url, http2=True, timeout=None, **known)


def calls(origin: Origin, *work: str, **given: Any) -> list[Any]:
    """What one client gets for requests that are made at the same time."""

    async def one(client: httpx.AsyncClient, url: str) -> Any:
        try:
            return await client.request("POST" if given else "GET", url, **given)
        except httpx.HTTPError as exc:
            return exc

    async def main() -> list[Any]:
        async with bare(origin) as client:
            await client.get("/first")
            return await asyncio.gather(*(one(client, url) for url in work))

    run: Coroutine[Any, Any, list[Any]] = main()
    return origin.clock.run(run) if origin.clock is not None else asyncio.run(run)


@pytest.mark.parametrize("tls", [False, True], ids=["known", "agreed"])
def test_the_same_behaviours(tls: bool, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock, http2=True, tls=tls) as origin:
        origin.script(200, answer(503, b"sorry", headers={"Retry-After": "7"}))
        (response,) = calls(origin, "/a?b=c", content=b"x" * 200_000, headers={"X-Own": "1"})
        assert (response.status_code, response.text, response.headers["retry-after"]) == (503, "sorry", "7")
        assert (response.http_version, response.headers["content-length"]) == ("HTTP/2", "5")
        first, request = origin.requests
        assert (request.method, request.target, request.version) == ("POST", "/a?b=c", "HTTP/2")
        assert request.header("host") == f"127.0.0.1:{origin.port}"
        assert request.header("x-own") == "1"
        assert (request.body, request.complete) == (b"x" * 200_000, True)
        assert (first.effect, request.effect, request.cancelled) == (True, False, False)
        assert origin.connections == 1


def test_requests_are_carried_out_side_by_side(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock, http2=True) as origin:

        @origin.handle
        def by_path(request: Request) -> Any:
            return {"/slow": slow(3.0, 200), "/drip": drip_body(0.5, answer(200, b"abcd"))}.get(
                request.target, 200
            )

        found = calls(origin, "/slow", "/drip", "/quick")
        assert [response.status_code for response in found] == [200] * 3
        assert found[1].text == "abcd"
        assert origin.connections == 1
        assert manual_clock.monotonic() == 3.0


def test_a_large_answer_waits_for_the_clients_window(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock, http2=True) as origin:
        origin.script(200, answer(200, b"x" * 17_500_000))
        (response,) = calls(origin, "/")
        assert len(response.content) == 17_500_000


def test_a_head_that_drips(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock, http2=True) as origin:
        origin.script(200, drip_head(0.01))
        assert calls(origin, "/")[0].status_code == 200
        assert manual_clock.monotonic() > 0.5


def test_a_client_that_gives_up_is_noticed() -> None:
    with (
        Origin(http2=True) as origin,
        socket.create_connection(("127.0.0.1", origin.port)) as sock,
    ):
        origin.script(hang(), stall_upload())
        wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        wire.initiate_connection()
        for number in (1, 3):
            head = [(":method", "POST"), (":path", f"/{number}"), (":scheme", "http"), (":authority", "a")]
            wire.send_headers(number, head, end_stream=number == 1)
        sock.sendall(wire.data_to_send())
        origin.wait_until(lambda origin: [each.complete for each in origin.requests] == [True, False])
        for number in (1, 3):
            wire.reset_stream(number, 8)
        sock.sendall(wire.data_to_send())
        origin.wait_until(lambda origin: all(each.cancelled for each in origin.requests))
        assert [each.complete for each in origin.requests] == [True, False]
        # The connection goes on.
        wire.send_headers(5, head, end_stream=True)
        sock.sendall(wire.data_to_send())
        ended: list[Any] = []
        while not ended:
            ended = [
                each
                for each in wire.receive_data(sock.recv(65_536))
                if isinstance(each, h2.events.StreamEnded)
            ]
        assert ended[0].stream_id == 5


def test_what_was_not_read_of_a_request_takes_no_room_from_others() -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.wait(0.02)
        stream_of(exchange).reset_stream(7)

    with (
        Origin(refuse, http2=True) as origin,
        socket.create_connection(("127.0.0.1", origin.port)) as sock,
    ):
        wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        wire.initiate_connection()
        head = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "a")]
        wire.send_headers(1, head)
        for _ in range(3):
            wire.send_data(1, b"x" * 16_000)
        sock.sendall(wire.data_to_send())
        assert wire.outbound_flow_control_window == 65_535 - 48_000
        while wire.outbound_flow_control_window < 65_535:
            wire.receive_data(sock.recv(65_536))


def test_what_it_takes_at_a_time_is_said() -> None:
    with (
        Origin(http2=3) as origin,
        socket.create_connection(("127.0.0.1", origin.port)) as sock,
    ):
        wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        wire.initiate_connection()
        sock.sendall(wire.data_to_send())
        wire.receive_data(sock.recv(65_536))
        assert wire.remote_settings.max_concurrent_streams == 3


def test_after_a_goodbye_the_others_are_answered(manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        socket.create_connection(("127.0.0.1", origin.port)) as sock,
    ):
        origin.script(slow(1.0), goaway("before"))
        wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        wire.initiate_connection()
        for number in (1, 3):
            head = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]
            wire.send_headers(number, head, end_stream=True)
        sock.sendall(wire.data_to_send())
        said = b""
        while data := sock.recv(65_536):
            said += data
        assert said.count(b"\0\0\x08\x07") == 1  # GOAWAY
        assert [each.effect for each in origin.requests] == [True, False]


def test_http_1_1_is_spoken_beside_it() -> None:
    for tls in (False, True):
        with Origin(http2=True, tls=tls) as origin:
            verify: Any = origin.client_context if tls else True
            with httpx.Client(base_url=origin.url, verify=verify) as client:
                assert [client.get("/").http_version for _ in range(2)] == ["HTTP/1.1"] * 2
            assert [each.version for each in origin.requests] == ["HTTP/1.1"] * 2
            assert origin.connections == 1


def test_what_has_no_counterpart_is_refused() -> None:
    with (
        pytest.raises(TypeError, match="over HTTP/2 no bytes can be sent as they are"),
        Origin(http2=True) as origin,
    ):
        origin.script(200, garbage())
        (response,) = calls(origin, "/")
        assert response.status_code == 500
    with pytest.raises(TypeError, match=r"write Origin\(http2=True\)"), Origin() as origin:
        origin.script(refused_stream())
        httpx.get(origin.url)


def test_nothing_is_left(manual_clock: ManualClock) -> None:
    origin = Origin("hang", clock=manual_clock, http2=True)
    with origin:

        async def main() -> None:
            async with bare(origin) as client:
                tasks = [asyncio.create_task(client.get("/")) for _ in range(3)]
                await asyncio.sleep(0.1)
                origin.drop_connections()
                assert all(
                    isinstance(each, httpx.HTTPError)
                    for each in await asyncio.gather(*tasks, return_exceptions=True)
                )

        manual_clock.run(main())
    assert not any(thread.is_alive() for thread in origin._threads)
