"""Where all endpoints were slow and busy, one that failed at once drew the traffic until it was ejected: 5 s with
nothing in flight looked better than 2 s with fifty."""

from __future__ import annotations

import heapq
import random

import pytest

from resilient.balance.endpoints import Endpoints
from resilient.core.outcome import FAILURE, SUCCESS, Verdict
from resilient.discovery.address import Address
from resilient.discovery.source import Static
from resilient.policies.breaker.options import CircuitBreakerOptions
from resilient.testing import ManualClock
from tests.balance.calls import Call

NEVER = CircuitBreakerOptions(consecutive=None, minimum_calls=1_000_000)
"""None is ejected: the choice is to be good enough by itself."""


def share_of_the_bad_one(
    count: int, latency: float, *, rate: float, seconds: float = 60.0, options: CircuitBreakerOptions = NEVER
) -> float:
    """Of the calls that arrive at random; one of the endpoints fails each of its own after a millisecond."""
    clock = ManualClock()
    them: Endpoints[str] = Endpoints(
        "payments",
        Static([Address(f"10.0.0.{i}", 80) for i in range(count)]),
        str,
        retire=lambda _: None,
        options=options,
        clock=clock,
    )
    bad = next(iter(them))
    ends: list[tuple[float, int, Call, object, float, Verdict]] = []
    calls = failed = 0
    while clock.monotonic() < seconds:
        at = clock.monotonic() + random.expovariate(rate)
        while ends and ends[0][0] <= at:
            end, _, call, permit, took, verdict = heapq.heappop(ends)
            clock.advance(max(0.0, end - clock.monotonic()))
            call.endpoint.heard(permit, verdict, took, end)
            call.endpoint.leave(call)
        clock.advance(at - clock.monotonic())
        permit = them.pick((), at, call := Call())
        calls += 1
        took, verdict = random.uniform(0.8, 1.2) * latency, SUCCESS
        if call.endpoint is bad:
            failed += 1
            took, verdict = 0.001, FAILURE
        heapq.heappush(ends, (at + took, calls, call, permit, took, verdict))
    return failed / calls


@pytest.mark.parametrize("count", [3, 10])
@pytest.mark.parametrize(("latency", "rate"), [(2.0, 75.0), (2.0, 500.0), (0.5, 75.0), (0.03, 75.0)])
def test_it_gets_next_to_nothing(count: int, latency: float, rate: float, fault_seed: int) -> None:
    assert share_of_the_bad_one(count, latency, rate=rate) <= 0.02


@pytest.mark.parametrize(("latency", "rate"), [(2.0, 20.0), (0.03, 50.0)])
def test_with_ejection_too(latency: float, rate: float, fault_seed: int) -> None:
    """The trials after an ejection are calls too."""
    share = share_of_the_bad_one(3, latency, rate=rate, options=CircuitBreakerOptions())
    assert share <= 0.02


def test_it_is_called_again_once_it_is_well(fault_seed: int) -> None:
    clock = ManualClock()
    them: Endpoints[str] = Endpoints(
        "p",
        Static([Address(f"10.0.0.{i}", 80) for i in range(3)]),
        str,
        retire=lambda _: None,
        options=NEVER,
        clock=clock,
    )
    for number, endpoint in enumerate(them):
        endpoint.heard(None, SUCCESS if number else FAILURE, 0.03, 0.0)
    bad, seen = next(iter(them)), 0
    for _ in range(1_500):
        clock.advance(0.1)
        them.pick((), clock.monotonic(), call := Call())
        call.endpoint.heard(None, SUCCESS, 0.03, clock.monotonic())
        call.endpoint.leave(call)
        seen += call.endpoint is bad
    assert seen > 100, "of its third of 1,500, after it was left alone for a minute"
