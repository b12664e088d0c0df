"""What a client is protected by, in words: for whoever is paged and asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..balance.endpoints import Endpoints
from ..core.errors import PolicyError
from .profiles import Profile
from .steps import Base


def describe(sdk: Any, client: Any, /) -> str:
    """As `resilient.httpx.describe`."""
    if not isinstance(client, (sdk.Client, sdk.AsyncClient)):
        raise PolicyError(
            f"describe: {type(client).__name__} is no client of {sdk.__name__}; give the client, not its transport"
        )
    transport = client._transport
    if not isinstance(transport, Base):
        return (
            f"{type(client).__name__}: not resilient, no policy stands around its {type(transport).__name__}"
        )
    return "\n".join(_lines(client, transport))


def _lines(client: Any, transport: Base) -> Iterator[str]:
    dependency = transport.dependency
    scheme, host, port = dependency.authority or ("", "", None)
    yield f"{dependency.name}: {scheme}://{host}{'' if port is None else f':{port}'}"
    yield f"  policies   {transport.pipeline}"
    yield f"  sends      {transport.way}"
    yield from (f"  {'to' if i == 0 else '':<9}  {text}" for i, text in enumerate(_places(transport)))
    yield f"  keys       {_keys(dependency.profile)}"
    told = "deadline, attempt and criticality" if dependency.ours else "nothing: it is not in the cluster"
    yield f"  is told    {told}"
    for pattern, mounted in client._mounts.items():
        yield f"  {pattern.pattern:<9}  {_mounted(transport, mounted)}"
    yield "  elsewhere  (a redirect to another authority) the deadline alone"


def _places(transport: Base) -> list[str]:
    places = transport.known_places
    if places is None:
        return ["found out with the first request"]
    if not isinstance(places, Endpoints):
        return [each.text for each in places if each.text]
    found = [f"{each.text}: {each.state}, {len(each.calls)} in flight" for each in places]
    return found or ["no endpoint is known"]


def _keys(profile: Profile) -> str:
    if not profile.sends:
        return "none: what may have happened is not repeated, but for idempotent methods"
    if profile.honours:
        return f"{profile.header} on POST and PATCH, honoured: these are repeated under one key"
    return f"{profile.header} on POST and PATCH: not known to be honoured, these are not repeated"


def _mounted(transport: Base, mounted: Any) -> str:
    if mounted is None or mounted is transport:
        return "as above"
    if isinstance(mounted, Base):
        return f"the same policies; {mounted.way}"
    return f"not resilient: {type(mounted).__name__}"
