"""Idempotency keys on the wire: one per logical call, whose they are, and where they do not go."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from resilient import OutcomeUnknown, Pipeline, PolicyError, Retry, current_call
from resilient.http.profiles import Profile
from resilient.testing import ManualClock, Origin, answer
from resilient.testing.behaviours import Stepish
from tests.http.calls import Caller, both, policies, report, seen_keys
from tests.http.sdk import bound, httpx

FAILURES: list[Stepish] = [429, "reset_after_effect", "garbage", 503]


@both
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("profile", ["supported", "required"])
def test_one_key_per_logical_call(profile: str, method: str, mode: str, manual_clock: ManualClock) -> None:
    five = policies(manual_clock, attempts=5)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=five, profile=profile) as caller,
    ):
        origin.script(*FAILURES)
        assert caller.send(method).status_code == 200
        keys = seen_keys(origin.requests)
        assert len(keys) == 5
        assert len(set(keys)) == 1
        assert uuid.UUID(str(keys[0])).version == 4
        origin.script(*FAILURES)
        caller.send(method)
        assert len(set(seen_keys(origin.requests))) == 2


@both
def test_unknown_sends_a_key_and_does_not_rely_on_it(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(429, 503)
        response = caller.post()
        assert response.status_code == 503
        assert report(response).why_not_retried == "not_idempotent"
        first, second = seen_keys(origin.requests)
        assert first == second is not None


@both
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_no_key_where_repeating_is_safe_anyway(method: str, mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(503)
        assert report(caller.send(method)).attempts == 2
        assert seen_keys(origin.requests) == [None, None]


@both
def test_none_sends_no_key(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="none") as caller,
    ):
        caller.post()
        assert seen_keys(origin.requests) == [None]


@both
@pytest.mark.parametrize("profile", ["none", "unknown", "supported"])
@pytest.mark.parametrize("written", ["order-7", '"order-7"'])
def test_the_callers_own_key_wins(written: str, profile: str, mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.script(429, "garbage", "garbage")
        exc = caller.fails("POST", headers={"Idempotency-Key": written})
        assert isinstance(exc, OutcomeUnknown)
        # It goes out as it was written; we call it by what it is.
        assert set(seen_keys(origin.requests)) == {written}
        assert len(origin.requests) == (3 if profile == "supported" else 2)
        assert exc.idempotency_key == (None if profile == "none" else "order-7")


@both
def test_another_header_and_quotes(mode: str, manual_clock: ManualClock) -> None:
    profile = Profile(honours=True, header="PayPal-Request-Id", quoted=True)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.script("reset_after_effect")
        caller.post()
        first, second = seen_keys(origin.requests, "paypal-request-id")
        assert first is not None
        assert first == second
        assert first[0] == first[-1] == '"'
        assert uuid.UUID(first.strip('"')).version == 4
        assert seen_keys(origin.requests) == [None, None]


def test_profiles_that_make_no_sense() -> None:
    with pytest.raises(PolicyError, match=r"sends=True"):
        Profile(sends=False, honours=True)
    with pytest.raises(PolicyError, match=r"profile='often' must be .*'unknown'"):
        bound.client("svc", base_url="http://svc", profile="often")


# ---------------------------------------------------------------------------------------------------- redirects
def redirect(status: int, to: str) -> Stepish:
    return answer(status, headers={"Location": to})


@both
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_redirect_on_the_same_authority_keeps_the_key(
    absolute: bool, status: int, mode: str, manual_clock: ManualClock
) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported", follow_redirects=True) as caller,
    ):
        origin.script(
            redirect(status, origin.url + "/new" if absolute else "/new"), "reset_after_effect", 503
        )
        response = caller.post("/old", content=b"body")
        assert response.status_code == 200
        assert [(each.method, each.target) for each in origin.requests] == [
            ("POST", "/old"),
            ("POST", "/new"),
            ("POST", "/new"),
            ("POST", "/new"),
        ]
        assert len(set(seen_keys(origin.requests))) == 1
        assert None not in seen_keys(origin.requests)
        assert {each.body for each in origin.requests} == {b"body"}
        assert report(response).attempts == 4  # of the whole logical call


@both
@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_to_get_drops_the_key(status: int, mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported", follow_redirects=True) as caller,
    ):
        origin.script(redirect(status, "/receipt"))
        assert caller.post("/charges").status_code == 200
        first, second = origin.requests
        assert (second.method, second.target) == ("GET", "/receipt")
        assert first.header("idempotency-key") is not None
        assert second.header("idempotency-key") is None


@both
def test_a_redirect_to_another_authority_drops_the_key(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Origin(clock=manual_clock) as elsewhere,
        Caller(mode, origin.url, manual_clock, profile="supported", follow_redirects=True) as caller,
    ):
        origin.script(redirect(307, elsewhere.url + "/there"))
        assert caller.post("/here", content=b"body").status_code == 200
        (here,), (there,) = origin.requests, elsewhere.requests
        assert here.header("idempotency-key") is not None
        assert here.header("resilient-timeout-ms") is not None
        assert there.body == b"body"
        assert not [
            name for name, _ in there.headers if name.lower().startswith(("resilient", "idempotency"))
        ]


@both
def test_elsewhere_there_are_no_policies(mode: str, manual_clock: ManualClock) -> None:
    # Their policies are not ours to know: an error answer is an answer, and is not asked for again.
    with (
        Origin(clock=manual_clock) as origin,
        Origin(503, clock=manual_clock) as elsewhere,
        Caller(mode, origin.url, manual_clock, follow_redirects=True) as caller,
    ):
        origin.always(redirect(302, elsewhere.url + "/there"))
        assert caller.get("/here").status_code == 503
        assert len(elsewhere.requests) == 1
        assert caller.get("/here").status_code == 503
        assert elsewhere.connections == 1
        elsewhere.always("reset_before_effect")
        exc = caller.fails("GET", "/here")
        assert isinstance(exc, httpx.ReadError)
        assert len(elsewhere.requests) == 3


@both
def test_back_from_elsewhere_it_is_the_same_call(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Origin(clock=manual_clock) as elsewhere,
        Caller(mode, origin.url, manual_clock, profile="supported", follow_redirects=True) as caller,
    ):
        origin.script(redirect(307, elsewhere.url + "/there"))
        elsewhere.script(redirect(307, origin.url + "/back"))
        caller.post("/here")
        assert [each.target for each in origin.requests] == ["/here", "/back"]
        first, second = seen_keys(origin.requests)
        assert first == second is not None
        assert seen_keys(elsewhere.requests) == [None]


# ----------------------------------------------------------------------------------- keys of the calls around
@both
def test_calls_inside_a_keyed_call_get_its_children(mode: str, manual_clock: ManualClock) -> None:
    outer = Pipeline(
        Retry(3, wait=0.0, idempotency_key=lambda order: order), name="checkout", clock=manual_clock
    )
    tries = 0
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        if mode == "sync":

            @outer
            def checkout(order: str) -> str | None:
                nonlocal tries
                tries += 1
                caller.client.post("/reserve")
                caller.client.post("/charge")
                caller.client.post("/charge")
                if tries == 1:
                    raise ConnectionError
                return current_call().idempotency_key

            first, again, other = checkout("o-1"), checkout("o-1"), checkout("o-2")
        else:

            @outer
            async def acheckout(order: str) -> str | None:
                nonlocal tries
                tries += 1
                await caller.client.post("/reserve")
                await caller.client.post("/charge")
                await caller.client.post("/charge")
                if tries == 1:
                    raise ConnectionError
                return current_call().idempotency_key

            first, again, other = (caller.run(acheckout(order)) for order in ("o-1", "o-1", "o-2"))
        keys = seen_keys(origin.requests)
        assert first == again != other
        assert len(set(keys[:3])) == 3
        # Another attempt outside, and the same order redelivered, send the same keys.
        assert keys[:3] == keys[3:6] == keys[6:9]
        assert not set(keys[9:]) & set(keys[:9])
        assert first not in keys
        assert None not in keys


@both
def test_an_auth_flow_is_the_same_call(mode: str, manual_clock: ManualClock) -> None:
    challenge = answer(
        401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'}
    )
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            mode, origin.url, manual_clock, profile="supported", auth=httpx.DigestAuth("me", "secret")
        ) as caller,
    ):
        origin.script(challenge)
        assert caller.post(content=b"body").status_code == 200
        first, second = seen_keys(origin.requests)
        assert first == second is not None
        assert [each.body for each in origin.requests] == [b"body", b"body"]


# --------------------------------------------------------------------------- what a server says of a key of ours
@both
def test_in_progress_is_asked_again_where_keys_are_honoured(mode: str, manual_clock: ManualClock) -> None:
    busy = answer(409, headers={"Idempotency-Key-Status": "in-progress", "Retry-After": "0.5"})
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(busy, busy)
        response = caller.post()
        assert response.status_code == 200
        assert manual_clock.monotonic() >= 1.0
        assert len(set(seen_keys(origin.requests))) == 1


@both
@pytest.mark.parametrize(
    ("profile", "given"),
    [("unknown", "in-progress"), ("none", "in-progress"), ("supported", "mismatch"), ("supported", "")],
)
def test_other_conflicts_are_answers(profile: str, given: str, mode: str, manual_clock: ManualClock) -> None:
    headers: dict[str, Any] = {"Idempotency-Key-Status": given} if given else {}
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.script(answer(409, b"conflict", headers))
        response = caller.post()
        assert response.status_code == 409
        assert response.text == "conflict"
        assert len(origin.requests) == 1
