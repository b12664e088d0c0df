"""A pod that left the DNS and came back a moment later looked new: not ejected any more, and as quick as any."""

from __future__ import annotations

from resilient.balance.endpoints import REMEMBERED
from resilient.testing import ManualClock
from tests.balance.test_endpoints import Balanced


def flap(balanced: Balanced, clock: ManualClock, seconds: float) -> None:
    """The first of three pods leaves, and is back after so many seconds."""
    balanced.source.set(2, first=1)
    clock.advance(seconds)
    balanced.source.set(3)


def test_it_is_the_same_within_a_minute(manual_clock: ManualClock) -> None:
    balanced = Balanced(3, manual_clock)
    pod = balanced.at(0)
    balanced.fail(0)
    assert pod.ejected
    flap(balanced, manual_clock, 1.0)
    assert balanced.at(0) is pod
    assert (pod.state, pod.draining, pod.load(manual_clock.monotonic()) > 1.0) == ("open", False, True)
    assert balanced.seen() == {1, 2}
    manual_clock.advance(5.0)
    assert balanced.call() == 0, "and it is probed when its time is over"


def test_what_sends_to_it_is_made_anew(manual_clock: ManualClock) -> None:
    balanced = Balanced(3, manual_clock)
    made: list[str] = []
    balanced.set._make = lambda address: made.append(str(address)) or f"{address} again"  # type: ignore[func-returns-value]
    flap(balanced, manual_clock, 1.0)
    assert made == ["10.0.0.0:80"]
    assert balanced.at(0).exchange == "10.0.0.0:80 again", "its pool was closed when it left"
    assert balanced.retired == ["10.0.0.0:80"]


def test_one_that_healed_meanwhile_is_fit_at_once(manual_clock: ManualClock) -> None:
    balanced = Balanced(3, manual_clock)
    pod = balanced.at(0)
    flap(balanced, manual_clock, 1.0)
    assert balanced.seen() == {0, 1, 2}
    assert balanced.at(0) is pod


def test_later_it_is_another_one(manual_clock: ManualClock) -> None:
    balanced = Balanced(3, manual_clock)
    pod = balanced.at(0)
    balanced.fail(0)
    flap(balanced, manual_clock, REMEMBERED)
    assert balanced.at(0) is not pod
    assert balanced.at(0).state == "closed"


def test_those_that_left_long_ago_are_forgotten(manual_clock: ManualClock) -> None:
    balanced = Balanced(3, manual_clock)
    for n in range(100):
        balanced.source.set(3, first=n)
        manual_clock.advance(10.0)
    assert len(balanced.set._gone) <= REMEMBERED / 10.0 + 1
