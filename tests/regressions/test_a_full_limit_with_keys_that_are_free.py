"""A limit with keys refused every new one for up to two days, although those that it held had long been full again."""

from __future__ import annotations

import pytest

from resilient import Pipeline, RateLimit, RateLimited
from resilient.policies.ratelimit.options import RateLimitOptions
from resilient.policies.ratelimit.state import KeyedBuckets
from resilient.testing import ManualClock


def test_keys_that_are_full_again_make_room(manual_clock: ManualClock) -> None:
    limit = RateLimit("1000/day", key=str, max_keys=2)
    call = Pipeline(limit, clock=manual_clock)(str)
    call("a")
    call("b")
    manual_clock.advance(80.0)
    with pytest.raises(RateLimited, match="holds 2 keys in use"):
        call("c")
    manual_clock.advance(10.0)  # a token flows in each 86.4 s: both are full again
    assert call("c") == "c"
    assert limit.keys == 2
    manual_clock.advance(90.0)
    for key in "defghi":
        call(key)
        manual_clock.advance(90.0)
    assert limit.keys == 2


def test_those_in_use_stay(manual_clock: ManualClock) -> None:
    limit = RateLimit("1/minute", burst=3, key=str, max_keys=100)
    call = Pipeline(limit, clock=manual_clock)(str)
    for number in range(50):
        for _ in range(3):
            call(number)
    for number in range(50, 100):
        call(number)
    manual_clock.advance(61.0)  # the second half is full again, and the first has one token each
    for number in range(1_000, 1_050):
        call(number)
    for number in range(50):
        call(number)
        with pytest.raises(RateLimited, match="has no token"):
            call(number)


def test_among_many_that_are_in_use_a_free_one_is_found() -> None:
    """Only the keys that came last were looked at."""
    buckets = KeyedBuckets(RateLimitOptions("1/second", key=str, max_keys=10_000))
    for key in range(5_000):
        buckets.admit(key, 1, 0.0)
    for key in range(5_000, 10_000):
        buckets.admit(key, 1, 0.9)
    refused = 0
    for key in range(10_000, 10_010):
        try:
            buckets.admit(key, 1, 1.5)
        except RateLimited:
            refused += 1
    assert refused <= 2, "those that it took to look at all of them"
    for key in range(5_000, 10_000):
        with pytest.raises(RateLimited, match="has no token"):
            buckets.admit(key, 1, 1.5)


def test_where_none_is_free_nobody_looks_at_all_of_them_again() -> None:
    buckets = KeyedBuckets(RateLimitOptions("1/hour", key=str, max_keys=10_000))
    for key in range(10_000):
        buckets.admit(key, 1, 0.0)
    for key in range(10_000, 10_005):
        with pytest.raises(RateLimited, match="keys in use"):
            buckets.admit(key, 1, 1.0)
    assert len(buckets) == 10_000
    buckets.admit(10_000, 1, 3_600.0)


def test_a_permit_is_given_back_where_it_was_taken() -> None:
    """That of a key which was let go went to the bucket that others share, which then admitted too many."""
    buckets = KeyedBuckets(RateLimitOptions("1/second", burst=2, key=str, max_keys=1, overflow="share"))
    first, second = buckets.admit("a", 1, 0.0), buckets.admit("a", 1, 0.0)
    assert isinstance(first, float)
    assert isinstance(second, float)
    buckets.give_back("a", first, 1, 0.0)
    buckets.admit("b", 1, 1.2)
    for _ in range(2):
        shared = buckets.admit("c", 1, 1.2)
    buckets.give_back("a", second, 1, 1.5)
    with pytest.raises(RateLimited):
        buckets.admit("c", 1, 1.7)
    assert isinstance(shared, float)
    buckets.give_back("c", shared, 1, 1.7)
    buckets.admit("c", 1, 1.7)
