"""A pybreaker listener heard of steps that pybreaker never takes, such as open -> open.

A breaker that was open and was then forced open, or was closed and was then disabled, made the pybreaker object take
the same step a second time; an open one began its open time anew."""

from __future__ import annotations

from typing import Any

import pybreaker

from resilient import CircuitBreaker, Verdict


def test_only_steps_that_show() -> None:
    steps: list[tuple[str | None, str]] = []

    class Seeing(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            steps.append((old_state and old_state.name, new_state.name))

    breaker = CircuitBreaker(consecutive=1, listeners=[Seeing()])
    breaker.disable()
    breaker.reset()
    assert steps == []
    breaker.record(breaker.admit(0.0), Verdict.FAILURE, 0.0, 0.0)
    breaker.force_open()
    assert steps == [("closed", "open")]
    breaker.reset()
    assert steps == [("closed", "open"), ("open", "closed")]
