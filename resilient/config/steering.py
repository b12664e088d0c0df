"""What a person does to the configuration of one process, from a shell in it or a page of its admin port."""

from __future__ import annotations

from typing import Any

from ..core.errors import ConfigError
from ..core.options import Rule
from .center import CENTER
from .control import MOST_GOOD
from .feed import Status
from .overrides import TTL, Override, reason_of

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


def override(key: str, value: Any, *, ttl: float, reason: str) -> Override:
    """Set a number of a policy, a feature or the level in this process, for a time, above all else that says it.

    Args:
        key: the dependency and the number, such as ``payments.retry.attempts``; the feature, such as ``flags.search``;
            or ``degradation.level``.
        value: a number as the code writes it, seconds as a float, a rate as a text: the rules of the option hold; the
            name of a variant; the number or name of a level.
        ttl: seconds until it ends, more than 0, at most a day.
        reason: why, for those who find it: a ticket.

    Raises:
        ConfigError: no pipeline of that name with that number lives here, or there is no such feature, or it is
            protected; it cannot have that value; or one of the arguments is wrong.

    It ends by the clock, with ``.end()``, or with the block where it stands in ``with``; after a restart it is gone. Of
    two of one key the later holds, and the other one again when that ends. A document that it does not go together
    with is applied without it, and the log says so. Thread-safe.

    Example:
        >>> from resilient import standard
        >>> from resilient.config import explain, override
        >>> pipeline = standard("stock", attempts=3)
        >>> with override("stock.retry.attempts", 1, ttl=600.0, reason="INC-12"):
        ...     explain("stock.retry.attempts").layer
        'override'
        >>> print(explain("stock.retry.attempts"))
        stock.retry.attempts = 3 (from the code)
    """
    return CENTER.overrides.put(key, value, ttl, reason)
