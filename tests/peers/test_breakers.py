"""pybreaker, circuitbreaker, aiobreaker, purgatory, aioresilience."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import inspect
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pybreaker
import pytest

from resilient import CircuitBreaker, CircuitOpen, Pipeline, Retry, Verdict
from resilient.testing import ManualClock
from tests.peers.peer import defect, peer


# ------------------------------------------------------------------------------------------ pybreaker: the lock
def at_once(call: Any, callers: int = 4) -> bool:
    """Whether so many calls can be inside together."""
    meeting = threading.Barrier(callers)
    met: list[bool] = []

    def work() -> None:
        try:
            meeting.wait(0.3)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)

    threads = [threading.Thread(target=call, args=(work,)) for _ in range(callers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return all(met)


@pytest.mark.peers
def test_pybreaker_runs_one_call_at_a_time() -> None:
    defect(
        not at_once(pybreaker.CircuitBreaker().call), "pybreaker", "the lock is held over the user's function"
    )


def test_calls_run_at_once_through_ours() -> None:
    assert at_once(CircuitBreaker().call)


# ----------------------------------------------------------------------------------- pybreaker: async functions
@pytest.mark.peers
def test_pybreaker_on_an_async_function_sees_nothing() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=2)

    @breaker
    async def work() -> None:
        raise ConnectionError

    for _ in range(10):
        with pytest.raises(ConnectionError):
            asyncio.run(work())
    seen = (breaker.fail_counter, breaker.current_state)
    defect(seen == (0, "closed"), "pybreaker", "an async def is decorated, and never counted")


def test_ours_counts_async_functions() -> None:
    breaker = CircuitBreaker(consecutive=2)

    @breaker
    async def work() -> None:
        raise ConnectionError

    for _ in range(2):
        with pytest.raises(ConnectionError):
            asyncio.run(work())
    assert breaker.state == "open"


# ---------------------------------------------------------------------------- pybreaker: what counts as failure
@pytest.mark.peers
def test_pybreaker_takes_a_keyboard_interrupt_for_a_failure() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=1)

    def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(BaseException) as caught:
        breaker.call(work)
    seen = (type(caught.value), breaker.current_state)
    defect(
        seen == (pybreaker.CircuitBreakerError, "open"), "pybreaker", "Ctrl-C trips the breaker, and is lost"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_ours_lets_pass_what_is_no_failure(error: type[BaseException]) -> None:
    breaker = CircuitBreaker(consecutive=1)

    def work() -> None:
        raise error

    with pytest.raises(error):
        breaker.call(work)
    assert breaker.state == "closed"
    assert breaker.totals() == (0, 0, 0)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["pybreaker", "aiobreaker"])
def test_the_peer_hides_the_exception_that_trips_it(name: str) -> None:
    def work() -> None:
        raise ConnectionError("the cause")

    module = peer(name)
    with pytest.raises(Exception) as caught:
        module.CircuitBreaker(fail_max=1).call(work)
    raised = caught.value
    hidden = type(raised).__name__ == "CircuitBreakerError"
    without_cause = name == "aiobreaker" or raised.__cause__ is None
    defect(hidden and without_cause, name, f"the tripping call raises {raised!r} in place of its own")


def test_the_call_that_trips_ours_raises_its_own_exception() -> None:
    breaker = CircuitBreaker(consecutive=1)

    def work() -> None:
        raise ConnectionError("the cause")

    with pytest.raises(ConnectionError, match="the cause"):
        breaker.call(work)
    with pytest.raises(CircuitOpen) as caught:
        breaker.call(work)
    assert caught.value.last_failure == "ConnectionError"


@pytest.mark.peers
def test_pybreaker_closes_on_an_excluded_exception() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=1, exclude=[LookupError])
    breaker.half_open()

    def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        breaker.call(work)
    defect(breaker.current_state == "closed", "pybreaker", "an excluded exception closes a half-open circuit")


def test_an_ignored_exception_decides_nothing_in_ours() -> None:
    clock, breaker = ManualClock(), CircuitBreaker(consecutive=1, probes=1, ignore=LookupError)

    @Pipeline(breaker, clock=clock)
    def work(error: Exception) -> None:
        raise error

    with pytest.raises(ConnectionError):
        work(ConnectionError())
    clock.advance(5.0)
    for _ in range(3):
        with pytest.raises(LookupError):
            work(LookupError())
        assert breaker.state == "half_open"


# ------------------------------------------------------------------------------ circuitbreaker: late news
async def cancel_one_begun_before_the_trip(call: Any, failing: Any) -> None:
    early = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        await failing()
    early.cancel()
    with pytest.raises(asyncio.CancelledError):
        await early


@pytest.mark.peers
def test_circuitbreaker_closes_when_an_old_call_is_cancelled() -> None:
    breaker = peer("circuitbreaker").CircuitBreaker(failure_threshold=1, recovery_timeout=1_000)

    @breaker
    async def slow() -> None:
        await asyncio.sleep(60.0)

    @breaker
    async def failing() -> None:
        raise ConnectionError

    asyncio.run(cancel_one_begun_before_the_trip(slow, failing))
    defect(breaker.state == "closed", "circuitbreaker", "cancelling an old call closes an open circuit")


def test_ours_stays_open_when_an_old_call_is_cancelled() -> None:
    breaker = CircuitBreaker(consecutive=1)

    @breaker
    async def slow() -> None:
        await asyncio.sleep(60.0)

    @breaker
    async def failing() -> None:
        raise ConnectionError

    asyncio.run(cancel_one_begun_before_the_trip(slow, failing))
    assert breaker.state == "open"


@pytest.mark.peers
def test_circuitbreaker_closes_on_a_late_success() -> None:
    breaker = peer("circuitbreaker").CircuitBreaker(failure_threshold=1, recovery_timeout=1_000)
    with breaker, pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    defect(breaker.state == "closed", "circuitbreaker", "a success of before the trip closes an open circuit")


def test_a_success_of_before_the_trip_does_not_close_ours() -> None:
    breaker = CircuitBreaker(consecutive=1, probes=1)
    with breaker.guard(), pytest.raises(ConnectionError), breaker.guard():
        raise ConnectionError
    assert breaker.state == "open"


def test_a_success_of_before_the_outage_does_not_close_ours_while_a_probe_is_in_flight() -> None:
    """clientwright does that."""
    breaker = CircuitBreaker(consecutive=1, probes=1)
    old = breaker.admit(0.0)
    breaker.record(breaker.admit(0.0), Verdict.FAILURE, 0.0, 0.0)
    probe = breaker.admit(6.0)
    breaker.record(old, Verdict.SUCCESS, 6.0, 6.0)
    assert breaker.state == "half_open"
    breaker.record(probe, Verdict.FAILURE, 0.0, 7.0)
    assert breaker.state == "open"


def test_late_failures_do_not_keep_ours_open_for_longer() -> None:
    """pyresilience does that."""
    breaker = CircuitBreaker(consecutive=1, open_for=5.0)
    old = [breaker.admit(0.0) for _ in range(3)]
    breaker.record(breaker.admit(0.0), Verdict.FAILURE, 0.0, 0.0)
    for n, permit in enumerate(old):
        breaker.record(permit, Verdict.FAILURE, 0.0, 4.0 + n / 10)
    breaker.admit(5.0)
    assert breaker.state == "half_open"


# ------------------------------------------------------------------------------------------ aiobreaker: time zones
@pytest.fixture
def _time_zone_of_new_york() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "EST5EDT"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.mark.peers
@pytest.mark.usefixtures("_time_zone_of_new_york")
def test_aiobreaker_mixes_utc_and_local_time() -> None:
    breaker = peer("aiobreaker").CircuitBreaker(fail_max=1, timeout_duration=datetime.timedelta(seconds=60))
    breaker.open()
    remaining = breaker.time_until_open.total_seconds()
    defect(remaining > 10_000, "aiobreaker", f"60 s are {remaining:.0f} s west of Greenwich")


@pytest.mark.usefixtures("_time_zone_of_new_york")
def test_our_retry_after_knows_no_time_zone_and_no_date() -> None:
    clock, breaker = ManualClock(epoch=-1e9), CircuitBreaker(consecutive=1, open_for=60.0)

    @Pipeline(breaker, clock=clock)
    def work() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        work()
    with pytest.raises(CircuitOpen) as caught:
        work()
    assert caught.value.retry_after is not None
    assert 48.0 <= caught.value.retry_after <= 60.0


# ------------------------------------------------------------------------------- purgatory: one exception for all
def rejections(call: Any, count: int) -> list[Exception]:
    caught = []
    for _ in range(count):
        try:
            call(bytearray(1_000))
        except Exception as exc:
            caught.append(exc)
    return caught


@pytest.mark.peers
def test_purgatory_raises_one_object_again_and_again() -> None:
    factory = peer("purgatory").SyncCircuitBreakerFactory(default_threshold=1, default_ttl=1_000)

    @factory("x")
    def work(data: bytearray) -> None:
        raise ConnectionError

    _, *rejected = rejections(work, 20)
    depth = len(traceback.extract_tb(rejected[-1].__traceback__))
    seen = len({id(exc) for exc in rejected}) == 1 and depth > 20
    defect(seen, "purgatory", f"one exception object for all rejections; its traceback has {depth} entries")


def test_ours_is_a_new_object_for_every_raise_and_keeps_nothing_alive() -> None:
    breaker = CircuitBreaker(consecutive=1, open_for=1_000.0, max_open=1_000.0)

    @breaker
    def work(data: bytearray) -> None:
        raise ConnectionError

    _, *rejected = rejections(work, 20)
    assert len({id(exc) for exc in rejected}) == 19
    assert len({len(traceback.extract_tb(exc.__traceback__)) for exc in rejected}) == 1
    rejected.clear()
    gc.disable()
    try:
        before = sum(type(each) is CircuitOpen for each in gc.get_objects())
        for _ in range(20):
            with contextlib.suppress(CircuitOpen):
                work(bytearray(1_000))
        assert sum(type(each) is CircuitOpen for each in gc.get_objects()) == before
    finally:
        gc.enable()


async def cancelled_twice(call: Any) -> None:
    for _ in range(2):
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.peers
def test_purgatory_takes_a_cancellation_for_a_failure() -> None:
    async def main() -> None:
        factory = peer("purgatory").AsyncCircuitBreakerFactory(default_threshold=2, default_ttl=1_000)

        @factory("x")
        async def work() -> None:
            await asyncio.sleep(0.02)

        await cancelled_twice(work)
        try:
            await work()
            opened = False
        except peer("purgatory").domain.model.OpenedState:
            opened = True
        defect(opened, "purgatory", "two cancelled calls open the circuit")

    asyncio.run(main())


def test_ours_takes_a_cancellation_for_nothing() -> None:
    breaker = CircuitBreaker(consecutive=2)

    @breaker
    async def work() -> None:
        await asyncio.sleep(60.0)

    asyncio.run(cancelled_twice(work))
    assert breaker.totals() == (0, 0, 0)


# ----------------------------------------------------------------------------- aioresilience: functions by their id
@pytest.mark.peers
def test_aioresilience_takes_a_new_function_for_an_old_one() -> None:
    module = peer("aioresilience")

    def ends_later() -> Callable[[], Any]:
        async def work() -> int:
            return 1

        return work

    def ends_now() -> Callable[[], Any]:
        return lambda: 1

    async def main() -> list[object]:
        breaker, odd = module.CircuitBreaker("x"), []
        for n in range(200):
            work = ends_now() if n % 2 else ends_later()
            try:
                result = await breaker.call(work)
                if inspect.iscoroutine(result):
                    result.close()
                    odd.append(result)
            except TypeError as exc:
                odd.append(exc)
            del work  # the next function is made where this one was
        return odd

    odd = asyncio.run(main())
    defect(
        bool(odd),
        "aioresilience",
        f"{odd[:1]}: what a function is, is remembered by an id that is used again",
    )


def test_ours_takes_every_function_for_what_it_is() -> None:
    async def main() -> None:
        policy = Pipeline(Retry(), CircuitBreaker())
        for n in range(200):

            async def ends_later() -> int:
                return 1

            def ends_now() -> int:
                return 1

            assert (await policy.acall(ends_later) if n % 2 else policy.call(ends_now)) == 1

    asyncio.run(main())


# --------------------------------------------------------------------------------------- what the windows look at
def test_failures_of_long_ago_do_not_count_for_the_ratio() -> None:
    """All peers count consecutive failures or the last N calls, however old."""
    clock = ManualClock()
    breaker = CircuitBreaker(failure_ratio=0.5, minimum_calls=10, window=10.0, consecutive=None)
    call = Pipeline(breaker, clock=clock)(_fail)
    for _ in range(60):
        clock.advance(1.5)
        with pytest.raises(ConnectionError):
            call()
    assert breaker.state == "closed", "never 10 calls in 10 s"
    for _ in range(3):
        with pytest.raises(ConnectionError):
            call()
    assert breaker.state == "open"


def _fail() -> None:
    raise ConnectionError
