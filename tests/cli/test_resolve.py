"""`resilient resolve`: the real command, against a nameserver on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import resilient.httpx
from resilient import configure
from resilient.testing import Nameserver, Origin
from tests.cli.commands import Done, run


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ttl=7) as nameserver:
        yield nameserver


def ask(nameserver: Nameserver, *arguments: str) -> Done:
    return run("resolve", *arguments, "--dns", f"127.0.0.1:{nameserver.port}", "--namespace", "shop")


def test_a_port_by_its_name(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", ["10.1.0.7:8080", "10.1.0.8:8081"], port="http")
    done = ask(nameserver, "payments", "--port", "http", "--json")
    assert (done.status, done.err) == (0, "")
    told = done.json
    assert {key: told[key] for key in told if key != "asked"} == {
        "name": "payments",
        "kind": "cluster",
        "why": "it has no dot: a Service of the namespace shop",
        "port": "http",
        "absolute": "payments.shop.svc.cluster.local.",
        "nameservers": [f"127.0.0.1:{nameserver.port}"],
        "dials": ["10.1.0.7:8080", "10.1.0.8:8081"],
        "refresh": 7.0,
        "trouble": "",
    }
    (asked,) = told["asked"]
    assert (asked["name"], asked["kind"], asked["status"]) == (
        "_http._tcp.payments.shop.svc.cluster.local.",
        "SRV",
        "NOERROR",
    )
    assert [(each["kind"], each["ttl"], each["data"]) for each in asked["records"]] == [
        ("SRV", 7, "0 50 8080 pod-0.payments.shop.svc.cluster.local."),
        ("SRV", 7, "0 50 8081 pod-1.payments.shop.svc.cluster.local."),
        ("A", 7, "10.1.0.7"),
        ("A", 7, "10.1.0.8"),
    ]


def test_for_people(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", ["10.1.0.7:8080"], port="http")
    done = ask(nameserver, "payments.shop.svc", "--port", "8080")
    assert done.status == 0
    assert done.lines == [
        "name         payments.shop.svc",
        "it is        the cluster's (it ends with .svc)",
        "looked up    payments.shop.svc.cluster.local.",
        f"nameservers  127.0.0.1:{nameserver.port}",
        "port         8080",
        "",
        "asked  payments.shop.svc.cluster.local.  A",
        "       payments.shop.svc.cluster.local.  A  7 s  10.1.0.7",
        "",
        "dials  10.1.0.7:8080",
        "       asked again after 7 s, +-20 %",
    ]


def test_many_endpoints_are_cut_short_for_people_and_not_for_programs(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", [f"10.1.0.{number}:80" for number in range(1, 101)])
    shown = ask(nameserver, "payments")
    assert "       and 80 more" in shown.lines
    assert sum("10.1.0." in line for line in shown.lines) == 40, "twenty records, twenty endpoints"
    told = ask(nameserver, "payments", "--json").json
    assert len(told["dials"]) == len(told["asked"][0]["records"]) == 100


def test_ipv6_stands_in_brackets_also_for_people(nameserver: Nameserver) -> None:
    nameserver.set("payments.shop", ["[fd00::7]:80"])
    done = ask(nameserver, "payments")
    assert done.status == 0
    assert "dials  [fd00::7]:80" in done.lines
    assert [line.split()[2] for line in done.lines if line.startswith("asked")] == ["A", "AAAA"]


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [(None, "payments.shop.svc.cluster.local. does not exist (NXDOMAIN)"), ("SERVFAIL", "SERVFAIL")],
)
def test_nothing_to_dial_is_the_exit_status(nameserver: Nameserver, fault: str | None, trouble: str) -> None:
    if fault is not None:
        nameserver.fail(fault)
    done = ask(nameserver, "payments")
    assert done.status == 1
    assert done.lines[-1].startswith("dials nothing: ")
    assert trouble in done.lines[-1]
    told = ask(nameserver, "payments", "--json")
    assert told.status == 1
    assert told.json["dials"] == []
    assert trouble in told.json["trouble"]
    assert (
        told.json["asked"][0]["status"]
        == {
            None: "NXDOMAIN",
            "SERVFAIL": f"127.0.0.1:{nameserver.port}: SERVFAIL",
        }[fault]
    )


def test_it_is_what_a_client_dials(nameserver: Nameserver) -> None:
    """The command and a request, from the same records."""
    with Origin() as one, Origin() as two:
        nameserver.set("payments.shop", [f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"], port="http")
        told = ask(nameserver, "payments.shop.svc", "--port", "http", "--json").json
        configure(dns=nameserver.dns(namespace="shop"))
        try:
            with resilient.httpx.client("p", base_url="http://payments.shop.svc", port="http") as client:
                for _ in range(20):
                    client.get("/")
        finally:
            configure()
        dialled = {f"127.0.0.1:{each.port}" for each in (one, two) if each.requests}
        assert dialled == set(told["dials"])


def test_what_is_not_the_clusters_goes_to_the_ordinary_resolver(nameserver: Nameserver) -> None:
    local = ask(nameserver, "localhost", "--port", "8080", "--json").json
    assert (local["kind"], local["absolute"], local["nameservers"]) == ("ordinary", None, [])
    assert "127.0.0.1:8080" in local["dials"]
    address = ask(nameserver, "10.0.0.7", "--json").json
    assert (address["kind"], address["dials"]) == ("address", ["10.0.0.7:80"])
    named = ask(nameserver, "localhost", "--port", "http")
    assert named.status == 1
    assert "the port 'http' can be looked up for a name of the cluster's only" in named.out
    assert nameserver.questions == []


@pytest.mark.parametrize("name", ["", ".", "a..b", "x" * 300, "a b", "pay\x1b[31mments"])
def test_what_is_no_name_at_all_is_nothing_to_dial(name: str) -> None:
    done = run("resolve", name)
    assert (done.status, done.err) == (1, "")
    assert done.lines[-1].startswith("dials nothing: ")


def test_an_ipv6_address_as_it_stands_in_a_url() -> None:
    assert run("resolve", "[fd00::7]", "--port", "8080", "--json").json["dials"] == ["[fd00::7]:8080"]


def test_the_environment_says_whom_to_ask_as_for_the_library(nameserver: Nameserver) -> None:
    nameserver.set("payments.bank", ["10.1.0.7:80"])
    done = run(
        "resolve",
        "payments",
        "--json",
        RESILIENT_DNS_NAMESERVERS=f"127.0.0.1:{nameserver.port}",
        RESILIENT_DNS_NAMESPACE="bank",
    )
    assert done.json["absolute"] == "payments.bank.svc.cluster.local."
    assert done.json["dials"] == ["10.1.0.7:80"]


def test_a_zone_of_ones_own() -> None:
    with Nameserver(zone="k8s.example") as nameserver:
        nameserver.set("payments.shop", ["10.1.0.7:80"])
        told = ask(nameserver, "payments.shop.svc.k8s.example", "--zone", "k8s.example", "--json").json
    assert told["why"] == "it is in the zone k8s.example"
    assert told["dials"] == ["10.1.0.7:80"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("http://payments:8080/x",), "is not a host alone; write resilient resolve payments --port 8080"),
        (("payments:8080",), "is not a host alone; write resilient resolve payments --port 8080"),
        (("payments", "--port", "0"), "--port: '0' is neither 1 to 65535 nor the name of a port"),
        (("payments", "--port", "65536"), "--port: '65536' is neither"),
        (("payments", "--port", "ht tp"), "--port: 'ht tp' is neither"),
        (("payments", "--dns", "dns.example:53"), "'dns.example:53', which is no IP address"),
        (("payments.svc", "--dns", "127.0.0.1:5353"), "has no namespace; write payments.default.svc"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(arguments: tuple[str, ...], text: str) -> None:
    done = run("resolve", *arguments)
    assert (done.status, done.out) == (2, "")
    assert text in done.err
    assert "Traceback" not in done.err


def test_a_namespace_needs_a_cluster_or_somebody_to_ask() -> None:
    done = run("resolve", "payments", "--namespace", "shop")
    assert done.status in (1, 2)
    if done.status == 2:  # not in a pod
        assert "say whom to ask: --dns 127.0.0.1:5353" in done.err
