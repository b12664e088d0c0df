"""What stands in for the feed: it keeps its events, and begins after the one that `Last-Event-ID` names."""

from __future__ import annotations

from collections.abc import Callable

from resilient.testing import Behaviour, Exchange, Request, answer, by_handler

ORDERS = tuple(f"order {number}\u2028paid" for number in range(1, 9))
"""With a character at which no line ends, by the standard, though `str.splitlines` ends one."""
_EVENTS = {"Content-Type": "text/event-stream"}


def serves() -> Behaviour:
    """All that is left in one stream; 204 when nothing is."""
    return by_handler(lambda request: stream(request) if left(request) else answer(204))


def breaks(fault: Callable[[int, Behaviour], Behaviour], after: int = 3) -> Behaviour:
    """A stream that ends by ``fault``, which is `truncated` or `reset_mid_body`, in the middle of an event."""

    def at_the_event(request: Request) -> Behaviour:
        whole = f"{len(text(request)):x}\r\n".encode() + text(request)
        middle = whole.index(f"\nid: {left(request)[after]}\n".encode()) - 4
        return fault(middle, stream(request))

    return by_handler(at_the_event)


def ends_early(after: int = 3) -> Behaviour:
    """A stream whose body ends in order, in the middle of an event: a proxy whose patience is over."""

    def cut(request: Request) -> Behaviour:
        data = text(request)
        return answer(
            200, data[: data.index(f"\nid: {left(request)[after]}\n".encode()) - 4], _EVENTS, chunked=True
        )

    return by_handler(cut)


def falls_silent(after: int = 3) -> Behaviour:
    """Some events, then nothing: a pod that is gone without a word."""

    def run(exchange: Exchange) -> None:
        request = exchange.read()
        data = text(request, until=after)
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        exchange.send(head.encode() + f"{len(data):x}\r\n".encode() + data + b"\r\n")
        exchange.effect()
        exchange.hang()

    return Behaviour("falls_silent()", run)


def overlaps() -> Behaviour:
    """A stream that begins with what was sent before: most feeds promise "at least once"."""

    def again(request: Request) -> Behaviour:
        first = max(1, left(request)[0] - 2)
        return answer(200, b"".join(event(number) for number in range(first, len(ORDERS) + 1)), _EVENTS)

    return by_handler(again)


def stream(request: Request) -> Behaviour:
    """What is left, as a body."""
    return answer(200, text(request), _EVENTS, chunked=True)


def text(request: Request, until: int | None = None) -> bytes:
    """What is left, or the first ``until`` of it, with a comment between: what servers send to be heard of."""
    return b": still here\n\n".join(
        [b"retry: 2000\n\n", *(event(number) for number in left(request)[:until])]
    )


def event(number: int) -> bytes:
    """One event."""
    return f"event: order\ndata: {ORDERS[number - 1]}\nid: {number}\n\n".encode()


def left(request: Request) -> list[int]:
    """The numbers after the last that the client has."""
    return list(range(int(request.header("last-event-id") or "0") + 1, len(ORDERS) + 1))
