"""A Service that was scaled to zero and back stayed cut off by the breaker that had opened on the pods of before; and
callers were told `CircuitOpen` where the nameserver said that there was nobody."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

import resilient.httpx
from resilient import CircuitBreaker, CircuitOpen, NoEndpoints, Pipeline, configure
from resilient.core.errors import Rejected
from resilient.core.events import BreakerTransition
from resilient.core.outcome import FAILURE
from resilient.testing import ManualClock, Nameserver, Origin, capture_events
from tests.balance.test_endpoints import Balanced
from tests.http.calls import PLAIN


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ttl=1) as nameserver:
        configure(dns=nameserver.dns())
        try:
            yield nameserver
        finally:
            configure()


def test_scaled_to_zero_and_back(nameserver: Nameserver) -> None:
    breaker = CircuitBreaker(consecutive=2, open_for=3600.0, max_open=3600.0)
    with Origin() as old, Origin() as new:
        nameserver.set("payments.shop", [f"127.0.0.1:{old.port}"], port="http")
        with resilient.httpx.client(
            "payments",
            base_url="http://payments.shop.svc",
            port="http",
            policies=Pipeline(breaker, name="payments"),
            verify=PLAIN,
        ) as client:
            assert client.get("/").status_code == 200
            old.refuse()
            for endpoint in client._transport.endpoints:
                endpoint.exchange.pool.close()  # it would be answered on
            while breaker.state != "open":
                with pytest.raises(httpx.ConnectError):
                    client.get("/")
            with pytest.raises(CircuitOpen):
                client.get("/")
            nameserver.remove("payments.shop")
            seen: list[type[Rejected]] = []
            while not seen or seen[-1] is CircuitOpen:
                with pytest.raises(Rejected) as caught:
                    client.get("/")
                seen.append(NoEndpoints if isinstance(caught.value, NoEndpoints) else CircuitOpen)
            assert breaker.state == "closed"
            nameserver.set("payments.shop", [f"127.0.0.1:{new.port}"], port="http")
            status = 0
            while not status:
                try:
                    status = client.get("/").status_code
                except NoEndpoints:
                    pass
            assert status == 200


def test_the_rule(manual_clock: ManualClock) -> None:
    balanced, renewed = Balanced(3, manual_clock), list[int]()
    balanced.set._replaced = lambda: renewed.append(1)
    balanced.source.set(3, first=1)
    balanced.source.set(4, first=3)
    assert renewed == [], "one of them stayed each time"
    balanced.source.set(2, first=10)
    assert renewed == [1]
    balanced.source.set(0)
    assert renewed == [1, 1]
    balanced.source.set(2, first=20)
    assert renewed == [1, 1], "there was nobody to be replaced"


def test_what_is_set_by_hand_stays() -> None:
    for force in (CircuitBreaker.force_open, CircuitBreaker.disable):
        breaker = CircuitBreaker()
        force(breaker)
        before = breaker.state
        breaker.renew()
        assert breaker.state == before


def test_it_begins_anew_and_says_so() -> None:
    breaker = CircuitBreaker(consecutive=2, open_for=5.0)
    permit = breaker.admit(0.0)
    for _ in range(2):
        breaker.record(permit, FAILURE, 0.1, 0.0)
    assert breaker.state == "open"
    with capture_events() as events:
        breaker.renew()
        breaker.renew()
    assert (breaker.state, breaker.totals().failures) == ("closed", 0)
    (event,) = events.named("resilient.breaker.transition")
    assert isinstance(event, BreakerTransition)
    assert (event.old, event.new, event.trigger) == ("open", "closed", "endpoints")
    breaker.record(permit, FAILURE, 0.1, 0.0)
    assert breaker.totals().failures == 0, "what began before does not count"


def test_one_that_is_closed_forgets_what_it_counted() -> None:
    breaker = CircuitBreaker(consecutive=2)
    breaker.record(breaker.admit(0.0), FAILURE, 0.1, 0.0)
    breaker.renew()
    breaker.record(breaker.admit(0.0), FAILURE, 0.1, 0.0)
    assert breaker.state == "closed"
