"""Clients that find their pods by the DNS of a cluster: a real nameserver on loopback, real connections, real time."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient import (
    Event,
    Evidence,
    NoEndpoints,
    Pipeline,
    Rejected,
    Retry,
    Timeout,
    configure,
    deadline,
    subscribe,
)
from resilient.balance.endpoints import Endpoints, Fixed
from resilient.discovery.refresher import SERVICES
from resilient.testing import ManualClock, Nameserver, Origin, slow
from resilient.testing.tls import make_contexts
from tests.http.calls import PLAIN, both, report, wait_until_left
from tests.http.sdk import bound, httpx

WITHIN = 20.0
"""Seconds in which whatever a test waits for happens; usually at once."""


@pytest.fixture
def cluster() -> Iterator[Nameserver]:
    """The nameserver of a cluster, which this process asks."""
    # To look through what all other tests have left takes the collector many times as long as a call: whichever pod was
    # being called then would get less than its share for seconds.
    gc.collect()
    gc.freeze()
    with Nameserver(ttl=1) as nameserver:
        configure(dns=nameserver.dns(namespace="shop"))
        try:
            yield nameserver
        finally:
            configure()
            gc.unfreeze()


def places(*origins: Origin) -> list[str]:
    return [f"127.0.0.1:{origin.port}" for origin in origins]


@contextmanager
def until(name: str, matches: Callable[[Any], bool] = lambda event: True) -> Iterator[None]:
    """Leave the block when an event of this name was told since it began."""
    seen = threading.Event()

    def listen(event: Event) -> None:
        if event.name == name and matches(event):
            seen.set()

    stop = subscribe(listen)
    try:
        yield
        assert seen.wait(WITHIN), f"no {name}"
    finally:
        stop()


class Shop:
    """A client of ``payments`` in namespace ``shop``, sync or async."""

    def __init__(self, mode: str, url: str = "http://payments.shop.svc", **given: Any) -> None:
        given.setdefault("verify", PLAIN)
        given.setdefault("port", "http")
        self.mode = mode
        self.client: Any
        if mode == "sync":
            self.client = bound.client("payments", base_url=url, **given)
        else:
            self.client = bound.async_client("payments", base_url=url, **given)
            self.runner = asyncio.Runner()

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        if self.mode == "sync":
            self.client.close()
        else:
            self.runner.run(self.client.aclose())
            self.runner.close()

    def send(self, method: str = "GET", **given: Any) -> httpx.Response:
        sent = self.client.request(method, "/x", **given)
        response: httpx.Response = sent if self.mode == "sync" else self.runner.run(_await(sent))
        return response

    def fails(self, method: str = "GET") -> Exception:
        with pytest.raises(httpx.HTTPError) as caught:
            self.send(method)
        return caught.value

    @property
    def endpoints(self) -> Any:
        return self.client._transport.endpoints


async def _await(sent: Any) -> Any:
    return await sent


@both
def test_calls_go_to_all_pods_under_the_name_of_the_service(mode: str, cluster: Nameserver) -> None:
    with Origin() as one, Origin() as two, Origin() as three:
        cluster.set("payments.shop", places(one, two, three), port="http")
        with Shop(mode) as shop:
            assert {shop.send().status_code for _ in range(60)} == {200}
            assert report(shop.send()).endpoint in places(one, two, three)
        for origin in (one, two, three):
            assert origin.requests  # how many, is for chance and for the machine's pauses
            assert {each.header("host") for each in origin.requests} == {"payments.shop.svc"}
        assert len({each.protocol for each in cluster.questions}) == 1


@both
@pytest.mark.parametrize("url", ["http://payments", "http://payments.shop.svc.cluster.local"])
def test_short_and_full_names(url: str, mode: str, cluster: Nameserver) -> None:
    with Origin() as origin:
        cluster.set("payments.shop", places(origin), port="http")
        with Shop(mode, url) as shop:
            assert shop.send().status_code == 200
            assert origin.requests[0].header("host") == url.removeprefix("http://")
            # In the cluster, so it learns what services of ours are told.
            assert origin.requests[0].header("resilient-timeout-ms") is not None


@both
def test_without_a_named_port_it_is_the_urls(mode: str, cluster: Nameserver) -> None:
    with Origin() as origin:
        cluster.set("payments.shop", ["127.0.0.1:1"])
        with Shop(mode, f"http://payments.shop.svc:{origin.port}", port=None) as shop:
            assert shop.send().status_code == 200
            assert origin.requests[0].header("host") == f"payments.shop.svc:{origin.port}"


@both
def test_the_certificate_is_the_services(mode: str, cluster: Nameserver) -> None:
    server, client = make_contexts("payments.shop.svc")
    with Origin(tls=server) as origin:
        cluster.set("payments.shop", places(origin), port="https")
        cluster.set("ledger.shop", places(origin), port="https")
        with Shop(mode, "https://payments.shop.svc", port="https", verify=client) as shop:
            assert shop.send().status_code == 200
        with Shop(mode, "https://ledger.shop.svc", port="https", verify=client) as shop:
            exc = shop.fails("POST")
            assert type(exc) is httpx.ConnectError
            assert "ledger.shop.svc" in str(exc)


@both
def test_names_of_others_go_to_the_ordinary_resolver(mode: str, cluster: Nameserver) -> None:
    with Origin() as origin:
        for url in (origin.url, f"http://localhost:{origin.port}"):
            with Shop(mode, url) as shop:
                assert shop.send().status_code == 200
                assert isinstance(shop.endpoints, Fixed)
        assert cluster.questions == []


@both
def test_behind_a_proxy_and_a_socket_nothing_is_looked_up(mode: str, cluster: Nameserver) -> None:
    for given in ({"proxy": "http://127.0.0.1:1"}, {"uds": "/nowhere"}):
        kind: Any = bound.Transport if mode == "sync" else bound.AsyncTransport
        transport = kind("payments", base_url="http://payments.shop.svc", **given)
        assert isinstance(transport.endpoints, Fixed)
    assert cluster.questions == []


# ------------------------------------------------------------------------------------------------ pods come and go
@both
def test_a_pod_that_is_gone_is_left_for_another_at_once_and_looked_for(
    mode: str, cluster: Nameserver
) -> None:
    with Origin() as alive, Origin() as dead:
        cluster.set("payments.shop", places(alive, dead), port="http")
        policies = Pipeline(Timeout(10.0), Retry(1), name="payments")
        with Shop(mode, policies=policies) as shop:
            while not dead.requests:
                shop.send("POST")
            dead.refuse()
            cluster.set("payments.shop", places(alive), port="http")
            with until("resilient.endpoints.changed", lambda event: event.removed == 1):
                for _ in range(20):
                    assert shop.send("POST").status_code == 200, "no attempt of a retry was needed"
            assert len(shop.endpoints) == 1


@both
def test_a_new_pod_gets_its_share(mode: str, cluster: Nameserver) -> None:
    with Origin() as one, Origin() as two, Origin() as new:
        cluster.set("payments.shop", places(one, two), port="http")
        with Shop(mode) as shop:
            for _ in range(30):
                shop.send()
            with until("resilient.endpoints.changed", lambda event: event.added == 1):
                cluster.set("payments.shop", places(one, two, new), port="http")
            for _ in range(300):
                shop.send()
            assert len(new.requests) > 40, "a hundred would be even"


@both
def test_connections_to_a_pod_that_left_are_closed(mode: str, cluster: Nameserver) -> None:
    with Origin() as stays, Origin() as leaves:
        cluster.set("payments.shop", places(stays, leaves), port="http")
        with Shop(mode) as shop:
            while not (stays.requests and leaves.requests):
                shop.send()
            with until("resilient.endpoints.changed", lambda event: event.removed == 1):
                cluster.set("payments.shop", places(stays), port="http")
            if mode == "async":
                shop.runner.run(asyncio.sleep(0))  # its loop closes what is the loop's
            wait_until_left(leaves)
            before = len(leaves.requests)
            assert {shop.send().status_code for _ in range(20)} == {200}
            assert len(leaves.requests) == before


def test_a_call_to_a_pod_that_left_ends_as_it_would_have(cluster: Nameserver) -> None:
    with Origin(slow(1.5, 200)) as leaves, Origin() as stays:
        cluster.set("payments.shop", places(leaves), port="http")
        answers: list[int] = []
        with Shop("sync") as shop:
            caller = threading.Thread(target=lambda: answers.append(shop.send().status_code))
            caller.start()
            leaves.wait_until(lambda origin: len(origin.requests) == 1)
            with until("resilient.endpoints.changed", lambda event: event.removed == 1):
                cluster.set("payments.shop", places(stays), port="http")
            assert answers == []
            caller.join(WITHIN)
            assert answers == [200]
            wait_until_left(leaves)


# ------------------------------------------------------------------------------------------------------- there is none
@both
def test_a_service_that_does_not_exist(mode: str, cluster: Nameserver) -> None:
    with Shop(mode) as shop:
        exc = shop.fails("POST")
        assert isinstance(exc, NoEndpoints)
        assert isinstance(exc, httpx.TransportError)
        assert isinstance(exc, Rejected)
        assert (exc.reason, exc.service) == ("empty", "payments.shop.svc.cluster.local.")
        assert str(exc).startswith("payments.POST: no pod of payments.shop.svc.cluster.local. is ready")
        assert (report(exc).evidence, report(exc).attempts) == (Evidence.NOT_SENT, 0)


@both
def test_a_service_that_appears_later_is_reached(mode: str, cluster: Nameserver) -> None:
    with Origin() as origin, Shop(mode) as shop:
        assert isinstance(shop.fails(), NoEndpoints)
        with until("resilient.endpoints.changed"):
            cluster.set("payments.shop", places(origin), port="http")
            shop.fails()  # somebody wants it: it is looked for soon
        assert shop.send().status_code == 200


@both
def test_the_first_answer_is_waited_for_no_longer_than_the_deadline(mode: str, cluster: Nameserver) -> None:
    cluster.fail("silence")
    with Shop(mode) as shop, deadline(0.5):
        exc = shop.fails()
    assert isinstance(exc, NoEndpoints)
    assert exc.reason == "unresolved"


@both
def test_a_nameserver_that_breaks_later_takes_nothing_away(mode: str, cluster: Nameserver) -> None:
    with Origin() as origin:
        cluster.set("payments.shop", places(origin), port="http")
        with Shop(mode) as shop:
            shop.send()
            with until("resilient.discovery.failed"):
                cluster.fail("SERVFAIL")
            assert shop.send().status_code == 200


def test_however_many_begin_at_once_it_is_asked_for_once(cluster: Nameserver) -> None:
    cluster.delay(0.1)
    with Origin() as origin:
        cluster.set("payments.shop", places(origin), port="http")
        answers: list[int] = []
        with Shop("sync") as shop, Shop("sync") as other:
            callers = [
                threading.Thread(target=lambda one=one: answers.append(one.send().status_code))  # type: ignore[misc]  # a lambda with a default
                for one in (shop, other) * 8
            ]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join(WITHIN)
        assert answers == [200] * 16
        assert len(cluster.questions) == 1


@both
def test_a_client_made_before_it_was_configured(mode: str, cluster: Nameserver) -> None:
    """As module-level clients are."""
    configure()
    with Origin() as origin, Shop(mode) as shop:
        cluster.set("payments.shop", places(origin), port="http")
        configure(dns=cluster.dns())
        assert shop.send().status_code == 200
        assert isinstance(shop.endpoints, Endpoints)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_finds_new_pods_by_itself(cluster: Nameserver) -> None:
    with Origin() as one, Origin() as two:
        cluster.set("payments.shop", places(one), port="http")
        with Shop("sync") as shop:
            shop.send()
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    with until("resilient.endpoints.changed", lambda event: event.added == 1):
                        shop.send()
                        os.write(writer, b"ready")
                    status = {shop.send().status_code for _ in range(30)}
                    os.write(writer, b"done" if status == {200} else b"fail")
                finally:
                    os._exit(0)
            assert os.read(reader, 5) == b"ready"
            cluster.set("payments.shop", places(two), port="http")
            assert os.read(reader, 4) == b"done"
            os.waitpid(child, 0)
            assert two.requests


def test_one_source_for_all_clients_of_a_service(cluster: Nameserver, manual_clock: ManualClock) -> None:
    with Shop("sync") as shop, Shop("async") as other:
        assert shop.endpoints.source is other.endpoints.source
        assert shop.endpoints.source is SERVICES.get(
            "payments.shop.svc.cluster.local.", "http", cluster.dns(namespace="shop"), verified=False
        )
