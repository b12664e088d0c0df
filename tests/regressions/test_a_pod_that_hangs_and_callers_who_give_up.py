"""A pod that hung took every call of callers who give up (``asyncio.wait_for``).

A call that was given up left no trace: the pod stayed the one of which nothing is known, and the next call went to it
to find out. And a probe that was given up came back at once, for the next call to be the probe again."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

import resilient.httpx
from resilient.balance.endpoint import Endpoint
from resilient.balance.endpoints import Endpoints
from resilient.core.outcome import FAILURE, IGNORED, SUCCESS
from resilient.discovery.address import Address
from resilient.discovery.source import Static
from resilient.policies.breaker.options import CircuitBreakerOptions
from resilient.testing import ManualClock, Origin
from tests.balance.calls import Call

OPEN_FOR = 5.0
TAKES = 0.01
"""Seconds of a call to a pod that is well."""
PATIENCE = 0.1
"""Seconds after which callers give up."""


class Set:
    """Three pods, of which the last one hangs."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.set: Endpoints[str] = Endpoints(
            "payments",
            Static([Address(f"10.0.0.{i}", 80) for i in range(3)]),
            str,
            retire=lambda _: None,
            options=CircuitBreakerOptions(consecutive=2, open_for=OPEN_FOR),
            clock=self.clock,
        )
        self.hung = list(self.set)[2]

    def call(self) -> Endpoint[str]:
        """One call, one after the other."""
        permit = self.set.pick((), self.clock.monotonic(), call := Call())
        endpoint: Endpoint[str] = call.endpoint
        hangs = endpoint is self.hung
        self.clock.advance(PATIENCE if hangs else TAKES)
        now = self.clock.monotonic()
        verdict, latency = (IGNORED, PATIENCE) if hangs else (SUCCESS, TAKES)
        endpoint.heard(permit, verdict, latency, now)
        endpoint.leave(call)
        return endpoint

    def seen(self, calls: int) -> Counter[bool]:
        return Counter(self.call() is self.hung for _ in range(calls))


def test_a_new_pod_that_hangs(fault_seed: int) -> None:
    assert Set().seen(1_000)[True] < 50


def test_while_one_call_measures_it_the_others_go_elsewhere(fault_seed: int) -> None:
    they = Set()
    for endpoint in list(they.set)[:2]:
        endpoint.heard(None, SUCCESS, TAKES, 0.0)
    calls = [Call() for _ in range(100)]
    for call in calls:
        they.set.pick((), 0.0, call)
    assert len(they.hung.calls) == 1


def test_a_probe_that_is_given_up(fault_seed: int) -> None:
    they = Set()
    for _ in range(2):
        they.hung.heard(they.hung.enter(Call(), 0.0), FAILURE, 1.0, 0.0)
    assert they.hung.ejected
    they.clock.advance(OPEN_FOR)
    seen = they.seen(1_000)  # in some 10 s
    assert 1 <= seen[True] <= 6, "a trial in each half of the open time, at most"


def test_a_probe_that_is_given_up_is_not_the_last(fault_seed: int) -> None:
    they = Set()
    for _ in range(2):
        they.hung.heard(they.hung.enter(Call(), 0.0), FAILURE, 1.0, 0.0)
    they.clock.advance(OPEN_FOR)
    assert they.call() is they.hung
    they.clock.advance(OPEN_FOR)
    assert they.call() is they.hung


@pytest.mark.parametrize("pods", [2, 5])
def test_over_http(pods: int) -> None:
    hung = socket.create_server(("127.0.0.1", 0), backlog=500)
    origins = [Origin() for _ in range(pods)]

    async def main(places: list[str]) -> Counter[Any]:
        how: Counter[Any] = Counter()
        async with resilient.httpx.async_client(
            "payments", base_url="http://payments", endpoints=places
        ) as client:
            for _ in range(30):
                try:
                    response = await asyncio.wait_for(client.get("/"), PATIENCE)
                    how[response.status_code] += 1
                except TimeoutError:
                    how["given up"] += 1
        return how

    with hung:
        for origin in origins:
            origin.__enter__()
        try:
            port = hung.getsockname()[1]
            how = asyncio.run(main([f"127.0.0.1:{each}" for each in [*(o.port for o in origins), port]]))
        finally:
            for origin in origins:
                origin.__exit__(None, None, None)
    assert how["given up"] <= 5
