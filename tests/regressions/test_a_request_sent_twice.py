"""A request object that was sent again, and the request of a redirect that the caller follows by hand, were taken for
the same logical call: with the deadline of the first, that was over, and with its idempotency key, so that a
server which honours keys dropped the second order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

import resilient.httpx
from resilient import PolicyError
from resilient.testing import ManualClock, Origin, answer
from tests.http.calls import Caller, both, policies, report, seen_keys


def sent(caller: Caller, request: httpx.Request, **given: Any) -> httpx.Response:
    if caller.mode == "sync":
        response: httpx.Response = caller.client.send(request, **given)
        return response
    return caller.run(caller.client.send(request, **given))  # type: ignore[no-any-return]


@both
def test_it_is_another_call(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(manual_clock, total=2.0)) as caller,
    ):
        request = caller.client.build_request("POST", "/charges", content=b"7")
        for _ in range(2):
            assert sent(caller, request).status_code == 200
            manual_clock.advance(5.0)
        first, second = seen_keys(origin.requests)
        assert None not in (first, second)
        assert first != second
        assert [each.body for each in origin.requests] == [b"7", b"7"]


@both
def test_after_a_failure_too(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect")
        request = caller.client.build_request("POST", "/charges")
        with pytest.raises(httpx.TransportError):
            sent(caller, request)
        manual_clock.advance(50.0)
        told = report(sent(caller, request))
        assert told.attempts == 1
        assert len(set(seen_keys(origin.requests))) == 2


@both
def test_with_a_key_of_the_callers_it_keeps_that(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        request = caller.client.build_request("POST", "/charges", headers={"Idempotency-Key": "mine"})
        sent(caller, request)
        sent(caller, request)
        assert seen_keys(origin.requests) == ["mine", "mine"]


def test_a_file_is_read_again_from_its_start(manual_clock: ManualClock, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"rows")
    with (
        Origin(clock=manual_clock) as origin,
        Caller("sync", origin.url, manual_clock) as caller,
        path.open("rb") as file,
    ):
        request = caller.client.build_request("PUT", "/", content=file)
        sent(caller, request)
        sent(caller, request)
        assert [each.body for each in origin.requests] == [b"rows", b"rows"]


@both
def test_a_redirect_followed_by_hand_is_another_call(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(manual_clock, total=2.0)) as caller,
    ):
        origin.script(answer(307, headers={"Location": "/there"}))
        response = caller.post("/here")
        manual_clock.advance(5.0)
        assert response.next_request is not None
        assert sent(caller, response.next_request).status_code == 200


class Challenged(httpx.Auth):
    """Answers a challenge with the same request and another header, as Digest does."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = "Bearer fresh"
            yield request


@both
def test_the_second_request_of_an_auth_flow_is_the_same_call(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(answer(401), 200)
        response = caller.post("/charges", auth=Challenged())
        assert response.status_code == 200
        first, second = seen_keys(origin.requests)
        assert first == second is not None
        assert report(response).attempts == 2


@both
@pytest.mark.parametrize("last", [200, "reset_before_effect"])
def test_after_a_redirect_too(last: Any, mode: str, manual_clock: ManualClock) -> None:
    given = {"policies": policies(manual_clock, total=2.0, attempts=1), "follow_redirects": True}
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock, **given) as caller:
        origin.script(*[answer(307, headers={"Location": "/there"}), last] * 2)
        request = caller.client.build_request("POST", "/here")
        for _ in range(2):
            if last == 200:
                assert sent(caller, request).status_code == 200
            else:
                with pytest.raises(httpx.TransportError):
                    sent(caller, request)
            manual_clock.advance(5.0)
        first, then, second, after = seen_keys(origin.requests)
        assert first == then != second == after


class ByUrl(httpx.Auth):
    """Answers a challenge with a token in the query."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        if response.status_code == 401:
            request.url = request.url.copy_set_param("token", "fresh")
            yield request


@both
def test_an_auth_flow_may_change_the_url_alone(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(answer(401), 200)
        assert report(caller.post("/charges", auth=ByUrl())).attempts == 2
        assert len(set(seen_keys(origin.requests))) == 1


def test_at_the_same_time_it_is_refused(manual_clock: ManualClock) -> None:
    async def main() -> None:
        with Origin(clock=manual_clock) as origin:
            async with resilient.httpx.async_client("svc", base_url=origin.url) as client:
                request = client.build_request("POST", "/charges")
                first = asyncio.ensure_future(client.send(request))
                await asyncio.sleep(0)
                with pytest.raises(PolicyError, match=r"is being sent already; build one for each call"):
                    await client.send(request)
                assert (await first).status_code == 200
                assert (await client.send(request)).status_code == 200
            assert len(set(seen_keys(origin.requests))) == 2

    manual_clock.run(main())


class ByNonce(httpx.Auth):
    """Answers a refusal that asks for a nonce, as DPoP does: with status 400."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        if response.status_code == 400:
            request.headers["DPoP"] = "with the nonce"
            yield request


@both
def test_an_auth_flow_may_answer_another_refusal(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script(answer(400), 200)
        assert report(caller.post("/charges", auth=ByNonce())).attempts == 2
        assert len(set(seen_keys(origin.requests))) == 1


@both
def test_a_redirect_followed_by_hand_whose_answer_is_gone(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(manual_clock, total=2.0)) as caller,
    ):
        origin.script(answer(307, headers={"Location": "/there"}))
        request = caller.post("/here").next_request
        gc.collect()
        manual_clock.advance(5.0)
        assert request is not None
        assert sent(caller, request).status_code == 200
