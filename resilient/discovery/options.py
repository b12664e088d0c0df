"""What discovery is told about the cluster, and what it finds out by itself."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..core.errors import PolicyError
from ..core.options import Options
from .address import Address, parse_address

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
RESOLV_CONF = Path("/etc/resolv.conf")
_LABEL = re.compile(r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_MOST_NAMESERVERS = 3  # as many as resolv.conf may have


@dataclass(frozen=True)
class Dns(Options):
    """Whom to ask for the names of a cluster.

    In a pod nothing has to be said: the namespace is the service account's, the zone and the nameservers are those of
    ``/etc/resolv.conf``. Say it where that is not so: in tests, on a workstation, with ``dnsPolicy: Default``.

    Attributes:
        nameservers: addresses, ``"10.96.0.10"`` or ``"127.0.0.1:5353"``; 1 to 3, asked in this order.
        zone: the cluster's domain.
        namespace: that of names without one.

    Raises:
        PolicyError: a value that means nothing.

    Example:
        >>> Dns(nameservers=["127.0.0.1:5353"], namespace="shop").absolute("payments")
        'payments.shop.svc.cluster.local.'
    """

    policy: ClassVar[str] = "Dns"
    nameservers: tuple[str, ...] = ()
    zone: str = "cluster.local"
    namespace: str = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.nameservers, str) or not 1 <= len(self.nameservers) <= _MOST_NAMESERVERS:
            self.refuse("nameservers", "must be 1 to 3 addresses in a list", 'nameservers=["10.96.0.10"]')
        object.__setattr__(self, "nameservers", tuple(self.nameservers))
        for each in self.nameservers:
            try:
                ipaddress.ip_address(_nameserver(each).host)
            except (PolicyError, ValueError):
                self.refuse(
                    "nameservers", f"has {each!r}, which is no IP address", 'nameservers=["127.0.0.1:5353"]'
                )
        object.__setattr__(self, "zone", str(self.zone).strip(".").lower())
        for name, example in (("zone", "cluster.local"), ("namespace", "shop")):
            value = getattr(self, name)
            if not value or not all(_LABEL.fullmatch(label) for label in value.split(".")):
                self.refuse(name, "must be a DNS name in lower case", f'{name}="{example}"')

    @property
    def servers(self) -> tuple[Address, ...]:
        """The nameservers, each with its port."""
        return tuple(_nameserver(each) for each in self.nameservers)

    def absolute(self, host: str, /) -> str | None:
        """The name to ask for, with a dot at its end; None where it is not a name of the cluster's.

        Names of the cluster's have no dot, end with ``.svc``, or are in the zone. The search list is never walked: its
        last entries are company domains, where a wildcard would send traffic for a Service without pods to a stranger.

        Raises:
            PolicyError: a name of the cluster's that cannot be one.
        """
        name = host.rstrip(".").lower()
        if not name or ":" in name or name == "localhost" or name.endswith(".localhost"):
            return None
        if _is_ip(name):
            return None
        if "." not in name:
            name = f"{name}.{self.namespace}.svc.{self.zone}"
        elif name.endswith(".svc"):
            if name.count(".") < 2:
                raise PolicyError(
                    f"base_url: {host!r} has no namespace; write {name.removesuffix('.svc')}.{self.namespace}.svc"
                )
            name = f"{name}.{self.zone}"
        elif not name.endswith("." + self.zone):
            return None
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
            raise PolicyError(
                f"base_url: {host!r} is no DNS name: labels have 1 to 63 of a-z, 0-9 and -, all of it at most 253"
            )
        return name + "."


def is_port_name(value: object, /) -> bool:
    """Whether it can be the name of a Service's port (RFC 6335: with at least one letter)."""
    return isinstance(value, str) and _PORT.fullmatch(value) is not None and not value.isdigit()


def _nameserver(text: str) -> Address:
    if _is_ip(text):
        return Address(text, 53)
    return parse_address(text, field="nameservers")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def detect(
    environ: Mapping[str, str] | None = None,
    *,
    namespace_file: Path = NAMESPACE_FILE,
    resolv_conf: Path = RESOLV_CONF,
) -> Dns | None:
    """What this process can tell of its cluster by itself; None outside of one.

    ``RESILIENT_DNS_NAMESERVERS`` (with commas), ``RESILIENT_DNS_ZONE`` and ``RESILIENT_DNS_NAMESPACE`` win. A pod is
    known by its service account, or by a search entry ``svc.<zone>``.

    Raises:
        PolicyError: an environment variable that means nothing.
    """
    environ = os.environ if environ is None else environ
    given = environ.get("RESILIENT_DNS_NAMESERVERS")
    nameservers, search = read_resolv_conf(resolv_conf)
    namespace = _read(namespace_file).strip()
    zone = ""
    for entry in search:
        before, svc, after = f".{entry}".partition(".svc.")
        if svc:
            zone = zone or after
            namespace = namespace or before.lstrip(".")
    if given is None and not namespace and not zone:
        return None
    chosen = [each.strip() for each in given.split(",") if each.strip()] if given else nameservers
    if not chosen:
        return None
    return Dns(
        nameservers=tuple(chosen[:_MOST_NAMESERVERS]),
        zone=environ.get("RESILIENT_DNS_ZONE") or zone or "cluster.local",
        namespace=environ.get("RESILIENT_DNS_NAMESPACE") or namespace or "default",
    )


def read_resolv_conf(path: Path, /) -> tuple[list[str], list[str]]:
    """The nameservers and the search list of a resolv.conf; of none that cannot be read."""
    nameservers, search = list[str](), list[str]()
    for line in _read(path).splitlines():
        word, *rest = line.split("#")[0].split(";")[0].split() or [""]
        if word == "nameserver" and rest and _is_ip(rest[0].partition("%")[0]):
            nameservers.append(rest[0])
        elif word == "search":
            search = [each.strip(".").lower() for each in rest]
    return nameservers, search


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(65_536).decode("utf-8", "replace")
    except OSError:
        return ""
