"""Which clock is read, what is counted and for how long it is kept, and what runs beside the call."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import logging
import threading
import time
from fractions import Fraction
from typing import Any

import limits
import pytest
from limits import strategies

from resilient import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    RateLimit,
    RateLimited,
    Retry,
    Timeout,
)
from resilient.testing import ManualClock
from tests.peers.peer import defect, peer


def fail() -> None:
    raise ConnectionError


# ------------------------------------------------------------------------------------- a wall clock that is set back
@pytest.mark.peers
def test_purgatory_stays_open_for_an_hour_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    factory = peer("purgatory").SyncCircuitBreakerFactory(default_threshold=1, default_ttl=10)
    with pytest.raises(ConnectionError):
        factory("x")(fail)()
    now[0] += 11.0 - 3600.0
    with pytest.raises(Exception) as caught:
        factory("x")(fail)()
    defect(
        not isinstance(caught.value, ConnectionError),
        "purgatory",
        "open for 10 s by a clock that was set back by an hour: still open after 11 s",
    )


def test_no_policy_of_ours_reads_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[None] = []
    caplog.set_level(logging.CRITICAL, logger="resilient")  # a log record carries the date, rightly
    monkeypatch.setattr(time, "time", lambda: asked.append(None) or 0.0)
    breaker = CircuitBreaker(consecutive=1)
    call = Pipeline(Timeout(9.0), Retry(2, wait=0), RateLimit("9/second"), Bulkhead(1), breaker)(fail)
    with pytest.raises((ConnectionError, CircuitOpen)):
        call()
    with pytest.raises(CircuitOpen):
        call()
    assert asked == []


# ------------------------------------------------------------------------------------------ failures of long ago
@pytest.mark.peers
def test_circuitbreaker_adds_up_failures_however_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now, module = [0.0], peer("circuitbreaker")
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    breaker = module.CircuitBreaker(failure_threshold=5, recovery_timeout=30)
    for _ in range(5):
        now[0] += 86_400.0
        with pytest.raises(ConnectionError):
            breaker.call(fail)
    defect(breaker.opened, "circuitbreaker", "five failures, one a day, and nothing else known: open")


def test_ours_can_do_without_counting_failures_in_a_row() -> None:
    """With `consecutive=None` only what the window of seconds holds counts."""
    clock, breaker = ManualClock(), CircuitBreaker(consecutive=None, minimum_calls=5, window=10.0)
    call = Pipeline(breaker, clock=clock)(fail)
    for _ in range(50):
        clock.advance(86_400.0)
        with pytest.raises(ConnectionError):
            call()
    assert breaker.state == "closed"


# ------------------------------------------------------------------------------- late failures of an open breaker
@pytest.mark.peers
def test_pyresilience_pushes_the_end_of_the_open_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module, now = peer("pyresilience"), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    breaker = module.CircuitBreaker(module.CircuitBreakerConfig(failure_threshold=1, recovery_timeout=5.0))
    breaker.record_failure(ConnectionError())
    for _ in range(4):  # calls that were in flight when it opened, and fail one after the other
        now[0] += 2.0
        breaker.record_failure(ConnectionError())
    allowed = breaker.allow_request()
    defect(not allowed, "pyresilience", "open for 5 s: not tried again after 8 s, as late failures came in")


# ------------------------------------------------------------------------------------- what a limit is asked for
@pytest.mark.peers
def test_pyresilience_asks_its_limit_once_however_often_it_calls() -> None:
    module, calls = peer("pyresilience"), itertools.count()

    @module.resilient(
        retry=module.RetryConfig(max_attempts=5, delay=0.0, jitter=False),
        rate_limiter=module.RateLimiterConfig(max_calls=1, period=3600.0),
    )
    def work() -> None:
        next(calls)
        raise ConnectionError

    with pytest.raises(Exception):
        work()
    made = next(calls)
    defect(made == 5, "pyresilience", f"{made} calls went out under a limit of 1 an hour")


@pytest.mark.peers
def test_hyx_fills_its_idle_bucket_twice() -> None:
    clock = ManualClock()

    async def main() -> int:
        module = peer("hyx.ratelimit.managers")
        bucket, admitted = module.TokenBucketLimiter(10, 1), 0
        await asyncio.sleep(60.0)
        for _ in range(40):
            try:
                await bucket.acquire()
                admitted += 1
            except Exception:
                break
        return admitted

    admitted = clock.run(main())
    defect(admitted == 20, "hyx", f"{admitted} at once of a bucket of 10")


@pytest.mark.peers
def test_throttled_loses_the_fractions_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    module, now = peer("throttled"), [1e6]
    monkeypatch.setattr("throttled.utils.time.time", lambda: now[0])
    monkeypatch.setattr("throttled.utils.time.monotonic", lambda: now[0])
    throttle = module.Throttled(using="token_bucket", quota=module.per_min(100, burst=1))
    admitted = 0
    for _ in range(900):
        admitted += not throttle.limit("key").limited
        now[0] += 0.01
    defect(admitted < 15, "throttled-py", f"{admitted} of 100/minute in 9 s, where 15 are due")


# ------------------------------------------------------------------------------------------ keys that were used once
@pytest.mark.peers
def test_the_moving_window_of_limits_keeps_every_key_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(epoch=1_000_000.0)
    monkeypatch.setattr("limits.storage.memory.time", clock)
    storage, item = limits.storage.MemoryStorage(), limits.parse("1000/second")
    window = strategies.MovingWindowRateLimiter(storage)
    for n in range(100):
        window.hit(item, str(n))
    storage.timer.join()
    clock.advance(60.0)
    window.hit(item, "another")
    storage.timer.join()
    kept = len(storage.events)
    defect(kept > 100, "limits", f"{kept} keys are held, a minute after 100 of a limit per second were used")


@pytest.mark.peers
def test_token_bucket_keeps_every_key_for_ever() -> None:
    module = peer("token_bucket")
    storage = module.MemoryStorage()
    limiter = module.Limiter(1e9, 1, storage)
    for n in range(100):
        limiter.consume(str(n))
    held = len(storage._buckets)
    defect(held == 100, "token-bucket", f"{held} buckets are held that have been full again for long")


# ------------------------------------------------------------------------------------------- what runs beside the call
@pytest.mark.peers
def test_resilient_circuit_hops_through_threads_for_every_async_call(monkeypatch: pytest.MonkeyPatch) -> None:
    module, hops = peer("resilient_circuit"), []

    async def to_thread(function: Any, *args: Any) -> Any:
        hops.append(function)
        return function(*args)

    monkeypatch.setattr("resilient_circuit.circuit_breaker.to_thread", to_thread)

    @module.CircuitProtectorPolicy(cooldown=datetime.timedelta(seconds=1), failure_limit=Fraction(1, 1))
    async def work() -> None:
        pass

    asyncio.run(work())
    defect(len(hops) == 2, "resilient-circuit", f"{len(hops)} thread hops for one call that succeeds")


def test_an_async_call_of_ours_stays_in_its_thread_and_suspends_nowhere() -> None:
    @Pipeline(Retry(), RateLimit("9/second"), Bulkhead(1), CircuitBreaker())
    async def work() -> int:
        return threading.get_ident()

    coroutine = work()
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value == threading.get_ident()


def test_sync_and_async_callers_share_one_breaker_of_ours() -> None:
    breaker = CircuitBreaker(consecutive=2)

    @breaker
    async def work() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        breaker.call(fail)
    with pytest.raises(ConnectionError):
        asyncio.run(work())
    with pytest.raises(CircuitOpen):
        breaker.call(fail)
    with pytest.raises(CircuitOpen):
        asyncio.run(work())


@pytest.mark.peers
def test_aioresilience_logs_an_error_for_every_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = peer("aioresilience")
    monkeypatch.setattr(
        logging.getLogger("aioresilience"), "propagate", True
    )  # as configure_logging() turns it on

    async def main() -> None:
        breaker = module.CircuitBreaker("x", module.CircuitConfig(failure_threshold=1_000))
        for _ in range(50):
            with pytest.raises(ConnectionError):
                await breaker.call(fail)

    asyncio.run(main())
    said = sum(record.levelno >= logging.ERROR for record in caplog.records)
    defect(said >= 50, "aioresilience", f"{said} errors are logged for 50 failures that the caller has")


def test_a_failure_that_ours_hands_on_is_not_logged_as_well(caplog: pytest.LogCaptureFixture) -> None:
    call = Pipeline(CircuitBreaker(consecutive=None, minimum_calls=1_000))(fail)
    for _ in range(50):
        with pytest.raises(ConnectionError):
            call()
    assert caplog.records == []


def test_a_limit_of_ours_refuses_at_once_unless_it_was_told_to_wait() -> None:
    """pyrate-limiter waits by default; aiolimiter can do nothing else."""
    clock = ManualClock()
    call = Pipeline(RateLimit("1/hour"), clock=clock)(lambda: True)
    assert call()
    with pytest.raises(RateLimited):
        call()
    assert clock.sleeps == []


def test_a_breaker_of_ours_is_freed_with_its_last_user() -> None:
    """circuitbreaker's registry holds each for as long as the process lives."""
    import gc
    import weakref

    @Pipeline(CircuitBreaker(), name="peers-freed")
    def work() -> None:
        pass

    gone = weakref.ref(work.pipeline["breaker"])  # type: ignore[attr-defined]
    del work
    gc.collect()
    assert gone() is None
