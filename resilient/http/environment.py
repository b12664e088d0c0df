"""The environment's proxies, by the rules of the SDK: a client that is given a transport does not look at them."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.request import getproxies

from .binding import Binding


def environment_proxies(binding: Binding) -> dict[str, str | None]:
    """URL patterns of the SDK and the proxy that the environment names for each; None: no proxy.

    Rules as the SDK's own: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``.
    """
    given = getproxies()
    found: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        if given.get(scheme):
            proxy = given[scheme]
            found[f"{scheme}://"] = proxy if "://" in proxy else f"http://{proxy}"
    pattern = _with_networks if binding.networks else _without_networks
    for host in (part.strip() for part in given.get("no", "").split(",")):
        if host == "*":
            return {}
        if host:
            found[host if "://" in host else pattern(host)] = None
    if binding.networks:
        return {each: proxy for each, proxy in found.items() if _is_pattern(binding.sdk, each)}
    return found


def _without_networks(host: str) -> str:
    if _is_address(host):
        return f"all://[{host}]" if ":" in host else f"all://{host}"
    return f"all://{host}" if host.lower() == "localhost" else f"all://*{host}"


def _with_networks(host: str) -> str:
    """The pattern of one entry of ``NO_PROXY``; what is none is left out afterwards."""
    if _is_address(host):
        address, slash, prefix = host.partition("/")
        return f"all://[{address}]{slash}{prefix}" if ":" in host else f"all://{host}"
    if host.lower() == "localhost" or host.startswith("["):
        return f"all://{host}"
    if "/" in host:
        return ""
    return f"all://{host}" if host.startswith("*.") else f"all://*{host}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("/")[0])
    except ValueError:
        return False
    return True


def _is_pattern(sdk: Any, pattern: str) -> bool:
    try:
        url = sdk.URL(pattern)
        prefix: str = url.path.removeprefix("/")
        if prefix and _is_address(url.host):
            ipaddress.ip_network(f"{url.host}/{prefix}", strict=False)
            return prefix.isdigit()
    except (sdk.InvalidURL, ValueError):
        return False
    return bool(pattern)
