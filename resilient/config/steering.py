"""What a person does to the configuration of one process, from a shell in it or a page of its admin port."""

from __future__ import annotations

from ..core.errors import ConfigError
from ..core.options import Rule
from .center import CENTER
from .control import MOST_GOOD
from .feed import Status

TTL = Rule(above=0, high=86_400, unit="seconds")
LONGEST_REASON = 200
_N = Rule(low=1, high=MOST_GOOD - 1, integer=True, unit="documents")


def rollback(n: int = 1, *, ttl: float = 3_600.0, reason: str) -> Status:
    """Put the document in force again that was before this one, in this process, for a time.

    It stays until a good document comes that is none of those which are left behind, or the time is over: then what is
    in the directory holds again. Policies keep what they have learnt. A process holds five documents.

    Args:
        n: how many documents back, 1 to 4.
        ttl: seconds that it stays, more than 0, at most a day.
        reason: why, for those who find it: a ticket.

    Raises:
        ConfigError: there is no such document, or one of the arguments is wrong.
        DocumentError: it would take a protected feature away, or a pipeline that lives here cannot take it any more.

    Blocks the calling thread for some milliseconds. Thread-safe.
    """
    if not _N.allows(n):
        raise ConfigError(f"rollback: n={n!r} must be {_N}; write rollback(1, reason='INC-12')")
    if not TTL.allows(ttl):
        raise ConfigError(f"rollback: ttl={ttl!r} must be {TTL}; write ttl=3600.0")
    why = reason_of("rollback", reason)
    return CENTER.steer("rollback", lambda loader: loader.rollback(n, ttl, why))


def unpin() -> Status:
    """End what `rollback` pinned: what is in the directory holds again. Where nothing is pinned this does nothing.

    Raises:
        ConfigError: no document is in force.

    Blocks the calling thread for some milliseconds. Thread-safe.
    """
    return CENTER.steer("unpin", lambda loader: loader.unpin())


def reason_of(what: str, reason: str, /) -> str:
    """The reason that a person gives.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(reason, str) or not reason.strip() or not reason.isprintable():
        raise ConfigError(
            f"{what}: reason={reason!r} must say why, for those who find it; write reason='INC-12'"
        )
    return reason[:LONGEST_REASON]
