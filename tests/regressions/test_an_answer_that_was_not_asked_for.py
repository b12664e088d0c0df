"""A server that sent more than one answer to a request had the second taken for the answer to the next request: another
caller's, as a rule. The core keeps what it has read beyond an answer; such a connection is not used again."""

from __future__ import annotations

from typing import Any

import pytest

from resilient.testing import ManualClock, Origin
from resilient.testing.exchange import Exchange
from resilient.testing.tls import make_contexts
from tests.http.calls import Caller, both
from tests.http.relays import proxy

LONG = 70_000  # too long to be read inside the attempt


def two_answers(length: int) -> Any:
    def behave(exchange: Exchange) -> None:
        exchange.read()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
        body = b"1" * length
        # In one segment with the end of what was asked for.
        exchange.send(head % length + body[:-1])
        exchange.send(body[-1:] + head % 9 + b"not yours")

    return behave


@both
@pytest.mark.parametrize("length", [3, LONG])
def test_it_reaches_nobody(mode: str, length: int, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock) as caller,
    ):
        origin.script(two_answers(length), 200)
        assert caller.get("/ann").text == "1" * length
        assert (caller.pool.idle, caller.pool.in_use) == (0, 0)
        assert "not yours" not in caller.get("/bob").text
        assert origin.connections == 2


@both
@pytest.mark.parametrize("secure", [False, True])
def test_nor_through_a_proxy(mode: str, secure: bool, manual_clock: ManualClock) -> None:
    server, client = make_contexts("127.0.0.1")
    given: dict[str, Any] = {"tls": server} if secure else {}
    with (
        proxy() as relay,
        Origin(clock=manual_clock, **given) as origin,
        Caller(mode, origin.url, manual_clock, proxy=relay.url, verify=client) as caller,
    ):
        origin.script(two_answers(3), 200)
        assert caller.get("/ann").text == "111"
        assert (caller.pool.idle, caller.pool.in_use) == (0, 0)
        assert "not yours" not in caller.get("/bob").text


@both
def test_a_connection_on_which_nothing_is_left_is_kept(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        caller.get()
        (kept,) = caller.pool._idle
        core = kept.core
        while hasattr(core, "_connection"):
            core = core._connection
        assert core._h11_state.trailing_data == (b"", False), "the core's name for it, which we rely on"
