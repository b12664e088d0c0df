"""The pipeline for an ordinary dependency."""

from __future__ import annotations

import asyncio
import math
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import CircuitOpen, DeadlineExceeded, Pipeline, PolicyError, RateLimited, report_of, standard
from resilient.core.registry import REGISTRY
from resilient.testing import ManualClock
from tests.policies.modes import Script, both, call, raised

BREAKER = (
    "CircuitBreaker(50% in 10 s from 20 calls, 10 in a row, 50% slower than {}, open 5 s..60 s, 3 probes)"
)
RETRY = "Retry({} attempts, on transient, backoff 25 ms..1 s x2 full jitter, {})"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {},
            [
                "Timeout(total 10 s)",
                RETRY.format(3, "only what did not happen"),
                BREAKER.format("3 s"),
                "Bulkhead(100)",
                "Timeout(attempt 3 s)",
            ],
        ),
        (
            {"rate": "200/second", "concurrency": 7, "idempotency_key": str},
            [
                "Timeout(total 10 s)",
                RETRY.format(3, "keyed"),
                BREAKER.format("3 s"),
                "RateLimit(200/second, burst 200)",
                "Bulkhead(7)",
                "Timeout(attempt 3 s)",
            ],
        ),
        (
            {"deadline": 2.0, "attempts": 2, "attempt_timeout": 0.5, "idempotent": True},
            [
                "Timeout(total 2 s)",
                RETRY.format(2, "").replace(", )", ")"),
                BREAKER.format("0.5 s"),
                "Bulkhead(100)",
                "Timeout(attempt 0.5 s)",
            ],
        ),
        (
            {"deadline": 1.0, "attempts": 1},
            [
                "Timeout(total 1 s)",
                RETRY.format(1, "only what did not happen"),
                BREAKER.format("0.999 s"),
                "Bulkhead(100)",
                "Timeout(attempt 0.999 s)",
            ],
        ),
    ],
    ids=["as it comes", "rate and key", "all given", "one attempt"],
)
def test_how_it_reads(options: dict[str, Any], parts: list[str]) -> None:
    assert str(standard("payments", **options)) == " -> ".join(parts)


def test_an_attempt_has_what_deadline_attempts_and_backoff_leave() -> None:
    # two waits of at most 25 and 50 ms
    assert standard("p", deadline=3.0)["timeout"].seconds == 3.0
    inner = standard("p", deadline=3.0).policies[-1]
    assert inner.seconds == pytest.approx((3.0 - 0.075) / 3)  # type: ignore[attr-defined]
    assert standard("p", deadline=100.0).policies[-1].seconds == 3.0  # type: ignore[attr-defined]


@given(st.floats(0.01, 1_000), st.integers(1, 20))
def test_it_never_warns_of_itself(deadline: float, attempts: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            pipeline = standard("p", deadline=deadline, attempts=attempts)
        except Warning:
            # the worst backoff alone is longer than the deadline: whatever an attempt gets is too much
            assert sum(min(1.0, 0.025 * 2**n) for n in range(attempts - 1)) > deadline - 1e-9
            return
    inner = pipeline.policies[-1].seconds  # type: ignore[attr-defined]
    assert 0 < inner <= 3.0
    assert inner < deadline


def test_it_knows_the_time_to_connect() -> None:
    assert standard("p").connect_timeout == 1.0
    assert standard("p", connect_timeout=0.25).connect_timeout == 0.25


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *[
            ({"connect_timeout": value}, "standard: connect_timeout=")
            for value in (0, -1, math.nan, math.inf, True, "1")
        ],
        ({"deadline": 0}, "standard: deadline=0 "),
        ({"deadline": math.nan}, "standard: deadline=nan "),
        ({"attempts": 0}, "standard: attempts=0 "),
        ({"attempts": True}, "standard: attempts=True "),
        ({"attempt_timeout": -1}, "standard: attempt_timeout=-1 "),
        ({"attempt_timeout": 10.0}, "attempt_timeout=10.0 must be below the deadline of 10 s"),
        ({"concurrency": 0}, "standard: concurrency=0 "),
        ({"idempotent": "false"}, "standard: idempotent='false' must be True or False"),
        ({"rate": "fast"}, "RateLimit: rate='fast' "),
        ({"idempotency_key": "id"}, "Retry: idempotency_key='id' "),
    ],
)
def test_what_is_wrong_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        standard("p", **options)
    assert says in str(caught.value)


@both
def test_what_may_have_happened_is_not_repeated_unless_it_may_be(mode: str) -> None:
    clock = ManualClock()
    fn = Script(ConnectionError)
    error = raised(mode, standard("unsafe", clock=clock), fn, clock)
    assert (fn.calls, report_of(error).why_not_retried) == (1, "not_idempotent")  # type: ignore[union-attr]
    for options in ({"idempotent": True}, {"idempotency_key": lambda: "order-7"}):
        fn = Script(ConnectionError)  # the budget is the name's: each has its own
        raised(mode, standard(f"safe {mode} {options}", clock=clock, **options), fn, clock)  # type: ignore[arg-type]
        assert fn.calls == 3


@both
def test_its_parts_work_together(mode: str) -> None:
    clock = ManualClock()
    pipeline = standard("together", rate="3/hour", clock=clock)
    for _ in range(3):
        assert call(mode, pipeline, Script("ok"), clock) == "ok"
    assert isinstance(raised(mode, pipeline, Script("never"), clock), RateLimited)
    pipeline["breaker"].force_open()
    assert isinstance(raised(mode, pipeline, Script("never"), clock), CircuitOpen)
    assert pipeline["bulkhead"].in_flight == 0


def test_it_ends_in_time() -> None:
    clock = ManualClock()

    async def hang() -> None:
        await asyncio.sleep(3600)

    pipeline = standard("hanging", deadline=5.0, idempotent=True, clock=clock)
    with pytest.raises((DeadlineExceeded, TimeoutError)):
        clock.run(pipeline.acall(hang))
    assert clock.monotonic() <= 5.0


def test_it_is_registered_by_its_name() -> None:
    pipeline = standard("a-name-of-its-own")
    assert isinstance(pipeline, Pipeline)
    assert REGISTRY.pipelines("a-name-of-its-own") == [pipeline]
