"""A pybreaker listener heard "closed -> half-open", which pybreaker never says: what had happened while observing was
not told, and what followed was told as if it had been."""

from __future__ import annotations

from typing import Any

import pybreaker
import pytest

from resilient import CircuitBreaker, Pipeline
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


def test_while_observing_it_is_closed(manual_clock: ManualClock) -> None:
    hears = Hears()
    breaker = CircuitBreaker(listeners=[hears])
    breaker.force_open()
    breaker.observe()
    breaker.observe(False)
    assert hears.heard == ["closed -> open", "open -> closed", "closed -> open"]
    assert breaker.as_pybreaker().current_state == "open"
