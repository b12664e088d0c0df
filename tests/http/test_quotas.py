"""What a server says of its limits is kept in mind: by the endpoint where it speaks for itself, by the rate limit where
it speaks for the service; and never for longer than we would wait."""

from __future__ import annotations

import pytest

from resilient import Budget, Pipeline, Policy, RateLimit, RateLimited, Retry, Timeout
from resilient.http.profiles import Profile
from resilient.testing import ManualClock, Origin, answer, retry_later
from resilient.testing.behaviours import Stepish
from tests.http.calls import Caller, both, report
from tests.http.sdk import httpx


def limited(clock: ManualClock, limit: RateLimit, *, attempts: int = 1) -> Pipeline:
    rest: list[Policy] = (
        [] if attempts == 1 else [Retry(attempts, idempotent=False, budget=Budget(ratio=10.0))]
    )
    return Pipeline(Timeout(60.0), *rest, limit, name="svc", clock=clock)


def empty(seconds: int, status: int = 429) -> Stepish:
    return answer(status, headers={"RateLimit": f'"default";r=0;t={seconds}'})


@both
@pytest.mark.parametrize(
    ("step", "seconds"),
    [
        (retry_later(7.0, 429), None),  # of this request
        (empty(7), 7.0),
        (empty(7, 503), 7.0),
        (answer(429, headers={"Retry-After": "3", "RateLimit": '"default";r=0;t=9'}), 3.0),
        (
            empty(3600),
            30.0,
        ),  # no server holds us longer than our own ceiling
        (answer(429, headers={"RateLimit": '"default";r=0;t=1e300'}), None),
        (answer(429), None),
        (retry_later(7.0, 503), None),
    ],
    ids=["429", "429 quota", "503 quota", "both", "too long", "nonsense", "bare", "503"],
)
def test_the_rate_limit_lets_none_through_until_then(
    step: Stepish, seconds: float | None, mode: str, manual_clock: ManualClock
) -> None:
    limit = RateLimit("100/second")
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=limited(manual_clock, limit)) as caller,
    ):
        origin.script(step)
        assert caller.get().status_code in (429, 503)
        if seconds is None:
            assert caller.get().status_code == 200
            return
        exc = caller.fails()
        assert isinstance(exc, RateLimited)
        assert isinstance(exc, httpx.TransportError)
        assert exc.retry_after == pytest.approx(seconds, abs=0.01)
        manual_clock.advance(seconds)
        assert caller.get().status_code == 200
        assert len(origin.requests) == 2


@both
def test_the_calls_own_retry_is_not_refused_by_the_hold(mode: str, manual_clock: ManualClock) -> None:
    limit = RateLimit("100/second")
    policies = limited(manual_clock, limit, attempts=4)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies) as caller,
    ):
        origin.script(retry_later(2.0, 429), empty(3), retry_later(0, 429))
        response = caller.get()
        assert (response.status_code, report(response).attempts) == (200, 4)
        assert 5.0 <= manual_clock.monotonic() <= 5.0 * 1.1 + 1.1


@both
def test_without_a_rate_limit_only_the_call_itself_waits(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(empty(7), 200)
        assert caller.get().status_code == 200
        assert 7.0 <= manual_clock.monotonic() < 8.0
        assert caller.get().status_code == 200


@both
@pytest.mark.parametrize(
    ("quota", "headers", "held"),
    [
        (None, {"RateLimit": '"default";r=0;t=5'}, False),
        ("RateLimit", {"RateLimit": '"default";r=0;t=5'}, True),
        ("RateLimit", {"RateLimit": '"default";r=1;t=5'}, False),
        ("RateLimit", {"RateLimit": '"default";r=0;t=5', "Age": "3"}, False),
        ("X-RateLimit", {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "5"}, True),
        ("X-RateLimit", {"X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "5"}, False),
        ("X-RateLimit", {"RateLimit": '"default";r=0;t=5'}, False),
    ],
)
@pytest.mark.parametrize("status", [200, 404])
def test_the_last_call_of_a_quota(
    status: int,
    quota: str | None,
    headers: dict[str, str],
    held: bool,
    mode: str,
    manual_clock: ManualClock,
) -> None:
    limit = RateLimit("100/second")
    with (
        Origin(answer(status, headers=headers), clock=manual_clock) as origin,
        Caller(
            mode,
            origin.url,
            manual_clock,
            policies=limited(manual_clock, limit),
            profile=Profile(quota=quota),
        ) as caller,
    ):
        assert caller.get().status_code == status
        if held:
            assert isinstance(caller.fails(), RateLimited)
            manual_clock.advance(5.0)
        assert caller.get().status_code == status


@both
def test_a_limit_with_keys_is_left_alone(mode: str, manual_clock: ManualClock) -> None:
    limit = RateLimit("100/second", key=lambda request: request.url.path)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=limited(manual_clock, limit)) as caller,
    ):
        origin.script(empty(7))
        assert caller.get().status_code == 429
        assert caller.get().status_code == 200


# ------------------------------------------------------------------------------------------- several endpoints
@both
@pytest.mark.parametrize("status", [429, 503])
def test_one_pod_that_asks_for_less_is_avoided_for_so_long(
    status: int, mode: str, manual_clock: ManualClock
) -> None:
    limit = RateLimit("1000/second")
    with Origin(clock=manual_clock) as busy, Origin(clock=manual_clock) as well:
        endpoints = [f"127.0.0.1:{busy.port}", f"127.0.0.1:{well.port}"]
        policies = limited(manual_clock, limit)
        with Caller(mode, "http://svc.test", manual_clock, endpoints=endpoints, policies=policies) as caller:
            busy.always(retry_later(20.0, status))
            while not busy.requests:
                caller.get()
            before = len(busy.requests)
            for _ in range(60):  # the service goes on: it is one pod's word
                manual_clock.advance(0.05)
                caller.get()
            assert len(busy.requests) - before <= 2
            assert limit.available() > 0


@both
def test_a_quota_is_the_services_whichever_pod_says_so(mode: str, manual_clock: ManualClock) -> None:
    limit = RateLimit("1000/second")
    with Origin(clock=manual_clock) as one, Origin(clock=manual_clock) as other:
        endpoints = [f"127.0.0.1:{one.port}", f"127.0.0.1:{other.port}"]
        with Caller(
            mode, "http://svc.test", manual_clock, endpoints=endpoints, policies=limited(manual_clock, limit)
        ) as caller:
            one.always(empty(7))
            other.always(empty(7))
            assert caller.get().status_code == 429
            assert isinstance(caller.fails(), RateLimited)
            assert not any(each.blamed for each in caller.transport.endpoints)


# ------------------------------------------------------------------------------------ retries that others have made
@both
@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"x-envoy-attempt-count": "3"}, "nested"),
        ({"grpc-retry-pushback-ms": "-1"}, "server"),
        ({"finagle-http-nonretryable-nack": ""}, "server"),
        ({"Stripe-Should-Retry": "false"}, "server"),
    ],
)
def test_a_callee_that_gave_up_is_not_asked_again(
    headers: dict[str, str], why: str, mode: str, manual_clock: ManualClock
) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(answer(503, b"no", headers))
        response = caller.get()
        assert (response.status_code, response.text) == (503, "no")
        assert report(response).why_not_retried == why
        assert report(response).attempts == len(origin.requests) == 1


@both
def test_a_pushback_is_kept(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(answer(503, headers={"grpc-retry-pushback-ms": "2500", "Retry-After": "60"}))
        assert caller.get().status_code == 200
        assert 2.5 <= manual_clock.monotonic() <= 2.5 * 1.1 + 0.01


@both
@pytest.mark.parametrize(
    ("method", "profile", "attempts"),
    [("GET", "unknown", 2), ("POST", "unknown", 1), ("POST", "supported", 2)],
)
def test_a_server_that_wants_to_be_asked_again(
    method: str, profile: str, attempts: int, mode: str, manual_clock: ManualClock
) -> None:
    # Safe it is only where repeating is, whatever the server says.
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.script(answer(409, headers={"Stripe-Should-Retry": "true"}))
        response = caller.send(method)
        assert response.status_code == (200 if attempts == 2 else 409)
        assert len(origin.requests) == attempts
