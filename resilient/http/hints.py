"""What an answer says to whoever might send again. Everything from the server is parsed with limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from ..core.clock import SYSTEM_CLOCK
from ..core.outcome import FAILURE, IGNORED, Evidence, Verdict

_LONGEST = 128
"""Characters of a header value that are looked at."""

_PROOFS = ("resilient-not-processed", "x-envoy-overloaded", "finagle-http-nack")
"""Headers with which a server or proxy says that the request never reached the application."""


class Finding(NamedTuple):
    """What an attempt that did not succeed proves.

    Attributes:
        evidence: how far it got.
        transient: whether trying again may help.
        verdict: what it says about the callee.
        retry_after: seconds that the server asked for.
        why_not: why it must not be retried, where the server said so.
    """

    evidence: Evidence
    transient: bool
    verdict: Verdict
    retry_after: float | None = None
    why_not: str | None = None


def answer(
    status: int,
    headers: Mapping[str, str],
    *,
    keyed: bool = False,
    wall: Callable[[], float] = SYSTEM_CLOCK.time,
) -> Finding | None:
    """What an answer says, by its status and headers; None: it is simply an answer.

    Args:
        keyed: whether the server is known to honour idempotency keys; only then is its word on one believed.
        wall: seconds since the epoch, for dates.
    """
    if status < 400:
        return None
    refused = any(name in headers for name in _PROOFS)
    if status == 429:
        found = Finding(Evidence.DECLINED, True, IGNORED)
    elif status == 425:
        found = Finding(Evidence.DECLINED, True, IGNORED)  # RFC 8470: repeat it, without early data
    elif status == 503:
        # A bare 503 proves nothing: proxies turn a connection that broke after the request was sent into one.
        found = Finding(Evidence.DECLINED if refused else Evidence.ANSWERED, True, FAILURE)
    elif status in (500, 502, 504):
        found = Finding(Evidence.ANSWERED, True, FAILURE)
    elif status >= 500:
        found = Finding(Evidence.ANSWERED, False, FAILURE)
    elif status == 408:
        found = Finding(Evidence.ANSWERED, True, IGNORED)
    elif status == 409 and keyed and headers.get("idempotency-key-status", "")[:_LONGEST] == "in-progress":
        found = Finding(Evidence.UNKNOWN, True, IGNORED)
    else:
        return None
    if "finagle-http-nonretryable-nack" in headers:
        return found._replace(transient=False, why_not="server")
    should = headers.get("stripe-should-retry", "")[:_LONGEST].lower()
    if should == "false":
        return found._replace(transient=False, why_not="server")
    if found.transient and (status in (408, 409, 425, 429) or status >= 500):
        return found._replace(retry_after=retry_after(headers, wall))
    return found


def retry_after(headers: Mapping[str, str], wall: Callable[[], float] = SYSTEM_CLOCK.time) -> float | None:
    """Seconds of ``Retry-After`` (RFC 9110 10.2.3), as a number or a date; None where it is absent or
    nonsense.

    A date is read against the answer's own ``Date``, so that a clock that is wrong on either side does not
    count."""
    value = headers.get("retry-after")
    if value is None or len(value) > _LONGEST:
        return None
    value = value.strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    at = _date(value)
    if at is None:
        return None
    now = _date(headers.get("date", "")[:_LONGEST])
    return max(0.0, at - (wall() if now is None else now))


def _date(value: str) -> float | None:
    try:
        at = parsedate_to_datetime(value)
        # One without a zone (asctime's, obsolete but to be understood) is UTC, not the time of this place.
        return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
