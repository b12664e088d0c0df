"""What an origin can do with a request.

Each function here returns a `Behaviour`. Those that take ``then`` change how another one is carried out, and
can be put into each other: ``slow(0.5, drip_body(0.01, 503))``. Where a behaviour is wanted, these stand for
one:

- a status: ``503`` is ``answer(503)``;
- a name: ``"hang"`` is ``hang()``, for every function here that needs no argument;
- any function of an `Exchange`, for what is not here.

All times are seconds, 0 or more, on the origin's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate
from typing import Literal

from .exchange import Answer, Cut, Exchange, Headers, Request, Step, pairs


@dataclass(frozen=True)
class Behaviour:
    """What an origin does with one request; made by the functions of this module.

    Attributes:
        text: how it prints itself.
        run: does it.
        on_accept: whether it is done as soon as the connection is there, before any request.
    """

    text: str
    run: Step
    on_accept: bool = False

    def __call__(self, exchange: Exchange) -> None:
        self.run(exchange)

    def __repr__(self) -> str:
        return self.text


Stepish = Behaviour | Step | int | str
"""A behaviour, or what stands for one."""


def as_behaviour(step: Stepish, /) -> Behaviour:
    """The behaviour that ``step`` stands for.

    Raises:
        ValueError: for a name that is none.
        TypeError: for anything else.
    """
    if isinstance(step, Behaviour):
        return step
    if isinstance(step, int) and not isinstance(step, bool):
        return answer(step)
    if isinstance(step, str):
        if step not in _NAMED:
            raise ValueError(f"{step!r} is no behaviour; write one of {', '.join(map(repr, _NAMED))}")
        return _NAMED[step]()
    if callable(step):
        return Behaviour(getattr(step, "__qualname__", repr(step)), step)
    raise TypeError(f"{step!r} is no behaviour: give one, a status, a name or a function of an Exchange")


def answer(
    status: int = 200,
    body: bytes | str = b"",
    headers: Headers = (),
    *,
    chunked: bool = False,
    close: bool = False,
    effect: bool | None = None,
) -> Behaviour:
    """Read the request and answer it.

    Args:
        status: 100 to 599 for what HTTP knows; any number is sent.
        body: text is sent as UTF-8.
        headers: further headers; ``Date`` and ``Content-Length`` are set where not given.
        chunked: whether the body is sent with the chunked transfer coding.
        close: whether the connection is closed afterwards, and ``Connection: close`` says so.
        effect: whether the request counts as done; None: below status 400 it does.

    Example:
        >>> answer(503, headers={"Retry-After": "1"})
        answer(503)
    """
    data = body.encode() if isinstance(body, str) else body
    it = Answer(status, data, pairs(headers), chunked, close, effect)
    return Behaviour(f"answer({status})", lambda exchange: exchange.respond(it))


def by_handler(handler: Callable[[Request], Stepish], /) -> Behaviour:
    """Read the request and do what ``handler``, called in a thread of the origin, returns for it.

    Example:
        >>> by_handler(lambda request: 200 if request.header("idempotency-key") else 400)
        by_handler(<lambda>)
    """
    return Behaviour(
        f"by_handler({getattr(handler, '__name__', handler)})",
        lambda exchange: as_behaviour(handler(exchange.read()))(exchange),
    )


def retry_later(
    after: float | datetime | str = 1.0,
    status: int = 503,
    headers: Headers = (),
    *,
    as_date: bool = False,
) -> Behaviour:
    """Answer 503 or 429 with ``Retry-After``, without an effect.

    Args:
        after: seconds; or a date, which is sent as an HTTP-date; or text, which is sent as it is.
        status: usually 503 or 429.
        headers: further headers.
        as_date: whether seconds are sent as the HTTP-date that is so far from the origin's time.

    Example:
        >>> retry_later(2), retry_later(30, 429, as_date=True)
        (retry_later(2, 503), retry_later(30, 429))
    """

    further = pairs(headers)

    def run(exchange: Exchange) -> None:
        if isinstance(after, str):
            value = after
        elif isinstance(after, datetime):
            value = format_datetime(after.astimezone(UTC), usegmt=True)
        elif as_date:
            value = formatdate(exchange.origin.now() + after, usegmt=True)
        else:
            value = f"{after:g}"
        exchange.respond(Answer(status, headers=(*further, ("Retry-After", value)), effect=False))

    return Behaviour(f"retry_later({after}, {status})", run)


# -- connections that end


def reset_on_accept() -> Behaviour:
    """Reset the next connection as soon as it is there.

    A request that comes on an open connection before that takes the step, and is reset too.
    """
    return Behaviour("reset_on_accept()", Exchange.reset, on_accept=True)


def reset_before_request() -> Behaviour:
    """Reset when the first bytes of the request come; it is not recorded."""
    return Behaviour("reset_before_request()", Exchange.reset)


def reset_before_effect() -> Behaviour:
    """Read the whole request, then reset; nothing was done."""

    def run(exchange: Exchange) -> None:
        exchange.read()
        exchange.reset()

    return Behaviour("reset_before_effect()", run)


def reset_after_effect() -> Behaviour:
    """Read the whole request, do what it asks, then reset before a byte of an answer: the lost answer."""

    def run(exchange: Exchange) -> None:
        exchange.read()
        exchange.effect()
        exchange.reset()

    return Behaviour("reset_after_effect()", run)


def reset_mid_head(after: int | None = None, then: Stepish = 200) -> Behaviour:
    """Reset after ``after`` bytes of the answer's head (None: half of it)."""
    return _changed(f"reset_mid_head({after})", then, lambda x: setattr(x, "cut", Cut("head", after, True)))


def reset_mid_body(after: int | None = None, then: Stepish | None = None) -> Behaviour:
    """Reset after ``after`` bytes of the answer's body.

    Args:
        after: None for half of it.
        then: the answer; None for 1,000 bytes with 200.
    """
    return _changed(
        f"reset_mid_body({after})", _long(then), lambda x: setattr(x, "cut", Cut("body", after, True))
    )


def truncated(after: int | None = None, then: Stepish | None = None) -> Behaviour:
    """Close in order after ``after`` bytes of the answer's body; arguments as of `reset_mid_body`."""
    return _changed(
        f"truncated({after})", _long(then), lambda x: setattr(x, "cut", Cut("body", after, False))
    )


def close_without_answer(*, effect: bool = False) -> Behaviour:
    """Read the whole request, then close in order without an answer; ``effect``: whether it was done."""

    def run(exchange: Exchange) -> None:
        exchange.read()
        if effect:
            exchange.effect()
        exchange.close()

    return Behaviour(f"close_without_answer(effect={effect})", run)


def stale(
    after: float | None = None, then: Stepish = 200, *, ending: Literal["close", "reset"] = "close"
) -> Behaviour:
    """Answer, keep the connection alive, then close it unannounced: the stale connection of a client's pool.

    Args:
        after: seconds of silence after which it is closed; None: when the next request has come on it, which
            is neither recorded nor answered and takes no step of the script.
        then: the first answer.
        ending: how: in order, or by a reset.
    """
    first = as_behaviour(then)

    def run(exchange: Exchange) -> None:
        first(exchange)
        if not exchange.open:
            return
        if after is not None:
            exchange.wait(after)
        elif exchange.wait_for_more():
            exchange.skip()
        if ending == "reset":
            exchange.reset()
        else:
            exchange.close()

    return Behaviour(f"stale({after}, {first}, ending={ending!r})", run)


def die(then: Stepish = "reset_before_effect") -> Behaviour:
    """From now on connects are refused, until `Origin.reopen`; ``then``: what becomes of this request.

    The connection is closed after that, unannounced. Others that are open stay so.
    """
    last = as_behaviour(then)

    def run(exchange: Exchange) -> None:
        exchange.read()
        exchange.origin.refuse()
        last(exchange)
        exchange.close()

    return Behaviour(f"die({last})", run)


# -- HTTP/2 alone


def reset_stream(code: int = 0x2, *, effect: bool = False) -> Behaviour:
    """Read the whole request, then reset its stream (HTTP/2); the connection goes on.

    Args:
        code: RFC 9113, 7: 0x2 internal error, 0x8 cancel.
        effect: whether it was done.
    """

    def run(exchange: Exchange) -> None:
        from .http2 import stream_of

        stream = stream_of(exchange)
        stream.read()
        if effect:
            stream.effect()
        stream.reset_stream(code)

    return Behaviour(f"reset_stream({code:#x}, effect={effect})", run)


def refused_stream() -> Behaviour:
    """Reset the stream by REFUSED_STREAM: provably not processed (HTTP/2)."""
    return Behaviour("refused_stream()", reset_stream(0x7))


def enhance_your_calm() -> Behaviour:
    """Reset the stream by ENHANCE_YOUR_CALM: the client sends too much (HTTP/2)."""
    return Behaviour("enhance_your_calm()", reset_stream(0xB))


def http_1_1_required() -> Behaviour:
    """Reset the stream by HTTP_1_1_REQUIRED; over HTTP/1.1 the request is answered by 200."""

    def run(exchange: Exchange) -> None:
        over_http2 = exchange.read_head().version == "HTTP/2"
        (reset_stream(0xD) if over_http2 else answer(200))(exchange)

    return Behaviour("http_1_1_required()", run)


def goaway(
    last: Literal["this", "before", "none", "all"] = "none", code: int = 0, then: Stepish = 200
) -> Behaviour:
    """Read the whole request, then say GOAWAY (HTTP/2).

    Requests after the last that is named are left alone; the others, and this one by ``then``, are carried out, and the
    connection is closed.

    Args:
        last: the last request that will be answered: this one, the one before, none, or all that are on their way.
        code: RFC 9113, 7: 0 for all is well, 0xB enhance your calm.
        then: what is done with this request, if it is among those.
    """
    next_step = as_behaviour(then)

    def run(exchange: Exchange) -> None:
        from .http2 import stream_of

        stream = stream_of(exchange)
        stream.read()
        highest = {"none": 0, "before": stream.stream_id - 2, "this": stream.stream_id, "all": 2**31 - 1}[
            last
        ]
        stream.goaway(max(0, highest), code)
        if stream.open:
            next_step(stream)

    return Behaviour(f"goaway({last!r}, {code:#x}, {next_step})", run)


def lose_connection(*, effect: bool = False) -> Behaviour:
    """Read the whole request, then reset the connection, with all other requests on it (HTTP/2); ``effect``: whether it
    was done."""

    def run(exchange: Exchange) -> None:
        from .http2 import stream_of

        stream = stream_of(exchange)
        stream.read()
        if effect:
            stream.effect()
        stream.reset_connection()

    return Behaviour(f"lose_connection(effect={effect})", run)


# -- time


def hang(*, effect: bool = False) -> Behaviour:
    """Read the request and never answer; ``effect``: whether it was done."""

    def run(exchange: Exchange) -> None:
        exchange.read()
        if effect:
            exchange.effect()
        exchange.hang()

    return Behaviour(f"hang(effect={effect})", run)


def slow(seconds: float, then: Stepish = 200) -> Behaviour:
    """Read the request, wait ``seconds``, then go on."""

    def wait(exchange: Exchange) -> None:
        exchange.read()
        exchange.wait(seconds)

    return _changed(f"slow({seconds})", then, wait)


def drip_head(seconds: float = 0.1, then: Stepish = 200) -> Behaviour:
    """Send the answer's head byte by byte, ``seconds`` before each."""
    return _changed(f"drip_head({seconds})", then, lambda x: setattr(x, "head_pace", seconds))


def drip_body(seconds: float = 0.1, then: Stepish | None = None) -> Behaviour:
    """Send the answer's body byte by byte, ``seconds`` before each; ``then`` None: 1,000 bytes with 200."""
    return _changed(f"drip_body({seconds})", _long(then), lambda x: setattr(x, "body_pace", seconds))


def stall_upload(seconds: float | None = None, then: Stepish = 200, *, after: int = 0) -> Behaviour:
    """Stop reading the request's body, so that the client cannot send on.

    Args:
        seconds: for so long; None: until the client resets, or the origin ends. A client that closes in order
            is not heard, its bytes that nobody takes go first.
        then: what is done after that.
        after: how many bytes of the body are read before.

    The kernel takes in up to a few MiB before a client feels it.
    """

    def stall(exchange: Exchange) -> None:
        exchange.take_in(4_096)
        exchange.read(up_to=after)
        if seconds is None:
            exchange.hang()
        else:
            exchange.wait(seconds)
            exchange.take_in(1_048_576)

    return _changed(f"stall_upload({seconds})", then, stall)


# -- answers that break the rules


def wrong_length(surplus: int, then: Stepish | None = None) -> Behaviour:
    """Have ``Content-Length`` say ``surplus`` bytes more than are sent (negative: fewer); stay connected."""
    return _changed(f"wrong_length({surplus})", _long(then), lambda x: setattr(x, "surplus", surplus))


def garbage(data: bytes = b"\x16\x03\x01 this is not HTTP\r\n\r\n", *, effect: bool = False) -> Behaviour:
    """Read the request and send something that is no HTTP, then close; ``effect``: whether it was done."""

    def run(exchange: Exchange) -> None:
        exchange.read()
        if effect:
            exchange.effect()
        exchange.send(data)
        exchange.close()

    return Behaviour("garbage()", run)


def ignore_continue(then: Stepish = 200) -> Behaviour:
    """Never send the ``100 Continue`` that an ``Expect`` asks for; the body is waited for all the same."""
    return _changed("ignore_continue()", then, lambda x: setattr(x, "continues", False))


def _changed(text: str, then: Stepish, change: Step) -> Behaviour:
    inner = as_behaviour(then)

    def run(exchange: Exchange) -> None:
        change(exchange)
        inner(exchange)

    return Behaviour(f"{text[:-1]}, {inner})" if not text.endswith("()") else f"{text[:-1]}{inner})", run)


def _long(then: Stepish | None) -> Stepish:
    return answer(200, b"x" * 1000) if then is None else then


_NAMED: dict[str, Callable[[], Behaviour]] = {
    "answer": answer,
    "close_without_answer": close_without_answer,
    "die": die,
    "drip_body": drip_body,
    "drip_head": drip_head,
    "enhance_your_calm": enhance_your_calm,
    "garbage": garbage,
    "goaway": goaway,
    "hang": hang,
    "http_1_1_required": http_1_1_required,
    "ignore_continue": ignore_continue,
    "lose_connection": lose_connection,
    "refused_stream": refused_stream,
    "reset_after_effect": reset_after_effect,
    "reset_before_effect": reset_before_effect,
    "reset_before_request": reset_before_request,
    "reset_mid_body": reset_mid_body,
    "reset_mid_head": reset_mid_head,
    "reset_on_accept": reset_on_accept,
    "reset_stream": reset_stream,
    "retry_later": retry_later,
    "stale": stale,
    "stall_upload": stall_upload,
    "truncated": truncated,
}
