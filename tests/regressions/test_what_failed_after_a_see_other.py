"""A POST was answered 303, which says that it was done, and the GET that follows could not connect: the caller was told
that nothing was sent, and retries around the call did it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resilient import Evidence, OutcomeUnknown, Pipeline, Retry
from resilient.testing import ManualClock, Origin, answer
from resilient.testing.exchange import Exchange
from tests.http.calls import Caller, both, policies, report
from tests.http.sdk import httpx


def see_other(status: int, location: str) -> bytes:
    head = f"HTTP/1.1 {status} Done\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    return head.encode()


def done(status: int) -> Callable[[Exchange], None]:
    """It is, and then nobody is there any more."""

    def does(exchange: Exchange) -> None:
        exchange.read()
        exchange.origin.refuse()
        exchange.send(see_other(status, "/receipt"))
        exchange.close()

    return does


@both
@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_that_was_done(mode: str, status: int, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            mode, origin.url, manual_clock, policies=policies(manual_clock, attempts=1), follow_redirects=True
        ) as caller,
    ):
        manual_clock.advance(3.0)
        origin.script(done(status))
        exc = caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.TransportError)
        assert "POST was answered by a redirect" in str(exc)
        assert exc.idempotency_key == origin.requests[0].header("Idempotency-Key")
        assert exc.first_sent == pytest.approx(manual_clock.time())
        assert report(exc).evidence is Evidence.ANSWERED


@both
def test_one_that_may_be_repeated(mode: str, manual_clock: ManualClock) -> None:
    once = policies(manual_clock, attempts=1)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=once, follow_redirects=True) as caller,
    ):
        origin.script(done(303))
        exc = caller.fails("PUT")
        assert isinstance(exc, httpx.ConnectError)
        assert not isinstance(exc, OutcomeUnknown)
        assert report(exc).evidence is Evidence.ANSWERED


@both
def test_one_that_was_refused_what_it_points_at(mode: str, manual_clock: ManualClock) -> None:
    once = policies(manual_clock, attempts=1)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=once, follow_redirects=True) as caller,
    ):
        origin.script(answer(303, headers={"Location": "/receipt"}), answer(429))
        assert report(caller.post()).evidence is Evidence.ANSWERED


@both
def test_one_that_was_done_elsewhere(mode: str, manual_clock: ManualClock) -> None:
    once = policies(manual_clock, attempts=1)
    with (
        Origin(clock=manual_clock) as origin,
        Origin(clock=manual_clock) as other,
        Caller(mode, origin.url, manual_clock, policies=once, follow_redirects=True) as caller,
    ):

        def back(exchange: Exchange) -> None:
            origin.refuse()
            exchange.send(see_other(303, f"{origin.url}/receipt"))

        manual_clock.advance(3.0)
        origin.script(answer(307, headers={"Location": f"{other.url}/pay", "Connection": "close"}))
        other.script(back)
        exc = caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert report(exc).evidence.proves_nothing_happened is False


def test_retries_around_the_call(manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            "sync",
            origin.url,
            manual_clock,
            policies=policies(manual_clock, attempts=1),
            follow_redirects=True,
        ) as caller,
    ):

        @Pipeline(Retry(3, wait=0.0), name="checkout", clock=manual_clock)
        def pay() -> None:
            origin.reopen()
            caller.post()

        origin.script(done(303), done(303), done(303))
        with pytest.raises(OutcomeUnknown):
            pay()
        assert [request.method for request in origin.requests] == ["POST"]
