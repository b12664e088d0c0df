"""A redirect to another Service of the cluster was resolved by the search list, which leads a name that is not there
to a stranger."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from resilient import configure
from resilient.testing import ManualClock, Nameserver, Origin, answer
from tests.http.calls import Caller, both


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that the ordinary resolver is asked for."""
    found: list[str] = []
    resolve = socket.getaddrinfo

    def look(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        found.append(name)
        return resolve("127.0.0.1" if name.startswith(("ledger", "example")) else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look)
    return found


@pytest.fixture(autouse=True)
def cluster() -> Iterator[Nameserver]:
    with Nameserver() as nameserver:
        configure(dns=nameserver.dns(namespace="shop"))
        try:
            yield nameserver
        finally:
            configure()


@both
@pytest.mark.parametrize(
    ("host", "absolute"),
    [
        ("ledger", "ledger.shop.svc.cluster.local."),
        ("ledger.bank.svc", "ledger.bank.svc.cluster.local."),
        ("ledger.bank.svc.cluster.local", "ledger.bank.svc.cluster.local."),
        ("example.com", "example.com"),
        ("ledger.svc", "ledger.svc"),  # none of ours: it has no namespace, and the words are a server's
    ],
)
def test_it_is_dialled_by_its_absolute_name(
    mode: str, host: str, absolute: str, asked: list[str], cluster: Nameserver
) -> None:
    with Origin() as other:
        location = f"http://{host}:{other.port}/y"
        with Origin(answer(307, headers={"Location": location})) as one:
            cluster.set("payments.shop", [f"127.0.0.1:{one.port}"], port="http")
            with Caller(
                mode,
                "http://payments.shop.svc",
                ManualClock(io_grace=5.0),
                port="http",
                follow_redirects=True,
            ) as caller:
                assert caller.get("/x").status_code == 200
        assert [name for name in asked if name != "127.0.0.1"] == [absolute]
        (request,) = other.requests
        assert request.header("host") == f"{host}:{other.port}"
