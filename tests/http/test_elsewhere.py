"""What fails at another authority than the client's own: nothing is tried again there, and it is told all the same what
may have happened."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from resilient import DeadlineExceeded, OutcomeUnknown, Pipeline, Retry, Timeout, WindowExceeded
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import Evidence, report_of
from resilient.http.profiles import Profile
from resilient.testing import ManualClock, Origin, answer, goaway, hang
from resilient.testing.behaviours import Stepish
from tests.http.calls import Caller, both, report, told
from tests.http.sdk import httpx, now


def redirect(to: Origin, status: int = 307) -> Stepish:
    return answer(status, headers={"Location": f"{to.url}/there"})


class Two:
    """A service, another authority that it redirects to, and a client of the first.

    Args:
        status: of the redirect.
        given: for the client.
    """

    def __init__(self, mode: str, clock: ManualClock, status: int = 307, **given: Any) -> None:
        self.there = Origin(clock=clock)
        self.here = Origin(clock=clock)
        self._given = mode, clock, given
        self._status = status

    def __enter__(self) -> Two:
        mode, clock, given = self._given
        self.there.__enter__()
        self.here.__enter__()
        self.here.always(redirect(self.there, self._status))
        self.caller = Caller(mode, self.here.url, clock, follow_redirects=True, **given)
        return self

    def __exit__(self, *_: object) -> None:
        self.caller.__exit__()
        self.here.__exit__(None, None, None)
        self.there.__exit__(None, None, None)


@both
@pytest.mark.parametrize("profile", ["none", "unknown", "supported"])
@pytest.mark.parametrize("effect", [False, True])
def test_a_post_that_was_lost_there_may_have_happened(
    effect: bool, profile: str, mode: str, manual_clock: ManualClock
) -> None:
    with Two(mode, manual_clock, profile=profile) as two:
        two.there.always("reset_after_effect" if effect else "reset_before_effect")
        sent_at = manual_clock.time()
        exc = two.caller.fails("POST", "/charges")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.ReadError)
        assert (exc.dependency, exc.operation, exc.attempts) == ("svc", "POST", 2)
        assert exc.first_sent == pytest.approx(sent_at, abs=0.01)
        # The other authority has no key: with one, the whole would be sent on to it once more.
        assert exc.idempotency_key is None
        there = f"127.0.0.1:{two.there.port}"
        assert str(exc) == (
            f"svc.POST: POST went to another authority, {there}, and may have happened there (ReadError); look whether "
            "it happened before sending it again"
        )
        assert (report(exc).evidence, report(exc).attempts) == (Evidence.UNKNOWN, 2)
        assert [len(origin.requests) for origin in (two.here, two.there)] == [1, 1]
        again = pickle.loads(pickle.dumps(exc))
        assert (again.attempts, again.first_sent, str(again)) == (2, exc.first_sent, str(exc))


@both
@pytest.mark.parametrize("profile", ["unknown", "supported"])
def test_one_that_never_got_there_did_not_happen(mode: str, profile: str, manual_clock: ManualClock) -> None:
    with Two(mode, manual_clock, profile=profile) as two:
        two.there.refuse()
        exc = two.caller.fails("POST")
        assert type(exc) is httpx.ConnectError
        assert (report(exc).evidence, report(exc).transient) == (Evidence.NOT_SENT, True)
        assert (report(exc).attempts, len(two.here.requests)) == (2, 1)


@both
def test_one_that_was_lost_here_before_may_have_happened_here(mode: str, manual_clock: ManualClock) -> None:
    with Two(mode, manual_clock, profile="supported") as two:
        two.there.refuse()
        two.here.script("reset_after_effect")
        exc = two.caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert exc.idempotency_key == two.here.requests[0].header("idempotency-key") is not None
        assert "POST was tried 3 times and may have happened (ConnectError)" in str(exc)


@both
def test_one_that_may_be_repeated_is_the_sdks_error(mode: str, manual_clock: ManualClock) -> None:
    with Two(mode, manual_clock) as two:
        two.there.always("reset_after_effect")
        for method, options in (("GET", {}), ("PUT", {}), ("POST", {"idempotent": True})):
            exc = two.caller.fails(method, extensions={"resilient": options} if options else {})
            assert type(exc) is httpx.ReadError
            assert report(exc).evidence is Evidence.UNKNOWN
        assert len(two.there.requests) == 3


@both
@pytest.mark.parametrize("step", ["refuse", "reset_before_effect"])
def test_what_a_303_points_at(step: str, mode: str, manual_clock: ManualClock) -> None:
    # The service has done it, and said where to look; that was lost.
    with Two(mode, manual_clock, 303, profile="supported") as two:
        if step == "refuse":
            two.there.refuse()
        two.there.always("reset_before_effect")
        exc = two.caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert exc.idempotency_key == two.here.requests[0].header("idempotency-key") is not None
        assert "POST was answered by a redirect and may have happened" in str(exc)


@both
def test_who_sends_a_key_there_gets_it_back(mode: str, manual_clock: ManualClock) -> None:
    with Two(mode, manual_clock) as two:
        two.there.always("reset_after_effect")
        mine = {"Idempotency-Key": '"mine"'}
        exc = two.caller.fails("POST", f"{two.there.url}/at-once", headers=mine)
        assert isinstance(exc, OutcomeUnknown)
        assert (exc.idempotency_key, exc.attempts) == ("mine", 1)
        assert two.here.requests == []


@both
def test_one_that_hangs_there(mode: str, manual_clock: ManualClock) -> None:
    # Blocking sockets wait in real time.
    clock = manual_clock if mode == "async" else SYSTEM_CLOCK
    own = Pipeline(Timeout(0.3), Retry(3), name="svc", clock=clock)
    with Two(mode, manual_clock, policies=own) as two:
        two.there.always(hang(effect=True))
        exc = two.caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.TimeoutException)
        assert isinstance(exc.__cause__, DeadlineExceeded)
        assert "the whole call took longer than 0.3 s" in str(exc.__cause__)
        assert (report(exc).evidence, exc.attempts) == (Evidence.UNKNOWN, 2)


@both
def test_a_retry_around_it_knows_what_it_may_do(mode: str, manual_clock: ManualClock) -> None:
    # What the report proves holds for whoever is outside as well.
    with Two(mode, manual_clock) as two:
        around = Pipeline(Retry(3, wait=0.0, idempotent=False), clock=manual_clock)

        def post() -> Any:
            return two.caller.client.post("/charges")

        async def apost() -> Any:
            return await two.caller.client.post("/charges")

        def fails() -> Exception:
            with pytest.raises(httpx.TransportError) as caught:
                if mode == "sync":
                    around.call(post)
                else:
                    two.caller.run(around.acall(apost))
            return caught.value  # type: ignore[no-any-return]

        two.there.always("reset_after_effect")
        assert isinstance(fails(), OutcomeUnknown)
        assert len(two.here.requests) == 1
        two.there.refuse()
        two.there.drop_connections()
        exc = fails()
        assert report(exc).evidence is Evidence.NOT_SENT
        assert len(two.here.requests) == 4, told(exc)


def test_a_cancellation_says_how_far_it_got(manual_clock: ManualClock) -> None:
    with Two("async", manual_clock) as two:
        two.there.always(hang())

        async def leave() -> BaseException:
            task = asyncio.ensure_future(two.caller.client.post("/charges"))
            await asyncio.sleep(1.0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as exc:
                return exc
            raise AssertionError

        found = report_of(two.caller.run(leave()))
        assert found is not None
        assert found.evidence is Evidence.UNKNOWN


@pytest.mark.parametrize(
    ("step", "evidence"),
    [
        ("refused_stream", Evidence.REFUSED),
        (goaway("none"), Evidence.REFUSED),
        ("enhance_your_calm", Evidence.DECLINED),
        ("http_1_1_required", Evidence.REFUSED),
        ("reset_stream", Evidence.UNKNOWN),
        ("lose_connection", Evidence.UNKNOWN),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "text", None),
)
def test_over_http2(step: Stepish, evidence: Evidence, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock, http2=True) as here,
        Origin(clock=manual_clock, http2=True) as there,
        Caller("async", here.url, manual_clock, http1=False, http2=True, follow_redirects=True) as caller,
    ):
        here.always(redirect(there))
        there.always(step)
        exc = caller.fails("POST")
        assert report(exc).evidence is evidence
        assert isinstance(exc, OutcomeUnknown) == (evidence is Evidence.UNKNOWN)
        assert (report(exc).attempts, len(there.requests)) == (2, 1)


@both
@pytest.mark.parametrize(
    ("error", "evidence"), [(httpx.ReadError, Evidence.UNKNOWN), (httpx.ConnectError, Evidence.NOT_SENT)]
)
def test_through_a_transport_of_the_users(
    error: type[Exception], evidence: Evidence, mode: str, manual_clock: ManualClock
) -> None:
    def handle(request: Any) -> Any:
        if request.url.host == "there":
            raise now(error)("lost", request=request)
        return httpx.Response(307, headers={"Location": "http://there/"})

    mock = httpx.MockTransport(handle)
    with Caller(mode, "http://here", manual_clock, transport=mock, follow_redirects=True) as caller:
        exc = caller.fails("POST")
        assert report(exc).evidence is evidence
        assert isinstance(exc, OutcomeUnknown) == (evidence is Evidence.UNKNOWN)


@both
def test_back_from_there_the_key_is_still_not_too_old(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as here,
        Origin(redirect(here), clock=manual_clock) as there,
        Caller(
            mode,
            here.url,
            manual_clock,
            profile=Profile(honours=True, window=60.0),
            follow_redirects=True,
        ) as caller,
    ):
        asked = {"idempotency_key": "k", "first_sent": manual_clock.time() - 100.0}
        exc = caller.fails("POST", f"{there.url}/at-once", extensions={"resilient": asked})
        assert isinstance(exc, WindowExceeded)
        assert (len(there.requests), len(here.requests)) == (1, 0)
