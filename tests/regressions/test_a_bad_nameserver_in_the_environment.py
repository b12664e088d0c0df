"""What was wrong in ``RESILIENT_DNS_NAMESERVERS`` was said once; from then on names of the cluster's went to the
ordinary resolver, and with its search list to strangers."""

from __future__ import annotations

import pytest

import resilient.httpx
from resilient import PolicyError, configure


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESILIENT_DNS_NAMESERVERS", "10.96.0")
    configure()


def test_it_is_said_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    said = set()
    with resilient.httpx.client("payments", base_url="http://payments.shop.svc") as client:
        for _ in range(3):
            with pytest.raises(PolicyError, match=r"'10\.96\.0', which is no IP address") as caught:
                client.get("/")
            said.add(str(caught.value))
    with resilient.httpx.client("payments", base_url="http://payments.shop.svc") as other:
        with pytest.raises(PolicyError) as caught:
            other.get("/")
        said.add(str(caught.value))
    assert len(said) == 1
    monkeypatch.undo()
    configure()
