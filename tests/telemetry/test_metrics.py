"""Every metric of the policies, as an exporter sees it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Pipeline,
    RateLimit,
    RateLimited,
    Retry,
    TimedOut,
    Timeout,
    Verdict,
)
from resilient.balance.endpoints import Endpoints
from resilient.core.events import DiscoveryFailed, emit
from resilient.discovery.address import Address
from resilient.discovery.source import Static
from resilient.telemetry.metrics import MOST_NAMES, OTHER
from resilient.testing import ManualClock
from tests.balance.calls import Call

from .collected import collecting


def failing(times: int) -> Callable[[], str]:
    left = [times]

    def work() -> str:
        if left[0]:
            left[0] -= 1
            raise ConnectionError("down")
        return "done"

    return work


def test_a_call_is_counted_once_with_its_outcome_and_every_attempt_by_its_number() -> None:
    pipeline = Pipeline(Retry(3), name="catalog", clock=ManualClock())
    with collecting() as seen:
        assert pipeline.call(failing(2)) == "done"
        with pytest.raises(ConnectionError):
            pipeline.call(failing(9))
        operation = "failing.<locals>.work"
        known = {"dependency": "catalog", "operation": operation}
        assert seen.one("resilient.call.duration", outcome="success", **known)[0] == 1
        assert (
            seen.one("resilient.call.duration", outcome="error", error_type="ConnectionError", **known)[0]
            == 1
        )
        assert seen.one("resilient.attempt.duration", outcome="error", attempt="1", **known)[0] == 2
        assert seen.one("resilient.attempt.duration", outcome="error", attempt="3", **known)[0] == 1
        assert seen.one("resilient.attempt.duration", outcome="success", attempt="3", **known)[0] == 1
        assert seen.one("resilient.call.retries", **known) == (2, 4), "two calls with two retries each"
        count, seconds = seen.one("resilient.call.retry_delay", dependency="catalog")
        assert count == 2
        assert seconds > 0


def test_calls_without_retries_are_not_in_the_histogram_of_retries() -> None:
    with collecting() as seen:
        Pipeline(Retry(3), name="catalog").call(failing(0))
        assert seen.points("resilient.call.retries") == []
        assert seen.one("resilient.attempt.duration", attempt="1")[0] == 1


@pytest.mark.parametrize("attempts", [4, 6])
def test_attempts_from_the_fourth_on_share_a_series(attempts: int) -> None:
    with collecting() as seen:
        with pytest.raises(ConnectionError):
            Pipeline(Retry(attempts, wait=0), name="catalog", clock=ManualClock()).call(failing(99))
        assert seen.one("resilient.attempt.duration", attempt="4+")[0] == attempts - 3


def test_durations_have_the_bounds_of_the_semantic_conventions() -> None:
    with collecting() as seen:
        Pipeline(Retry(3), name="catalog").call(failing(0))
        (point,) = seen.metrics()["resilient.call.duration"].data.data_points
        assert point.explicit_bounds[0] == 0.005
        assert point.explicit_bounds[-1] == 10.0
        assert seen.metrics()["resilient.call.duration"].unit == "s"


def test_a_fallback_is_an_outcome_of_its_own_also_inside_another_one() -> None:
    inner = Pipeline(Fallback("inner"), name="inner")

    def outer_work() -> str:
        inner.call(failing(1))
        raise ConnectionError

    with collecting() as seen:
        assert Pipeline(Fallback("outer"), name="outer").call(outer_work) == "outer"
        assert Pipeline(Fallback("outer"), name="calm").call(failing(0)) == "done"

        async def work() -> str:
            raise ConnectionError

        assert asyncio.run(Pipeline(Fallback("async"), name="async").acall(work)) == "async"
        for name, outcome in (
            ("inner", "fallback"),
            ("outer", "fallback"),
            ("async", "fallback"),
            ("calm", "success"),
        ):
            assert seen.one("resilient.call.duration", dependency=name, outcome=outcome)[0] == 1


def test_outcomes_of_time_outs_rejections_and_cancellations() -> None:
    clock = ManualClock()
    pipeline = Pipeline(RateLimit("1/second"), Timeout(1.0), name="slow", clock=clock)

    async def hangs() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        with pytest.raises(TimedOut):
            await pipeline.acall(hangs)
        with pytest.raises(RateLimited):
            await asyncio.gather(pipeline.acall(hangs), pipeline.acall(hangs))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with collecting() as seen:
        clock.run(main())
        for outcome in ("timeout", "rejected", "cancelled"):
            assert seen.one("resilient.call.duration", outcome=outcome)[0] == 1
        assert seen.one("resilient.rejections", dependency="slow", by="rate") == 1
        assert seen.points("resilient.rejections.observed") == []


def test_retries_that_were_not_made_are_counted_by_reason() -> None:
    def charge() -> None:
        raise ConnectionError

    with collecting() as seen:
        with pytest.raises(ConnectionError):
            Pipeline(Retry(3, idempotent=False), name="bank").call(charge)
        assert seen.one("resilient.retry.suppressed", dependency="bank", reason="not_idempotent") == 1


def test_a_breaker_tells_its_transitions_state_and_ratios() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(consecutive=None, minimum_calls=4, slow_after=1.0, open_for=5.0, probes=1)
    pipeline = Pipeline(breaker, name="catalog-states", clock=clock)

    def slow() -> None:
        clock.advance(2.0)

    with collecting() as seen:
        assert seen.one("resilient.breaker.failure_ratio", dependency="catalog-states") == -1, (
            "no calls, no ratio"
        )
        pipeline.call(failing(0))
        pipeline.call(failing(0))
        pipeline.call(slow)
        with pytest.raises(ConnectionError):
            pipeline.call(failing(1))
        assert breaker.state == "closed"
        assert seen.one("resilient.breaker.failure_ratio", dependency="catalog-states") == 0.25
        assert seen.one("resilient.breaker.slow_ratio", dependency="catalog-states") == 0.25
        assert states(seen, "catalog-states") == {
            "closed": 1,
            "open": 0,
            "half_open": 0,
            "forced_open": 0,
            "disabled": 0,
        }
        with pytest.raises(ConnectionError):
            pipeline.call(failing(1))
        with pytest.raises(ConnectionError):
            pipeline.call(failing(1))
        with pytest.raises(CircuitOpen):
            pipeline.call(failing(0))
        assert states(seen, "catalog-states")["open"] == 1
        assert sum(states(seen, "catalog-states").values()) == 1
        clock.advance(5.0)
        pipeline.call(failing(0))
        breaker.force_open()
        assert states(seen, "catalog-states")["forced_open"] == 1
        told = {
            (at["from"], at["to"], at["reason"]): n for at, n in seen.points("resilient.breaker.transitions")
        }
        assert told == {
            ("closed", "open", "failure_ratio"): 1,
            ("open", "half_open", "time"): 1,
            ("half_open", "closed", "probe"): 1,
            ("closed", "forced_open", "manual"): 1,
        }
        assert seen.one("resilient.rejections", by="breaker") == 1


def states(seen: Any, name: str) -> dict[str, float]:
    points = seen.points("resilient.breaker.state")
    return {at["state"]: value for at, value in points if at["dependency"] == name}


def test_the_worst_breaker_of_a_dependency_is_the_one_shown_and_amounts_are_added_up() -> None:
    one, two = (Pipeline(CircuitBreaker(), Bulkhead(n), name="catalog-worst") for n in (10, 5))
    with collecting() as seen:
        two["breaker"].force_open()
        assert states(seen, "catalog-worst") == {
            "closed": 0,
            "open": 0,
            "half_open": 0,
            "forced_open": 1,
            "disabled": 0,
        }
        assert seen.one("resilient.limiter.limit", dependency="catalog-worst", kind="concurrency") == 15
    del one


def test_limiters_show_what_is_allowed_free_taken_and_waited_for() -> None:
    clock = ManualClock()
    limit, bulkhead = RateLimit("10/second", burst=4), Bulkhead(2, queue=5, max_wait=9.0)
    pipeline = Pipeline(limit, bulkhead, name="catalog-limits", clock=clock)
    with collecting() as seen:

        async def main() -> None:
            gate = asyncio.Event()
            tasks = [asyncio.ensure_future(pipeline.acall(gate.wait)) for _ in range(3)]
            for _ in range(5):
                await asyncio.sleep(0)
            assert seen.one("resilient.limiter.limit", dependency="catalog-limits", kind="rate") == 10
            assert seen.one("resilient.limiter.available", dependency="catalog-limits", kind="rate") == 1
            assert seen.one("resilient.limiter.limit", dependency="catalog-limits", kind="concurrency") == 2
            assert (
                seen.one("resilient.limiter.available", dependency="catalog-limits", kind="concurrency") == 0
            )
            assert (
                seen.one("resilient.limiter.inflight", dependency="catalog-limits", kind="concurrency") == 2
            )
            assert seen.one("resilient.limiter.queued", dependency="catalog-limits", kind="concurrency") == 1
            gate.set()
            await asyncio.gather(*tasks)

        clock.run(main())
        assert (
            seen.one("resilient.limiter.wait.duration", dependency="catalog-limits", kind="concurrency")[0]
            == 1
        )
        assert seen.one("resilient.limiter.inflight", dependency="catalog-limits", kind="concurrency") == 0


def test_a_full_bulkhead_is_a_rejection_by_concurrency() -> None:
    pipeline = Pipeline(Bulkhead(1), name="catalog")

    def nested() -> None:
        pipeline.call(failing(0))

    with collecting() as seen, pytest.raises(BulkheadFull):
        pipeline.call(nested)
    with collecting() as seen:
        with pytest.raises(BulkheadFull):
            pipeline.call(nested)
        assert seen.one("resilient.rejections", by="concurrency") == 1


def test_what_is_left_of_the_retry_budget() -> None:
    pipeline = Pipeline(Retry(2, wait=0), name="catalog-budget", clock=ManualClock())
    with collecting() as seen:
        assert seen.one("resilient.retry.budget.remaining", dependency="catalog-budget") == 7, (
            "35 tokens at 5"
        )
        with pytest.raises(ConnectionError):
            pipeline.call(failing(9))
        assert seen.one("resilient.retry.budget.remaining", dependency="catalog-budget") == 6


def test_time_outs_that_a_sync_function_outran_or_was_left_behind_by() -> None:
    clock = ManualClock()
    with collecting() as seen:
        Pipeline(Timeout(1.0), name="catalog", clock=clock).call(lambda: clock.advance(3.0))
        assert seen.one("resilient.timeout.overruns", dependency="catalog") == 1
        go = threading.Event()
        with pytest.raises(TimedOut):
            Pipeline(Timeout(0.01, walk_away=True), name="catalog").call(lambda: go.wait(30))
        go.set()
        assert seen.one("resilient.timeout.abandoned", dependency="catalog") == 1


def test_names_without_end_end_in_one_series() -> None:
    with collecting() as seen:
        for n in range(MOST_NAMES + 30):
            Pipeline(Retry(), name=f"tenant-{n}").call(failing(0))
        names = {at["dependency"]: value[0] for at, value in seen.points("resilient.call.duration")}
        assert len(names) == MOST_NAMES + 1
        assert names[OTHER] == 30


def test_nothing_is_told_any_more_once_it_was_ended() -> None:
    with collecting() as seen:
        pipeline = Pipeline(CircuitBreaker(), name="catalog")
        pipeline.call(failing(0))
        before = seen.points("resilient.call.duration")
        from resilient import instrument

        instrument()()  # the second call attaches nothing; what it returns ends what is there
        pipeline.call(failing(0))
        assert seen.points("resilient.call.duration") == before
        assert seen.points("resilient.breaker.state") == []


def test_endpoints_by_state_their_transitions_and_failed_lookups() -> None:
    clock = ManualClock()
    options = CircuitBreaker(consecutive=1, open_for=5.0).options
    source = Static([Address(f"10.0.0.{n}", 80) for n in range(3)])
    balanced = Endpoints("catalog-pods", source, str, retire=lambda _: None, options=options, clock=clock)
    with collecting() as seen:
        permit = balanced.pick((), 0.0, call := Call())
        call.endpoint.heard(permit, Verdict.FAILURE, 0.1, 0.0)
        found = {
            at["state"]: value
            for at, value in seen.points("resilient.endpoints")
            if at["dependency"] == "catalog-pods"
        }
        assert found == {"closed": 2, "half_open": 0, "open": 1}
        moved = {"from": "closed", "to": "open", "reason": "consecutive", "dependency": "catalog-pods"}
        assert seen.points("resilient.endpoint.transitions") == [(moved, 1)]
        emit(DiscoveryFailed("catalog.shop.svc.cluster.local.", "http", reason="SERVFAIL"))
        assert seen.one("resilient.discovery.failures", service="catalog.shop.svc.cluster.local.") == 1
