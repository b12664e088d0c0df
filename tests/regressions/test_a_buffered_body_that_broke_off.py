"""A body of `buffered` whose source raised what looks like an error of the network, such as an answer of another client
that is passed on, was taken for a stale connection: what had come of it was sent again, as if it were the whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from resilient import OutcomeUnknown, PolicyError
from resilient.http.body import buffered, made_anew
from resilient.testing import ManualClock, Origin
from tests.http.calls import Caller, both
from tests.http.sdk import httpx


def part(exc: Exception) -> Iterator[bytes]:
    yield b"pay 1;"
    raise exc


async def apart(exc: Exception) -> AsyncIterator[bytes]:
    yield b"pay 1;"
    raise exc


def body(mode: str, exc: Exception) -> Any:
    return buffered(part(exc) if mode == "sync" else apart(exc))


@both
def test_half_of_it_is_not_the_whole(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        caller.get()  # so that the connection was used before
        exc = caller.fails("POST", content=body(mode, httpx.ReadError("of another server")))
        assert isinstance(exc, OutcomeUnknown)
        assert exc.attempts == 1
        assert not [request for request in origin.requests if request.method == "POST" and request.complete]


@both
def test_the_callers_error_is_no_word_on_the_connection(mode: str, manual_clock: ManualClock) -> None:
    """Also where the body could be made anew."""

    async def made() -> AsyncIterator[bytes]:
        async for piece in apart(httpx.ReadError("of another server")):
            yield piece

    again = (
        made_anew(made) if mode == "async" else made_anew(lambda: part(httpx.ReadError("of another server")))
    )
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        caller.get()
        exc = caller.fails("POST", content=again)
        assert isinstance(exc, OutcomeUnknown)
        assert exc.attempts == 1


@both
def test_the_callers_second_try(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        request = caller.client.build_request("POST", "/", content=body(mode, ValueError("no such row")))

        def send() -> Any:
            sent = caller.client.send(request)
            return sent if mode == "sync" else caller.run(sent)

        with pytest.raises(ValueError, match="no such row"):
            send()
        with pytest.raises(PolicyError, match="broke off"):
            send()
        assert not any(request.complete for request in origin.requests)
