"""A bulkhead filled up for ever, and a half-open breaker stayed so, once a predicate in `ignore=` had raised.

Whether a failure counts is asked of every gate when the call is over; what the predicate raised ended the asking, and
the gates further out were never told that the call was over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient import Bulkhead, CircuitBreaker, Gate, Pipeline, RateLimit, Verdict
from resilient.testing import ManualClock


def broken(exc: Exception) -> bool:
    raise LookupError("a bug in the predicate")


class Judge(Gate[None]):
    """Looks at results, and fails at it."""

    kind = "judge"

    def admit(self, now: float, /) -> None:
        pass

    def record(self, permit: None, verdict: Verdict, latency: float, now: float, /) -> None:
        pass

    def judge(self, result: Any, exc: Exception | None, /) -> Verdict:
        raise LookupError("a bug in the judge")


@pytest.mark.parametrize(
    "further", [(), (RateLimit("99/second"), Bulkhead(9))], ids=["short row", "long row"]
)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_permits_come_back(mode: str, further: tuple[Any, ...]) -> None:
    bulkhead = Bulkhead(2)
    policy = Pipeline(bulkhead, *further, CircuitBreaker(ignore=broken))

    @policy
    def work() -> None:
        raise ConnectionError

    @policy
    async def awork() -> None:
        raise ConnectionError

    for _ in range(5):
        with pytest.raises(LookupError) as caught:
            asyncio.run(awork()) if mode == "async" else work()
        assert isinstance(caught.value.__context__, ConnectionError)
        assert bulkhead.in_flight == 0


def test_those_of_calls_that_return_too() -> None:
    bulkhead = Bulkhead(2)
    work = Pipeline(bulkhead, Judge())(lambda: "done")
    for _ in range(5):
        with pytest.raises(LookupError):
            work()
        assert bulkhead.in_flight == 0


def test_the_place_of_the_probe_is_free_again() -> None:
    clock, breaker = (
        ManualClock(),
        CircuitBreaker(consecutive=1, probes=1, ignore=_broken_but_for_the_first()),
    )

    @Pipeline(breaker, clock=clock)
    def work(error: Exception | None = None) -> None:
        if error is not None:
            raise error

    with pytest.raises(ConnectionError):
        work(ConnectionError())
    clock.advance(5.0)
    with pytest.raises(LookupError):
        work(ConnectionError())
    work()
    assert breaker.state == "closed"


def _broken_but_for_the_first() -> Any:
    asked: list[Exception] = []

    def ignore(exc: Exception) -> bool:
        asked.append(exc)
        return len(asked) > 1 and broken(exc)

    return ignore
