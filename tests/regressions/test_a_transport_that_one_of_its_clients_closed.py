"""A transport that one client had closed and another went on using never heard of new pods again."""

from __future__ import annotations

import threading

import httpx

import resilient.httpx
from resilient import configure
from resilient.core.events import EndpointsChanged, Event, subscribe
from resilient.testing import Nameserver, Origin


def test_it_hears_of_new_pods() -> None:
    with Nameserver(ttl=1) as nameserver, Origin() as one, Origin() as two:
        configure(dns=nameserver.dns())
        nameserver.set("payments.shop", [f"127.0.0.1:{one.port}"], port="http")
        client = resilient.httpx.client("payments", base_url="http://payments.shop.svc", port="http")
        transport = client._transport
        other = httpx.Client(transport=transport, base_url="http://payments.shop.svc")
        assert other.get("/").status_code == 200
        client.close()
        assert transport.endpoints.source.asleep, "nobody seems to need it"
        assert other.get("/").status_code == 200
        changed = threading.Event()

        def listen(event: Event) -> None:
            if isinstance(event, EndpointsChanged):
                changed.set()

        stop = subscribe(listen)
        try:
            nameserver.set("payments.shop", [f"127.0.0.1:{two.port}"], port="http")
            assert changed.wait(20)
        finally:
            stop()
            configure()
        assert other.get("/").extensions["resilient"].endpoint == f"127.0.0.1:{two.port}"
        other.close()


def test_where_another_client_keeps_the_source_awake() -> None:
    with Nameserver(ttl=1) as nameserver, Origin() as one, Origin() as two:
        configure(dns=nameserver.dns())
        try:
            nameserver.set("payments.shop", [f"127.0.0.1:{one.port}"], port="http")
            awake = resilient.httpx.client("payments", base_url="http://payments.shop.svc", port="http")
            client = resilient.httpx.client("payments", base_url="http://payments.shop.svc", port="http")
            assert [awake.get("/").status_code, client.get("/").status_code] == [200, 200]
            transport = client._transport
            client.close()
            nameserver.set("payments.shop", [f"127.0.0.1:{two.port}"], port="http")
            while awake.get("/").extensions["resilient"].endpoint != f"127.0.0.1:{two.port}":
                pass
            other = httpx.Client(transport=transport, base_url="http://payments.shop.svc")
            assert other.get("/").extensions["resilient"].endpoint == f"127.0.0.1:{two.port}"
            other.close()
            awake.close()
        finally:
            configure()
