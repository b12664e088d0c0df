"""`ManualClock` as threads see it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest

from resilient.core.clock import Clock
from resilient.testing import ManualClock


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


def test_is_a_clock() -> None:
    clock: Clock = ManualClock(5.0, epoch=1000.0)
    assert clock.monotonic() == 5.0
    assert clock.time() == 1000.0


def test_sleep_jumps_and_is_noted() -> None:
    clock = ManualClock(10.0, epoch=1000.0)
    clock.sleep(1.5)
    clock.sleep(0.0)
    assert clock.monotonic() == 11.5
    assert clock.time() == 1001.5
    assert clock.sleeps == [1.5, 0.0]


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_refuses_what_is_no_time(seconds: float) -> None:
    clock = ManualClock()
    with pytest.raises(ValueError, match="sleep"):
        clock.sleep(seconds)
    with pytest.raises(ValueError, match="advance"):
        clock.advance(seconds)
    with pytest.raises(ValueError, match="io_grace"):
        ManualClock(io_grace=seconds)
    assert clock.monotonic() == 0.0
    assert clock.sleeps == []


def test_acquire_of_a_free_lock_takes_no_time() -> None:
    clock, lock = ManualClock(), threading.Lock()
    assert clock.acquire(lock, 3.0)
    assert lock.locked()
    assert clock.monotonic() == 0.0


def test_acquire_of_a_taken_lock_takes_all_the_time() -> None:
    clock, lock = ManualClock(), threading.Lock()
    with lock:
        assert not clock.acquire(lock, 3.0)
        assert not clock.acquire(lock, 0.0)
    assert clock.monotonic() == 3.0
    assert clock.sleeps == []


def test_acquire_tries_again_when_the_time_is_over() -> None:
    clock, lock = ManualClock(), threading.Lock()
    lock.acquire()
    clock.call_at(2.0, lock.release)
    assert clock.acquire(lock, 3.0)


def test_acquire_without_limit_waits_for_the_lock() -> None:
    clock, lock = ManualClock(), threading.Lock()
    lock.acquire()
    thread, results = in_thread(lambda: clock.acquire(lock, math.inf))
    lock.release()
    thread.join()
    assert results == [True]
    assert clock.monotonic() == 0.0


def test_sleeps_of_threads_add_up() -> None:
    clock = ManualClock()

    def work() -> None:
        for _ in range(100):
            clock.sleep(0.25)

    threads = [in_thread(work)[0] for _ in range(8)]
    for thread in threads:
        thread.join()
    assert clock.monotonic() == 200.0
    assert len(clock.sleeps) == 800


def test_without_autojump_sleepers_wait_for_advance() -> None:
    clock = ManualClock(autojump=False)
    short, _ = in_thread(lambda: clock.sleep(1.0))
    long, _ = in_thread(lambda: clock.sleep(10.0))
    clock.wait_until_blocked(2)
    clock.advance(1.0)
    short.join()
    assert clock.blocked == 1
    assert long.is_alive()
    clock.advance(9.0)
    assert clock.blocked == 0  # though it may not have run yet
    long.join()
    assert sorted(clock.sleeps) == [1.0, 10.0]


def test_without_autojump_acquire_ends_with_the_time() -> None:
    clock, lock = ManualClock(autojump=False), threading.Lock()
    with lock:
        thread, results = in_thread(lambda: clock.acquire(lock, 5.0))
        clock.wait_until_blocked()
        clock.advance(5.0)
        thread.join()
    assert results == [False]
    assert clock.blocked == 0


def test_without_autojump_acquire_ends_with_the_lock() -> None:
    clock, lock = ManualClock(autojump=False), threading.Lock()
    lock.acquire()
    thread, results = in_thread(lambda: clock.acquire(lock, 5.0))
    clock.wait_until_blocked()
    lock.release()
    thread.join()
    assert results == [True]
    assert clock.monotonic() == 0.0


def test_wait_until_blocked_gives_up() -> None:
    with pytest.raises(TimeoutError, match=r"0 wait for the clock after 0\.0 s, not 1"):
        ManualClock(autojump=False).wait_until_blocked(timeout=0.0)


def test_alarms_go_off_in_order_each_at_its_time() -> None:
    clock = ManualClock()
    seen: list[tuple[str, float]] = []
    for name, when in [("c", 3.0), ("a", 1.0), ("b", 1.0), ("later", 9.0)]:
        clock.call_at(when, lambda name=name: seen.append((name, clock.monotonic())))  # type: ignore[misc]
    clock.advance(5.0)
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 3.0)]
    assert clock.monotonic() == 5.0


def test_an_alarm_may_set_another() -> None:
    clock = ManualClock()
    seen: list[float] = []
    clock.call_at(1.0, lambda: clock.call_at(2.0, lambda: seen.append(clock.monotonic())))
    clock.sleep(5.0)
    assert seen == [2.0]


def test_an_alarm_can_be_cancelled_and_is_rung_at_once_when_late() -> None:
    clock = ManualClock(1.0)
    seen: list[str] = []
    cancel = clock.call_at(2.0, lambda: seen.append("cancelled"))
    cancel()
    cancel()
    clock.call_at(1.0, lambda: seen.append("late"))
    assert seen == ["late"]
    clock.sleep(5.0)
    assert seen == ["late"]


def test_prints_itself() -> None:
    assert repr(ManualClock(1.5)) == "ManualClock(now=1.5, autojump=True)"
