"""What stands in for the APIs: the answers of chat completions and messages, whole and as streams of events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from resilient.testing import Behaviour, Request, answer, by_handler

WORDS = ("Once ", "upon ", "a ", "time.")
TEXT = "".join(WORDS)
_EVENTS = {"Content-Type": "text/event-stream"}


def speaks() -> Behaviour:
    """Answer as the API of the path does: whole, or as a stream where that is asked for."""
    return by_handler(lambda request: events(request) if _streams(request) else completion(request))


def completion(request: Request) -> Behaviour:
    """A whole answer."""
    common = {"id": "1", "model": "m"}
    if _is_openai(request):
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": TEXT},
        }
        usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        said = {**common, "object": "chat.completion", "created": 0, "choices": [choice], "usage": usage}
    else:
        said = {
            **common,
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": TEXT}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 9, "output_tokens": 4},
        }
    return answer(200, json.dumps(said), {"Content-Type": "application/json"})


def events(request: Request, words: Sequence[str] = WORDS, *, ends: bool = True) -> Behaviour:
    """A stream; ``ends``: whether the answer's own end is in it, or only that of the body."""
    lines = _openai(words, ends) if _is_openai(request) else _anthropic(words, ends)
    return answer(200, "".join(lines), _EVENTS, chunked=True)


def breaks(fault: Any) -> Behaviour:
    """A stream that ends by ``fault``, which is `truncated` or `reset_mid_body`, after its second word."""

    def at_the_word(request: Request) -> Behaviour:
        lines = _openai(WORDS, True) if _is_openai(request) else _anthropic(WORDS, True)
        body = "".join(lines)
        behaviour: Behaviour = fault(body.index(json.dumps(WORDS[2])), events(request))
        return behaviour

    return by_handler(at_the_word)


def ends_early() -> Behaviour:
    """A stream whose body ends in order after two words: a proxy, or a worker that was stopped."""
    return by_handler(lambda request: events(request, WORDS[:2], ends=False))


def _is_openai(request: Request) -> bool:
    return request.target.endswith("/chat/completions")


def _streams(request: Request) -> bool:
    return bool(json.loads(request.body).get("stream"))


def _openai(words: Sequence[str], ends: bool) -> list[str]:
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": word}, None) for word in words]
    if ends:
        deltas.append(({}, "stop"))
    chunks: list[dict[str, Any]] = [
        {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": why}],
        }
        for delta, why in deltas
    ]
    return [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"] * ends


def _anthropic(words: Sequence[str], ends: bool) -> list[str]:
    message: dict[str, Any] = {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 0},
    }
    said: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    said += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        for word in words
    ]
    if ends:
        last = {"stop_reason": "end_turn", "stop_sequence": None}
        said += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": last, "usage": {"output_tokens": 4}},
            {"type": "message_stop"},
        ]
    return [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in said]
