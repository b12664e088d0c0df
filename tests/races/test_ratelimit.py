"""A rate limit under 16 threads: the tokens that are admitted are those that there are, to the last one."""

from __future__ import annotations

import random
import threading
import time

import pytest

from resilient import Bulkhead, BulkheadFull, Pipeline, RateLimit, RateLimited, Wait
from resilient.testing import ManualClock
from tests.races.racing import Room, Tally, dawdle, race

THREADS = 16


def test_a_full_bucket_admits_exactly_its_burst_while_time_stands_still() -> None:
    limit, tally = RateLimit("1000/second", burst=500), Tally()

    @Pipeline(limit, clock=ManualClock(7.3))
    def work() -> None:
        tally.add("admitted")

    def caller() -> None:
        for _ in range(150):
            try:
                work()
            except RateLimited as error:
                tally.add(error.reason)

    race(caller, threads=THREADS)
    assert (tally["admitted"], tally["empty"]) == (500, 150 * THREADS - 500)


def test_never_more_than_the_burst_and_what_flowed_in_since() -> None:
    clock, limit, tally, over = ManualClock(), RateLimit("2000/second", burst=40), Tally(), threading.Event()

    @Pipeline(limit, clock=clock)
    def work() -> None:
        tally.add("admitted")

    def caller() -> None:
        while not over.is_set():
            try:
                work()
            except RateLimited:
                pass

    def pass_time() -> None:
        for _ in range(500):
            clock.advance(0.001)
            time.sleep(0)
        over.set()

    race(pass_time, *[caller] * THREADS)
    allowed = 40 + 2000 * 0.5
    assert tally["admitted"] <= allowed + 1e-6
    assert tally["admitted"] > 0.2 * allowed, "the callers were there while time passed"


def test_calls_of_different_cost_never_take_more_than_there_is() -> None:
    limit, tally = RateLimit("1/hour", burst=1_000, cost=lambda tokens: tokens), Tally()

    @Pipeline(limit, clock=ManualClock(1.0))
    def work(tokens: int) -> None:
        tally.add("paid", tokens)

    def caller() -> None:
        for _ in range(60):
            try:
                work(random.randint(1, 5))
            except RateLimited:
                pass

    race(caller, threads=THREADS)
    assert 1_000 - 4 <= tally["paid"] <= 1_000


def test_every_token_of_a_call_that_never_ran_comes_back() -> None:
    clock, limit, inner, room = ManualClock(5.0), RateLimit("1/hour", burst=5_000), Bulkhead(1), Room()

    @Pipeline(limit, inner, clock=clock)
    def work() -> None:
        with room:
            dawdle()

    def caller() -> None:
        for _ in range(200):
            try:
                work()
            except (BulkheadFull, RateLimited):
                pass

    race(caller, threads=THREADS)
    assert 0 < room.entered < THREADS * 200, "some got in and some did not"
    assert limit.available() == 5_000 - room.entered


def test_no_two_reservations_are_good_at_one_time() -> None:
    limit, times, lock = RateLimit("100/second", burst=10, max_wait=60.0), [], threading.Lock()

    def caller() -> None:
        for _ in range(100):
            admitted = limit.admit(3.0)
            if not isinstance(admitted, Wait):
                continue
            with lock:
                times.append(admitted.ready_at)

    race(caller, threads=THREADS)
    times.sort()
    assert len(times) == THREADS * 100 - 10
    assert times == pytest.approx([3.0 + (n + 1) / 100 for n in range(len(times))])


def test_reservations_that_are_given_up_are_reserved_again() -> None:
    limit = RateLimit("100/second", burst=10, max_wait=3600.0)

    def caller() -> None:
        for _ in range(300):
            admitted = limit.admit(3.0)
            dawdle(5)
            if isinstance(admitted, Wait):
                limit.abandon(admitted, 3.0)
            else:
                limit.cancel(admitted, 3.0)

    race(caller, threads=THREADS)
    assert not any(isinstance(limit.admit(3.0), Wait) for _ in range(10))
    assert isinstance(limit.admit(3.0), Wait)


@pytest.mark.parametrize("keys", [1, 8])
def test_each_key_has_exactly_its_own_burst(keys: int) -> None:
    limit, tally = RateLimit("1/hour", burst=50, key=lambda key: key), Tally()

    @Pipeline(limit, clock=ManualClock(2.0))
    def work(key: int) -> None:
        tally.add(str(key))

    def caller() -> None:
        for n in range(400):
            try:
                work(n % keys)
            except RateLimited:
                pass

    race(caller, threads=THREADS)
    assert [tally[str(key)] for key in range(keys)] == [50] * keys


@pytest.mark.parametrize(("overflow", "admitted"), [("refuse", 20 * 3), ("share", 20 * 3 + 3)])
def test_keys_in_use_never_outgrow_their_number(overflow: str, admitted: int) -> None:
    limit, tally = RateLimit("1/hour", burst=3, key=lambda key: key, max_keys=20, overflow=overflow), Tally()

    @Pipeline(limit, clock=ManualClock(2.0))
    def work(key: int) -> None:
        tally.add("admitted")

    def caller() -> None:
        for _ in range(8):
            for key in random.sample(range(60), 60):
                try:
                    work(key)
                except RateLimited:
                    pass

    race(caller, threads=THREADS)
    assert limit.keys == 20
    assert tally["admitted"] == admitted
