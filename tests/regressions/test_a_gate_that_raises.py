"""Where a gate of the user's raised as it was told the end of a call, or a predicate did at the end of a stream, the
gates outside it never got their permits back."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Bulkhead, CircuitBreaker, Gate, Pipeline, RateLimit, Retry, Verdict
from resilient.testing import ManualClock, Origin, answer, reset_mid_body
from tests.http.calls import Caller, both


class Breaks(Gate[str]):
    """Raises in one of its methods."""

    def __init__(self, where: str) -> None:
        self.where = where

    def admit(self, now: float, /) -> str:
        return "permit"

    def record(self, permit: str, verdict: Verdict, latency: float, now: float, /) -> None:
        if self.where == "record":
            raise KeyError("a bug")

    def cancel(self, permit: str, now: float, /) -> None:
        if self.where == "cancel":
            raise KeyError("a bug")


def work(fails: bool) -> None:
    if fails:
        raise ConnectionError


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("many", [False, True], ids=["three gates", "four gates"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_as_it_is_told(mode: str, many: bool, fails: bool, manual_clock: ManualClock) -> None:
    outer, inner = Bulkhead(3), Bulkhead(3)
    extra = [RateLimit("99/second")] if many else []
    pipeline = Pipeline(outer, *extra, Breaks("record"), inner, clock=manual_clock)

    async def awork() -> None:
        work(fails)

    for _ in range(5):
        with pytest.raises(KeyError):
            pipeline.call(work, fails) if mode == "sync" else manual_clock.run(pipeline.acall(awork))
        assert outer.in_flight == inner.in_flight == 0


def test_as_its_permit_is_taken_back() -> None:
    outer, full = Bulkhead(3), Bulkhead(1)
    pipeline = Pipeline(outer, Breaks("cancel"), full)
    with full.guard(), pytest.raises(KeyError):
        pipeline.call(work, False)
    assert outer.in_flight == full.in_flight == 0


@both
def test_a_predicate_at_the_end_of_a_stream(mode: str, manual_clock: ManualClock) -> None:
    def bug(exc: Exception) -> Any:
        raise KeyError("a bug")

    outer = Bulkhead(1)
    pipeline = Pipeline(outer, Retry(1), CircuitBreaker(ignore=bug), name="svc", clock=manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        origin.script(reset_mid_body(5, answer(200, b"x" * 100, chunked=True)))
        caller.fails()
        assert outer.in_flight == 0
