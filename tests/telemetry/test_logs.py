"""Log records of events: named, with attributes, and never more than one a second of a kind."""

from __future__ import annotations

import logging

import pytest

from resilient import CircuitBreaker, Pipeline, RateLimit, RateLimited, Retry
from resilient.testing import ManualClock

from .collected import collecting


def records(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.__dict__.get("event.name") == name]


def down() -> None:
    raise ConnectionError


def test_calls_that_ended_without_success_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    pipeline = Pipeline(Retry(2, wait=0), name="bank", clock=clock)
    with collecting(clock):
        for _ in range(5):
            with pytest.raises(ConnectionError):
                pipeline.call(down)
        clock.advance(1.0)
        with pytest.raises(ConnectionError):
            pipeline.call(down)
    first, second = records(caplog, "resilient.retry.exhausted")
    assert first.getMessage() == "bank: down failed with ConnectionError after 2 attempts"
    assert first.__dict__["resilient.dependency"] == "bank"
    assert first.levelno == logging.WARNING
    assert second.getMessage().endswith("(4 more like this)")


def test_a_retry_that_was_not_made_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with collecting(), pytest.raises(ConnectionError):
        Pipeline(Retry(2, idempotent=False), name="bank").call(down)
    (record,) = records(caplog, "resilient.retry.suppressed")
    assert record.getMessage() == "bank: down failed with ConnectionError and was not retried: not_idempotent"


def test_a_limiter_says_when_it_begins_to_turn_calls_away_and_when_it_ceased(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "resilient")
    clock = ManualClock()
    pipeline = Pipeline(RateLimit("1/second"), name="bank", clock=clock)
    with collecting(clock):
        pipeline.call(int)
        for _ in range(3):
            with pytest.raises(RateLimited):
                pipeline.call(int)
        clock.advance(9.0)
        pipeline.call(int)
        assert records(caplog, "resilient.limiter.relieved") == []
        clock.advance(1.0)
        pipeline.call(int)
    assert len(records(caplog, "resilient.limiter.saturated")) == 1
    (relieved,) = records(caplog, "resilient.limiter.relieved")
    assert relieved.__dict__["resilient.by"] == "ratelimit"


def test_breaker_transitions_are_logged_where_they_happen_with_their_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    breaker = CircuitBreaker(consecutive=1)
    with pytest.raises(ConnectionError):
        Pipeline(breaker, name="bank").call(down)
    (record,) = records(caplog, "resilient.breaker.transition")
    assert record.getMessage() == "bank: circuit breaker closed -> open: 1 failures in a row"
    assert record.__dict__["resilient.new"] == "open"
