"""What a server says of an idempotency key: errors where the profile names the signal, else answers."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import pytest

from resilient import (
    Budget,
    CircuitBreaker,
    IdempotencyError,
    InProgress,
    KeyRequired,
    KeyReused,
    OutcomeUnknown,
    Pipeline,
    PolicyError,
    Retry,
    Timeout,
    WindowExceeded,
    report_of,
)
from resilient.core.outcome import Evidence
from resilient.http.profiles import Profile, Signal
from resilient.testing import ManualClock, Origin, answer, slow
from resilient.testing.behaviours import Behaviour
from tests.http.calls import Caller, both, policies, report, seen_keys
from tests.http.sdk import bound, httpx

PROBLEMS = "https://problems.example.com/"
STRIPE = Profile(
    honours=True,
    in_progress=Signal(409),
    reused=Signal(400, "idempotency_error", at=("error", "type")),
    window=86_400.0,
)
NAMED = Profile(
    honours=True,
    in_progress=Signal(409, PROBLEMS + "in-progress"),
    reused=Signal(422, PROBLEMS + "key-reused"),
    missing=Signal(400, PROBLEMS + "key-missing"),
)


def problem(status: int, kind: str, **more: Any) -> Behaviour:
    body = json.dumps({"type": PROBLEMS + kind, "title": "no"})
    return answer(status, body, {"Content-Type": "application/problem+json"}, **more)


def error_type(status: int, text: str) -> Behaviour:
    return answer(status, json.dumps({"error": {"type": text, "message": "no"}}))


# --------------------------------------------------------------------------------------------------- in progress
@both
@pytest.mark.parametrize(
    ("profile", "busy"),
    [
        (STRIPE, answer(409)),
        (NAMED, problem(409, "in-progress")),
        ("supported", answer(409, headers={"Idempotency-Key-Status": "in-progress"})),
    ],
    ids=["any 409", "problem", "header"],
)
def test_one_that_still_runs_is_asked_for_again(
    profile: Any, busy: Behaviour, mode: str, manual_clock: ManualClock
) -> None:
    breaker = CircuitBreaker(consecutive=1)
    pipeline = Pipeline(
        Timeout(60.0),
        Retry(3, idempotent=False, budget=Budget(ratio=10.0)),
        breaker,
        name="svc",
        clock=manual_clock,
    )
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile, policies=pipeline) as caller,
    ):
        origin.script(busy, busy, 201)
        response = caller.post(content=b"12")
        assert (response.status_code, report(response).attempts) == (201, 3)
        assert len(set(seen_keys(origin.requests))) == 1
        assert (
            0.0 < manual_clock.monotonic() < 3.0
        )  # 250 ms, then 500, of them a part by chance; what the retry adds
        assert breaker.state == "closed"
        assert breaker.totals().failures == 0


@both
@pytest.mark.parametrize("body", [b"still at it", b"x" * 300_000], ids=["small", "large"])
def test_one_that_runs_on_and_on(body: bytes, mode: str, manual_clock: ManualClock) -> None:
    profile = Profile(honours=True, in_progress=Signal(409))
    with (
        Origin(answer(409, body, {"Retry-After": "2"}), clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        exc = caller.fails("POST", content=b"12")
        assert isinstance(exc, InProgress)
        assert isinstance(exc, httpx.HTTPStatusError)  # who catches the SDK's errors catches ours
        assert exc.response.status_code == 409
        if len(body) < 100:
            assert exc.response.content == body
        assert exc.request.method == "POST"
        assert exc.idempotency_key == origin.requests[0].header("idempotency-key")
        assert (exc.attempts, exc.retry_after, exc.dependency, exc.operation) == (3, 2.0, "svc", "POST")
        assert exc.first_sent == pytest.approx(manual_clock.time() - manual_clock.monotonic())
        assert report(exc).evidence is Evidence.UNKNOWN
        assert report(exc).why_not_retried == "attempts"
        assert "may yet happen" in str(exc)
        assert str(exc.idempotency_key) not in str(exc)
        assert exc.__cause__ is None
        assert exc.__suppress_context__
        assert caller.pool.in_use == 0
        copy = pickle.loads(pickle.dumps(exc))
        assert type(copy) is type(exc)
        assert (copy.idempotency_key, copy.first_sent) == (exc.idempotency_key, exc.first_sent)
        assert copy.response is None
        assert report_of(copy) == report(exc)


@both
@pytest.mark.parametrize(
    ("profile", "step"),
    [
        ("unknown", answer(409, headers={"Idempotency-Key-Status": "in-progress"})),
        ("supported", answer(409)),
        (NAMED, problem(409, "version-conflict")),
        (NAMED, answer(409, b"[1, 2]")),
        (NAMED, answer(409, b"[" * 60_000)),
        (NAMED, answer(409, b"\xff\xfe")),
        (NAMED, answer(409, json.dumps({"type": {"a": 1}}))),
        (NAMED, problem(409, "in-progress", chunked=True)),  # not read for it
        (NAMED, problem(422, "not-a-number")),
        (NAMED, answer(400, b"bad")),
        (STRIPE, error_type(400, "card_error")),
    ],
)
def test_anything_else_is_an_answer(
    profile: Any, step: Behaviour, mode: str, manual_clock: ManualClock
) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.script(step)
        response = caller.post()
        assert response.status_code in (400, 409, 422)
        assert response.content == origin_body(step)
        assert len(origin.requests) == 1


def origin_body(step: Behaviour) -> bytes:
    """What the step answers with, asked for without us."""
    with Origin(step) as origin:
        return httpx.post(origin.url).content


@both
def test_after_a_redirect_to_get_nothing_is_said_of_the_key(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=STRIPE, follow_redirects=True) as caller,
    ):
        origin.script(answer(303, headers={"Location": "/receipt"}), answer(409, b"gone"))
        assert caller.post().status_code == 409
        origin.script(
            answer(303, headers={"Location": "/receipt"}),
            answer(200, headers={"Idempotent-Replayed": "true"}),
        )
        assert not report(caller.post()).replayed


@both
@pytest.mark.parametrize("packed", ["gzip", "broken", "a bomb"])
def test_an_answer_that_is_packed(packed: str, mode: str, manual_clock: ManualClock) -> None:
    import gzip

    body = json.dumps(
        {"type": PROBLEMS + "key-reused", "detail": "x" * (2_000_000 if packed == "a bomb" else 9)}
    )
    data = b"\x00\x01" if packed == "broken" else gzip.compress(body.encode())
    with (
        Origin(answer(422, data, {"Content-Encoding": "gzip"}), clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=NAMED) as caller,
    ):
        if packed == "a bomb":
            assert len(caller.post().content) > 2_000_000
            return
        exc = caller.fails("POST")
        assert isinstance(exc, KeyReused if packed == "gzip" else httpx.DecodingError)
        if isinstance(exc, KeyReused):
            assert exc.response.json()["detail"] == "x" * 9
        elif isinstance(exc, httpx.DecodingError):
            origin.always(answer(409, data, {"Content-Encoding": "gzip", "Retry-After": "0"}))
            with Caller(mode, origin.url, manual_clock, profile=STRIPE) as other:
                assert isinstance(other.fails("POST"), InProgress)


# ------------------------------------------------------------------------------------------------ reused, missing
@both
@pytest.mark.parametrize(
    ("profile", "step"), [(NAMED, problem(422, "key-reused")), (STRIPE, error_type(400, "idempotency_error"))]
)
def test_a_key_of_another_request(
    profile: Profile, step: Behaviour, mode: str, manual_clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker(consecutive=1)
    pipeline = Pipeline(
        Timeout(60.0),
        Retry(3, idempotent=False, budget=Budget(ratio=10.0)),
        breaker,
        name="svc",
        clock=manual_clock,
    )
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile, policies=pipeline) as caller,
    ):
        origin.script(step)
        exc = caller.fails("POST", headers={"Idempotency-Key": "order-7"})
        assert isinstance(exc, KeyReused)
        assert isinstance(exc, IdempotencyError)
        assert not isinstance(exc, OutcomeUnknown)
        assert exc.response.json()
        assert (exc.idempotency_key, exc.attempts, exc.first_sent) == ("order-7", 1, None)
        assert report(exc).evidence is Evidence.ANSWERED
        assert breaker.state == "closed"
        assert len(origin.requests) == 1
    (line,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "svc: POST was refused: its idempotency key (hash df8cf80227ec3237)" in line.getMessage()
    assert "order-7" not in line.getMessage()


@both
def test_a_key_that_the_server_wants(mode: str, manual_clock: ManualClock) -> None:
    profile = Profile(sends=False, missing=Signal(400, PROBLEMS + "key-missing"))
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        origin.script(problem(400, "key-missing"))
        exc = caller.fails("POST")
        assert isinstance(exc, KeyRequired)
        assert (exc.idempotency_key, exc.attempts) == (None, 1)
        assert "profile=" in str(exc)


@both
def test_what_happened_before_is_not_forgotten(mode: str, manual_clock: ManualClock) -> None:
    # The first attempt may have happened; that its repeat meets the first one says no more.
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            mode, origin.url, manual_clock, profile=STRIPE, policies=policies(manual_clock, attempts=2)
        ) as caller,
    ):
        origin.script("reset_before_effect", 409)
        exc = caller.fails("POST")
        assert isinstance(exc, InProgress)
        assert exc.attempts == 2


# ---------------------------------------------------------------------------------------------------- replays
@both
@pytest.mark.parametrize("marked", ["true", "True", "?1", "1"])
@pytest.mark.parametrize("status", [200, 201, 303, 422])
def test_a_replay_is_visible(status: int, marked: str, mode: str, manual_clock: ManualClock) -> None:
    again = answer(status, b"receipt 7", {"Idempotent-Replayed": marked})
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script("reset_after_effect", again, status)
        response = caller.post()
        assert (response.status_code, response.text) == (status, "receipt 7")
        assert report(response).replayed
        assert report(response).attempts == 2
        assert not report(caller.post()).replayed


@both
@pytest.mark.parametrize(
    ("method", "profile", "headers"),
    [
        ("GET", "supported", {"Idempotent-Replayed": "true"}),
        ("POST", "unknown", {"Idempotent-Replayed": "true"}),
        ("POST", "supported", {"Idempotent-Replayed": "false"}),
        ("POST", Profile(honours=True, replayed="X-Replay"), {"Idempotent-Replayed": "true"}),
    ],
)
def test_what_is_no_replay(
    method: str, profile: Any, headers: dict[str, str], mode: str, manual_clock: ManualClock
) -> None:
    with (
        Origin(answer(200, headers=headers), clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        assert not report(caller.send(method)).replayed


@both
def test_a_failure_that_was_recorded_is_not_asked_for_again(mode: str, manual_clock: ManualClock) -> None:
    # The server would give it for every further attempt with this key.
    with (
        Origin(answer(500, b"boom", {"Idempotent-Replayed": "true"}), clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        response = caller.post()
        assert (response.status_code, len(origin.requests)) == (500, 1)
        assert report(response).replayed
        assert report(response).why_not_retried == "server"


@both
def test_a_server_that_will_never_know(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(
            answer(500, headers={"Idempotency-Key-Status": "outcome-unknown"}), clock=manual_clock
        ) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        response = caller.post()
        assert (response.status_code, len(origin.requests)) == (500, 1)
        assert report(response).evidence is Evidence.UNKNOWN


# ---------------------------------------------------------------------------------------------------- the window
@both
def test_a_key_that_the_server_has_forgotten_is_not_sent(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=STRIPE) as caller,  # a call takes up to 10 s
    ):
        first = manual_clock.time()
        mine: dict[str, Any] = {"idempotency_key": "order-7", "first_sent": first}
        manual_clock.advance(86_400.0 - 10.0)
        assert caller.post(extensions={"resilient": mine}).status_code == 200
        manual_clock.advance(0.5)
        exc = caller.fails("POST", extensions={"resilient": mine})
        assert isinstance(exc, WindowExceeded)
        assert isinstance(exc, httpx.TransportError)
        assert (exc.idempotency_key, exc.first_sent, exc.attempts) == ("order-7", first, 0)
        assert (exc.dependency, exc.operation) == ("svc", "POST")
        assert report(exc).why_not_retried == "window"
        assert report(exc).evidence is Evidence.UNKNOWN
        assert len(origin.requests) == 1
        assert type(pickle.loads(pickle.dumps(exc))) is type(exc)
        # A call that began in time goes on over its hops.
        with Caller(mode, origin.url, manual_clock, profile=STRIPE, follow_redirects=True) as other:
            late = {"idempotency_key": "order-8", "first_sent": manual_clock.time() - 86_390.0}
            origin.script(slow(1.0, answer(307, headers={"Location": "/next"})))
            assert other.post(extensions={"resilient": late}).status_code == 200
        # Where nobody knows how long it is kept, the caller's word is all there is.
        with Caller(mode, origin.url, manual_clock, profile="supported") as other:
            assert other.post(extensions={"resilient": mine}).status_code == 200


@both
def test_what_an_earlier_process_sent_stays_unknown(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        mine = {"idempotency_key": "order-7", "first_sent": manual_clock.time() - 500.0}
        origin.refuse()
        exc = caller.fails("POST", extensions={"resilient": mine})
        # Nothing was sent now; but it was then.
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.ConnectError)
        assert exc.first_sent == mine["first_sent"]


@both
def test_asking_again_with_what_the_error_says(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(manual_clock, attempts=1)) as caller,
    ):
        manual_clock.advance(7.0)
        origin.script("reset_after_effect")
        sent = manual_clock.time()
        exc = caller.fails("POST", content=b"12")
        assert isinstance(exc, OutcomeUnknown)
        assert exc.first_sent == pytest.approx(sent)
        stored = pickle.loads(pickle.dumps(exc))
        again = {"idempotency_key": stored.idempotency_key, "first_sent": stored.first_sent}
        assert caller.post(content=b"12", extensions={"resilient": again}).status_code == 200
        assert len(set(seen_keys(origin.requests))) == 1


def test_a_window_that_the_call_would_outlast() -> None:
    for pipeline, says in (
        (Pipeline(Retry(3)), r"have no time-out around the retries"),
        (Pipeline(Timeout(60.0), Retry(3)), r"may take 60 s, and the profile's window=60"),
    ):
        with pytest.raises(PolicyError, match=says):
            bound.client(
                "svc", base_url="http://svc", policies=pipeline, profile=Profile(honours=True, window=60.0)
            )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Profile(header="Key:"), r"header='Key:' must be the name of a header"),
        (
            lambda: Profile(replayed=""),
            r"replayed='' must be the name of a header; write replayed='Idempotent",
        ),
        (
            lambda: Profile(quota="X-RateLimit-"),
            r"quota='X-RateLimit-' must be what the headers' names begin",
        ),
        (lambda: Profile(quota=True), r"quota=True must be"),  # type: ignore[arg-type]  # the mistake
        (lambda: Profile(in_progress=409), r"in_progress=409 must be a Signal"),  # type: ignore[arg-type]  # the mistake
        (lambda: Profile(in_progress=Signal(409)), r"in_progress= is what .* write honours=True"),
        (lambda: Profile(window=60.0), r"window= is what .* write honours=True"),
        (lambda: Profile(honours=True, window=0), r"window=0 must be seconds"),
        (lambda: Profile(honours=True, window=float("nan")), r"window=nan must be seconds"),
        (lambda: Signal(200), r"status=200 must be 400 to 599"),
        (lambda: Signal("409"), r"status='409' must be 400 to 599"),  # type: ignore[arg-type]  # the mistake
        (lambda: Signal(409, ""), r"text='' must be a text in the answer"),
        (lambda: Signal(409, "a", at=()), r"at=\(\) must be a tuple of names"),
        (lambda: Signal(409, "a", at="type"), r"at='type' must be a tuple"),  # type: ignore[arg-type]  # the mistake
    ],
)
def test_profiles_of_no_sense(make: Any, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        make()
