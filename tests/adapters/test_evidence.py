"""What each fault of a server proves, and what follows, is the same for each client: the table is that of httpx."""

from __future__ import annotations

import pickle
from typing import Any

import httpx
import pytest

from resilient import OutcomeUnknown, Pipeline, TimedOut
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import FAILURE, Evidence
from resilient.testing import ManualClock, Origin, die
from tests.adapters.calls import BASE, NOBODY, SENT, TIMEOUT, Caller, each, report
from tests.http.calls import Bank, policies, seen_keys, told
from tests.http.sdk import now
from tests.http.test_evidence import FAULTS, HARMLESS, PROFILES, after


def hasty(name: str, kind: str, clock: ManualClock) -> Pipeline:
    """Policies with a time-out for each attempt where the fault wants one; sockets of sync code wait in real time."""
    if now(FAULTS[name].error) is not httpx.TimeoutException:
        return policies(clock)
    return policies(clock, attempt=3.0) if kind == "aiohttp" else policies(SYSTEM_CLOCK, attempt=0.1)


def expected(name: str, kind: str) -> type[Exception] | tuple[type[Exception], ...]:
    return TIMEOUT[kind] if now(FAULTS[name].error) is httpx.TimeoutException else SENT[kind]


@each
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", FAULTS)
def test_one_fault(name: str, method: str, profile: str, kind: str, manual_clock: ManualClock) -> None:
    fault = FAULTS[name]
    honours = profile in ("supported", "required")
    bank = Bank(honours=honours)
    again = method == "GET" or honours or fault.evidence in HARMLESS
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            kind, origin.url, manual_clock, policies=hasty(name, kind, manual_clock), profile=profile
        ) as caller,
    ):
        origin.always(bank.charge)
        origin.script(fault.makes(bank))
        outcome: Any
        if again:
            outcome = caller.send(method, "/charges")
            assert outcome.status == 201
            assert report(outcome).attempts == 2
            assert report(outcome).evidence is Evidence.ANSWERED
        elif fault.error is None:
            outcome = caller.send(method, "/charges")
            assert outcome.status >= 500
            assert report(outcome).evidence is fault.evidence
            assert report(outcome).why_not_retried == "not_idempotent"
        else:
            outcome = caller.fails(method, "/charges")
            assert isinstance(outcome, expected(name, kind))
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


# Where the last attempt fails too, the error is the last one; and what counts is what the server was sent.
@each
@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].error])
def test_the_same_fault_for_ever(name: str, kind: str, manual_clock: ManualClock) -> None:
    fault, bank = FAULTS[name], Bank(honours=True)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            kind, origin.url, manual_clock, policies=hasty(name, kind, manual_clock), profile="supported"
        ) as caller,
    ):
        origin.always(fault.makes(bank))
        safe = caller.fails("GET")
        assert len(origin.requests) == 3 * fault.seen
        keyed = caller.fails("POST")
        assert len(origin.requests) == 6 * fault.seen
    for exc in (safe, keyed):
        assert isinstance(exc, expected(name, kind))
        assert report(exc).attempts == 3
        assert report(exc).why_not_retried == "attempts"
        assert report(exc).evidence is Evidence.UNKNOWN
        assert "3 attempts" in told(exc)
    assert not isinstance(safe, OutcomeUnknown)  # it does not matter whether a GET happened
    assert isinstance(keyed, OutcomeUnknown)
    assert isinstance(safe, TimedOut) == (now(fault.error) is httpx.TimeoutException)
    assert all(count == 1 for key, count in bank.effects.items() if key != "no key")


@each
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused(method: str, profile: str, kind: str, manual_clock: ManualClock) -> None:
    # Nothing was sent, so everybody may try again.
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.refuse()
        exc = caller.fails(method)
        assert type(exc) is NOBODY[kind]
        assert report(exc).evidence is Evidence.NOT_SENT
        assert report(exc).attempts == 3
        assert report(exc).why_not_retried == "attempts"
        assert report(exc).endpoint == f"127.0.0.1:{origin.port}"
        assert report(exc).verdict is FAILURE
        origin.reopen()
        assert caller.send(method).status == 200


@each
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_reset_on_accept(method: str, kind: str, manual_clock: ManualClock) -> None:
    # The reset comes while we connect, or when we have begun to send: either is told as what it was.
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, policies=policies(manual_clock, attempts=1)) as caller,
    ):
        origin.script("reset_on_accept")
        exc = caller.fails(method)
        assert isinstance(exc, SENT[kind])
        unknown = report(exc).evidence is Evidence.UNKNOWN
        assert unknown or report(exc).evidence is Evidence.NOT_SENT
        assert isinstance(exc, OutcomeUnknown) == (method == "POST" and unknown)
        assert origin.requests == []


@each
def test_a_server_that_dies_during_the_call(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script(die())
        exc = caller.fails("GET")
        assert isinstance(exc, NOBODY[kind])
        # The last attempts were not sent, and make nothing known of the first.
        assert report(exc).evidence is Evidence.UNKNOWN
        assert report(exc).attempts == 3
        assert len(origin.requests) == 1


@each
def test_it_may_have_happened_in_an_earlier_attempt(kind: str, manual_clock: ManualClock) -> None:
    # A keyed POST, executed by the first attempt; the last attempt found nobody there.
    bank = Bank(honours=True)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(after(die("reset_after_effect"))(bank))
        exc = caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, BASE[kind])
        assert exc.attempts == 3
        assert sum(bank.effects.values()) == 1
        # A server that honours the key answers for it: so the caller asks again.
        origin.reopen()
        origin.always(bank.charge)
        key = exc.idempotency_key
        assert key is not None
        again = caller.send("POST", headers={"Idempotency-Key": key})
        assert again.status == 201
        assert sum(bank.effects.values()) == 1


@each
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_name(method: str, kind: str, manual_clock: ManualClock) -> None:
    with Caller(kind, "http://nobody.invalid", manual_clock) as caller:
        exc = caller.fails(method)
    assert isinstance(exc, NOBODY[kind])
    assert report(exc).evidence is Evidence.NOT_SENT
    assert report(exc).attempts == 3  # a name may appear


@each
def test_a_bad_certificate_is_not_tried_again(kind: str, manual_clock: ManualClock) -> None:
    with (
        Origin(tls=True, clock=manual_clock) as origin,
        Caller(kind, origin.url, manual_clock) as caller,
    ):
        exc = caller.fails("GET")
        assert isinstance(exc, BASE[kind])
        assert report(exc).evidence is Evidence.NOT_SENT
        assert report(exc).attempts == 1
        assert report(exc).why_not_retried == "not_transient"
        assert origin.connections == 1
        assert "CERTIFICATE_VERIFY_FAILED" in str(exc)


# ------------------------------------------------------------------------------------------------- the errors
@each
def test_outcome_unknown_says_what_to_do(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect")
        exc = caller.fails("POST", "/charges", json={"cents": 995})
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, SENT[kind])
        assert exc.dependency == "svc"
        assert exc.operation == "POST"
        assert exc.attempts == 1
        assert exc.idempotency_key == origin.requests[0].header("idempotency-key")
        assert isinstance(exc.__cause__, SENT[kind])
        assert not isinstance(exc.__cause__, OutcomeUnknown)
        assert "may have happened" in str(exc)
        assert str(exc).startswith("svc.POST: ")
        assert str(exc.idempotency_key) not in str(exc)


@each
def test_errors_are_picklable(kind: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(kind, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect")
        unknown = caller.fails("POST")
        clock = manual_clock if kind == "aiohttp" else SYSTEM_CLOCK
        with Caller(
            kind, origin.url, manual_clock, policies=policies(clock, attempt=0.3, attempts=1)
        ) as quick:
            origin.script("hang", "hang")
            timed_out = quick.fails("GET")
            hung = quick.fails("POST")
    for exc, ours, theirs in (
        (unknown, OutcomeUnknown, SENT[kind]),
        (timed_out, TimedOut, TIMEOUT[kind]),
        (hung, OutcomeUnknown, TIMEOUT[kind]),
    ):
        exc.__notes__ = []
        theirs_of_it: Any = theirs
        copied = pickle.loads(pickle.dumps(exc))
        assert type(copied) is type(exc)
        assert isinstance(copied, ours)
        assert isinstance(copied, theirs_of_it)
        assert str(copied) == str(exc)
        assert report(copied) == report(exc)
