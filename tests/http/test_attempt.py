"""One attempt: its time, and what its failure proves."""

from __future__ import annotations

import errno
import ssl
from typing import Any

import h2.events
import pytest

from resilient.core.outcome import FAILURE, IGNORED, Evidence
from resilient.http.attempt import Attempt, clip, failure, stale
from resilient.testing import ManualClock
from tests.http.sdk import httpcore, httpx, now


def attempt(deadline: float | None = None, **given: Any) -> Attempt:
    return Attempt(deadline, clock=given.pop("clock", ManualClock()).monotonic, **given)


def timeouts(each: Attempt, **given: float | None) -> dict[str, Any]:
    extensions = {"timeout": given} if given else {}
    found: dict[str, Any] = each.extensions(extensions, None)["timeout"]
    return found


# ----------------------------------------------------------------------------------------------------- its time
@pytest.mark.parametrize(
    ("deadline", "timeout", "at", "allowed"),
    [
        (10.0, 3.0, 0.0, 3.0),  # the phase is the shorter
        (10.0, 3.0, 8.0, 2.0),  # the deadline is
        (10.0, None, 4.0, 6.0),
        (None, 3.0, 1e6, 3.0),
        (None, None, 1e6, None),
    ],
)
def test_an_operation_is_cut(
    deadline: float | None, timeout: float | None, at: float, allowed: float | None
) -> None:
    clock = ManualClock()
    found = timeouts(attempt(deadline, clock=clock), read=timeout)
    clock.advance(at)
    assert clip(found["read"], httpcore.ReadTimeout) == allowed


@pytest.mark.parametrize("at", [10.0, 11.0])
def test_no_operation_begins_after_the_deadline(at: float) -> None:
    clock = ManualClock()
    found = timeouts(attempt(10.0, clock=clock), write=5.0)
    clock.advance(at)
    with pytest.raises(httpcore.WriteTimeout):
        clip(found["write"], httpcore.WriteTimeout)


def test_a_plain_number_is_left_alone() -> None:
    assert clip(3.0, httpcore.ReadTimeout) == 3.0
    assert clip(None, httpcore.ReadTimeout) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [(None, None, None), (1.0, None, 1.0), (None, 5.0, 5.0), (1.0, 5.0, 1.0), (1.0, 0.5, 0.5)],
)
def test_the_shorter_connect_timeout_counts(
    ours: float | None, theirs: float | None, expected: float | None
) -> None:
    found = timeouts(attempt(connect_timeout=ours), connect=theirs, read=2.0)
    assert clip(found["connect"], httpcore.ConnectTimeout) == expected
    assert clip(found["read"], httpcore.ReadTimeout) == 2.0


def test_other_extensions_go_down_and_ours_stays() -> None:
    found = attempt().extensions({"sni_hostname": "a", "resilient": object()}, None)
    assert found["sni_hostname"] == "a"
    assert "resilient" not in found
    assert "trace" not in found


def test_the_callers_trace_is_told_too() -> None:
    heard: list[str] = []
    each = attempt()
    found = each.extensions({"trace": lambda name, info: heard.append(name)}, each.trace)
    found["trace"]("connection.connect_tcp.started", {})
    assert not each.sent
    found["trace"]("http11.send_request_headers.started", {})
    assert each.sent
    assert heard == ["connection.connect_tcp.started", "http11.send_request_headers.started"]


# ------------------------------------------------------------------------------------------- what a failure proves
def made(kind: type[Exception], cause: Exception | None = None) -> Exception:
    """An error as it comes: the core's as the cause of the SDK's, the system's in that one's arguments."""
    exc: Exception = now(kind)("it failed")
    if cause is not None:
        exc.__cause__ = httpcore.ConnectError(cause)
    return exc


@pytest.mark.parametrize(
    ("kind", "cause", "transient", "verdict"),
    [
        (httpx.ConnectError, ConnectionRefusedError(errno.ECONNREFUSED, ""), True, FAILURE),
        (httpx.ConnectError, OSError(errno.EHOSTUNREACH, ""), True, FAILURE),
        (httpx.ConnectError, OSError("All connection attempts failed"), True, FAILURE),
        (httpx.ConnectError, ssl.SSLEOFError(), True, FAILURE),
        (httpx.ConnectError, ssl.SSLCertVerificationError(), False, FAILURE),
        (httpx.ConnectError, PermissionError(errno.EACCES, ""), False, FAILURE),
        (httpx.ConnectError, OSError(errno.EAFNOSUPPORT, ""), False, FAILURE),
        (httpx.ConnectTimeout, None, True, FAILURE),
        (httpx.ProxyError, None, True, FAILURE),
        (httpx.PoolTimeout, None, True, IGNORED),
        (httpx.ReadError, None, True, FAILURE),  # odd, before anything was sent
        (httpx.UnsupportedProtocol, None, False, IGNORED),
        (httpx.LocalProtocolError, None, False, IGNORED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_before_anything_was_sent(
    kind: type[Exception], cause: Exception | None, transient: bool, verdict: Any
) -> None:
    found = failure(made(kind, cause), attempt())
    assert (found.evidence, found.transient, found.verdict) == (Evidence.NOT_SENT, transient, verdict)


@pytest.mark.parametrize(
    "kind",
    [
        httpx.ReadError,
        httpx.ReadTimeout,
        httpx.WriteError,
        httpx.WriteTimeout,
        httpx.RemoteProtocolError,
        httpx.ConnectError,  # whatever it is called
        TimeoutError,
        ConnectionResetError,
    ],
)
def test_after_something_was_sent(kind: type[Exception]) -> None:
    each = attempt()
    each.sends()
    found = failure(made(kind), each)
    assert (found.evidence, found.transient, found.verdict) == (Evidence.UNKNOWN, True, FAILURE)


@pytest.mark.parametrize("kind", [httpx.LocalProtocolError, httpx.DecodingError, RuntimeError])
def test_our_own_mistakes_after_something_was_sent(kind: type[Exception]) -> None:
    each = attempt()
    each.sends()
    found = failure(made(kind), each)
    assert (found.evidence, found.transient, found.verdict) == (Evidence.UNKNOWN, False, IGNORED)


def test_an_error_of_another_kind_is_a_foreign_transports_own() -> None:
    each = attempt()
    found = failure(KeyError("?"), each, foreign=True)
    assert (found.evidence, found.transient, found.verdict) == (Evidence.NOT_SENT, False, FAILURE)
    each.sends()
    assert failure(KeyError("?"), each, foreign=True).evidence is Evidence.UNKNOWN


@pytest.mark.parametrize(
    ("code", "evidence", "verdict"),
    [
        (0x7, Evidence.REFUSED, FAILURE),  # REFUSED_STREAM
        (0xD, Evidence.REFUSED, FAILURE),  # HTTP_1_1_REQUIRED
        (0xB, Evidence.DECLINED, IGNORED),  # ENHANCE_YOUR_CALM
        (0x2, Evidence.UNKNOWN, FAILURE),  # INTERNAL_ERROR
        (0x8, Evidence.UNKNOWN, FAILURE),  # CANCEL
    ],
)
def test_a_reset_of_http2(code: int, evidence: Evidence, verdict: Any) -> None:
    event = h2.events.StreamReset(stream_id=1, error_code=code)
    exc = httpx.RemoteProtocolError(str(event))
    exc.__cause__ = httpcore.RemoteProtocolError(event)
    each = attempt()
    each.sends()
    found = failure(exc, each)
    assert (found.evidence, found.transient, found.verdict) == (evidence, True, verdict)


@pytest.mark.parametrize(
    ("reused", "sent", "received", "error", "expected"),
    [
        (True, True, False, httpx.RemoteProtocolError, True),
        (True, True, False, httpx.ReadError, True),
        (True, True, False, httpx.WriteError, True),
        (True, True, False, httpx.ReadTimeout, False),
        (True, True, True, httpx.ReadError, False),
        (True, False, False, httpx.ReadError, False),
        (False, True, False, httpx.ReadError, False),
    ],
)
def test_stale(reused: bool, sent: bool, received: bool, error: Any, expected: bool) -> None:
    each = attempt()
    each.reused, each.sent, each.received = reused, sent, received
    assert stale(now(error)("?"), each) == expected
    if sent:
        assert failure(now(error)("?"), each).verdict is (IGNORED if expected else FAILURE)


def test_causes_that_go_in_a_circle() -> None:
    first, second = httpx.ConnectError("a"), httpx.ConnectError("b")
    first.__cause__, second.__context__ = second, first
    assert failure(first, attempt()).evidence is Evidence.NOT_SENT
