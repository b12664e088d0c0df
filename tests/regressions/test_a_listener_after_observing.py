"""A pybreaker listener heard "closed -> half-open", which pybreaker never says: what had happened while observing was
not told, and what followed was told as if it had been."""

from __future__ import annotations

from typing import Any

import pybreaker
import pytest

from resilient import CircuitBreaker, CircuitOpen, Pipeline, subscribe
from resilient.core.events import BreakerTransition
from resilient.testing import ManualClock


class Hears(pybreaker.CircuitBreakerListener):  # type: ignore[misc,unused-ignore]
    def __init__(self) -> None:
        self.heard: list[str] = []

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.heard.append(f"{old_state.name} -> {new_state.name}")


def test_what_is_in_force_is_shown(manual_clock: ManualClock) -> None:
    hears = Hears()
    breaker = CircuitBreaker(consecutive=1, open_for=1.0, probes=1, listeners=[hears])
    pipeline = Pipeline(breaker, clock=manual_clock)

    def fail() -> None:
        raise ConnectionError

    breaker.observe()
    with pytest.raises(ConnectionError):
        pipeline.call(fail)
    assert (breaker.state, hears.heard) == ("open", [])
    breaker.observe(False)
    assert hears.heard == ["closed -> open"]
    manual_clock.advance(1.0)
    pipeline.call(str)
    assert hears.heard == ["closed -> open", "open -> half-open", "half-open -> closed"]


def test_what_is_forced_is_shown_while_observing(manual_clock: ManualClock) -> None:
    hears = Hears()
    breaker = CircuitBreaker(listeners=[hears])
    breaker.force_open()
    breaker.observe()
    breaker.observe(False)
    assert hears.heard == ["closed -> open"]
    assert breaker.as_pybreaker().current_state == "open"


def test_what_is_forced_is_in_force_while_observing(manual_clock: ManualClock) -> None:
    hears, events = Hears(), []
    breaker = CircuitBreaker(listeners=[hears])
    pipeline = Pipeline(breaker, clock=manual_clock)
    pipeline.call(str)
    stop = subscribe(events.append)
    try:
        breaker.observe()
        breaker.force_open()
        with pytest.raises(CircuitOpen):
            pipeline.call(str)
    finally:
        stop()
    assert hears.heard == ["closed -> open"]
    assert [event.observed for event in events if isinstance(event, BreakerTransition)] == [False]
