"""What to ask of the nameservers about one name, and what to make of their answers. No I/O: whoever drives it asks.

dnspython is imported by `load`, before the first question: it takes longer than all of this library."""

from __future__ import annotations

import ipaddress
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..core.errors import PolicyError
from .address import Address
from .options import Dns
from .state import Answer, Kind

if TYPE_CHECKING:
    import dns.message


def load() -> None:
    """Import all of dnspython that a question or an answer may need: by itself it imports each type of record when one
    comes."""
    import logging  # noqa: F401  (what the thread will need)

    import dns.exception
    import dns.flags
    import dns.message
    import dns.rdata

    dns.rdata.load_all_types(disable_dynamic_load=False)  # type: ignore[no-untyped-call]  # dnspython has no types for it


LONGEST_NAME = 253
"""Characters of a DNS name, without the dot at its end (RFC 1035: 255 bytes on the wire)."""
MOST_TARGETS = 1_000
"""Names of SRV targets that are looked up one by one, where their addresses did not come along."""


class Question(NamedTuple):
    """What a lookup wants to know next: a name and a type, such as ``SRV``, and whom to ask."""

    name: str
    kind: str
    dns: Dns


class Broken(Exception):
    """No nameserver gave an answer that says anything about the name; thrown into the lookup that asked."""


T = TypeVar("T")
Steps = Generator[Question, "dns.message.Message", T]


class Lookup:
    """One name, and what is to be found out about it.

    Args:
        name: absolute, with a dot at its end.
        port: a number, or the name of a Service's port, which is looked up by SRV.
        dns: whom to ask.

    Raises:
        PolicyError: with the port's name before it, the name is too long to be asked for.

    Not thread-safe: it remembers which address family the name has.
    """

    def __init__(self, name: str, port: int | str, dns: Dns) -> None:
        length = len(name) - 1 if isinstance(port, int) else len(_srv(name, port)) - 1
        if length > LONGEST_NAME:
            raise PolicyError(
                f"client: port={port!r} is looked up as {_srv(name, str(port))[:40]}..., which has {length} characters "
                f"and a DNS name at most {LONGEST_NAME}; write the port's number into base_url, 'http://...:8080'"
            )
        self.name = name
        self.port = port
        self._dns = dns
        self._family = "A"  # what the name had last; both families are one endpoint twice

    def steps(self) -> Steps[Answer]:
        """The questions, one after the other; is sent their answers, and returns what they come to."""
        try:
            if isinstance(self.port, int):
                hosts, ttl, why = yield from self._hosts(self.name)
                found = {Address(host, self.port) for host in hosts}
            else:
                found, ttl, why = yield from self._services(self.port)
        except Broken as exc:
            return Answer(Kind.FAILED, why=str(exc))
        if not found:
            return Answer(Kind.EMPTY, ttl=ttl, why=why)
        return Answer(Kind.FOUND, tuple(sorted(found)), ttl)

    def _services(self, port: str) -> Steps[tuple[set[Address], float, str]]:
        name = _srv(self.name, port)
        response = yield Question(name, "SRV", self._dns)
        records, ttl = _records(response, name, "SRV")
        if not records:
            return set(), ttl, _why(response, name)
        first = min(each.priority for each in records)
        wanted = [(each.target.to_text().lower(), each.port) for each in records if each.priority == first]
        hosts: dict[str, list[str]] = {}
        for family in ("A", "AAAA"):  # one of them: both would count a pod twice
            for target, _ in wanted:
                if not hosts.get(target):
                    found, seconds = _records(response, target, family, additional=True)
                    hosts[target] = [each.address for each in found]
                    ttl = min(ttl, seconds) if found else ttl
        missing = [target for target in hosts if not hosts[target]]
        if missing and len({number for _, number in wanted}) == 1:
            # The targets' addresses did not fit into the answer; the Service's own are the same.
            addresses, seconds, _ = yield from self._hosts(self.name)
            if addresses:
                return {Address(each, wanted[0][1]) for each in addresses}, min(ttl, seconds), ""
        for target in missing[:MOST_TARGETS]:
            hosts[target], seconds, _ = yield from self._hosts(target)
            ttl = min(ttl, seconds)
        found_all = {
            Address(host, number) for target, number in wanted for host in hosts[target] if _usable(host)
        }
        return found_all, ttl, f"none of the targets of {name} has an address"

    def _hosts(self, name: str) -> Steps[tuple[list[str], float, str]]:
        """The addresses of a name in one family: the one that it had last, else the other."""
        ttl, why = 0.0, ""
        for family in (self._family, "AAAA" if self._family == "A" else "A"):
            response = yield Question(name, family, self._dns)
            records, ttl = _records(response, name, family)
            hosts = [each.address for each in records if _usable(each.address)]
            if hosts:
                self._family = family
                return hosts, ttl, ""
            why = _why(response, name)
            if response.rcode().name == "NXDOMAIN":
                break  # of whatever family
        return [], ttl, why


def _srv(name: str, port: str) -> str:
    return f"_{port}._tcp.{name}"


def _records(
    response: dns.message.Message, name: str, kind: str, *, additional: bool = False
) -> tuple[list[Any], float]:
    """The records of a name, following its aliases, and the shortest TTL on the way."""
    import dns.name
    import dns.rdataclass
    import dns.rdatatype

    section = response.additional if additional else response.answer
    owner, ttl = dns.name.from_text(name), float("inf")
    for _ in range(8):  # aliases in a row
        found = response.get_rrset(section, owner, dns.rdataclass.IN, dns.rdatatype.from_text(kind))
        if found is not None:
            return list(found), min(ttl, found.ttl)
        alias = response.get_rrset(section, owner, dns.rdataclass.IN, dns.rdatatype.CNAME)
        if alias is None:
            break
        owner, ttl = alias[0].target, min(ttl, alias.ttl)
    return [], 0.0


def _usable(host: str) -> bool:
    """An address that something can listen on: 0.0.0.0 would be this machine itself."""
    address = ipaddress.ip_address(host)
    return not (address.is_unspecified or address.is_multicast)


def _why(response: dns.message.Message, name: str) -> str:
    code = response.rcode().name
    return f"{name} {'has no addresses (NODATA)' if code == 'NOERROR' else f'does not exist ({code})'}"
