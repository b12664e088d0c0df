"""OpenAI's and Anthropic's SDKs on resilient clients: what the API saw, and what the bare SDKs would have done."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

import resilient.httpx
from examples.llm import clients
from examples.llm.__main__ import FACES, Caller, faults, limits, main, outage, streams
from examples.llm.clients import Cut, create
from examples.llm.server import TEXT, WORDS, breaks, ends_early, speaks
from examples.promises import Promises
from resilient import CircuitOpen, OutcomeUnknown, Pipeline, RateLimited, Timeout, deadline
from resilient.testing import Origin, answer, retry_later, truncated
from tests.examples.programs import run

faces = pytest.mark.parametrize("face", FACES)


def test_the_program_keeps_its_promises() -> None:
    told = run("llm")
    assert sum(line.startswith("  kept") for line in told) >= 60
    assert any(line.startswith("  kept") and line.endswith("max_retries=2: 9 requests") for line in told)


@pytest.mark.parametrize("part", [faults, streams, outage, limits])
@faces
def test_a_promise_is_broken_without_the_policies(
    face: str, part: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str, clock: Any) -> Pipeline:
        return Pipeline(Timeout(150.0), name=name, clock=clock)

    monkeypatch.setattr(clients, "policies", none)
    monkeypatch.setattr(clients, "whole", iter_of_the_sdk)
    monkeypatch.setattr(clients, "awhole", aiter_of_the_sdk)
    promises = Promises(face)
    try:
        part(promises, FACES[face])
    except (*clients.BROKEN, openai.OpenAIError, anthropic.AnthropicError):
        return
    assert promises.status == 1


def iter_of_the_sdk(stream: Any) -> Any:
    for event in stream:
        piece, _ = clients._read(event)
        if piece:
            yield piece


async def aiter_of_the_sdk(stream: Any) -> Any:
    async for event in stream:
        piece, _ = clients._read(event)
        if piece:
            yield piece


# --------------------------------------------------------------------------------------------- what the API saw
@faces
def test_every_attempt_sends_the_same_question_and_no_key(face: str) -> None:
    with Caller(FACES[face]) as caller:
        caller.origin.script(503, "reset_after_effect")
        assert caller.ask() == TEXT
        bodies = {request.body for request in caller.origin.requests}
        assert len(bodies) == 1
        assert json.loads(bodies.pop())["messages"][0]["content"] == "Tell me a story."
        for request in caller.origin.requests:
            assert request.header("idempotency-key") is None
            assert request.header("x-stainless-retry-count") == "0", "the SDK did not retry"


@faces
def test_x_should_retry_is_obeyed(face: str) -> None:
    """An account without money gets a 429 too, and trying again does not fill it."""
    with Caller(FACES[face]) as caller:
        caller.origin.script(answer(429, headers={"X-Should-Retry": "false"}))
        with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as caught:
            caller.ask()
        assert caller.requests == 1
        report = caught.value.response.extensions["resilient"]
        assert report.why_not_retried == "server"


@faces
def test_what_is_no_completion_is_not_repeated(face: str) -> None:
    with Caller(FACES[face]) as caller:
        caller.origin.always("reset_after_effect")
        with pytest.raises((openai.APIConnectionError, anthropic.APIConnectionError)) as caught:
            caller.result(caller.sdk.post("/files", cast_to=object, body={}))
        assert isinstance(caught.value.__cause__, OutcomeUnknown)
        assert caller.requests == 1


@faces
def test_a_rejection_is_told_as_it_is(face: str) -> None:
    with Caller(FACES[face]) as caller:
        caller.pipeline["breaker"].force_open()  # type: ignore[attr-defined]  # it is a breaker
        with pytest.raises((openai.APIConnectionError, anthropic.APIConnectionError)) as caught:
            caller.ask()
        assert isinstance(caught.value.__cause__, CircuitOpen)
        assert caller.requests == 0


@faces
def test_a_wait_for_tokens_that_the_deadline_cannot_pay_is_refused_at_once(face: str) -> None:
    with Caller(FACES[face]) as caller:
        caller.ask(max_tokens=40_000, timeout=45.0)
        with (
            deadline(3.0, clock=caller.clock),
            pytest.raises((openai.APIConnectionError, anthropic.APIConnectionError)) as caught,
        ):
            caller.ask(max_tokens=30_000, timeout=45.0)
        assert isinstance(caught.value.__cause__, RateLimited)
        assert caller.clock.monotonic() == 0.0
        assert caller.requests == 1


# ------------------------------------------------------------------------------------------------------ streams
@faces
def test_a_stream_that_breaks_is_the_apis_failure_and_gives_its_place_back(face: str) -> None:
    with Caller(FACES[face]) as caller:
        caller.origin.script(breaks(truncated))
        with pytest.raises(Cut) as caught:
            caller.tell()
        assert caught.value.text == "".join(WORDS[:2])
        assert caught.value.__cause__ is not None
        breaker: Any = caller.pipeline["breaker"]
        assert (breaker.totals().calls, breaker.totals().failures) == (1, 1)
        bulkhead: Any = caller.pipeline["bulkhead"]
        assert bulkhead.in_flight == 0


@faces
def test_streams_that_break_open_the_breaker(face: str) -> None:
    with Caller(FACES[face]) as caller:
        caller.origin.always(breaks(truncated))
        for _ in range(10):
            with pytest.raises(Cut):
                caller.tell()
        with pytest.raises((openai.APIConnectionError, anthropic.APIConnectionError)) as caught:
            caller.tell()
        assert isinstance(caught.value.__cause__, CircuitOpen)
        assert caller.requests == 10


# ----------------------------------------------------------------------------------------------- the bare SDKs
def bare(origin: Origin) -> list[Any]:
    return [
        openai.OpenAI(base_url=f"{origin.url}/v1", api_key="key"),
        anthropic.Anthropic(base_url=f"{origin.url}/v1", api_key="key"),
    ]


def test_the_bare_sdks_take_a_stream_without_its_end_for_whole() -> None:
    with Origin(speaks()) as origin:
        for sdk in bare(origin):
            with sdk:
                origin.script(ends_early())
                got = list(iter_of_the_sdk(create(sdk, "Tell me a story.", stream=True)))
                assert got == list(WORDS[:2])


def test_the_bare_sdks_send_three_requests_for_each_call_to_an_api_that_is_down() -> None:
    with Origin(answer(503, headers={"Retry-After": "0.001"})) as origin:
        for sdk in bare(origin):
            with sdk:
                before = len(origin.requests)
                for _ in range(5):
                    with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)):
                        create(sdk, "Tell me a story.")
                assert len(origin.requests) - before == 15


def test_anthropics_sdk_refuses_a_client_of_httpx() -> None:
    with (
        resilient.httpx.client("llm", base_url="http://llm.svc") as http,
        pytest.raises(TypeError, match="httpx2"),
    ):
        anthropic.Anthropic(api_key="key", http_client=http)  # type: ignore[arg-type]  # that is the point


def test_a_retry_after_beyond_our_patience_is_the_callers_to_judge() -> None:
    with Caller(FACES["OpenAI on resilient.httpx"]) as caller:
        caller.origin.script(retry_later(60, 429))
        with pytest.raises(openai.RateLimitError) as caught:
            caller.ask()
        report = caught.value.response.extensions["resilient"]
        assert (report.why_not_retried, report.retry_after) == ("retry_after", 60.0)
        assert caller.requests == 1


def test_main_says_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    one = "OpenAI on resilient.httpx"
    monkeypatch.setattr("examples.llm.__main__.FACES", {one: FACES[one]})
    assert main() == 0
    monkeypatch.setattr("examples.llm.__main__.TEXT", "another story")
    assert main() == 1
