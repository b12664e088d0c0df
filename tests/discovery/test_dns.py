"""Asking a real nameserver on loopback: each kind of answer, and each kind of none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import pytest

from resilient import Dns
from resilient.discovery import wire
from resilient.discovery.address import Address
from resilient.discovery.dns import Lookup, Steps
from resilient.discovery.refresher import Refresher
from resilient.discovery.state import Answer, Kind
from resilient.testing import Nameserver
from tests.http.calls import descriptors

NAME = "payments.shop.svc.cluster.local."


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ttl=7) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for silence, waits in real time."""
    monkeypatch.setattr(wire, "TRIES", (0.05, 0.1))


class Look:
    """A lookup with which nothing else is asked for."""

    def __init__(self, name: str, port: int | str, dns: Dns) -> None:
        self.asks = Lookup(name, port, dns)
        self.refresher = Refresher()
        self.refresher._start = lambda: None  # type: ignore[method-assign]  # turned by hand
        self.asleep = True
        self.due = 0.0
        self.answers: list[Answer] = []

    def begin(self) -> Steps[Answer]:
        self.due = float("inf")
        return self.asks.steps()

    def finish(self, answer: Answer, /) -> None:
        self.answers.append(answer)

    def broke(self, exc: Exception, /) -> None:
        raise exc

    def __call__(self) -> Answer:
        self.due = 0.0
        self.refresher.watch(self)
        self.refresher.run_due()
        return self.answers.pop()


def lookup(nameserver: Nameserver, port: int | str = 8080, name: str = NAME) -> Look:
    return Look(name, port, nameserver.dns())


def pods(n: int, port: int = 8080) -> list[str]:
    return [f"10.1.{i // 250}.{i % 250 + 1}:{port}" for i in range(n)]


def test_addresses_with_the_port_of_the_url(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", ["10.1.0.8:1", "10.1.0.7:1"])
    answer = lookup(nameserver)()
    assert answer.kind is Kind.FOUND
    assert answer.addresses == (Address("10.1.0.7", 8080), Address("10.1.0.8", 8080))
    assert answer.ttl == 7
    assert [(each.kind, each.protocol) for each in nameserver.questions] == [("A", "udp")]


def test_a_named_port_with_the_addresses_that_come_along(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", ["10.1.0.7:8081", "10.1.0.8:8082"], port="http")
    answer = lookup(nameserver, "http")()
    assert answer.addresses == (Address("10.1.0.7", 8081), Address("10.1.0.8", 8082))
    assert answer.ttl == 7
    assert [each.kind for each in nameserver.questions] == ["SRV"], "one question"
    assert lookup(nameserver, "grpc")().kind is Kind.EMPTY


def test_several_pods_behind_one_address(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", ["127.0.0.1:8081", "127.0.0.1:8082"], port="http")
    assert lookup(nameserver, "http")().addresses == (Address("127.0.0.1", 8081), Address("127.0.0.1", 8082))
    assert lookup(nameserver)().addresses == (Address("127.0.0.1", 8080),)


def test_a_cluster_ip(nameserver: Nameserver) -> None:
    nameserver.set_cluster_ip("payments.shop", "10.96.0.7:80", port="http")
    assert lookup(nameserver, "http")().addresses == (Address("10.96.0.7", 80),)
    assert lookup(nameserver)().addresses == (Address("10.96.0.7", 8080),)


def test_one_pod_of_a_stateful_set(nameserver: Nameserver) -> None:
    nameserver.set("ledger.shop", ["10.1.0.7:80", "10.1.0.8:80"])
    answer = lookup(nameserver, 80, "pod-1.ledger.shop.svc.cluster.local.")()
    assert answer.addresses == (Address("10.1.0.8", 80),)


@pytest.mark.parametrize("port", [8080, "http"])
def test_ipv6_alone_is_found_and_remembered(nameserver: Nameserver, port: int | str) -> None:
    nameserver.set("payments.shop", ["[fd00::7]:8080", "[fd00::8]:8080"], port="http")
    look = lookup(nameserver, port)
    expected = (Address("fd00::7", 8080), Address("fd00::8", 8080))
    assert look().addresses == expected
    before = len(nameserver.questions)
    assert look().addresses == expected
    assert len(nameserver.questions) == before + 1, "the family that it had is asked for first"


@pytest.mark.parametrize("port", [8080, "http"])
def test_two_families_do_not_count_a_pod_twice(nameserver: Nameserver, port: int | str) -> None:
    nameserver.set("payments.shop", ["10.1.0.7:8080", "10.1.0.8:8080", "[fd00::7]:8080"], port="http")
    found = lookup(nameserver, port)().addresses
    if port == 8080:
        assert found == (Address("10.1.0.7", 8080), Address("10.1.0.8", 8080))
    else:  # by SRV each target is one pod, whatever its family
        assert len(found) == 3


def test_an_alias_is_followed(nameserver: Nameserver) -> None:
    nameserver.set("real.shop", ["10.1.0.7:80"])
    nameserver.set_alias("payments.shop", "real.shop.svc.cluster.local")
    assert lookup(nameserver)().addresses == (Address("10.1.0.7", 8080),)
    nameserver.set_alias("payments.shop", "payments.shop.svc.cluster.local")  # in a circle
    assert lookup(nameserver)().kind is Kind.EMPTY


@pytest.mark.parametrize("address", ["0.0.0.0:80", "224.0.0.1:80", "[::]:80"])
def test_addresses_that_nobody_listens_on_are_not_believed(nameserver: Nameserver, address: str) -> None:
    nameserver.set("payments.shop", [address])
    assert lookup(nameserver)().kind is Kind.EMPTY, "0.0.0.0 is this machine itself"


# ------------------------------------------------------------------------------------------------------- truncation
@pytest.mark.parametrize("n", [30, 300])
@pytest.mark.parametrize("port", [8080, "http"])
def test_many_pods_come_by_tcp_and_whole(nameserver: Nameserver, n: int, port: int | str) -> None:
    nameserver.set("payments.shop", pods(n), port="http")
    answer = lookup(nameserver, port)()
    assert len(answer.addresses) == n
    fits = n == 30 and port == 8080
    assert [each.protocol for each in nameserver.questions] == (["udp"] if fits else ["udp", "tcp"])


def test_a_truncated_answer_with_some_records_is_not_taken_for_all(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", pods(3))
    nameserver.fail("truncation")
    assert len(lookup(nameserver)().addresses) == 3
    assert [each.protocol for each in nameserver.questions] == ["udp", "tcp"]


def test_targets_whose_addresses_did_not_come_along(
    nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one port for all, the Service's own addresses are those of its pods; else each is asked for."""
    monkeypatch.setattr(Nameserver, "_additional", lambda *_: None)
    nameserver.set("payments.shop", pods(5), port="http")
    assert len(lookup(nameserver, "http")().addresses) == 5
    assert [each.kind for each in nameserver.questions] == ["SRV", "A"]
    nameserver.questions.clear()
    nameserver.set("payments.shop", ["10.1.0.7:8081", "10.1.0.8:8082"], port="http")
    assert lookup(nameserver, "http")().addresses == (Address("10.1.0.7", 8081), Address("10.1.0.8", 8082))
    assert [each.kind for each in nameserver.questions] == ["SRV", "A", "A"]


# ----------------------------------------------------------------------------------------------------- no addresses
def test_what_does_not_exist(nameserver: Nameserver) -> None:
    answer = lookup(nameserver)()
    assert (answer.kind, answer.addresses) == (Kind.EMPTY, ())
    assert answer.why == f"{NAME} does not exist (NXDOMAIN)"
    assert [each.kind for each in nameserver.questions] == ["A"], "it has no other family either"


def test_what_exists_and_has_no_address(nameserver: Nameserver) -> None:
    nameserver.set_cluster_ip("payments.shop", "10.96.0.7:80", port="http")
    answer = Look("_http._tcp." + NAME, 80, nameserver.dns())()
    assert answer.kind is Kind.EMPTY
    assert "has no addresses (NODATA)" in answer.why
    assert [each.kind for each in nameserver.questions] == ["A", "AAAA"]


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED"])
def test_a_nameserver_that_is_broken(nameserver: Nameserver, fault: str) -> None:
    nameserver.set("payments.shop", pods(1))
    nameserver.fail(fault)
    answer = lookup(nameserver)()
    assert answer.kind is Kind.FAILED
    assert answer.why == f"{NAME} A: 127.0.0.1:{nameserver.port}: {fault}"
    assert len(nameserver.questions) == 2, "once in each round"


@pytest.mark.usefixtures("impatient")
def test_a_nameserver_that_is_silent(nameserver: Nameserver) -> None:
    nameserver.fail("silence")
    answer = lookup(nameserver)()
    assert answer.kind is Kind.FAILED
    assert answer.why.endswith(": Timeout")


def test_nobody_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    answer = Look(NAME, 80, Dns(nameservers=(f"127.0.0.1:{port}",)))()
    assert answer.kind is Kind.FAILED
    assert answer.why.endswith(": ConnectionRefusedError"), "known at once, not after a time-out"


@pytest.mark.usefixtures("impatient")
def test_the_next_nameserver_is_asked(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", pods(2))
    with Nameserver() as broken:
        for fault in ("SERVFAIL", "silence"):
            broken.fail(fault)
            both = Dns(nameservers=(f"127.0.0.1:{broken.port}", f"127.0.0.1:{nameserver.port}"))
            assert len(Look(NAME, 80, both)().addresses) == 2


@pytest.mark.parametrize("packet", [b"", b"\x00", b"garbage that is longer than a header", bytes(12)])
@pytest.mark.usefixtures("impatient")
def test_garbage_is_no_answer(packet: bytes, nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    nameserver.set("payments.shop", pods(1))
    monkeypatch.setattr(nameserver, "answer", lambda data, protocol: data[:2] + packet)
    assert lookup(nameserver)().kind is Kind.FAILED


def test_a_silent_nameserver_holds_up_nobody_else(nameserver: Nameserver) -> None:
    """Asked at once, in one thread: the others are answered before the first has been given up."""
    order: list[str] = []

    class Noting(Look):
        def finish(self, answer: Answer, /) -> None:
            order.append(answer.kind.value)

    refresher = Refresher()
    refresher._start = lambda: None  # type: ignore[method-assign]  # turned by hand
    nameserver.set("payments.shop", pods(300))  # by TCP
    with Nameserver() as silent:
        silent.fail("silence")
        looks = [Noting(NAME, 80, silent.dns()), *(Noting(NAME, 80, nameserver.dns()) for _ in range(20))]
        for look in looks:
            refresher.watch(look)
        refresher.run_due()
    assert order == ["found"] * 20 + ["failed"]


def test_nothing_is_left_behind(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", pods(300))
    look = lookup(nameserver)
    look()
    before = descriptors()
    for fault in (None, "SERVFAIL", "truncation"):
        nameserver.heal()
        if fault is not None:
            nameserver.fail(fault)
        for _ in range(10):
            look()
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(10)  # the nameserver's own: it closes what we have left
    assert descriptors() <= before


# ------------------------------------------------------------------------------------------ the nameserver of the kit
def test_the_nameserver_speaks_as_others_hear_it(nameserver: Nameserver) -> None:
    """Read by dnspython, not by us."""
    nameserver.set("payments.shop", pods(40), port="http")
    where = {"where": "127.0.0.1", "port": nameserver.port, "timeout": 2}
    plain = dns.query.udp(dns.message.make_query(NAME, "A"), **where)
    assert plain.flags & dns.flags.TC, "512 bytes hold 28 addresses"
    assert not plain.answer
    wide = dns.query.udp(dns.message.make_query(NAME, "A", use_edns=0, payload=4096), **where)
    assert len(wide.answer[0]) == 40
    whole, by_tcp = dns.query.udp_with_fallback(dns.message.make_query(NAME, "A"), **where)
    assert (len(whole.answer[0]), by_tcp) == (40, True)


def test_the_nameserver_changes_and_heals(nameserver: Nameserver) -> None:
    look = lookup(nameserver)
    nameserver.set("payments.shop", pods(3), port="http")
    nameserver.set("payments.shop", pods(1), port="http")
    assert len(look().addresses) == 1
    assert lookup(nameserver, 80, f"pod-2.{NAME}")().kind is Kind.EMPTY, "nothing is left of who went"
    nameserver.set("other.shop", pods(1))
    nameserver.fail("SERVFAIL")
    nameserver.heal()
    nameserver.remove("payments.shop")
    assert look().kind is Kind.EMPTY
    assert lookup(nameserver, 80, "other.shop.svc.cluster.local.")().kind is Kind.FOUND


@pytest.mark.usefixtures("impatient")
def test_the_nameserver_is_late(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", pods(1))
    nameserver.delay(30.0)
    assert lookup(nameserver)().kind is Kind.FAILED
    nameserver.delay(0.0)
    assert lookup(nameserver)().kind is Kind.FOUND
