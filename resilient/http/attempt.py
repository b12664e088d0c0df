"""One attempt on the wire: what it did, and how long it may take.

What was sent is read off the core's own trace events, not guessed from exception types: without
``send_request_headers.started`` nothing reached the peer's HTTP layer, whatever the exception says. The
time-outs that go down to the network are floats that know the attempt; code that does not know that sees a
float."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from ..core.outcome import FAILURE, IGNORED, Evidence
from .hints import Finding

NO_LIMIT = 1e9
"""Seconds, for phases without a time-out of their own; the deadline still holds."""


class Attempt:
    """What one attempt did, filled in as it happens.

    Args:
        deadline: monotonic time at which it is over, body included; None: it has no end.
        clock: reads the monotonic time.
        connect_timeout: seconds to connect at most.
        headers: sent in addition to the request's own.
        fresh: whether it must not use a connection that was used before.
        body: the request's body, where it is not in memory.

    Attributes:
        sent: the request's first bytes were handed to the connection.
        answered: the head of an answer came.
        reused: the connection had been used before.
        received: any byte came back on it for this request.
        traced: whether anything was heard from the core at all.
    """

    __slots__ = (
        "answered",
        "body",
        "clock",
        "connect_timeout",
        "deadline",
        "fresh",
        "headers",
        "kill",
        "received",
        "reused",
        "sent",
        "span",
        "traced",
        "user_trace",
    )

    def __init__(
        self,
        deadline: float | None,
        *,
        clock: Callable[[], float],
        connect_timeout: float | None = None,
        headers: list[tuple[bytes, bytes]] | None = None,
        fresh: bool = False,
        body: Any = None,
    ) -> None:
        self.deadline = deadline
        self.clock = clock
        self.connect_timeout = connect_timeout
        self.headers: list[tuple[bytes, bytes]] = [] if headers is None else headers
        self.fresh = fresh
        self.body = body
        self.sent = False
        self.answered = False
        self.reused = False
        self.received = False
        self.span: Any = None
        self.traced = False
        self.user_trace: Callable[[str, dict[str, Any]], Any] | None = None
        self.kill: Callable[[], None] | None = None

    def overdue(self) -> bool:
        """Whether its time is over."""
        return self.deadline is not None and self.clock() >= self.deadline

    def trace(self, name: str, info: dict[str, Any]) -> None:
        """The core's trace callback, sync."""
        self._note(name)
        if self.user_trace is not None:
            self.user_trace(name, info)

    async def atrace(self, name: str, info: dict[str, Any]) -> None:
        """The core's trace callback, async."""
        self._note(name)
        if self.user_trace is not None:
            result: Awaitable[None] = self.user_trace(name, info)
            await result

    def _note(self, name: str) -> None:
        self.traced = True
        if name.endswith("send_request_headers.started"):
            self.sent = True
        elif name.endswith("receive_response_headers.complete"):
            self.answered = True

    def extensions(self, given: dict[str, Any], trace: Any) -> dict[str, Any]:
        """The request's extensions for the core: time-outs that know this attempt, and the trace."""
        timeout = given.get("timeout") or {}
        connect = timeout.get("connect")
        if self.connect_timeout is not None and (connect is None or connect > self.connect_timeout):
            connect = self.connect_timeout
        self.user_trace = given.get("trace")
        return {
            **{key: value for key, value in given.items() if key != "resilient"},
            "timeout": {
                "connect": Phase(connect, self),
                "read": Phase(timeout.get("read"), self),
                "write": Phase(timeout.get("write"), self),
                "pool": timeout.get("pool"),
            },
            "trace": trace,
        }


class Phase(float):
    """A phase's time-out that knows the attempt it belongs to."""

    __slots__ = ("attempt",)
    attempt: Attempt

    def __new__(cls, seconds: float | None, attempt: Attempt) -> Phase:
        self = super().__new__(cls, NO_LIMIT if seconds is None else seconds)
        self.attempt = attempt
        return self


def clip(timeout: float | None, error: type[Exception], /) -> float | None:
    """How long an operation may take: its phase's time-out or what is left until the deadline, whichever is
    less.

    Raises:
        error: the deadline is over.
    """
    if timeout.__class__ is not Phase:
        return timeout
    assert isinstance(timeout, Phase)
    attempt = timeout.attempt
    seconds = float(timeout)
    if attempt.deadline is not None:
        left = attempt.deadline - attempt.clock()
        if left <= 0:
            raise error("the deadline is over")
        seconds = min(seconds, left)
    return None if seconds >= NO_LIMIT else seconds


# -------------------------------------------------------------------------------------- what a failure proves
def failure(exc: BaseException, attempt: Attempt, /) -> Finding:
    """What the failure of an attempt proves; the errors are told by name, so that every SDK's are known."""
    name = type(exc).__name__
    if name in ("UnsupportedProtocol", "LocalProtocolError", "InvalidURL", "DecodingError"):
        evidence = Evidence.UNKNOWN if attempt.sent else Evidence.NOT_SENT
        return Finding(evidence, False, IGNORED)
    causes = _causes(exc)
    if not attempt.sent:
        return Finding(Evidence.NOT_SENT, _may_pass(causes), IGNORED if name == "PoolTimeout" else FAILURE)
    for cause in causes:
        refused = _refused_by_h2(cause)
        if refused is not None:
            return refused
    verdict = IGNORED if stale(exc, attempt) else FAILURE
    return Finding(Evidence.UNKNOWN, True, verdict)


def stale(exc: BaseException, attempt: Attempt, /) -> bool:
    """Whether a kept connection was closed by the peer while we took it up: the classic race of
    keep-alive."""
    return (
        attempt.reused
        and attempt.sent
        and not attempt.received
        and type(exc).__name__ in ("RemoteProtocolError", "ReadError", "WriteError")
    )


def _causes(exc: BaseException) -> list[BaseException]:
    """The exception and those beneath it; the core keeps the socket's own error in ``args``."""
    found: list[BaseException] = []
    todo: list[Any] = [exc]
    while todo and len(found) < 16:
        each = todo.pop()
        if not isinstance(each, BaseException) or each in found:
            continue
        found.append(each)
        todo += (each.__cause__, each.__context__, *each.args[:1])
    return found


def _may_pass(causes: list[BaseException]) -> bool:
    """Whether a failure to connect may pass. A bad certificate does not; a name that is not there yet may."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return False
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT):
            return False
    return True


_REFUSED_STREAM, _HTTP_1_1_REQUIRED, _ENHANCE_YOUR_CALM = 0x7, 0xD, 0xB


def _refused_by_h2(cause: BaseException) -> Finding | None:
    """What an HTTP/2 event in the core's error proves (RFC 9113 8.7)."""
    event = cause.args[0] if cause.args else None
    code = getattr(event, "error_code", None)
    if type(event).__name__ != "StreamReset" or code is None:
        return None
    if code in (_REFUSED_STREAM, _HTTP_1_1_REQUIRED):
        return Finding(Evidence.REFUSED, True, FAILURE)
    if code == _ENHANCE_YOUR_CALM:
        return Finding(Evidence.DECLINED, True, IGNORED)
    return None
