"""What the status of an RPC that failed proves.

gRPC does not say who made a status: one that the server sent and one that the client made of a broken connection have
the same code, and the text of the second may stand in the first (a server that hands on the status of whom it asked).
So no text makes a status prove more here; texts only make it prove less. That nothing was sent is known where it was
not sent: see `connection`.

Sources: gRPC's status codes (``doc/statuscodes.md``) and proposal A6."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import grpc

from ..core.outcome import FAILURE, IGNORED, SUCCESS, Evidence
from ..http.hints import PROOFS, Finding, proxy_retried, pushback_of

Code = grpc.StatusCode

_ANSWERS = frozenset(
    (
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.FAILED_PRECONDITION,
        Code.ABORTED,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
    )
)
"""What a server that is well says. ABORTED wants the whole of what it belongs to again, and not this call."""

_TOO_LARGE = re.compile("larger than max|exceeds", re.IGNORECASE)
"""RESOURCE_EXHAUSTED is also said of what is too large: the client says it of an answer, and then it has happened."""

_BROKEN = re.compile(
    "RST_STREAM|Stream removed|Socket closed|GOAWAY|END_STREAM|http2 header|Internal error from Core",
    re.IGNORECASE,
)
"""INTERNAL, UNKNOWN and RESOURCE_EXHAUSTED that the client makes of a connection. A server that says the same loses
nothing by it."""

_BY_THE_CLIENT = {
    "Exception serializing request!": Finding(Evidence.NOT_SENT, False, IGNORED),
    "Exception iterating requests!": Finding(Evidence.UNKNOWN, False, IGNORED),
    "Exception deserializing response!": Finding(Evidence.ANSWERED, False, IGNORED),
}
"""What the Python part of the client says of messages. A server that says the same is told by its trace in the core."""


def failure(error: Any, /) -> Finding:
    """What the error of an attempt says to whoever might send again."""
    code = error.code() if callable(getattr(error, "code", None)) else None
    if not isinstance(code, Code):  # made by an interceptor of the user's
        return Finding(Evidence.UNKNOWN, False, FAILURE)
    details = str(error.details() or "")
    if details in _BY_THE_CLIENT and not _debug_of(error):
        return _BY_THE_CLIENT[details]
    initial, trailing = metadata_of(error, "initial_metadata"), metadata_of(error, "trailing_metadata")
    found = _by_status(code, details, initial, trailing)
    if not found.transient:
        return found
    if proxy_retried(trailing) or proxy_retried(initial):
        return found._replace(transient=False, why_not="nested")
    pushback = trailing.get("grpc-retry-pushback-ms")
    if pushback is None:
        return found
    seconds = pushback_of(pushback)
    if seconds is None:
        return found._replace(transient=False, why_not="server")
    return found._replace(retry_after=seconds)


def _by_status(code: Code, details: str, initial: Mapping[str, str], trailing: Mapping[str, str]) -> Finding:
    if code in _ANSWERS:
        return Finding(Evidence.ANSWERED, False, SUCCESS)
    if code is Code.UNAVAILABLE:
        if any(name in initial or name in trailing for name in PROOFS):
            return Finding(Evidence.DECLINED, True, FAILURE)
        # With trailing metadata it is the server's word; without, it may be that of a connection that broke, be it
        # after the head of the answer.
        return Finding(Evidence.ANSWERED if trailing else Evidence.UNKNOWN, True, FAILURE)
    if code is Code.RESOURCE_EXHAUSTED:
        # Whoever has begun to answer has begun to work.
        if initial or _TOO_LARGE.search(details):
            return Finding(Evidence.UNKNOWN, False, IGNORED)
        if _BROKEN.search(details):  # RST_STREAM with ENHANCE_YOUR_CALM, which may come at any time
            return Finding(Evidence.UNKNOWN, True, IGNORED)
        return Finding(Evidence.DECLINED, True, IGNORED)
    if code is Code.DEADLINE_EXCEEDED:
        return Finding(Evidence.UNKNOWN, True, FAILURE)
    if code is Code.CANCELLED:
        return Finding(Evidence.UNKNOWN, False, IGNORED)
    if code in (Code.INTERNAL, Code.UNKNOWN) and not trailing and _BROKEN.search(details):
        return Finding(Evidence.UNKNOWN, True, FAILURE)
    return Finding(Evidence.ANSWERED, False, FAILURE)


def _debug_of(error: Any) -> str | None:
    debug = getattr(error, "debug_error_string", None)
    return str(debug() or "") if callable(debug) else "an error of an interceptor of the user's"


def metadata_of(error: Any, which: str, /) -> dict[str, str]:
    """The texts in the metadata of an error, by key."""
    given = getattr(error, which, None)
    return {key: value for key, value in (given() or ()) if isinstance(value, str)} if callable(given) else {}
