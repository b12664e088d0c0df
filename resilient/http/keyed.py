"""What a request's own key must be, since when it was sent and until when it may be."""

from __future__ import annotations

from typing import Any

from ..core.errors import PolicyError, WindowExceeded
from ..core.keys import shown
from ..core.options import seconds
from ..core.outcome import IGNORED, Evidence, attach
from ..discovery.address import Address
from .options import RequestOptions
from .profiles import SAFE_METHODS, Profile


def check_key(options: RequestOptions, profile: Profile, request: Any, /) -> None:
    """Refuse a key that would be without effect, or beside another one."""
    key = options.idempotency_key
    if key is None:
        return
    if request.method in SAFE_METHODS:
        raise PolicyError(
            f"request: idempotency_key= is for methods that do something, and this is {request.method}; leave it out"
        )
    if not profile.sends:
        raise PolicyError(
            "request: idempotency_key= is given, and the client's profile sends no key; leave it out, or write "
            "profile='unknown'"
        )
    given = key_sent(profile, request)
    if given is not None and given != key:
        raise PolicyError(
            f"request: idempotency_key= and the header {profile.header} are two keys; leave one of them out"
        )


def key_sent(profile: Profile, request: Any, /) -> str | None:
    """The key that a request bears on the wire."""
    given: str | None = request.headers.get(profile.header)
    return None if given is None else given.strip('"')


def first_sent(dependency: Any, logical: Any, /) -> float | None:
    """When the first attempt of a call began that may have happened, in seconds since the epoch."""
    if logical.options is not None and logical.options.first_sent is not None:
        given: float = logical.options.first_sent
        return given
    if logical.maybe_since is None:
        return None
    clock = dependency.clock
    at: float = clock.time() - (clock.monotonic() - logical.maybe_since)
    return at


def guard_window(dependency: Any, options: RequestOptions, request: Any, logical: Any, /) -> None:
    """A key that is older than the server remembers would make the thing happen again.

    Raises:
        WindowExceeded: the last attempt of the call could come after the server has forgotten the key.
    """
    window = dependency.profile.window
    if window is None or options.first_sent is None or logical.tried:
        return  # of a call that has begun the whole fits
    age = dependency.clock.time() - options.first_sent
    if age + dependency.total <= window:  # a client with window= has a total
        return
    error = WindowExceeded(
        f"the key was first sent {seconds(round(age, 1))} ago, and the service keeps keys for {seconds(window)}: sent "
        "again it could happen twice; ask the service whether it happened",
        dependency=dependency.name,
        operation=dependency.operation(request, logical),
        idempotency_key=logical.key,
        first_sent=options.first_sent,
    )
    # Of the attempts before, by whoever sent the key first, nothing is known.
    attach(
        error,
        evidence=Evidence.UNKNOWN,
        attempts=0,
        transient=False,
        verdict=IGNORED,
        why_not_retried="window",
    )
    raise dependency.binding.own_error(error, request)


def attributes(dependency: Any, logical: Any, address: Address | None, /) -> dict[str, Any]:
    """What a span shows of an attempt beside the conventions; never the key itself.

    Args:
        address: of the pod, where one was chosen.
    """
    found: dict[str, Any] = {"resilient.dependency": dependency.name}
    if address is not None:
        found["network.peer.address"], found["network.peer.port"] = address.host, address.port
    if logical.key is not None:
        found["resilient.idempotency.source"] = logical.made_key or "caller"
        found["resilient.idempotency.key_hash"] = shown(logical.key)
    return found
