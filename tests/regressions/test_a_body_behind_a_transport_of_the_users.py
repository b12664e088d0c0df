"""Around a transport of the user's the deadline ended with the head of the answer: a body that dripped was read for
50 seconds under a deadline of 0.4. And a small body that broke was no failed attempt, as it is with our own
connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

import resilient.httpx
from resilient import Bulkhead, Pipeline, Retry, TimedOut, Timeout
from resilient.testing import ManualClock, Origin, answer, reset_mid_body
from tests.http.calls import Caller, both, policies, report


class Dripping(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A piece each tenth of a second, for ever."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.clock.advance(0.1)
            yield b"x"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


@both
@pytest.mark.parametrize("length", [{}, {"Content-Length": "1000"}], ids=["of unknown length", "small"])
def test_the_deadline_holds_over_it(length: dict[str, str], mode: str, manual_clock: ManualClock) -> None:
    stream = Dripping(manual_clock)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=length, stream=stream))
    pipeline = Pipeline(Timeout(0.45), Retry(1), name="svc", clock=manual_clock)
    with Caller(mode, "http://svc", manual_clock, policies=pipeline, transport=transport) as caller:
        exc = caller.fails()
    assert isinstance(exc, TimedOut)
    assert isinstance(exc, httpx.TimeoutException)
    assert manual_clock.monotonic() == pytest.approx(0.5)
    assert stream.closed


@both
def test_a_small_one_that_breaks_is_a_failed_attempt(mode: str, manual_clock: ManualClock) -> None:
    transport: Any = httpx.HTTPTransport() if mode == "sync" else httpx.AsyncHTTPTransport()
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            mode, origin.url, manual_clock, policies=policies(manual_clock), transport=transport
        ) as caller,
    ):
        origin.script(reset_mid_body(5, answer(200, b"0123456789")), answer(200, b"0123456789"))
        response = caller.get()
        assert response.content == b"0123456789"
        assert report(response).attempts == 2


def test_its_own_time_outs_are_no_longer_than_what_is_left(manual_clock: ManualClock) -> None:
    seen: list[dict[str, float]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.extensions["timeout"]))
        manual_clock.advance(0.3)
        raise httpx.ConnectError("down")

    pipeline = Pipeline(Timeout(1.0), Retry(3, wait=0), name="svc", clock=manual_clock)
    with (
        resilient.httpx.client(
            "svc", base_url="http://svc", policies=pipeline, transport=httpx.MockTransport(handler)
        ) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get("/", timeout=httpx.Timeout(5.0, connect=0.5))
    assert [each["read"] for each in seen] == pytest.approx([1.0, 0.7, 0.4])
    assert [each["connect"] for each in seen] == pytest.approx([0.5, 0.5, 0.4])
    assert [each["pool"] for each in seen] == pytest.approx([1.0, 0.7, 0.4])


@both
def test_one_that_nobody_wants_is_not_waited_for(mode: str, manual_clock: ManualClock) -> None:
    stream = Dripping(manual_clock)
    answers = iter([httpx.Response(503, stream=stream), httpx.Response(200)])
    transport = httpx.MockTransport(lambda request: next(answers))
    pipeline = policies(manual_clock)
    with Caller(mode, "http://svc", manual_clock, policies=pipeline, transport=transport) as caller:
        assert caller.get().status_code == 200
    assert stream.closed
    assert manual_clock.monotonic() == 0.0, "we cannot end a read of a stream that is not ours"


@both
def test_one_that_is_all_there_is_no_time_out(mode: str, manual_clock: ManualClock) -> None:
    class Two(Dripping):
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            yield b"b"

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Two(manual_clock)))
    pipeline = Pipeline(Timeout(0.5), Retry(1), name="svc", clock=manual_clock)
    with Caller(mode, "http://svc", manual_clock, policies=pipeline, transport=transport) as caller:
        pieces: list[bytes] = []

        def take(piece: bytes) -> None:
            pieces.append(piece)
            if piece == b"b":
                manual_clock.advance(9.0)  # the reader's time, when all is there

        async def read() -> None:
            async with caller.client.stream("GET", "/") as response:
                async for piece in response.aiter_raw():
                    take(piece)

        if mode == "async":
            caller.run(read())
        else:
            with caller.client.stream("GET", "/") as response:
                for piece in response.iter_raw():
                    take(piece)
        assert pieces == [b"a", b"b"]


@both
def test_one_that_cannot_be_closed_gives_its_permit_back(mode: str, manual_clock: ManualClock) -> None:
    class Stuck(Dripping):
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"

        def close(self) -> None:
            raise RuntimeError("a bug")

        async def aclose(self) -> None:
            raise RuntimeError("a bug")

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Stuck(manual_clock)))
    pipeline = Pipeline(Bulkhead(1), name="svc", clock=manual_clock)
    with Caller(mode, "http://svc", manual_clock, policies=pipeline, transport=transport) as caller:
        for _ in range(2):
            assert type(caller.fails()) is RuntimeError
            assert pipeline["bulkhead"].in_flight == 0
