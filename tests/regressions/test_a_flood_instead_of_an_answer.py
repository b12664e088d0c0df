"""What a nameserver sent by TCP in place of an answer was parsed again with each piece that came, and grew without a
bound: 2 s of CPU for one question."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dns.message
import dnslib
import pytest

from resilient.discovery.dns import Lookup
from resilient.discovery.options import Dns
from resilient.discovery.refresher import Refresher
from resilient.discovery.service import Service
from resilient.testing import ManualClock

NAME = "payments.shop.svc.cluster.local."
ENDLESS = b"\xff\xff" + b"\0" * 65_535


def stranger(question: bytes) -> bytes:
    """A whole message of 4,000 bytes that answers another question, and goes on."""
    reply = dnslib.DNSRecord.question("other.shop.svc.cluster.local.").reply()
    for number in range(250):
        reply.add_answer(dnslib.RR("other", rdata=dnslib.A(f"10.0.0.{number}")))
    packed = reply.pack()
    return len(packed).to_bytes(2, "big") + packed + b"\0" * 200_000


@contextmanager
def nameserver(say: Any) -> Iterator[Dns]:
    """One that sends those who ask by UDP to TCP, and says this there."""
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(tcp.getsockname())

    def by_udp() -> None:
        while True:
            try:
                data, whence = udp.recvfrom(4_096)
            except OSError:
                return
            if not data:
                return
            reply = dnslib.DNSRecord.parse(data).reply()
            reply.header.tc = 1
            udp.sendto(reply.pack(), whence)

    def by_tcp() -> None:
        while True:
            try:
                sock, _ = tcp.accept()
            except OSError:
                return
            with sock:
                try:
                    said = say(sock.recv(4_096))
                    for start in range(0, len(said), 100):
                        sock.sendall(said[start : start + 100])
                except OSError:
                    pass  # it has heard enough

    threads = [threading.Thread(target=each) for each in (by_udp, by_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield Dns(nameservers=(f"127.0.0.1:{tcp.getsockname()[1]}",))
    finally:
        for sock in (tcp, udp):  # wakes who reads, too
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is connected to nobody
            sock.close()
        for thread in threads:
            thread.join(10)


@pytest.mark.parametrize("say", [stranger, lambda question: ENDLESS * 4])
def test_it_is_parsed_once_and_no_more_is_read(
    say: Any, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    parse = dns.message.from_wire

    def counts(wire: bytes, *args: Any, **kwargs: Any) -> Any:
        parsed.append(len(wire))
        return parse(wire, *args, **kwargs)

    monkeypatch.setattr(dns.message, "from_wire", counts)
    refresher = Refresher(manual_clock)
    refresher._start = lambda: None  # type: ignore[method-assign]  # turned by hand
    with nameserver(say) as dns_:
        lookup = Lookup(NAME, 80, dns_)
        service = Service(NAME, 80, refresher, lookup, verified=False, clock=manual_clock)
        service.start()
        refresher.run_due()
    assert service.status == "unresolved"
    large = [size for size in parsed if size > 1_232]
    assert len(large) <= 2, "once in each of two rounds"
    assert max(large) <= 65_535
