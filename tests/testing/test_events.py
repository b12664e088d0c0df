from __future__ import annotations

import threading

import pytest

from resilient.core.events import RUNTIME, RetryScheduled, emit
from resilient.testing import capture_events


def scheduled(attempt: int) -> RetryScheduled:
    return RetryScheduled("catalog", "get", attempt=attempt, delay=0.1, error_type="OSError")


def test_collects_while_inside() -> None:
    before = RUNTIME.listeners
    emit(scheduled(1))
    with capture_events() as seen:
        emit(scheduled(2))
        emit(scheduled(3))
    emit(scheduled(4))
    assert [event.attempt for event in seen.events if isinstance(event, RetryScheduled)] == [2, 3]
    assert seen.names == ["resilient.retry.scheduled"] * 2
    assert RUNTIME.listeners == before


def test_finds_by_name() -> None:
    with capture_events() as seen:
        emit(scheduled(1))
    assert seen.named("resilient.retry.scheduled") == seen.events
    assert seen.named("resilient.retry.") == seen.events
    assert seen.named("resilient.retry") == []
    assert "RetryScheduled" in repr(seen)
    seen.clear()
    assert seen.events == []


def test_stops_when_the_block_raises() -> None:
    before = RUNTIME.listeners
    with pytest.raises(LookupError), capture_events():
        raise LookupError
    assert RUNTIME.listeners == before


def test_blocks_inside_each_other_collect_each() -> None:
    with capture_events() as outer:
        emit(scheduled(1))
        with capture_events() as inner:
            emit(scheduled(2))
    assert (len(outer.events), len(inner.events)) == (2, 1)


def test_collects_from_all_threads() -> None:
    def work() -> None:
        for attempt in range(1000):
            emit(scheduled(attempt))

    with capture_events() as seen:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen.events) == 8000
