"""The part to copy: what is given to the SDKs, and how their streams are read to the end.

OpenAI's SDK takes a client of httpx or of httpx2, Anthropic's one of httpx2 alone. All of them share what stands here:
a pipeline, a word on which requests may be repeated, and two settings of the SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import anthropic
import httpx
import httpx2
import openai

import resilient.httpx
import resilient.httpx2
from resilient import Bulkhead, CircuitBreaker, Pipeline, RateLimit, Retry, Timeout
from resilient.core.clock import SYSTEM_CLOCK, Clock

COMPLETIONS = ("/chat/completions", "/messages")
REPEATABLE = resilient.httpx.RequestOptions(idempotent=True, operation="complete")
BETWEEN_TOKENS = 20.0
"""Seconds to wait for the next piece of a stream, the first one included."""


class Cut(Exception):
    """A stream ended before its end. ``text`` is what came: show it or drop it, but do not take it for an answer."""

    def __init__(self, text: str) -> None:
        super().__init__(f"the answer broke off after {len(text)} characters")
        self.text = text


def policies(name: str = "llm", clock: Clock = SYSTEM_CLOCK) -> Pipeline:
    """One for each API key: all clients of the key share its breaker, its limits and its retry budget."""
    return Pipeline(
        Timeout(150.0),  # the whole call: waits, attempts, and the stream to its last token
        Retry(3),  # Retry-After is waited for, up to 30 s
        CircuitBreaker(),
        RateLimit("500/minute", burst=20, max_wait=30.0),  # what the account allows, divided by the processes
        RateLimit("200000/minute", burst=40_000, cost=tokens, max_wait=30.0),
        Bulkhead(20),
        Timeout(45.0),  # one attempt, reading included: longer than the longest answer
        name=name,
        clock=clock,
    )


def tokens(request: httpx.Request | httpx2.Request) -> int:
    """What a request will cost at most: about a token for four characters of the prompt, and what it asks for."""
    if not request.url.path.endswith(COMPLETIONS):
        return 1
    asked = json.loads(request.content)
    longest = asked.get("max_completion_tokens") or asked.get("max_tokens") or 1_000
    return min(40_000, len(request.content) // 4 + int(longest))


def say_repeatable(request: httpx.Request | httpx2.Request) -> None:
    """A completion changes nothing: a second one costs tokens, and is what the SDKs' own retries would cost too."""
    if request.url.path.endswith(COMPLETIONS):
        request.extensions.setdefault("resilient", REPEATABLE)


async def asay_repeatable(request: httpx.Request | httpx2.Request) -> None:
    """The hook of an async client must be async."""
    say_repeatable(request)


def _options(base_url: str, pipeline: Pipeline, hook: Any) -> dict[str, Any]:
    return {
        "name": pipeline.name,
        "base_url": base_url,
        "policies": pipeline,
        "profile": "none",  # neither API takes idempotency keys
        "clock": pipeline.clock,
        "event_hooks": {"request": [hook]},
    }


def openai_on_httpx(base_url: str, key: str, pipeline: Pipeline) -> openai.OpenAI:
    """OpenAI's SDK on `resilient.httpx`."""
    http = resilient.httpx.client(**_options(base_url, pipeline, say_repeatable))
    taken = cast(Any, http)  # the SDK's annotation names httpx2's class alone; it takes both
    return openai.OpenAI(base_url=base_url, api_key=key, http_client=taken, max_retries=0, timeout=45.0)


def openai_on_httpx2(base_url: str, key: str, pipeline: Pipeline) -> openai.OpenAI:
    """OpenAI's SDK on `resilient.httpx2`."""
    http = resilient.httpx2.client(**_options(base_url, pipeline, say_repeatable))
    return openai.OpenAI(base_url=base_url, api_key=key, http_client=http, max_retries=0, timeout=45.0)


def anthropic_on_httpx2(base_url: str, key: str, pipeline: Pipeline) -> anthropic.Anthropic:
    """Anthropic's SDK on `resilient.httpx2`."""
    http = resilient.httpx2.client(**_options(base_url, pipeline, say_repeatable))
    return anthropic.Anthropic(base_url=base_url, api_key=key, http_client=http, max_retries=0, timeout=45.0)


def async_openai_on_httpx(base_url: str, key: str, pipeline: Pipeline) -> openai.AsyncOpenAI:
    """OpenAI's async SDK on `resilient.httpx`."""
    http = resilient.httpx.async_client(**_options(base_url, pipeline, asay_repeatable))
    taken = cast(Any, http)
    return openai.AsyncOpenAI(base_url=base_url, api_key=key, http_client=taken, max_retries=0, timeout=45.0)


def async_openai_on_httpx2(base_url: str, key: str, pipeline: Pipeline) -> openai.AsyncOpenAI:
    """OpenAI's async SDK on `resilient.httpx2`."""
    http = resilient.httpx2.async_client(**_options(base_url, pipeline, asay_repeatable))
    return openai.AsyncOpenAI(base_url=base_url, api_key=key, http_client=http, max_retries=0, timeout=45.0)


def async_anthropic_on_httpx2(base_url: str, key: str, pipeline: Pipeline) -> anthropic.AsyncAnthropic:
    """Anthropic's async SDK on `resilient.httpx2`."""
    http = resilient.httpx2.async_client(**_options(base_url, pipeline, asay_repeatable))
    return anthropic.AsyncAnthropic(
        base_url=base_url, api_key=key, http_client=http, max_retries=0, timeout=45.0
    )


BROKEN = (openai.APIError, anthropic.APIError, httpx.TransportError, httpx2.TransportError)
"""What a stream that breaks raises: OpenAI's SDK wraps the client's error, Anthropic's does not."""


def whole(stream: Any) -> Iterator[str]:
    """The text of a stream, piece by piece, of either SDK.

    Raises:
        Cut: it broke; or it ended in order, but before its end: that is no error to HTTP, nor to the SDKs.
    """
    text, ended = "", False
    try:
        for event in stream:
            piece, last = _read(event)
            text, ended = text + piece, ended or last
            if piece:
                yield piece
    except BROKEN as exc:
        raise Cut(text) from exc
    if not ended:
        raise Cut(text)


async def awhole(stream: Any) -> AsyncIterator[str]:
    """The text of an async stream; see `whole`."""
    text, ended = "", False
    try:
        async for event in stream:
            piece, last = _read(event)
            text, ended = text + piece, ended or last
            if piece:
                yield piece
    except BROKEN as exc:
        raise Cut(text) from exc
    if not ended:
        raise Cut(text)


def create(sdk: Any, prompt: str, **options: Any) -> Any:
    """Ask either SDK; an answer, a stream, or an awaitable of one of them."""
    messages = [{"role": "user", "content": prompt}]
    if isinstance(sdk, openai.OpenAI | openai.AsyncOpenAI):
        return sdk.chat.completions.create(model="m", messages=cast(Any, messages), **options)
    return sdk.messages.create(model="m", messages=messages, **{"max_tokens": 1_000, **options})


def text_of(answer: Any) -> str:
    """The text of a whole answer."""
    return str(answer.choices[0].message.content if hasattr(answer, "choices") else answer.content[0].text)


def _read(event: Any) -> tuple[str, bool]:
    """The text of one event of a stream, and whether the answer ends with it."""
    if hasattr(event, "choices"):  # OpenAI's
        choice = event.choices[0] if event.choices else None  # the event with the usage has none
        return ("", False) if choice is None else (choice.delta.content or "", bool(choice.finish_reason))
    if event.type == "content_block_delta" and event.delta.type == "text_delta":
        return event.delta.text, False
    return "", event.type == "message_stop"
