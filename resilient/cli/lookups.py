"""What the library would make of a name: whose it is, what is asked about it, and what would be dialled."""

from __future__ import annotations

import ipaddress
import selectors
import socket
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..discovery.address import Address
from ..discovery.dns import Broken, Lookup, Question
from ..discovery.options import Dns
from ..discovery.state import LONGEST, SHORTEST, Answer, Kind
from ..discovery.wire import Exchange

if TYPE_CHECKING:
    import dns.message


@dataclass(frozen=True)
class Record:
    """One record of an answer, as a nameserver sent it."""

    name: str
    kind: str
    ttl: int
    data: str


@dataclass(frozen=True)
class Asked:
    """A question to the nameservers, and what came of it.

    Attributes:
        name: asked for, absolute.
        kind: of record.
        status: the code of the answer, such as ``NOERROR``; where there was none, why.
        records: of the answer, with the addresses that came along.
    """

    name: str
    kind: str
    status: str
    records: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class Resolved:
    """What the library would do with a name.

    Attributes:
        name: as given.
        kind: ``cluster``, ``address`` or ``ordinary``.
        why: why it is that, for people.
        port: a number, or the name of a Service's port.
        absolute: the name that is looked up; None where it is not the cluster's.
        nameservers: who is asked; none: the ordinary resolver.
        asked: the questions, in their order.
        dials: ``host:port`` of each endpoint.
        refresh: seconds after which it is asked again, +-20 %; None where it is not.
        trouble: why there is nothing to dial; empty where there is.
    """

    name: str
    kind: str
    why: str
    port: int | str
    absolute: str | None = None
    nameservers: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    dials: list[str] = field(default_factory=list)
    refresh: float | None = None
    trouble: str = ""


def resolve(name: str, port: int | str, dns: Dns | None, /) -> Resolved:
    """Look a name up as the first request to it would.

    Args:
        name: a host, as in a base URL.
        port: a number, or the name of a Service's port.
        dns: whom to ask; None: this process is in no cluster.

    Raises:
        PolicyError: a name of the cluster's that cannot be one.
    """
    absolute = None if dns is None else dns.absolute(name)
    if dns is None or absolute is None:
        return _ordinary(name, port, in_cluster=dns is not None)
    answer, asked = look_up(absolute, port, dns)
    found = answer.kind is Kind.FOUND
    return Resolved(
        name,
        "cluster",
        _why(name.rstrip(".").lower(), dns),
        port,
        absolute,
        [str(server) for server in dns.servers],
        asked,
        [str(address) for address in answer.addresses],
        min(LONGEST, max(SHORTEST, answer.ttl)) if found else None,
        "" if found else answer.why,
    )


def _why(name: str, dns: Dns) -> str:
    if "." not in name:
        return f"it has no dot: a Service of the namespace {dns.namespace}"
    return "it ends with .svc" if name.endswith(".svc") else f"it is in the zone {dns.zone}"


def _ordinary(name: str, port: int | str, *, in_cluster: bool) -> Resolved:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        kind, why = "ordinary", "it is no name of the cluster's" if in_cluster else "this is not in a cluster"
    else:
        kind, why = "address", "there is nothing to look up"
    if isinstance(port, str):
        trouble = f"the port {port!r} can be looked up for a name of the cluster's only"
        return Resolved(name, kind, why, port, trouble=trouble)
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        return Resolved(name, kind, why, port, trouble=f"the ordinary resolver: {exc.strerror or exc}")
    except UnicodeError as exc:  # an empty label, or one of more than 63 characters
        return Resolved(name, kind, why, port, trouble=f"this is no host name: {exc}")
    dials = dict.fromkeys(str(Address(str(place[0]), port)) for _, _, _, _, place in found)
    return Resolved(name, kind, why, port, dials=list(dials))


def look_up(name: str, port: int | str, dns: Dns, /) -> tuple[Answer, list[Asked]]:
    """Ask all that a lookup wants to know, one question after the other; what it came to, and each of them."""
    asked: list[Asked] = []
    steps = Lookup(name, port, dns).steps()
    with selectors.DefaultSelector() as selector:
        try:
            question = next(steps)
            while True:
                message = _exchange(question, selector)
                asked.append(_told(question, message))
                question = steps.throw(message) if isinstance(message, Broken) else steps.send(message)
        except StopIteration as end:
            answer: Answer = end.value
            return answer, asked


def _exchange(question: Question, selector: selectors.BaseSelector) -> dns.message.Message | Broken:
    heard: list[Any] = []
    exchange = Exchange(question, selector, heard.append)
    exchange.ask(monotonic())
    while not heard:
        if selector.select(max(0.0, exchange.due - monotonic())):
            exchange.ready(monotonic())
        elif exchange.due <= monotonic():
            exchange.late(monotonic())
    message: dns.message.Message | Broken = heard[0]
    return message


def _told(question: Question, message: dns.message.Message | Broken) -> Asked:
    if isinstance(message, Broken):
        why = str(message).removeprefix(f"{question.name} {question.kind}: ")
        return Asked(question.name, question.kind, why)
    import dns.rdatatype

    records = [
        Record(rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype), rrset.ttl, rdata.to_text())
        for rrset in [*message.answer, *message.additional]
        for rdata in rrset
    ]
    records.sort(
        key=lambda each: (each.kind != question.kind, each.name, each.data)
    )  # nameservers shuffle them
    return Asked(question.name, question.kind, message.rcode().name, records)
