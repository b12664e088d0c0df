"""What a binding's classes and functions do, whichever SDK it binds: the binding adds the SDK's types to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..core.clock import Clock
from ..core.policy import Policy
from .binding import Binding
from .factory import Wiring, around, assemble, depend, refuse_beside_transport, split
from .logical import Dependency
from .profiles import Profile
from .transport import Places
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
) -> tuple[Dependency, Callable[[], Places], Any]:
    """What a transport's driver is made of; the arguments are those of the binding's ``Transport``."""
    url = binding.url(base_url)
    limits = options.get("limits")
    dependency = depend(
        binding, name, url, policies, profile, clock, limits, endpoints, asynchronous=asynchronous
    )
    if transport is None:
        wiring = Wiring(binding, asynchronous=asynchronous, **options)
        return dependency, *assemble(wiring, dependency, url, endpoints, port)
    refuse_beside_transport(endpoints, port, options)
    leaf = AsyncWrapped(binding, transport) if asynchronous else SyncWrapped(binding, transport)
    return dependency, *around(leaf)


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
