"""What an answer says to whoever might send again. Everything from the server is parsed with limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from ..core.clock import SYSTEM_CLOCK
from ..core.outcome import FAILURE, IGNORED, Evidence, Verdict
from .profiles import PROFILES, Content, Profile
from .quota import STRUCTURED, empty_for

_LONGEST = 128
"""Characters of a header value that are looked at."""

PROOFS = ("resilient-not-processed", "x-envoy-overloaded", "finagle-http-nack")
"""Headers with which a server or proxy says that the request never reached the application."""


class Finding(NamedTuple):
    """What an attempt that did not succeed proves.

    Attributes:
        evidence: how far it got.
        transient: whether trying again may help.
        verdict: what it says about the callee.
        retry_after: seconds that the server asked for.
        why_not: why it must not be retried, where the server said so.
        quota: seconds for which a quota of the service is empty, where the server says that of one.
        key: what the server says of the idempotency key; see `Profile.outcome`.
        replayed: whether it is an answer that was given before.
    """

    evidence: Evidence
    transient: bool
    verdict: Verdict
    retry_after: float | None = None
    why_not: str | None = None
    quota: float | None = None
    key: str | None = None
    replayed: bool = False


def answer(
    status: int,
    headers: Mapping[str, str],
    *,
    profile: Profile = PROFILES["unknown"],
    keyed: bool = False,
    safe: bool = False,
    content: Content = lambda: None,
    wall: Callable[[], float] = SYSTEM_CLOCK.time,
) -> Finding | None:
    """What an answer says, by its status and headers; None: it is simply an answer.

    Args:
        profile: what the service does with keys, and how it says so.
        keyed: whether the request had a key; only then is a word on one believed.
        safe: whether it is one that takes none: then nobody misses one either.
        content: gives the body, where it was read.
        wall: seconds since the epoch, for dates.
    """
    if status < 400:
        return None
    said = profile.outcome(status, headers, content, keyed=keyed, safe=safe)
    found = _by_key(said) or _by_status(status, headers)
    replayed = keyed and profile.is_replay(headers)
    should = (headers.get("stripe-should-retry") or headers.get("x-should-retry", ""))[:_LONGEST].lower()
    if found is None:
        # The server's word overrides what the status means in general; safe is it still only where repeating is.
        if should != "true":
            return None
        found = Finding(Evidence.ANSWERED, True, IGNORED)
    if replayed:  # every further attempt would be given the same
        return found._replace(transient=False, why_not="server", replayed=True)
    if should == "false" or "finagle-http-nonretryable-nack" in headers or said == "unknown":
        return found._replace(transient=False, why_not="server")
    if should == "true":
        found = found._replace(transient=True)
    if not found.transient:
        return found
    if status >= 500 and proxy_retried(headers):
        # Retries belong to the layer right above what fails; two of them multiply (Google's SRE book, chapter 22).
        return found._replace(transient=False, why_not="nested")
    pushback = headers.get("grpc-retry-pushback-ms")
    if pushback is not None:
        seconds = pushback_of(pushback)
        if seconds is None:
            return found._replace(transient=False, why_not="server")
        return found._replace(retry_after=seconds)
    asked, empty = retry_after(headers, wall), None
    if status in (429, 503):
        prefix = profile.quota or STRUCTURED
        empty = empty_for(headers, lambda: _server_time(headers, wall), prefix, refused=status == 429)
    return found._replace(retry_after=empty if asked is None else asked, quota=empty)


def _by_status(status: int, headers: Mapping[str, str]) -> Finding | None:
    if status == 429:
        return Finding(Evidence.DECLINED, True, IGNORED)
    if status == 425:
        return Finding(Evidence.DECLINED, True, IGNORED)  # RFC 8470: repeat it, without early data
    if status == 503:
        # A bare 503 proves nothing: proxies turn a connection that broke after the request was sent into one.
        refused = any(name in headers for name in PROOFS)
        return Finding(Evidence.DECLINED if refused else Evidence.ANSWERED, True, FAILURE)
    if status in (500, 502, 504, 529):  # 529: overloaded, with Anthropic and others; in no registry
        return Finding(Evidence.ANSWERED, True, FAILURE)
    if status >= 500:
        return Finding(Evidence.ANSWERED, False, FAILURE)
    if status == 408:
        return Finding(Evidence.ANSWERED, True, IGNORED)
    return None


def _by_key(said: str | None) -> Finding | None:
    """What follows from the server's word on the key; none of it is its fault."""
    if said is None:
        return None
    if said == "in_progress":
        return Finding(Evidence.UNKNOWN, True, IGNORED, key=said)
    if said == "unknown":  # a failure of its own, and nobody will ever know
        return Finding(Evidence.UNKNOWN, False, FAILURE, key=said)
    return Finding(Evidence.ANSWERED, False, IGNORED, key=said)


def proxy_retried(headers: Mapping[str, str]) -> bool:
    """Whether a proxy between us and the callee says that it has tried more than once."""
    value = headers.get("x-envoy-attempt-count", "")[:_LONGEST].strip()
    return value.isascii() and value.isdigit() and len(value) < 10 and int(value) > 1


def pushback_of(value: str) -> float | None:
    """Seconds of gRPC's pushback; None where it forbids a retry, as everything does that is no number of 0 or more
    (proposal A6)."""
    value = value.strip()
    if len(value) > 10 or not (value.isascii() and value.isdigit()):
        return None
    return int(value) / 1000


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
    return None if at is None else max(0.0, at - _server_time(headers, wall))


def _server_time(headers: Mapping[str, str], wall: Callable[[], float]) -> float:
    """The answer's own ``Date``, else our time."""
    said = _date(headers.get("date", "")[:_LONGEST])
    return wall() if said is None else said


def _date(value: str) -> float | None:
    try:
        at = parsedate_to_datetime(value)
        # One without a zone (asctime's, obsolete but to be understood) is UTC, not the time of this place.
        return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
