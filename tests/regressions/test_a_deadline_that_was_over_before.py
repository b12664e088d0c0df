"""Callers who came with no time left opened the breaker of a callee that was well and was never called; and a retry
began an attempt for them."""

from __future__ import annotations

import pytest

from resilient import CircuitBreaker, DeadlineExceeded, Evidence, Pipeline, Retry, Timeout, Verdict, deadline
from resilient.testing import ManualClock, Origin, capture_events
from tests.http.calls import Caller, both, report


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("shape", ["retry", "time-out"])
def test_a_function_is_not_called_and_nobody_blamed(shape: str, mode: str, manual_clock: ManualClock) -> None:
    breaker, calls = CircuitBreaker(consecutive=2), []
    inner = (Retry(), breaker) if shape == "retry" else (breaker, Timeout(0.5))
    pipeline = Pipeline(*inner, clock=manual_clock)

    async def awork() -> None:
        calls.append(1)

    async def acall() -> None:
        with deadline(1.0, clock=manual_clock):
            manual_clock.advance(1.0)
            await pipeline.acall(awork)

    def call() -> None:
        with deadline(1.0, clock=manual_clock):
            manual_clock.advance(1.0)
            pipeline.call(calls.append, 1)

    for _ in range(5):
        with capture_events() as events, pytest.raises(DeadlineExceeded) as caught:
            call() if mode == "sync" else manual_clock.run(acall())
        told = report(caught.value)
        assert (told.verdict, told.evidence, told.attempts) == (Verdict.IGNORED, Evidence.NOT_SENT, 0)
        assert [event.by for event in events.named("resilient.rejected")] == ["deadline"]
    assert calls == []
    assert breaker.state == "closed"
    assert breaker.totals().calls == 0


@both
def test_nor_is_a_request_sent(mode: str, manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=2)
    with Origin(clock=manual_clock) as origin:
        pipeline = Pipeline(breaker, name="svc", clock=manual_clock)
        with Caller(mode, origin.url, manual_clock, policies=pipeline) as caller:

            async def get() -> None:
                with deadline(1.0, clock=manual_clock):
                    manual_clock.advance(1.0)
                    await caller.client.get("/")

            for _ in range(5):
                with pytest.raises(DeadlineExceeded):
                    if mode == "async":
                        caller.run(get())
                    else:
                        with deadline(1.0, clock=manual_clock):
                            manual_clock.advance(1.0)
                            caller.get()
            assert breaker.state == "closed"
            assert caller.get().status_code == 200
        assert len(origin.requests) == 1


def test_nor_is_a_block_begun(manual_clock: ManualClock) -> None:
    with deadline(1.0, clock=manual_clock):
        manual_clock.advance(1.0)
        with pytest.raises(DeadlineExceeded):
            for attempt in Retry().attempts(clock=manual_clock):
                with attempt:
                    pytest.fail("it was begun")
