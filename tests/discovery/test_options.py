"""Which names are the cluster's, and what a process finds out about it by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resilient import Dns, PolicyError
from resilient.discovery.address import Address, parse_address
from resilient.discovery.options import detect, is_port_name

CLUSTER = Dns(nameservers=("10.96.0.10",), namespace="shop")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("payments", "payments.shop.svc.cluster.local."),
        ("Payments", "payments.shop.svc.cluster.local."),
        ("payments.bank.svc", "payments.bank.svc.cluster.local."),
        ("ledger-0.ledger.bank.svc", "ledger-0.ledger.bank.svc.cluster.local."),
        ("payments.bank.svc.cluster.local", "payments.bank.svc.cluster.local."),
        ("payments.bank.svc.cluster.local.", "payments.bank.svc.cluster.local."),
        # Everything else is the ordinary resolver's.
        ("localhost", None),
        ("a.localhost", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("fd00::7", None),
        ("api.example.com", None),
        ("payments.bank", None),
        ("payments.bank.svc.other.zone", None),
        ("notcluster.local", None),
        ("cluster.local", None),
        ("", None),
    ],
)
def test_which_names_are_the_clusters(host: str, name: str | None) -> None:
    assert CLUSTER.absolute(host) == name


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("payments.svc", r"'payments\.svc' has no namespace; write payments\.shop\.svc$"),
        ("a" * 64, "is no DNS name: labels have 1 to 63"),
        ("pay ments", "is no DNS name"),
        ("-payments", "is no DNS name"),
        ("pa..yments.svc", "is no DNS name"),
        (".".join(["a" * 60] * 4) + ".svc", "at most 253"),
    ],
)
def test_names_that_cannot_be(host: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        CLUSTER.absolute(host)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, r"Dns: nameservers=\(\) must be 1 to 3 addresses in a list; write nameservers=\[\"10"),
        ({"nameservers": "10.96.0.10"}, "must be 1 to 3 addresses in a list"),
        ({"nameservers": ["1.1.1.1"] * 4}, "must be 1 to 3 addresses"),
        ({"nameservers": ["dns.svc"]}, "has 'dns.svc', which is no IP address"),
        ({"nameservers": ["dns.svc:53"]}, "has 'dns.svc:53', which is no IP address"),
        ({"nameservers": ["1.1.1.1:0"]}, "has '1.1.1.1:0', which is no IP address"),
        ({"nameservers": ["1.1.1.1"], "zone": "."}, "zone='' must be a DNS name"),
        ({"nameservers": ["1.1.1.1"], "namespace": "Shop"}, "namespace='Shop' must be a DNS name in lower"),
    ],
)
def test_what_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        Dns(**given)


def test_nameservers_with_and_without_ports() -> None:
    dns = Dns(nameservers=("10.96.0.10", "127.0.0.1:5353", "fd00::10"))  # as a pod's resolv.conf has them
    assert dns.servers == (Address("10.96.0.10", 53), Address("127.0.0.1", 5353), Address("fd00::10", 53))
    assert Dns(nameservers=("[::1]:5353",)).servers == (Address("::1", 5353),)
    assert {dns: 1}[Dns(nameservers=("10.96.0.10", "127.0.0.1:5353", "fd00::10"))] == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [("10.0.0.7:80", ("10.0.0.7", 80)), ("[fd00::7]:8080", ("fd00::7", 8080)), ("h:65535", ("h", 65_535))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text", ["", "h", ":80", "h:", "h:0", "h:65536", "fd00::7:80", "[h]:80", "h:８０", "h:-1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(PolicyError, match=r"^endpoints: "):
        parse_address(text)


@pytest.mark.parametrize(
    ("name", "good"),
    [("http", True), ("grpc-web", True), ("h2", True), ("80", False), ("", False), ("HTTP", False), (8080, False),
     ("a" * 16, False), ("-a", False), ("_http", False), (None, False)],
)  # fmt: skip
def test_names_of_ports(name: Any, good: bool) -> None:
    assert is_port_name(name) == good


# ------------------------------------------------------------------------------------------ what is found out
POD = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\n"


def found(tmp_path: Path, resolv: str | None, namespace: str | None, **environ: str) -> Dns | None:
    conf, file = tmp_path / "resolv.conf", tmp_path / "namespace"
    for path, text in ((conf, resolv), (file, namespace)):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
    return detect(environ, namespace_file=file, resolv_conf=conf)


def test_outside_of_a_cluster(tmp_path: Path) -> None:
    assert found(tmp_path, "search corp.example\nnameserver 192.0.2.1\n", None) is None
    assert found(tmp_path, None, None) is None


def test_in_a_pod(tmp_path: Path) -> None:
    assert found(tmp_path, POD, "shop\n") == Dns(("10.96.0.10",), "cluster.local", "shop")
    # without a service account
    assert found(tmp_path, POD, "") == Dns(("10.96.0.10",), "cluster.local", "shop")
    # another zone; comments, options and what is no address are passed over
    other = "# x\nsearch a.svc.k8s.example svc.k8s.example. k8s.example ; y\noptions ndots:5\nnameserver x\n"
    assert found(tmp_path, other + "nameserver fd00::a\n", "") == Dns(("fd00::a",), "k8s.example", "a")


def test_a_service_account_alone_says_that_it_is_one(tmp_path: Path) -> None:
    assert found(tmp_path, "nameserver 192.0.2.1\n", "shop") == Dns(("192.0.2.1",), "cluster.local", "shop")
    assert found(tmp_path, None, "shop") is None, "but there must be somebody to ask"


def test_the_environment_wins(tmp_path: Path) -> None:
    assert found(
        tmp_path,
        POD,
        "shop",
        RESILIENT_DNS_NAMESERVERS="127.0.0.1:5353, 127.0.0.1:5354",
        RESILIENT_DNS_ZONE="test.zone",
        RESILIENT_DNS_NAMESPACE="bank",
    ) == Dns(("127.0.0.1:5353", "127.0.0.1:5354"), "test.zone", "bank")
    with pytest.raises(PolicyError, match="has 'nobody', which is no IP address"):
        found(tmp_path, None, None, RESILIENT_DNS_NAMESERVERS="nobody")


def test_more_nameservers_than_are_asked(tmp_path: Path) -> None:
    many = "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6))
    dns = found(tmp_path, "search a.svc.cluster.local\n" + many, None)
    assert dns is not None
    assert dns.nameservers == ("192.0.2.1", "192.0.2.2", "192.0.2.3")
