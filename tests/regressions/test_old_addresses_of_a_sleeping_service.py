"""The first call after a pause used addresses of any age: by plain HTTP, which proves nothing of whom it reaches.

A Service sleeps in a forked child, and where nobody has used it for a while. What is older than a minute is asked for
again now, before the first call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import resilient.httpx
from resilient import NoEndpoints, configure, deadline
from resilient.discovery.state import STALE_LIMIT
from resilient.testing import ManualClock, Nameserver, Origin
from tests.http.calls import PLAIN, both

BASE = "http://payments.shop.svc"


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ttl=1) as nameserver:
        configure(dns=nameserver.dns())
        try:
            yield nameserver
        finally:
            configure()


def asleep(source: Any, seconds: float) -> None:
    """The source is woken so long after its last answer."""
    source._refresher.forget(source)
    source._clock = clock = ManualClock(source._clock.monotonic())
    clock.advance(seconds)


@contextmanager
def calls(mode: str) -> Iterator[tuple[Any, Callable[[], Any]]]:
    """A client's source, and what makes one call with it."""
    if mode == "sync":
        with resilient.httpx.client("payments", base_url=BASE, port="http", verify=PLAIN) as client:
            yield client._transport.endpoints.source, lambda: client.get("/")
        return
    aclient = resilient.httpx.async_client("payments", base_url=BASE, port="http", verify=PLAIN)

    async def get() -> Any:
        return await aclient.get("/")

    with asyncio.Runner() as runner:
        yield aclient._transport.endpoints.source, lambda: runner.run(get())
        runner.run(aclient.aclose())


@both
def test_it_waits_for_those_of_now(mode: str, nameserver: Nameserver) -> None:
    with Origin() as old, Origin() as new:
        nameserver.set("payments.shop", [f"127.0.0.1:{old.port}"], port="http")
        with calls(mode) as (source, get):
            assert get().status_code == 200
            nameserver.delay(0.1)
            nameserver.set("payments.shop", [f"127.0.0.1:{new.port}"], port="http")
            asleep(source, STALE_LIMIT + 1.0)
            assert get().extensions["resilient"].endpoint == f"127.0.0.1:{new.port}"


@both
def test_young_ones_are_used_at_once(mode: str, nameserver: Nameserver) -> None:
    with Origin() as origin:
        nameserver.set("payments.shop", [f"127.0.0.1:{origin.port}"], port="http")
        with calls(mode) as (source, get):
            assert get().status_code == 200
            nameserver.fail("silence")
            asleep(source, STALE_LIMIT - 1.0)
            with deadline(1.0):
                assert get().status_code == 200


@both
def test_no_longer_than_the_deadline(mode: str, nameserver: Nameserver) -> None:
    with Origin() as origin:
        nameserver.set("payments.shop", [f"127.0.0.1:{origin.port}"], port="http")
        with calls(mode) as (source, get):
            assert get().status_code == 200
            before = len(origin.requests)
            nameserver.fail("silence")
            asleep(source, STALE_LIMIT + 1.0)
            with deadline(0.1), pytest.raises(NoEndpoints):
                get()
            assert len(origin.requests) == before


def test_every_client_of_the_service_waits(nameserver: Nameserver) -> None:
    with Origin() as old, Origin() as new:
        nameserver.set("payments.shop", [f"127.0.0.1:{old.port}"], port="http")
        with calls("sync") as (source, get_one), calls("sync") as (_, get_other):
            assert [get_one().status_code, get_other().status_code] == [200, 200]
            asleep(source, STALE_LIMIT + 1.0)
            nameserver.fail("silence")
            with deadline(0.1), pytest.raises(NoEndpoints):
                get_one()
            nameserver.heal()
            nameserver.set("payments.shop", [f"127.0.0.1:{new.port}"], port="http")
            assert get_other().extensions["resilient"].endpoint == f"127.0.0.1:{new.port}"
