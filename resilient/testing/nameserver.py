"""A nameserver of a cluster, on loopback: UDP and TCP, with records that change while it runs, and with faults.

It answers as the Kubernetes DNS specification says: a headless Service is the addresses of its ready pods; one without
any does not exist; a family that it does not have is an empty answer. Needs dnslib."""

from __future__ import annotations

import random
import socket
import socketserver
import struct
import threading
from collections.abc import Iterable
from importlib import import_module
from types import TracebackType
from typing import Any, NamedTuple, Self

from ..core.errors import PolicyError
from ..discovery.address import Address, parse_address
from ..discovery.options import Dns

FAULTS = ("SERVFAIL", "REFUSED", "silence", "truncation")
_TRIES = 20  # ports that may be taken for TCP and not for UDP


class Question(NamedTuple):
    """A question that was asked: name and type, and whether by ``udp`` or ``tcp``."""

    name: str
    kind: str
    protocol: str


class Nameserver:
    """A nameserver on loopback with the zone of a cluster.

    Args:
        zone: the cluster's domain.
        ttl: seconds that answers hold; CoreDNS says 5, kubeadm's configuration 30.
        host: the address to listen on.

    Attributes:
        port: where it listens, by UDP and TCP, while it runs.
        questions: what was asked so far.

    Raises:
        RuntimeError: dnslib is not installed.

    Use it as a block. Thread-safe: records and faults may change at any time, and hold from the next question on.

    Example:
        >>> with Nameserver() as nameserver:
        ...     nameserver.set("payments.shop", ["10.1.0.7:8080", "10.1.0.8:8080"], port="http")
        ...     dns = nameserver.dns(namespace="shop")
        >>> dns.absolute("payments")
        'payments.shop.svc.cluster.local.'
    """

    def __init__(self, *, zone: str = "cluster.local", ttl: int = 5, host: str = "127.0.0.1") -> None:
        try:
            self._dnslib: Any = import_module("dnslib")
        except ImportError as exc:
            raise RuntimeError("Nameserver needs dnslib: pip install dnslib") from exc
        self.zone = zone
        self.ttl = ttl
        self.host = host
        self.port = 0
        self.questions: list[Question] = []
        self._records: dict[
            str, dict[str, list[Any]]
        ] = {}  # by lower-case name and type; replaced under _lock
        self._lock = threading.Lock()
        self._fault: str | None = None
        self._delay = 0.0
        self._ended = threading.Event()
        self._servers: list[socketserver.BaseServer] = []

    # ------------------------------------------------------------------------------------------------- what there is
    def set(self, service: str, endpoints: Iterable[str], /, *, port: str | None = None) -> None:
        """A headless Service has these ready pods from now on.

        Args:
            service: ``name.namespace``.
            endpoints: of pods, ``"10.1.0.7:8080"``; none: the Service does not exist any more.
            port: name of the Service's port, for SRV.
        """
        addresses = [parse_address(each) for each in endpoints]
        name = f"{service}.svc.{self.zone}."
        new: dict[str, dict[str, list[Any]]] = {}
        for number, address in enumerate(addresses):
            kind = "AAAA" if ":" in address.host else "A"
            pod = f"pod-{number}.{name}"
            _add(new, name, kind, address.host)
            _add(new, pod, kind, address.host)
            if port is not None:
                _add(new, f"_{port}._tcp.{name}", "SRV", (address, pod))
        self._replace(name, new)

    def set_cluster_ip(self, service: str, address: str, /, *, port: str | None = None) -> None:
        """A Service with one address of its own, ``"10.96.0.7:80"``, whatever its pods are."""
        given = parse_address(address)
        name = f"{service}.svc.{self.zone}."
        new: dict[str, dict[str, list[Any]]] = {}
        _add(new, name, "AAAA" if ":" in given.host else "A", given.host)
        if port is not None:
            _add(new, f"_{port}._tcp.{name}", "SRV", (given, name))
        self._replace(name, new)

    def set_alias(self, service: str, target: str, /) -> None:
        """A Service of type ExternalName."""
        name = f"{service}.svc.{self.zone}."
        self._replace(name, {name: {"CNAME": [target.rstrip(".") + "."]}})

    def remove(self, service: str, /) -> None:
        """The Service is deleted, or has no ready pod: in DNS that is the same."""
        self._replace(f"{service}.svc.{self.zone}.", {})

    def _replace(self, name: str, new: dict[str, dict[str, list[Any]]]) -> None:
        with self._lock:
            kept = {each: found for each, found in self._records.items() if not _under(each, name)}
            self._records = {**kept, **new}

    # ------------------------------------------------------------------------------------------------------- faults
    def fail(self, fault: str, /) -> None:
        """From now on: ``SERVFAIL``, ``REFUSED``, ``silence``, or ``truncation`` of every answer by UDP."""
        if fault not in FAULTS:
            raise PolicyError(
                f"Nameserver: fault={fault!r} must be one of {', '.join(map(repr, FAULTS))}; write fail('SERVFAIL')"
            )
        self._fault = fault

    def delay(self, seconds: float, /) -> None:
        """Answer so many seconds late from now on."""
        self._delay = seconds

    def heal(self) -> None:
        """No faults any more."""
        self._fault, self._delay = None, 0.0

    # ------------------------------------------------------------------------------------------------------ running
    def dns(self, *, namespace: str = "default") -> Dns:
        """What to configure so that this nameserver is asked."""
        return Dns(nameservers=(str(Address(self.host, self.port)),), zone=self.zone, namespace=namespace)

    def __enter__(self) -> Self:
        for _ in range(_TRIES):
            tcp = _Tcp((self.host, 0), _TcpQuestion, self)
            self.port = tcp.server_address[1]
            try:
                udp = _Udp((self.host, self.port), _UdpQuestion, self)
            except OSError:  # somebody has that port for UDP
                tcp.server_close()
                continue
            self._servers = [tcp, udp]
            break
        else:
            raise RuntimeError(f"Nameserver: no port of {self.host} is free for both UDP and TCP")
        for server in self._servers:
            threading.Thread(
                target=server.serve_forever, args=(0.02,), name="resilient-nameserver", daemon=True
            ).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._ended.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def answer(self, data: bytes, protocol: str) -> bytes | None:
        """The answer to a question; None: silence."""
        dnslib = self._dnslib
        try:
            request = dnslib.DNSRecord.parse(data)
        except dnslib.DNSError:
            return None
        name, kind = str(request.q.qname).lower(), dnslib.QTYPE[request.q.qtype]
        self.questions.append(Question(name, kind, protocol))
        fault = self._fault
        if self._delay and self._ended.wait(self._delay):
            return None
        if fault == "silence":
            return None
        reply = request.reply()
        if fault in ("SERVFAIL", "REFUSED"):
            reply.header.rcode = getattr(dnslib.RCODE, fault)
            packed: bytes = reply.pack()
            return packed
        self._fill(reply, name, kind)
        packed = reply.pack()
        if protocol == "udp" and (fault == "truncation" or len(packed) > _room(request)):
            reply = request.reply()
            reply.header.tc = 1
            packed = reply.pack()
        return packed

    def _fill(self, reply: Any, name: str, kind: str) -> None:
        dnslib, records = self._dnslib, self._records
        found = records.get(name)
        if found is None:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
            return
        if "CNAME" in found:
            (target,) = found["CNAME"]
            reply.add_answer(dnslib.RR(name, dnslib.QTYPE.CNAME, ttl=self.ttl, rdata=dnslib.CNAME(target)))
            name, found = target, records.get(target, {})
        values = list(found.get(kind, ()))
        random.shuffle(values)  # as CoreDNS does
        for value in values:
            if kind == "SRV":
                address, target = value
                rdata = dnslib.SRV(0, 100 // len(values), address.port, target)
                self._additional(reply, target, address.host)
                reply.add_answer(dnslib.RR(name, dnslib.QTYPE.SRV, ttl=self.ttl, rdata=rdata))
            else:
                reply.add_answer(self._record(name, kind, value))

    def _additional(self, reply: Any, target: str, host: str) -> None:
        reply.add_ar(self._record(target, "AAAA" if ":" in host else "A", host))

    def _record(self, name: str, kind: str, host: str) -> Any:
        dnslib = self._dnslib
        return dnslib.RR(name, getattr(dnslib.QTYPE, kind), ttl=self.ttl, rdata=getattr(dnslib, kind)(host))


def _add(records: dict[str, dict[str, list[Any]]], name: str, kind: str, value: Any) -> None:
    values = records.setdefault(name.lower(), {}).setdefault(kind, [])
    if value not in values:
        values.append(value)


def _under(name: str, service: str) -> bool:
    return name == service or name.endswith("." + service)


def _room(request: Any) -> int:
    """Bytes that an answer by UDP may have: what EDNS says, else 512."""
    return max([512, *(int(each.rclass) for each in request.ar if each.rtype == 41)])


class _Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    address_family: int
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: Any, nameserver: Nameserver) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.nameserver = nameserver
        super().__init__(address, handler)


class _Udp(_Server, socketserver.UDPServer):
    pass


class _Tcp(_Server, socketserver.TCPServer):
    allow_reuse_address = True


class _UdpQuestion(socketserver.BaseRequestHandler):
    server: _Udp

    def handle(self) -> None:
        data, sock = self.request
        answer = self.server.nameserver.answer(data, "udp")
        if answer is not None:
            sock.sendto(answer, self.client_address)


class _TcpQuestion(socketserver.StreamRequestHandler):
    server: _Tcp
    timeout = 5.0

    def handle(self) -> None:
        try:
            while head := self.rfile.read(2):
                (length,) = struct.unpack("!H", head)
                answer = self.server.nameserver.answer(self.rfile.read(length), "tcp")
                if answer is None:
                    return
                self.wfile.write(struct.pack("!H", len(answer)) + answer)
        except OSError:
            pass  # whoever asked is gone
