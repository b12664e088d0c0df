"""What a binding's classes and functions do, whichever SDK it binds: the binding adds the SDK's types to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..core.clock import Clock
from ..core.errors import PolicyError
from ..core.policy import Policy
from .binding import Binding
from .factory import Wiring, around, assemble, depend, refuse_beside_transport, split
from .logical import Dependency
from .profiles import Profile
from .steps import Base, Places
from .wrapped import AsyncWrapped, SyncWrapped


def parts(
    binding: Binding,
    name: str,
    base_url: Any,
    policies: Policy | None,
    port: str | None,
    endpoints: Sequence[str],
    profile: Profile | str,
    clock: Clock | None,
    transport: Any,
    options: dict[str, Any],
    *,
    asynchronous: bool,
) -> tuple[Dependency, Callable[[], Places], Any, str]:
    """What a transport's driver is made of; the arguments are those of the binding's ``Transport``."""
    url = binding.url(base_url)
    limits = options.get("limits")
    dependency = depend(
        binding, name, url, policies, profile, clock, limits, endpoints, asynchronous=asynchronous
    )
    if transport is None:
        wiring = Wiring(binding, asynchronous=asynchronous, **options)
        return dependency, *assemble(wiring, dependency, url, endpoints, port), str(wiring)
    refuse_beside_transport(endpoints, port, options)
    leaf = AsyncWrapped(binding, transport) if asynchronous else SyncWrapped(binding, transport)
    way = f"a transport of your own, {type(transport).__name__}: cut at the deadline, connections are its own"
    return dependency, *around(leaf), way


def arguments(
    binding: Binding,
    make: Callable[..., Any],
    name: str,
    base_url: Any,
    policies: Policy | None,
    port: str | None,
    endpoints: Sequence[str],
    profile: Profile | str,
    clock: Clock | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Those of the SDK's own client: its transport and mounts are ours; ``make`` makes a transport."""
    given = split(binding, options, endpoints)
    made = partial(make, name, base_url=base_url, port=port, endpoints=endpoints, profile=profile)
    transport, mounts = given.build(made, policies, clock)
    return {"base_url": base_url, "transport": transport, "mounts": mounts, **given.client}


def wrapped(
    binding: Binding,
    kinds: tuple[Callable[..., Any], Callable[..., Any]],
    target: Any,
    name: str,
    base_url: Any,
    **given: Any,
) -> Any:
    """Policies around what somebody has: a transport, or a client, whose transports are replaced.

    Args:
        kinds: make a sync and an async transport of ours.
        **given: policies, profile, clock.
    """
    sdk = binding.sdk
    if not isinstance(target, (sdk.Client, sdk.AsyncClient)):
        kind = kinds[not isinstance(target, sdk.BaseTransport)]
        if base_url is None:
            raise PolicyError(
                f"wrap: base_url= is missing; write wrap(transport, {name!r}, base_url='http://...')"
            )
        return kind(name, base_url=base_url, transport=target, **given)
    if base_url is None:
        base_url = target.base_url
    if isinstance(target._transport, Base):
        raise PolicyError(f"wrap: the client is resilient already, as {target._transport.dependency.name!r}")
    kind = kinds[isinstance(target, sdk.AsyncClient)]
    around_all = kind(name, base_url=base_url, transport=target._transport, **given)
    given["policies"] = around_all.pipeline
    mounts = {
        pattern: mounted and kind(name, base_url=base_url, transport=mounted, **given)
        for pattern, mounted in target._mounts.items()
    }
    # The SDK has no public name for them; OpenTelemetry's instrumentation replaces the same two.
    target._transport, target._mounts = around_all, mounts
    return target
