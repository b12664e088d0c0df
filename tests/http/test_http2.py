"""HTTP/2: what each fault proves, and what follows; the same table as over HTTP/1.1, by what HTTP/2 has to say."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import h2.events
import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import OutcomeUnknown, PolicyError
from resilient.core.outcome import FAILURE, IGNORED, Evidence
from resilient.testing import (
    ManualClock,
    Origin,
    answer,
    close_without_answer,
    goaway,
    hang,
    lose_connection,
    reset_mid_body,
    reset_stream,
    truncated,
)
from resilient.testing.behaviours import Stepish, as_behaviour
from resilient.testing.exchange import Exchange
from tests.http.calls import Bank, Caller, policies, report, seen_keys
from tests.http.sdk import bound, httpx, now


@contextmanager
def calling(
    manual_clock: ManualClock, *, tls: bool = False, streams: bool | int = True, **given: Any
) -> Iterator[tuple[Origin, Caller]]:
    """An origin and a client that speak HTTP/2 to each other, agreed upon by TLS or not."""
    with Origin(clock=manual_clock, http2=streams, tls=tls) as origin:
        agreed: dict[str, Any] = {"verify": origin.client_context} if tls else {"http1": False}
        with Caller("async", origin.url, manual_clock, http2=True, **{**agreed, **given}) as caller:
            yield origin, caller


class Fault(NamedTuple):
    """A fault, and what it proves.

    Attributes:
        makes: what the server does, having executed the request where ``effect``.
        evidence: what the report says.
        error: the SDK's class, where it is not sent again.
        effect: whether the request was executed.
        at_once: whether it is sent again without a retry, on another connection.
    """

    makes: Stepish
    evidence: Evidence
    error: type[Exception] | None = None
    effect: bool = False
    at_once: bool = False


REFUSED, DECLINED, UNKNOWN = Evidence.REFUSED, Evidence.DECLINED, Evidence.UNKNOWN
LOST, CLOSED = httpx.ReadError, httpx.RemoteProtocolError
FAULTS: dict[str, Fault] = {
    "REFUSED_STREAM": Fault("refused_stream", REFUSED, at_once=True),
    "GOAWAY, last stream 0": Fault(goaway("none"), REFUSED, at_once=True),
    "GOAWAY, last stream lower": Fault(goaway("before"), REFUSED, at_once=True),
    "GOAWAY for a fault, last stream 0": Fault(goaway("none", 0x2), REFUSED, at_once=True),
    "GOAWAY to calm down, last stream 0": Fault(goaway("none", 0xB), DECLINED),
    "ENHANCE_YOUR_CALM": Fault("enhance_your_calm", DECLINED),
    "GOAWAY, this stream, then lost": Fault(goaway("this", 0, lose_connection()), UNKNOWN, LOST),
    "GOAWAY, all streams, then lost": Fault(goaway("all", 0, lose_connection()), UNKNOWN, LOST),
    "GOAWAY to calm down, this stream": Fault(goaway("this", 0xB, "close_without_answer"), UNKNOWN, CLOSED),
    "INTERNAL_ERROR before": Fault(reset_stream(0x2), UNKNOWN, CLOSED),
    "INTERNAL_ERROR after": Fault(reset_stream(0x2), UNKNOWN, CLOSED, effect=True),
    "CANCEL": Fault(reset_stream(0x8), UNKNOWN, CLOSED, effect=True),
    "reset mid body": Fault(reset_mid_body(then=answer(200, b"x" * 1000)), UNKNOWN, CLOSED, effect=True),
    "connection lost before": Fault(lose_connection(), UNKNOWN, LOST),
    "connection lost after": Fault(lose_connection(), UNKNOWN, LOST, effect=True),
    "connection closed before": Fault(close_without_answer(), UNKNOWN, CLOSED),
    "connection closed after": Fault(close_without_answer(), UNKNOWN, CLOSED, effect=True),
    "connection closed mid body": Fault(
        truncated(then=answer(200, b"x" * 1000)), UNKNOWN, CLOSED, effect=True
    ),
    "hangs before": Fault(hang(), UNKNOWN, httpx.TimeoutException),
    "hangs after": Fault(hang(), UNKNOWN, httpx.TimeoutException, effect=True),
}


def makes(fault: Fault, bank: Bank) -> Stepish:
    def run(exchange: Exchange) -> None:
        request = exchange.read()
        if fault.effect:
            bank.do(request)
        as_behaviour(fault.makes)(exchange)

    return run


def charge(bank: Bank) -> Callable[[Exchange], None]:
    def run(exchange: Exchange) -> None:
        bank.do(exchange.read())
        as_behaviour(answer(201, b"ok"))(exchange)

    return run


@pytest.mark.parametrize("tls", [False, True], ids=["known", "agreed"])
@pytest.mark.parametrize("profile", ["none", "supported"])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", FAULTS)
def test_one_fault(name: str, method: str, profile: str, tls: bool, manual_clock: ManualClock) -> None:
    fault = FAULTS[name]
    honours = profile == "supported"
    bank = Bank(honours=honours)
    again = method == "GET" or honours or fault.evidence in (REFUSED, DECLINED)
    given = {"policies": policies(manual_clock, attempt=3.0), "profile": profile}
    with calling(manual_clock, tls=tls, **given) as (origin, caller):
        origin.always(charge(bank))
        assert caller.send("GET").http_version == "HTTP/2"
        bank.effects.clear()
        origin.script(makes(fault, bank))
        if again:
            outcome: Any = caller.send(method, "/charges")
            assert outcome.status_code == 201
            assert (report(outcome).attempts, report(outcome).evidence) == (2, Evidence.ANSWERED)
        else:
            outcome = caller.fails(method, "/charges")
            assert fault.error is not None
            assert isinstance(outcome, now(fault.error))
            assert isinstance(outcome, OutcomeUnknown)
            assert report(outcome).evidence is fault.evidence
            assert report(outcome).why_not_retried == "not_idempotent"
        assert len(origin.requests) == 2 + again
        assert {request.version for request in origin.requests} == {"HTTP/2"}
        if method == "POST":
            # The invariant: never twice, and once where the caller saw success.
            if again:
                assert list(bank.effects.values()) == [1]
            assert sum(bank.effects.values()) == (fault.effect or again)
            assert len(set(seen_keys(origin.requests[1:]))) == 1
        assert caller.pool.in_use == 0


@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].evidence in (REFUSED, DECLINED)])
def test_what_was_not_processed_for_ever(name: str, manual_clock: ManualClock) -> None:
    fault = FAULTS[name]
    with calling(manual_clock, profile="none", policies=policies(manual_clock, attempts=2)) as (
        origin,
        caller,
    ):
        origin.always(fault.makes)
        exc = caller.fails("POST")
        assert type(exc) is httpx.RemoteProtocolError
        assert report(exc).evidence is fault.evidence
        assert report(exc).verdict is (FAILURE if fault.at_once else IGNORED)
        assert report(exc).why_not_retried == "attempts"
        # Two by the policy; the one in between at once, on a connection of its own.
        assert len(origin.requests) == report(exc).attempts == 2 + fault.at_once


@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].at_once])
def test_what_was_refused_goes_to_another_endpoint_at_once(name: str, manual_clock: ManualClock) -> None:
    one_attempt = policies(manual_clock, attempts=1)
    with (
        Origin(FAULTS[name].makes, clock=manual_clock, http2=True) as one,
        Origin(clock=manual_clock, http2=True) as other,
        Caller(
            "async",
            "http://svc.svc",
            manual_clock,
            http2=True,
            http1=False,
            policies=one_attempt,
            profile="none",
            endpoints=[f"127.0.0.1:{each.port}" for each in (one, other)],
        ) as caller,
    ):
        while not one.requests:
            assert caller.post().status_code == 200
        assert manual_clock.monotonic() == 0.0
        assert len(one.requests) == 1
        assert one.effects == []


@pytest.mark.parametrize(
    ("tls", "status", "attempts"), [(True, 200, 2), (False, None, 1)], ids=["agreed", "known"]
)
def test_http_1_1_required(tls: bool, status: int | None, attempts: int, manual_clock: ManualClock) -> None:
    one_attempt = policies(manual_clock, attempts=1)
    with calling(manual_clock, tls=tls, profile="none", policies=one_attempt) as (origin, caller):
        caller.get()
        origin.always("http_1_1_required")
        if status is not None:
            response = caller.post()
            assert (response.status_code, response.http_version) == (200, "HTTP/1.1")
            assert report(response).attempts == attempts
            assert [each.version for each in origin.requests] == ["HTTP/2", "HTTP/2", "HTTP/1.1"]
            # The next call is another one, and HTTP/2 is spoken again where it may be.
            origin.always(200)
            assert caller.post().http_version == "HTTP/2"
            assert origin.connections == 2
        else:
            # Nothing else can be spoken, so nothing is tried again.
            exc = caller.fails("POST")
            assert type(exc) is httpx.RemoteProtocolError
            assert (report(exc).evidence, report(exc).why_not_retried) == (REFUSED, "not_transient")
            assert len(origin.requests) == 2


@pytest.mark.parametrize("code", [0x7, 0xB, 0x2])
def test_a_reset_in_the_middle_of_an_upload(code: int, manual_clock: ManualClock) -> None:
    # The core knows no more than that the stream is closed, and calls it our fault.
    def refuse(exchange: Exchange) -> None:
        exchange.read(up_to=1)
        exchange.reset_stream(code)  # type: ignore[attr-defined]  # of an exchange over HTTP/2

    evidence = {0x7: REFUSED, 0xB: DECLINED, 0x2: UNKNOWN}[code]
    one_attempt = policies(manual_clock, attempts=1)
    with calling(manual_clock, profile="none", policies=one_attempt) as (origin, caller):
        origin.always(refuse)
        exc = caller.fails("POST", content=b"x" * 1_000_000)
        assert report(exc).evidence is evidence
        assert isinstance(exc, OutcomeUnknown) == (evidence is UNKNOWN)
        assert origin.connections == (2 if evidence is REFUSED else 1)
        origin.always(200)
        assert caller.post(content=b"y" * 1_000_000).status_code == 200


def test_an_answer_before_the_upload_is_over(manual_clock: ManualClock) -> None:
    def too_large(exchange: Exchange) -> None:
        exchange.read(up_to=1)
        exchange.read_head().complete = True
        as_behaviour(413)(exchange)
        exchange.reset_stream(0)  # type: ignore[attr-defined]  # of an exchange over HTTP/2

    with calling(manual_clock, profile="none", policies=policies(manual_clock, attempts=1)) as (
        origin,
        caller,
    ):
        origin.script(too_large)
        exc = caller.fails("POST", content=b"x" * 1_000_000)
        # The core drops the answer with the stream; what is known of it is that it was sent.
        assert isinstance(exc, OutcomeUnknown)
        assert report(exc).evidence is UNKNOWN
        assert caller.post().status_code == 200


def test_garbage_is_the_servers_fault(manual_clock: ManualClock) -> None:
    # The core calls it a broken rule of ours.
    def garbage(exchange: Exchange) -> None:
        exchange.read()
        home: Any = exchange._home  # type: ignore[attr-defined]  # of an exchange over HTTP/2
        with home.changed:
            home.flush(b"\0\0\1\0\0\0\0\0\0!")  # data on stream 0

    with calling(manual_clock, policies=policies(manual_clock, attempts=2)) as (origin, caller):
        caller.get()
        origin.script(garbage, 200)
        response = caller.get()
        assert report(response).attempts == 2
        origin.script(garbage)
        exc = caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert (report(exc).evidence, report(exc).verdict) == (UNKNOWN, FAILURE)


def test_a_header_that_cannot_be_sent_is_the_callers_fault(manual_clock: ManualClock) -> None:
    with calling(manual_clock) as (origin, caller):
        caller.get()
        exc = caller.fails("POST", headers={"TE": "gzip"})
        assert type(exc) is httpx.LocalProtocolError
        assert (report(exc).evidence, report(exc).verdict) == (Evidence.NOT_SENT, IGNORED)
        assert report(exc).why_not_retried == "not_transient"
        assert len(origin.requests) == 1
        assert caller.post().status_code == 200


def test_a_connection_that_died_meanwhile_is_not_used(manual_clock: ManualClock) -> None:
    with calling(manual_clock, profile="none", policies=policies(manual_clock, attempts=1)) as (
        origin,
        caller,
    ):
        caller.get()
        origin.drop_connections()
        response = caller.post()
        assert response.status_code == 200
        assert report(response).attempts == 1
        assert origin.connections == 2


def test_a_connection_that_dies_as_it_is_taken_was_not_sent_on(manual_clock: ManualClock) -> None:
    # Whatever the core says then: nothing of this request left.
    with calling(manual_clock, profile="none", policies=policies(manual_clock, attempts=1)) as (
        origin,
        caller,
    ):
        caller.get()
        (connection,) = caller.pool._open
        take = caller.pool.take

        def taken(*args: Any, **given: Any) -> bool:
            found: bool = take(*args, **given)
            if caller.pool.opened == 1:
                connection.stream.kill()
            return found

        caller.pool.take = taken
        response = caller.post()
        assert response.status_code == 200
        assert report(response).attempts == 2  # at once, on a fresh one: the policy has one attempt only
        assert len(origin.requests) == 2


@given(
    schedule=st.lists(st.sampled_from(sorted(FAULTS)), max_size=4),
    method=st.sampled_from(["GET", "POST"]),
    profile=st.sampled_from(["none", "unknown", "supported"]),
)
def test_any_schedule(schedule: list[str], method: str, profile: str) -> None:
    clock, bank = ManualClock(), Bank(honours=profile == "supported")
    given = {"policies": policies(clock, attempts=4, attempt=3.0, total=1000.0), "profile": profile}
    with calling(clock, **given) as (origin, caller):
        origin.always(charge(bank))
        origin.script(*(makes(FAULTS[name], bank) for name in schedule))
        for _ in range(2):
            before, first = sum(bank.effects.values()), len(origin.requests)
            try:
                ok = caller.send(method, "/charges", content=b"12").status_code == 201
            except httpx.TransportError:
                ok = False
            mine = origin.requests[first:]
            assert all(request.body == b"12" for request in mine if request.complete)
            if method == "POST":
                done = sum(bank.effects.values()) - before
                assert done <= 1
                assert done == 1 or not ok
                assert len(set(seen_keys(mine))) <= 1
        assert caller.pool.in_use == 0


# ------------------------------------------------------------------------------------------ a transport of the user's
@pytest.mark.parametrize(("code", "evidence"), [(0x7, REFUSED), (0xB, DECLINED), (0x2, UNKNOWN)])
def test_resets_in_a_transport_of_the_users(code: int, evidence: Evidence, manual_clock: ManualClock) -> None:
    class Reset(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            event = h2.events.StreamReset(stream_id=1, error_code=code)
            raise httpx.RemoteProtocolError(str(event)) from httpcore.RemoteProtocolError(event)

    one_attempt = policies(manual_clock, attempts=1)
    with Caller("async", "http://svc", manual_clock, transport=Reset(), policies=one_attempt) as caller:
        assert report(caller.fails("POST")).evidence is evidence


# --------------------------------------------------------------------------------------------------- what is refused
def test_sync_clients_say_what_to_write() -> None:
    with pytest.raises(
        PolicyError, match=r"http2=True is for async clients.*write async_client\(\.\.\., http2=True\)"
    ):
        bound.client("svc", base_url="http://svc", http2=True)
    with pytest.raises(PolicyError, match="http2 would be without effect beside transport="):
        mock = httpx.MockTransport(lambda request: httpx.Response(200))
        bound.async_client("svc", base_url="http://svc", http2=True, transport=mock)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **given: Any) -> Any:
        if name == "h2":
            raise ImportError(name)
        return real(name, *args, **given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'resilient-client\[http2\]'"):
        bound.async_client("svc", base_url="http://svc", http2=True)
