"""What is done with what an answer says: of a quota, of the key, of a replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..core.backoff import Backoff
from ..core.events import logger
from ..core.keys import shown
from ..core.outcome import Report
from ..policies.retry.options import RETRY_AFTER_CEILING
from .hints import Finding, answer
from .keyed import first_sent
from .logical import STATE, Dependency, Logical
from .profiles import SAFE_METHODS
from .quota import empty_for

STILL_RUNS = Backoff(0.25, cap=2.0)
"""How long to wait where the first request with the key still runs, and the server does not say how long."""


def has_key(dependency: Dependency, request: Any, /) -> bool:
    """Whether this request has a key; the call may have one that does not go with it (after a 303)."""
    return dependency.profile.header in request.headers


def look(dependency: Dependency, request: Any, response: Any, logical: Logical, /) -> Finding | None:
    """What an error answer says; that a quota of the service is empty is kept in mind."""
    found = answer(
        response.status_code,
        response.headers,
        profile=dependency.profile,
        keyed=has_key(dependency, request),
        safe=request.method in SAFE_METHODS,
        content=lambda: dependency.binding.content(response),
        wall=dependency.clock.time,
    )
    if found is None:
        return None
    if found.key == "reused":
        logger().error(
            "%s: %s was refused: its idempotency key (hash %s) was used for another request",
            dependency.name,
            dependency.operation(request, logical),
            "-" if logical.key is None else shown(logical.key),
        )
    if found.key == "in_progress" and found.retry_after is None:
        found = found._replace(retry_after=STILL_RUNS.delay(logical.attempts))
    if found.quota is not None:
        hold(dependency, found.retry_after)
    return found


def look_at_good(dependency: Dependency, request: Any, response: Any, /) -> None:
    """What a good answer says, where the profile has words for it."""
    profile, headers = dependency.profile, response.headers
    if profile.is_replay(headers) and has_key(dependency, request):
        response.extensions[STATE] = replace(response.extensions[STATE], replayed=True)
    if profile.quota is not None:
        hold(dependency, empty_for(headers, dependency.clock.time, profile.quota))


def hold(dependency: Dependency, seconds: float | None, /) -> None:
    """The service takes no call for so long: the rate limit lets none through until then. No server can make that
    longer than the longest ``Retry-After`` that is waited for."""
    if seconds and dependency.limit is not None:
        dependency.limit.hold(min(seconds, RETRY_AFTER_CEILING))


def tell(dependency: Dependency, request: Any, response: Any, found: Finding | None, span: Any, /) -> None:
    """The span of an attempt that was answered ends."""
    if span.recording:
        said: dict[str, Any] = {}
        version = response.extensions.get("http_version")
        if isinstance(version, bytes) and version.startswith(b"HTTP/"):
            said["network.protocol.version"] = version[5:].decode("ascii", "replace")
        if dependency.profile.is_replay(response.headers) and has_key(dependency, request):
            said["resilient.idempotency.replayed"] = True
        if found is not None and found.key is not None:
            said["resilient.idempotency.outcome"] = found.key
        if said:
            span.note(said)
    span.end(status=response.status_code)


def key_error(
    dependency: Dependency, kind: str, request: Any, response: Any, logical: Logical, report: Report, /
) -> Exception | None:
    """The error for an answer that speaks of the key; None where the answer says it best itself."""
    if kind == "unknown":
        return None
    return dependency.binding.key_error(
        kind,
        request,
        response,
        report,
        dependency=dependency.name,
        operation=dependency.operation(request, logical),
        idempotency_key=logical.key,
        attempts=logical.attempts,
        first_sent=first_sent(dependency, logical),
    )
