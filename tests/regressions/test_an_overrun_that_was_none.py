"""Listeners heard of an overrun where a call had been cut in time, and of none where a function ran past the deadline
of its caller; nor was a coroutine seen that a plain function returned there."""

from __future__ import annotations

import pytest

from resilient import Pipeline, PolicyError, TimedOut, Timeout, deadline
from resilient.testing import ManualClock, capture_events


def overruns(
    clock: ManualClock, takes: float, error: Exception | None, *, outer: float | None = None
) -> list[float]:
    def work() -> None:
        clock.advance(takes)
        if error is not None:
            raise error

    pipeline = Pipeline(Timeout(1.0), name="svc", clock=clock)
    with capture_events() as events:
        try:
            if outer is None:
                pipeline.call(work)
            else:
                with deadline(outer, clock=clock):
                    pipeline.call(work)
        except (TimedOut, ValueError):
            pass
    return [event.overrun for event in events.named("resilient.timeout.overrun")]


def test_a_function_that_ends_late(manual_clock: ManualClock) -> None:
    assert overruns(manual_clock, 1.5, None) == [pytest.approx(0.5)]
    assert overruns(manual_clock, 1.5, ValueError()) == [pytest.approx(0.5)]
    assert overruns(manual_clock, 0.5, None) == []


def test_one_that_was_cut_in_time(manual_clock: ManualClock) -> None:
    assert overruns(manual_clock, 1.001, TimedOut("cut")) == []


def test_one_that_outlives_the_callers_deadline(manual_clock: ManualClock) -> None:
    assert overruns(manual_clock, 0.5, None, outer=0.2) == [pytest.approx(0.3)]


def test_a_coroutine_under_the_callers_deadline(manual_clock: ManualClock) -> None:
    async def work() -> None: ...

    with (
        deadline(0.5, clock=manual_clock),
        pytest.raises(PolicyError, match=r"is a plain `def` that returned a coroutine"),
    ):
        Pipeline(Timeout(1.0), clock=manual_clock).call(lambda: work())
