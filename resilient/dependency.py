"""``@outbound``: a function that calls a dependency, by the dependency's name alone."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from .config.center import CENTER
from .core.clock import SYSTEM_CLOCK, Clock
from .core.forks import tell_after_fork
from .core.policy import Policy
from .policies.retry import Retry
from .presets import Standard, StandardOptions, policies_of, retry_of


class _Shared:
    """What the pipelines of one dependency share; held by each of them."""

    def __init__(self, policies: tuple[Policy, ...]) -> None:
        self.policies = policies


class Outbound(Standard):
    """What `outbound` makes: a pipeline that shares all but its retry with the others of its name."""

    shared: _Shared


class _Dependencies:
    """The dependencies that are called, by name and clock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: weakref.WeakValueDictionary[tuple[str, Clock], _Shared] = (
            weakref.WeakValueDictionary()
        )  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def shared(self, name: str, clock: Clock, policies: tuple[Policy, ...]) -> _Shared:
        """What is shared under a name: ``policies``, where these are the first."""
        with self._lock:
            found = self._known.get((name, clock))
            if found is None:
                found = self._known[name, clock] = _Shared(policies)
            return found


_DEPENDENCIES = _Dependencies()


def outbound(
    name: str,
    /,
    *,
    idempotent: bool = False,
    idempotency_key: Callable[..., str] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Outbound:
    """Decorate a function that calls the dependency ``name``; every number comes from the config document.

    Where that says nothing, the numbers are those of `standard`. All functions of one name share its breaker, places
    and budget, and each has a retry of its own, as only the function knows whether it may be repeated.

    Args:
        name: of the dependency: the target in the config document.
        idempotent: whether the function may be repeated after it may have happened. Without it, and without
            ``idempotency_key``, only what provably did not happen is repeated.
        idempotency_key: gives a text that names the intent, from the call's arguments; see `Retry`.
        clock: where time comes from.

    Raises:
        PolicyError: an option of the wrong kind.

    Safe to share between functions, threads and tasks.

    Example:
        >>> from resilient import current_call, outbound
        >>> @outbound("payments", idempotency_key=lambda order: order)
        ... def charge(order: str) -> bool:
        ...     return current_call().idempotency_key is not None
        >>> charge("order-7")
        True
    """
    options = StandardOptions(name, idempotent=idempotent)
    retry = retry_of(options, idempotency_key)
    shared = _DEPENDENCIES.shared(name, clock, policies_of(options, retry))
    policies = [retry if isinstance(each, Retry) else each for each in shared.policies]
    pipeline = Outbound(*policies, options=options, clock=clock)
    pipeline.shared = shared
    CENTER.enlist()
    return pipeline
