"""What a caller says of one request: it holds for that call, over redirects and auth flows, and for no other."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Generator
from typing import Any

import pytest

from resilient import DeadlineExceeded, OutcomeUnknown, PolicyError, TimedOut, current_call
from resilient.core.call import Criticality
from resilient.core.clock import SYSTEM_CLOCK
from resilient.http.options import RequestOptions
from resilient.testing import ManualClock, Origin, answer, capture_events
from tests.http.calls import Caller, both, policies, report, seen_keys
from tests.http.sdk import httpx

forms = pytest.mark.parametrize("form", [dict, RequestOptions])


def said(form: Any, **options: Any) -> dict[str, Any]:
    return {"resilient": form(**options)}


# ----------------------------------------------------------------------------------------------------- deadline
@both
@forms
@pytest.mark.parametrize("total", [10.0, 0.4])
def test_a_deadline(total: float, form: Any, mode: str, manual_clock: ManualClock) -> None:
    clock = manual_clock if mode == "async" else SYSTEM_CLOCK
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(clock, total=total)) as caller,
    ):
        began = clock.monotonic()
        exc = caller.fails("GET", extensions=said(form, deadline=0.6))
        assert isinstance(exc, DeadlineExceeded)
        assert isinstance(exc, httpx.TimeoutException)
        assert min(total, 0.6) - 0.05 < clock.monotonic() - began < 5.0
        assert ("0.6 s" if total > 0.6 else "0.4 s") in str(exc)
        assert 0 < int(str(origin.requests[0].header("resilient-timeout-ms"))) <= min(total, 0.6) * 1000


@both
def test_a_deadline_over_redirects_and_elsewhere(mode: str, manual_clock: ManualClock) -> None:
    clock = manual_clock if mode == "async" else SYSTEM_CLOCK
    with (
        Origin("hang", clock=manual_clock) as other,
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(clock), follow_redirects=True) as caller,
    ):
        origin.script(
            answer(307, headers={"Location": "/next"}), answer(307, headers={"Location": other.url})
        )
        exc = caller.fails("GET", extensions=said(dict, deadline=0.3))
        assert isinstance(exc, DeadlineExceeded)
        assert "the whole call took longer than 0.3 s" in str(exc)
        first, second = (int(str(each.header("resilient-timeout-ms"))) for each in origin.requests)
        assert second <= first <= 300
        assert [each.target for each in other.requests] == ["/"]


@both
def test_one_attempts_time_out_stays_one(mode: str, manual_clock: ManualClock) -> None:
    clock = manual_clock if mode == "async" else SYSTEM_CLOCK
    pipeline = policies(clock, attempt=0.1, attempts=1)
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        exc = caller.fails("GET", extensions=said(dict, deadline=5.0))
        assert isinstance(exc, TimedOut)
        assert not isinstance(exc, DeadlineExceeded)


# --------------------------------------------------------------------------------------------------- idempotent
@both
@forms
def test_a_post_that_only_searches(form: Any, mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect", 500)
        response = caller.post(content=b"12", extensions=said(form, idempotent=True))
        assert (response.status_code, report(response).attempts) == (200, 3)
        origin.always("reset_after_effect")
        exc = caller.fails("POST", extensions=said(form, idempotent=True))
        assert isinstance(exc, httpx.ReadError)
        assert not isinstance(exc, OutcomeUnknown), "it may be asked again without a thought"


@both
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_get_that_does_something(method: str, mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect")
        exc = caller.fails(method, extensions=said(dict, idempotent=False))
        assert isinstance(exc, OutcomeUnknown)
        assert len(origin.requests) == 1
        origin.script(429)  # that did not happen
        assert caller.send(method, extensions=said(dict, idempotent=False)).status_code == 200


@both
def test_a_key_makes_up_for_a_method_that_is_said_to_do_something(
    mode: str, manual_clock: ManualClock
) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script("reset_after_effect")
        mine = said(dict, idempotent=False, idempotency_key="order-7")
        assert caller.send("PUT", extensions=mine).status_code == 200
        assert seen_keys(origin.requests) == ["order-7", "order-7"]


# ---------------------------------------------------------------------------------------------------------- keys
@both
@forms
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_a_key(method: str, form: Any, mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported", follow_redirects=True) as caller,
    ):
        origin.script("reset_after_effect", answer(307, headers={"Location": "/next"}), 503)
        assert caller.send(method, extensions=said(form, idempotency_key="order-7")).status_code == 200
        assert seen_keys(origin.requests) == ["order-7"] * 4
        caller.send(method)
        assert origin.requests[-1].header("idempotency-key") != "order-7"


@both
def test_a_key_does_not_follow_to_get_nor_elsewhere(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as other,
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, follow_redirects=True) as caller,
    ):
        origin.script(answer(303, headers={"Location": "/next"}), 200)
        caller.post(extensions=said(dict, idempotency_key="order-7"))
        origin.script(answer(307, headers={"Location": other.url}))
        caller.post(extensions=said(dict, idempotency_key="order-7"))
        assert seen_keys(origin.requests) == ["order-7", None, "order-7"]
        assert seen_keys(other.requests) == [None]


@both
def test_a_request_that_is_sent_again_is_what_it_was_said_to_be(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        request = caller.client.build_request(
            "POST", "/", extensions=said(dict, idempotency_key="order-7", operation="charge", deadline=2.0)
        )
        for _ in range(2):
            sent = caller.client.send(request)
            assert (sent if mode == "sync" else caller.run(sent)).status_code == 200
            manual_clock.advance(5.0)  # each has its own two seconds
        assert seen_keys(origin.requests) == ["order-7", "order-7"]


@both
def test_an_auth_flow_keeps_it(mode: str, manual_clock: ManualClock) -> None:
    class Challenged(httpx.Auth):  # type: ignore[misc]  # of the run's SDK
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            response = yield request
            if response.status_code == 401:
                request.headers["Authorization"] = "Bearer t"
                yield request

    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(401, "reset_after_effect")
        mine = said(dict, idempotency_key="order-7", idempotent=True)
        assert caller.post(auth=Challenged(), extensions=mine).status_code == 200
        assert seen_keys(origin.requests) == ["order-7"] * 3


@both
def test_quotes_and_another_header(mode: str, manual_clock: ManualClock) -> None:
    from resilient.http.profiles import Profile

    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=Profile(header="X-Key", quoted=True)) as caller,
    ):
        caller.post(extensions=said(dict, idempotency_key="order-7"))
        caller.post(extensions=said(dict, idempotency_key="order-7"), headers={"X-Key": '"order-7"'})
        assert seen_keys(origin.requests, "x-key") == ['"order-7"', '"order-7"']


# ----------------------------------------------------------------------------------------- operation, criticality
@both
@forms
def test_an_operation(form: Any, mode: str, manual_clock: ManualClock) -> None:
    with (
        capture_events() as events,
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock) as caller,
    ):
        origin.script(503)
        caller.get(extensions=said(form, operation="search"))
        caller.get()
        origin.script("reset_after_effect")
        exc = caller.fails("POST", extensions=said(form, operation="charge"))
        assert isinstance(exc, OutcomeUnknown)
        assert exc.operation == "charge"
        assert str(exc).startswith("svc.charge: POST was tried")
    assert [each.operation for each in events.named("resilient.call.finished")] == ["search", "GET", "charge"]
    assert [each.operation for each in events.named("resilient.retry.scheduled")] == ["search"]


def test_operations_without_end_are_not_kept(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller("sync", origin.url, manual_clock) as caller:
        for n in range(300):
            assert caller.get(extensions=said(dict, operation=f"o{n}")).status_code == 200
        assert len(caller.transport._runs) == 256


@both
def test_a_criticality(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        caller.get(extensions=said(dict, criticality="sheddable"))
        caller.post(extensions=said(RequestOptions, criticality=Criticality.CRITICAL_PLUS))
        caller.get()
        levels = [each.header("resilient-criticality") for each in origin.requests]
        assert levels == ["sheddable", "critical_plus", None]
    assert current_call().criticality is Criticality.CRITICAL


@both
def test_the_callers_own_dict_stays_his(mode: str, manual_clock: ManualClock) -> None:
    mine = {"resilient": {"operation": "search"}}
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        for _ in range(2):
            assert caller.get(extensions=mine).status_code == 200
    assert mine == {"resilient": {"operation": "search"}}


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"deadline": 0},
            r"request: deadline=0 must be a number \(seconds\), more than 0 and at most 86,400, or None",
        ),
        ({"deadline": "1"}, r"deadline='1' must be"),
        ({"deadline": math.nan}, r"deadline=nan must be"),
        ({"idempotent": "yes"}, r"idempotent='yes' must be True, False or None"),
        ({"idempotency_key": ""}, r"idempotency_key= must be 1 to 255 visible ASCII"),
        ({"idempotency_key": 'a"b'}, r"idempotency_key= must be"),
        ({"idempotency_key": "a\nb"}, r"idempotency_key= must be"),
        ({"idempotency_key": "ä"}, r"idempotency_key= must be"),
        ({"idempotency_key": "k" * 256}, r"idempotency_key= must be"),
        ({"idempotency_key": uuid.uuid4()}, r"idempotency_key= must be"),
        ({"first_sent": 5.0}, r"first_sent=5.0 is the time of a key, and there is none"),
        ({"first_sent": "now", "idempotency_key": "k"}, r"first_sent='now' must be"),
        ({"operation": ""}, r"operation='' must be a name from code"),
        ({"criticality": "high"}, r"criticality='high' is not a level; one of 'sheddable'"),
        ({"timeout": 1.0}, r"has no 'timeout'; it takes deadline, idempotent"),
        ({"dedline": 1.0}, r"Did you mean 'deadline'\?"),
        ({7: 1.0}, r"has no 7"),
        (7, r"extensions\['resilient'\] is a int; give a RequestOptions, or a dict such as"),
        ("deadline", r"extensions\['resilient'\] is a str"),
    ],
)
@both
def test_what_cannot_be(options: Any, says: str, mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        exc = caller.fails("POST", extensions={"resilient": options})
        assert isinstance(exc, PolicyError)
        assert re.search(says, str(exc)), str(exc)
        assert not origin.requests
        assert caller.get().status_code == 200


@both
def test_keys_that_would_be_without_effect(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        mine = said(dict, idempotency_key="order-7")
        assert "this is GET; leave it out" in str(caller.fails("GET", extensions=mine))
        two = caller.fails("POST", extensions=mine, headers={"Idempotency-Key": "order-8"})
        assert "are two keys" in str(two)
        assert "order-8" not in str(two)
        with Caller(mode, origin.url, manual_clock, profile="none") as none:
            assert "profile='unknown'" in str(none.fails("POST", extensions=mine))
        assert not origin.requests
