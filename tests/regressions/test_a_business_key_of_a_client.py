"""`idempotency_key=` in the policies of a client did nothing: every request had a random key. `idempotent=True` did
nothing either, and said nothing."""

from __future__ import annotations

import httpx
import pytest

import resilient.httpx
from resilient import Pipeline, PolicyError, Retry, standard
from resilient.testing import ManualClock, Origin, reset_after_effect
from tests.http.calls import Bank, Caller, both, seen_keys


def order(request: httpx.Request) -> str:
    return request.headers["x-order"]


@both
def test_the_key_is_made_of_the_request(mode: str, manual_clock: ManualClock) -> None:
    policies = Pipeline(Retry(3, wait=0, idempotency_key=order), name="svc", clock=manual_clock)
    bank = Bank(honours=True)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies, profile="supported") as caller,
    ):
        origin.script(reset_after_effect(), *[bank.charge] * 3)
        caller.post("/charges", headers={"x-order": "7"})
        caller.post("/charges", headers={"x-order": "7"})
        caller.post("/charges", headers={"x-order": "8"})
        sent = seen_keys(origin.requests)
        assert len(sent) == 4
        assert len({*sent[:3]}) == 1, "the same order, the same key"
        assert sent[3] not in sent[:3]
        assert sorted(bank.effects.values()) == [1, 1]
        assert caller.get().status_code == 200, "who makes no effect is asked for no key"


@both
def test_a_key_of_the_callers_wins(mode: str, manual_clock: ManualClock) -> None:
    policies = Pipeline(Retry(3, wait=0, idempotency_key=order), name="svc", clock=manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies) as caller,
    ):
        caller.post("/charges", headers={"Idempotency-Key": "mine"})
        assert seen_keys(origin.requests) == ["mine"]


def test_what_may_be_repeated_is_not_said_there() -> None:
    with pytest.raises(
        PolicyError, match=r"Retry\(idempotent=True\).*; leave it out, and write profile='supported'"
    ):
        resilient.httpx.client("bank", base_url="http://bank.svc", policies=standard("bank", idempotent=True))


def test_a_profile_that_sends_no_key_leaves_it_without_effect() -> None:
    policies = Pipeline(Retry(idempotency_key=order), name="bank")
    with pytest.raises(
        PolicyError, match=r"this profile sends no key; leave it out, or write profile='unknown'"
    ):
        resilient.httpx.client("bank", base_url="http://bank.svc", policies=policies, profile="none")


def test_a_key_that_cannot_be_made_leaves_the_request_as_it_was() -> None:
    policies = Pipeline(Retry(idempotency_key=lambda request: request.headers.get("x-order")), name="bank")
    transport = httpx.MockTransport(lambda request: httpx.Response(201))
    with resilient.httpx.client(
        "bank", base_url="http://bank", policies=policies, transport=transport
    ) as client:
        request = client.build_request("POST", "/charges")
        for _ in range(2):
            with pytest.raises(PolicyError, match="idempotency_key gave None for POST /charges"):
                client.send(request)
        request.headers["x-order"] = "7"
        assert client.send(request).status_code == 201
