"""What each fault of a server proves, and what follows: who is sent again, what the error is, what was done."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import OutcomeUnknown, Pipeline, TimedOut
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import FAILURE, Evidence
from resilient.testing import (
    ManualClock,
    Origin,
    answer,
    close_without_answer,
    die,
    garbage,
    hang,
    reset_mid_body,
    reset_mid_head,
    retry_later,
    truncated,
    wrong_length,
)
from resilient.testing.behaviours import Stepish, as_behaviour
from resilient.testing.exchange import Exchange
from tests.http.calls import Bank, Caller, both, policies, report, seen_keys, told
from tests.http.sdk import httpx, now

PROFILES = ["none", "unknown", "supported", "required"]


class Fault(NamedTuple):
    """A fault, and what it proves.

    Attributes:
        makes: the behaviour, for a server that executes what it is sent.
        evidence: what the report says.
        error: the SDK's class; None: an answer.
        effect: whether the request was executed.
        seen: whether the server's application saw the request.
    """

    makes: Callable[[Bank], Stepish]
    evidence: Evidence
    error: type[Exception] | None
    effect: bool
    seen: bool = True


def after(then: Stepish) -> Callable[[Bank], Stepish]:
    """The request is executed, then it goes wrong."""

    def make(bank: Bank) -> Stepish:
        def run(exchange: Exchange) -> None:
            bank.do(exchange.read())
            as_behaviour(then)(exchange)

        return run

    return make


def before(then: Stepish) -> Callable[[Bank], Stepish]:
    """It goes wrong before anything is executed."""
    return lambda bank: then


SENT = (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)
BODY = answer(200, b"x" * 1000)
FAULTS: dict[str, Fault] = {
    "reset before request": Fault(
        before("reset_before_request"), Evidence.UNKNOWN, httpx.ReadError, False, False
    ),
    "reset before effect": Fault(before("reset_before_effect"), Evidence.UNKNOWN, httpx.ReadError, False),
    "reset after effect": Fault(after("reset_after_effect"), Evidence.UNKNOWN, httpx.ReadError, True),
    "closed before effect": Fault(
        before(close_without_answer()), Evidence.UNKNOWN, httpx.RemoteProtocolError, False
    ),
    "closed after effect": Fault(
        after(close_without_answer(effect=True)), Evidence.UNKNOWN, httpx.RemoteProtocolError, True
    ),
    "reset mid head": Fault(after(reset_mid_head()), Evidence.UNKNOWN, httpx.ReadError, True),
    "reset mid body": Fault(after(reset_mid_body(then=BODY)), Evidence.UNKNOWN, httpx.ReadError, True),
    "truncated": Fault(after(truncated(then=BODY)), Evidence.UNKNOWN, httpx.RemoteProtocolError, True),
    "garbage": Fault(after(garbage(effect=True)), Evidence.UNKNOWN, httpx.RemoteProtocolError, True),
    "hangs before effect": Fault(before(hang()), Evidence.UNKNOWN, httpx.TimeoutException, False),
    "hangs after effect": Fault(after(hang(effect=True)), Evidence.UNKNOWN, httpx.TimeoutException, True),
    "longer than told": Fault(after(wrong_length(100, BODY)), Evidence.UNKNOWN, httpx.TimeoutException, True),
    "error": Fault(before(500), Evidence.ANSWERED, None, False),
    "error after effect": Fault(after(500), Evidence.ANSWERED, None, True),
    "bad gateway": Fault(before(502), Evidence.ANSWERED, None, False),
    "unavailable": Fault(before(503), Evidence.ANSWERED, None, False),
    "gateway timeout": Fault(after(504), Evidence.ANSWERED, None, True),
    "unavailable, later": Fault(before(retry_later(1, 503)), Evidence.ANSWERED, None, False),
    "not processed": Fault(
        before(answer(503, headers={"Resilient-Not-Processed": "1"})), Evidence.DECLINED, None, False
    ),
    "too many": Fault(before(retry_later(1, 429)), Evidence.DECLINED, None, False),
    "too early": Fault(before(425), Evidence.DECLINED, None, False),
}
HARMLESS = (Evidence.NOT_SENT, Evidence.REFUSED, Evidence.DECLINED)


def hasty(name: str, mode: str, clock: ManualClock) -> Pipeline:
    """Policies with a time-out for each attempt where the fault wants one.

    Sockets of sync code wait in real time: there it is short, and the clock a real one."""
    if now(FAULTS[name].error) is not httpx.TimeoutException:
        return policies(clock)
    return policies(clock, attempt=3.0) if mode == "async" else policies(SYSTEM_CLOCK, attempt=0.1)


@both
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", FAULTS)
def test_one_fault(name: str, method: str, profile: str, mode: str, manual_clock: ManualClock) -> None:
    fault = FAULTS[name]
    honours = profile in ("supported", "required")
    bank = Bank(honours=honours)
    again = method == "GET" or honours or fault.evidence in HARMLESS
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            mode,
            origin.url,
            manual_clock,
            policies=hasty(name, mode, manual_clock),
            profile=profile,
        ) as caller,
    ):
        origin.always(bank.charge)
        origin.script(fault.makes(bank))
        if again:
            outcome: Any = caller.send(method, "/charges")
            assert outcome.status_code == 201
            assert report(outcome).attempts == 2
            assert report(outcome).evidence is Evidence.ANSWERED
        elif fault.error is None:
            outcome = caller.send(method, "/charges")
            assert outcome.status_code >= 500
            assert report(outcome).evidence is fault.evidence
            assert report(outcome).why_not_retried == "not_idempotent"
        else:
            outcome = caller.fails(method, "/charges")
            assert isinstance(outcome, now(fault.error))
            assert isinstance(outcome, OutcomeUnknown)
            assert report(outcome).evidence is fault.evidence
            assert report(outcome).why_not_retried == "not_idempotent"
            assert "may have happened" in str(outcome)
        assert len(origin.requests) == fault.seen + again
        if method == "POST":
            # The invariant: never twice, and once where the caller saw success.
            if again:
                assert list(bank.effects.values()) == [1]
            assert sum(bank.effects.values()) == (fault.effect or again)
            keys = seen_keys(origin.requests)
            assert len(set(keys)) <= 1
            assert (None in keys) == (profile == "none" and bool(keys))
        else:
            assert set(seen_keys(origin.requests)) == {None}


@both
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_reset_on_accept(method: str, mode: str, manual_clock: ManualClock) -> None:
    # The reset comes while we connect, or when we have begun to send: either is told as what it was.
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(manual_clock, attempts=1)) as caller,
    ):
        origin.script("reset_on_accept")
        exc = caller.fails(method)
        assert isinstance(exc, (httpx.ConnectError, *now(SENT)))
        if report(exc).evidence is Evidence.NOT_SENT:
            assert not isinstance(exc, OutcomeUnknown)
        else:
            assert report(exc).evidence is Evidence.UNKNOWN
            assert isinstance(exc, now(SENT))
            assert isinstance(exc, OutcomeUnknown) == (method == "POST")
        assert origin.requests == []


# Where the last attempt fails too, the error is the last one.
@both
@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].error])
def test_the_same_fault_for_ever(name: str, mode: str, manual_clock: ManualClock) -> None:
    fault, bank = FAULTS[name], Bank(honours=True)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            mode,
            origin.url,
            manual_clock,
            policies=hasty(name, mode, manual_clock),
            profile="supported",
        ) as caller,
    ):
        origin.always(fault.makes(bank))
        safe = caller.fails("GET")
        keyed = caller.fails("POST")
    assert fault.error is not None
    for exc in (safe, keyed):
        assert isinstance(exc, now(fault.error))
        assert report(exc).attempts == 3
        assert report(exc).why_not_retried == "attempts"
        assert report(exc).evidence is Evidence.UNKNOWN
        assert "3 attempts" in told(exc)
    assert not isinstance(safe, OutcomeUnknown)  # it does not matter whether a GET happened
    assert isinstance(keyed, OutcomeUnknown)
    assert isinstance(safe, TimedOut) == (now(fault.error) is httpx.TimeoutException)
    assert all(count == 1 for key, count in bank.effects.items() if key != "no key")


@both
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused(method: str, profile: str, mode: str, manual_clock: ManualClock) -> None:
    # Nothing was sent, so everybody may try again.
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.refuse()
        exc = caller.fails(method)
        assert type(exc) is httpx.ConnectError
        assert report(exc).evidence is Evidence.NOT_SENT
        assert report(exc).attempts == 3
        assert report(exc).why_not_retried == "attempts"
        assert report(exc).endpoint == f"127.0.0.1:{origin.port}"
        assert report(exc).verdict is FAILURE
        origin.reopen()
        assert caller.send(method).status_code == 200


@both
def test_refused_then_there(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin:
        origin.refuse()
        manual_clock.call_at(0.5, origin.reopen)  # during the second wait
        with Caller(mode, origin.url, manual_clock, policies=policies(manual_clock, wait=1.0)) as caller:
            response = caller.post("/charges")
    assert response.status_code == 200
    assert report(response).attempts >= 2
    assert len(origin.requests) == 1


@both
def test_a_server_that_dies_during_the_call(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock) as caller,
    ):
        origin.script(die())
        exc = caller.fails("GET")
        assert isinstance(exc, httpx.ConnectError)
        # The last attempts were not sent, and make nothing known of the first.
        assert report(exc).evidence is Evidence.UNKNOWN
        assert report(exc).attempts == 3
        assert len(origin.requests) == 1


@both
def test_it_may_have_happened_in_an_earlier_attempt(mode: str, manual_clock: ManualClock) -> None:
    # A keyed POST, executed by the first attempt; the last attempt found nobody there.
    bank = Bank(honours=True)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(after(die("reset_after_effect"))(bank))
        exc = caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.ConnectError)
        assert exc.attempts == 3
        assert sum(bank.effects.values()) == 1
        # A server that honours the key answers for it: so the caller asks again.
        origin.reopen()
        origin.always(bank.charge)
        again = caller.post("/charges", headers={"Idempotency-Key": exc.idempotency_key})
        assert again.status_code == 201
        assert sum(bank.effects.values()) == 1


@both
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_name(method: str, mode: str, manual_clock: ManualClock) -> None:
    with Caller(mode, "http://nobody.invalid", manual_clock) as caller:
        exc = caller.fails(method)
    assert type(exc) is httpx.ConnectError
    assert report(exc).evidence is Evidence.NOT_SENT
    assert report(exc).attempts == 3  # a name may appear


@both
def test_a_bad_certificate_is_not_tried_again(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(tls=True, clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, verify=True) as caller,
    ):
        exc = caller.fails("GET")
        assert type(exc) is httpx.ConnectError
        assert report(exc).evidence is Evidence.NOT_SENT
        assert report(exc).attempts == 1
        assert report(exc).why_not_retried == "not_transient"
        assert origin.connections == 1
        assert "CERTIFICATE_VERIFY_FAILED" in str(exc)


@both
def test_plain_http_where_tls_is_spoken(mode: str, manual_clock: ManualClock) -> None:
    def not_tls(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        exchange.close()

    with (
        Origin(not_tls, clock=manual_clock) as origin,
        Caller(mode, origin.url.replace("http:", "https:"), manual_clock) as caller,
    ):
        exc = caller.fails("POST")
    assert type(exc) is httpx.ConnectError
    assert report(exc).evidence is Evidence.NOT_SENT


# ------------------------------------------------------------------------------------------------- the errors
@both
def test_outcome_unknown_says_what_to_do(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect")
        exc = caller.fails("POST", "/charges", json={"cents": 995})
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.ReadError)
        assert isinstance(exc, httpx.TransportError)
        assert exc.dependency == "svc"
        assert exc.operation == "POST"
        assert exc.attempts == 1
        assert exc.idempotency_key == origin.requests[0].header("idempotency-key")
        assert exc.request.url == f"{origin.url}/charges"
        assert isinstance(exc.__cause__, httpx.ReadError)
        assert not isinstance(exc.__cause__, OutcomeUnknown)
        assert "may have happened" in str(exc)
        assert str(exc).startswith("svc.POST: ")
        assert str(exc.idempotency_key) not in str(exc)
        origin.script("reset_after_effect")
        without = Caller(mode, origin.url, manual_clock, profile="none")
        with without:
            exc = without.fails("POST")
            assert isinstance(exc, OutcomeUnknown)
            assert exc.idempotency_key is None
            assert ".idempotency_key" not in str(exc)


@both
def test_errors_are_picklable(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect")
        unknown = caller.fails("POST")
        with Caller(
            mode,
            origin.url,
            manual_clock,
            policies=policies(manual_clock if mode == "async" else SYSTEM_CLOCK, attempt=0.3, attempts=1),
        ) as quick:
            origin.script("hang", "hang")
            timed_out = quick.fails("GET")
            hung = quick.fails("POST")
    for exc, ours, theirs in (
        (unknown, OutcomeUnknown, httpx.ReadError),
        (timed_out, TimedOut, httpx.TimeoutException),
        (hung, OutcomeUnknown, httpx.TimeoutException),
    ):
        copy = pickle.loads(pickle.dumps(exc))
        assert type(copy) is type(exc)
        assert isinstance(copy, ours)
        assert isinstance(copy, theirs)
        assert str(copy) == str(exc)
        assert report(copy) == report(exc)


# ---------------------------------------------------------------------------------------------- any schedule
NAMES = sorted(name for name in FAULTS if FAULTS[name].error is not httpx.TimeoutException)


@both
@given(
    schedule=st.lists(st.sampled_from(NAMES), max_size=5),
    method=st.sampled_from(["POST", "PATCH"]),
    profile=st.sampled_from(PROFILES),
    calls=st.integers(1, 3),
)
def test_any_schedule_of_faults(
    mode: str, schedule: list[str], method: str, profile: str, calls: int
) -> None:
    # effects(key) <= 1, and = 1 once the caller saw success; without a key that counts, for the call.
    clock = ManualClock()
    bank = Bank(honours=profile in ("supported", "required"))
    with (
        Origin(clock=clock) as origin,
        Caller(
            mode,
            origin.url,
            clock,
            profile=profile,
            policies=policies(clock, attempts=4, total=86_400.0, name=None),
        ) as caller,
    ):
        origin.always(bank.charge)
        origin.script(*(FAULTS[name].makes(bank) for name in schedule))
        for _ in range(calls):
            before, first = sum(bank.effects.values()), len(origin.requests)
            try:
                ok = caller.send(method, "/charges", content=b"12").status_code == 201
            except httpx.TransportError:
                ok = False
            done = sum(bank.effects.values()) - before
            assert done <= 1
            assert done == 1 or not ok
            mine = origin.requests[first:]
            assert len(set(seen_keys(mine))) <= 1
            assert all(request.body == b"12" for request in mine if request.complete)
        assert max(bank.effects.values(), default=0) <= (1 if profile != "none" else calls)
        assert caller.pool.in_use == 0
