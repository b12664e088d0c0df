"""A pipeline that was made while another document came showed its numbers and worked by those of the document before.

The thread that made it had older numbers on their way to a policy when the loader put the new ones there. It saw that
there was another document, found its numbers shown already, and left the state machine with the older ones; and where
nothing was to be followed any more, it left the older ones everywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import Bulkhead, CircuitBreaker, Pipeline, RateLimit
from resilient.config.live import Live
from resilient.config.snapshot import Snapshot, snapshot_of
from resilient.config.source import Files
from resilient.core.registry import Registry
from resilient.policies.breaker.state import BreakerState


def said(generation: int, **kinds: Any) -> Snapshot:
    text = json.dumps({"resiliency": {"targets": {"payments": kinds}}})
    return snapshot_of(Files({"a.json": text.encode()}, text), (), generation)


def in_another_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_the_machine_has_the_numbers_that_are_shown(
    monkeypatch: pytest.MonkeyPatch, released: bool, after: bool
) -> None:
    registry = Registry()
    live = Live(registry)
    live.apply(said(1, breaker={"consecutive": 3, "state": "forced_open"}))
    breaker = CircuitBreaker()
    pipeline = Pipeline(breaker, name="payments")
    registry.add(pipeline)
    real = BreakerState.retune

    def met(state: BreakerState, options: Any, now: float) -> Any:
        monkeypatch.undo()
        found = real(state, options, now) if after else None
        in_another_thread(
            live.release if released else lambda: live.apply(said(2, breaker={"consecutive": 5}))
        )
        return found if after else real(state, options, now)

    monkeypatch.setattr(BreakerState, "retune", met)
    live.follow(pipeline)
    expected = 10 if released else 5
    assert live.explain("payments.breaker.consecutive").value == expected
    assert breaker.options.consecutive == expected
    assert breaker._state.options.consecutive == expected
    assert breaker.state == "closed"


def test_what_is_told_twice_changes_nothing() -> None:
    registry = Registry()
    live = Live(registry)
    breaker, limit, bulkhead = CircuitBreaker(), RateLimit("10/hour"), Bulkhead(3)
    pipeline = Pipeline(breaker, limit, bulkhead, name="payments")
    registry.add(pipeline)
    pipeline.call(int)
    document = said(1, breaker={"consecutive": 5}, ratelimit={"rate": "20/hour"}, bulkhead={"limit": 4})
    live.apply(document)
    before = (breaker.totals(), limit.available(), bulkhead.in_flight)
    assert live.apply(document, surely=True) == ()
    assert (breaker.totals(), limit.available(), bulkhead.in_flight) == before
