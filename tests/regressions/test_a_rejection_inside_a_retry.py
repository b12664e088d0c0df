"""A policy's no inside a retry was reported as a failure of the callee, so that a breaker further out opened by our own
rejections; it counted as an attempt, and what had gone wrong before it was told nowhere."""

from __future__ import annotations

import pytest

from resilient import CircuitBreaker, Evidence, Pipeline, RateLimit, RateLimited, Retry, Verdict, report_of
from resilient.testing import ManualClock


def test_it_is_no_fault_of_the_callee(manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=2)

    @breaker
    @Pipeline(Retry(3, wait=0), RateLimit("1/hour"), clock=manual_clock)
    def work() -> str:
        return "done"

    work()
    for _ in range(5):
        with pytest.raises(RateLimited) as caught:
            work()
    report = report_of(caught.value)
    assert report is not None
    assert (report.attempts, report.evidence, report.verdict) == (0, Evidence.NOT_SENT, Verdict.IGNORED)
    assert breaker.state == "closed"


def test_what_went_wrong_before_it_is_told(manual_clock: ManualClock) -> None:
    calls = []

    @Pipeline(Retry(3, wait=0), RateLimit("2/hour"), name="q", clock=manual_clock)
    def work() -> None:
        calls.append(1)
        raise ConnectionError("down")

    with pytest.raises(RateLimited) as caught:
        work()
    report = report_of(caught.value)
    assert report is not None
    assert report.attempts == len(calls) == 2
    (note,) = caught.value.__notes__
    assert note.startswith("resilient: q: 2 attempts of ")
    assert note.endswith("not retried: a policy inside said no (before that, ConnectionError)")
