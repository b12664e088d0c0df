"""A retry on a result left the answer that it threw away open: permit and connection stayed with it, so that a
bulkhead of one refused the very retry, and every further call."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import Bulkhead, CircuitBreaker, Pipeline, Retry, When
from resilient.core.outcome import Unfinished
from resilient.testing import ManualClock, Origin, answer, drip_body
from tests.http.calls import Caller, both

SOON = answer(202, b"soon", chunked=True)


def accepted(response: Any) -> bool:
    return bool(response.status_code == 202)


def policies(clock: ManualClock, on: Any) -> Pipeline:
    return Pipeline(
        Retry(3, on=on, wait=0),
        CircuitBreaker(count=10, minimum_calls=10),
        Bulkhead(1),
        name="svc",
        clock=clock,
    )


@both
@pytest.mark.parametrize("thrown_away", [SOON, drip_body(50.0, SOON)], ids=["short", "slow"])
def test_it_is_let_go(thrown_away: Any, mode: str, manual_clock: ManualClock) -> None:
    pipeline = policies(manual_clock, When(result=accepted))
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        origin.script(thrown_away, answer(200, b"done", chunked=True))
        assert caller.get().content == b"done"
        assert [each.method for each in origin.requests] == ["GET", "GET"]
        assert pipeline["bulkhead"].in_flight == caller.pool.in_use == 0
        assert pipeline["breaker"].totals() == (2, 0, 0), "no failure of the callee: we had no time for it"


@both
def test_it_is_let_go_where_the_predicate_fails(mode: str, manual_clock: ManualClock) -> None:
    def bug(response: Any) -> bool:
        raise KeyError("a bug")

    pipeline = policies(manual_clock, When(result=bug))
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=pipeline) as caller,
    ):
        origin.script(SOON)
        assert type(caller.fails()) is KeyError
        assert pipeline["bulkhead"].in_flight == caller.pool.in_use == 0


def test_whoever_waits_for_its_end_is_told_whatever_another_raises() -> None:
    told: list[str] = []
    stream = Unfinished("body")

    def bug(exc: BaseException | None) -> None:
        raise KeyError("a bug")

    stream.on_end(lambda exc: told.append("inner"))
    stream.on_end(bug)
    stream.on_end(lambda exc: told.append("outer"))
    with pytest.raises(KeyError):
        stream.end()
    assert told == ["inner", "outer"]
