"""One attempt on the wire: what it did, and how long it may take.

What was sent is seen where it is sent, not guessed from exception types: until our stream is handed the first
bytes nothing reached the peer's HTTP layer, whatever the exception says. Behind a proxy, and in a transport of
the user's, the core's trace event ``send_request_headers.started`` tells it instead: there the first bytes may
be those of the tunnel, or the stream is not ours. The time-outs that go down to the network are floats that
know the attempt; code that does not know that sees a float."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from ..core.errors import TimedOut
from ..core.outcome import FAILURE, IGNORED, Evidence
from .hints import Finding

NO_LIMIT = 1e9
"""Seconds, for phases without a time-out of their own; the deadline still holds."""
HTTP_1_1 = "HTTP/1.1"
"""For ``fresh``: the server wants this request by that protocol."""


class Attempt:
    """What one attempt did, filled in as it happens.

    Args:
        deadline: monotonic time at which it is over, body included; None: it has no end.
        clock: reads the monotonic time.
        connect_timeout: seconds to connect at most.
        headers: sent in addition to the request's own.
        fresh: whether it must not use a connection that was used before. Where connections are shared: the one that
            it must not use; or `HTTP_1_1`: none of them.
        body: the request's body, where it is not in memory.

    Attributes:
        sent: the request's first bytes were handed to the connection, at ``sent_at`` where that is known.
        endpoint: where it goes, by ``permit``, since ``began``.
        reused: the connection had been used before.
        received: any byte came back on it for this request.
        by_trace: the core's trace events are to tell what was sent.
        traced: some of them were heard.
        late: says what ran out, to an error of the body that the caller reads.
        stream: its part of a connection that is shared (HTTP/2).
    """

    __slots__ = (
        "began",
        "body",
        "by_trace",
        "clock",
        "connect_timeout",
        "deadline",
        "endpoint",
        "fresh",
        "headers",
        "kill",
        "late",
        "permit",
        "received",
        "reused",
        "sent",
        "sent_at",
        "span",
        "stream",
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
        fresh: Any = False,
        body: Any = None,
    ) -> None:
        self.deadline = deadline
        self.clock = clock
        self.connect_timeout = connect_timeout
        self.headers: list[tuple[bytes, bytes]] = [] if headers is None else headers
        self.fresh = fresh
        self.body = body
        self.endpoint: Any = None
        self.permit: Any = None
        self.began = 0.0
        self.sent = False
        self.sent_at = 0.0
        self.reused = False
        self.received = False
        self.span: Any = None
        self.by_trace = False
        self.traced = False
        self.user_trace: Callable[[str, dict[str, Any]], Any] | None = None
        self.kill: Callable[[], None] | None = None
        self.late: Callable[[TimedOut], None] | None = None
        self.stream: Any = None

    def sends(self) -> None:
        """Our stream is handed bytes of it."""
        if not self.sent and not self.by_trace:
            self.sent = True
            self.sent_at = self.clock()

    def overdue(self) -> bool:
        """Whether its time is over."""
        return self.deadline is not None and self.clock() >= self.deadline

    def trace(self, name: str, info: dict[str, Any]) -> None:
        """The core's trace callback, sync."""
        self._note(name, info)
        if self.user_trace is not None:
            self.user_trace(name, info)

    async def atrace(self, name: str, info: dict[str, Any]) -> None:
        """The core's trace callback, async."""
        self._note(name, info)
        if self.user_trace is not None:
            result: Awaitable[None] = self.user_trace(name, info)
            await result

    def _note(self, name: str, info: dict[str, Any]) -> None:
        self.traced = True
        # What opens a tunnel through a proxy is the core's own, and not yet the request.
        opens_tunnel = getattr(info.get("request"), "method", None) == b"CONNECT"
        if name.endswith("send_request_headers.started") and not opens_tunnel:
            self.sent = True

    def extensions(self, given: dict[str, Any], trace: Any, *, cut: bool = False) -> dict[str, Any]:
        """The request's extensions for the core: time-outs that know this attempt, and the trace.

        Args:
            given: the request's own.
            trace: `trace` or `atrace`, where the core's events are to tell what was sent; None: the stream does.
            cut: whether the time-outs are read as mere floats, by streams that are not ours: none is longer then than
                what is left now.
        """
        found = {**given}
        found.pop("resilient", None)
        timeout = given.get("timeout") or {}
        connect, read, write = timeout.get("connect"), timeout.get("read"), timeout.get("write")
        pool = timeout.get("pool")
        if cut and self.deadline is not None:
            left = max(0.0, self.deadline - self.clock())
            connect, read, write, pool = (
                left if each is None else min(each, left) for each in (connect, read, write, pool)
            )
        if self.connect_timeout is not None and (connect is None or connect > self.connect_timeout):
            connect = self.connect_timeout
        reading = Phase(NO_LIMIT if read is None else read)
        reading.attempt = self
        found["timeout"] = {
            "connect": reading if self.reused else self._phase(connect),  # there is nothing to connect
            "read": reading,
            "write": reading if write == read else self._phase(write),
            "pool": pool,
        }
        if trace is not None:
            self.by_trace = True
            self.user_trace = given.get("trace")
            found["trace"] = trace
        return found

    def _phase(self, seconds: float | None) -> Phase:
        phase = Phase(NO_LIMIT if seconds is None else seconds)
        phase.attempt = self
        return phase


class Phase(float):
    """A phase's time-out that knows the attempt it belongs to."""

    __slots__ = ("attempt",)
    attempt: Attempt


def clip(timeout: float | None, error: type[Exception], /) -> float | None:
    """How long an operation may take: its phase's time-out or what is left until the deadline, whichever is
    less.

    Raises:
        error: the deadline is over.
    """
    if timeout.__class__ is not Phase:
        return timeout
    attempt: Attempt = timeout.attempt
    deadline = attempt.deadline
    if deadline is not None:
        left = deadline - attempt.clock()
        if left <= 0.0:
            raise error("the deadline is over")
        if left < timeout:
            return left
    return None if timeout >= NO_LIMIT else float(timeout)


# -------------------------------------------------------------------------------------- what a failure proves
def failure(exc: BaseException, attempt: Attempt, /, *, foreign: bool = False) -> Finding:
    """What the failure of an attempt proves; the errors are told by name, so that every SDK's are known.

    Args:
        foreign: whether what sent it is a transport of the user's: an error of another kind is the callee's then, as
            with a plain function; out of our own it comes from the caller's side. Neither is mended by another attempt.
    """
    own = attempt.body is not None and attempt.body.error is not None  # the caller's body could not be made
    if own or (isinstance(exc, Exception) and not _of_the_network(exc)):
        evidence = Evidence.UNKNOWN if attempt.sent else Evidence.NOT_SENT
        return Finding(evidence, False, FAILURE if foreign and not own else IGNORED)
    name = type(exc).__name__
    if name in _CALLERS_OWN and not _by_a_sibling(name, attempt):
        evidence = Evidence.UNKNOWN if attempt.sent else Evidence.NOT_SENT
        return Finding(evidence, False, IGNORED)
    causes = _causes(exc)
    if not attempt.sent:
        return Finding(Evidence.NOT_SENT, _may_pass(causes), IGNORED if name == "PoolTimeout" else FAILURE)
    for cause in causes:
        refused = _refused_by_h2(cause, attempt)
        if refused is not None:
            return refused
    verdict = IGNORED if stale(exc, attempt) else FAILURE
    return Finding(Evidence.UNKNOWN, True, verdict)


def _of_the_network(exc: Exception) -> bool:
    """Whether an error is the SDK's, the system's, or a time-out of ours."""
    if isinstance(exc, OSError):
        return True
    for cls in type(exc).__mro__:  # noqa: SIM110 - any() makes a generator
        if cls.__name__ in ("RequestError", "ClientError"):  # httpx's, aiohttp's
            return True
    return False


def stale(exc: BaseException, attempt: Attempt, /) -> bool:
    """Whether a kept connection was closed by the peer while we took it up: the classic race of
    keep-alive."""
    return attempt.reused and attempt.sent and not attempt.received and type(exc).__name__ in _BROKEN


_BROKEN = frozenset(
    (
        *("RemoteProtocolError", "ReadError", "WriteError"),  # httpx
        "ConnectionError",  # requests
        *("ServerDisconnectedError", "ClientOSError", "ClientConnectionResetError"),  # aiohttp
    )
)


def _causes(exc: BaseException) -> list[BaseException]:
    """The exception and those that it was raised from; the core keeps the socket's own error in ``args``. Not what was
    being handled meanwhile (``__context__``): that may be the caller's, and tell of another request."""
    found: list[BaseException] = []
    todo: list[Any] = [exc]
    while todo and len(found) < 16:
        each = todo.pop()
        if not isinstance(each, BaseException) or each in found:
            continue
        found.append(each)
        todo += (each.__cause__, *each.args[:1])
    return found


def _may_pass(causes: list[BaseException]) -> bool:
    """Whether a failure to connect may pass. A bad certificate does not; a name that is not there yet may."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return False
        if type(cause).__name__ == "ServerFingerprintMismatch":  # aiohttp's
            return False
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT):
            return False
    return True


_NOBODY_THERE = frozenset(
    (
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ETIMEDOUT,
    )
)


def unreachable(exc: BaseException, /) -> bool:
    """Whether a connection failed because of the other side. Not where the caller's time was over, or this process has
    no descriptors or ports left: that says nothing about whether anybody is there."""
    if type(exc).__name__ == "ConnectTimeout":  # at the deadline it is a `TimedOut`
        return True
    return any(isinstance(cause, OSError) and cause.errno in _NOBODY_THERE for cause in _causes(exc))


_CALLERS_OWN = frozenset(
    (
        *("UnsupportedProtocol", "LocalProtocolError", "InvalidURL", "DecodingError"),  # httpx
        *("InvalidProxyURL", "InvalidHeader", "ContentDecodingError", "UnrewindableBodyError"),  # requests
    )
)


def _by_a_sibling(name: str, attempt: Attempt) -> bool:
    """Whether the core says that we broke a rule, and it was its own: of a shared connection that another request found
    broken, or of a stream that the peer had reset. Where the connection is as well as before it was the caller's."""
    stream = attempt.stream
    return (
        name == "LocalProtocolError" and stream is not None and (stream.reset is not None or not stream.well)
    )


# ---------------------------------------------------------------------------------------------- HTTP/2 (RFC 9113 8.7)
_REFUSED_STREAM, _ENHANCE_YOUR_CALM, _HTTP_1_1_REQUIRED = 0x7, 0xB, 0xD


def _refused_by_h2(cause: BaseException, attempt: Attempt) -> Finding | None:
    """What the peer said when it ended a stream, or the connection. Said of one that it had begun to answer it proves
    nothing: proxies hand on the word of whoever they asked, about something else."""
    stream, code = attempt.stream, reset_code(cause, attempt)
    if attempt.received if stream is None else stream.answered:
        return None
    if code is None and stream is not None and stream.goodbye is not None:
        # Not processed, whatever the code says; and no more of it soon, where that is the code.
        calm = stream.goodbye.error_code == _ENHANCE_YOUR_CALM
        return _DECLINED if calm else Finding(Evidence.REFUSED, True, FAILURE)
    if code == _ENHANCE_YOUR_CALM:
        return _DECLINED
    if code == _HTTP_1_1_REQUIRED:
        # Where nothing but HTTP/2 is spoken, no other attempt ends better; of another authority it is not known.
        unknown = stream is None or attempt.endpoint is None
        return Finding(Evidence.REFUSED, unknown or attempt.endpoint.exchange.speaks_http1, FAILURE)
    return Finding(Evidence.REFUSED, True, FAILURE) if code == _REFUSED_STREAM else None


_DECLINED = Finding(Evidence.DECLINED, True, IGNORED)


def reset_code(exc: BaseException, attempt: Attempt, /) -> int | None:
    """The code with which the peer reset the stream. The core may know no more of it than that it is closed."""
    if attempt.stream is not None and attempt.stream.reset is not None:
        code: int = attempt.stream.reset
        return code
    event = exc.args[0] if exc.args else None
    return getattr(event, "error_code", None) if type(event).__name__ == "StreamReset" else None


def wants_http1(exc: BaseException, attempt: Attempt, /) -> bool:
    """Whether the server refused HTTP/2 for this request, and can be asked by HTTP/1.1."""
    required = reset_code(exc, attempt) == _HTTP_1_1_REQUIRED and not attempt.stream.answered
    return required and attempt.endpoint.exchange.speaks_http1
