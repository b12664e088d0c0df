"""Rejections did not say who rejected: the name that a breaker, limit or bulkhead was given was shown nowhere, and a
call that costs more than the burst was told without the function, and to no listener."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Bulkhead, CircuitBreaker, Pipeline, PolicyError, RateLimit, RateLimited, Rejected
from resilient.testing import capture_events


def opened(name: str | None) -> CircuitBreaker:
    breaker = CircuitBreaker(name=name)
    breaker.force_open()
    return breaker


def emptied(name: str | None) -> RateLimit:
    limit = RateLimit("1/hour", name=name)
    limit.call(str)
    return limit


def filled(name: str | None) -> Bulkhead:
    bulkhead = Bulkhead(1, name=name)
    bulkhead.guard().__enter__()
    return bulkhead


GATES = pytest.mark.parametrize("gate", [opened, emptied, filled])


@GATES
def test_its_own_name_is_shown(gate: Any) -> None:
    with capture_events() as events, pytest.raises(Rejected) as caught:
        Pipeline(gate("bank"), name="checkout").call(charge)
    assert (caught.value.dependency, caught.value.operation) == ("bank", "charge")
    assert str(caught.value).startswith("bank.charge: ")
    assert [event.dependency for event in events.named("resilient.rejected")] == ["bank"]


@GATES
def test_without_one_it_is_that_of_the_pipeline(gate: Any) -> None:
    with pytest.raises(Rejected) as caught:
        Pipeline(gate(None), name="checkout").call(charge)
    assert caught.value.dependency == "checkout"


@GATES
def test_in_a_block(gate: Any) -> None:
    with pytest.raises(Rejected, match=r"^bank: "), gate("bank").guard():
        pass


def test_a_cost_above_the_burst() -> None:
    limit = RateLimit("10/second", cost=len)
    with capture_events() as events, pytest.raises(Rejected) as caught:
        Pipeline(limit, name="bank").call(charge, "x" * 11)
    assert (caught.value.dependency, caught.value.operation) == ("bank", "charge")
    assert len(events.named("resilient.rejected")) == 1


def test_a_key_without_a_hash() -> None:
    limit = RateLimit("10/second", key=lambda order: [order])
    with pytest.raises(PolicyError, match=r"^RateLimit: key gave a list, which has no hash; write "):
        limit.call(charge, "7")


def charge(order: str = "") -> None: ...


def test_one_of_ones_own_can_be_printed() -> None:
    assert str(RateLimited("full", reason="empty")) == "full"
    assert str(RateLimited("full", reason="empty", retry_after=0.25)) == "full; the next in 0.250 s"
