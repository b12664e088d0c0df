"""Another rate while calls come: the bucket stays as full as it was, so there is neither a burst nor a gap."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import RateLimit, RateLimited, Wait
from resilient.policies.ratelimit.options import RateLimitOptions
from resilient.policies.ratelimit.state import Bucket, KeyedBuckets

SETTINGS = [("8/second", 8), ("8/second", 1), ("1000/second", 50), ("1/hour", 3), ("100/second", 700)]


def options(rate: str, burst: int, **more: Any) -> RateLimitOptions:
    return RateLimitOptions(rate, burst, **more)


def admitted(bucket: Bucket, now: float, most: int = 10_000) -> int:
    """How many pass at once."""
    for n in range(most):
        try:
            bucket.admit(now)
        except RateLimited:
            return n
    return most


@given(
    st.lists(
        st.tuples(st.sampled_from(SETTINGS), st.integers(0, 60), st.integers(0, 4_000)),
        min_size=1,
        max_size=8,
    )
)
def test_a_bucket_stays_as_full_as_it_was(steps: list[tuple[tuple[str, int], int, int]]) -> None:
    now, bucket = 1_000.0, Bucket(options(*SETTINGS[0]))
    level, rate, burst = Fraction(8), Fraction(8), 8
    for setting, calls, ticks in steps:
        for _ in range(calls):
            taken = level >= 1
            try:
                bucket.admit(now)
            except RateLimited:
                assert level < Fraction(1) + Fraction(1, 10**6)
            else:
                assert level > Fraction(1) - Fraction(1, 10**6)
                taken = True
            level -= taken
        later = now + ticks / 512
        level = min(Fraction(burst), level + (Fraction(later) - Fraction(now)) * rate)
        now = later
        new = options(*setting)
        bucket.retune(new, now)
        if level == burst:
            level = Fraction(
                new.capacity
            )  # the reference: full stays full, one stays one, in between it is scaled
        elif level > 1:
            level = 1 + (level - 1) * (new.capacity - 1) / (burst - 1)
        burst, rate = new.capacity, Fraction(new.rate.amount * 10**9, new.rate.period)
        assert abs(bucket.available(now) - int(max(Fraction(0), level))) <= 1


def test_a_full_bucket_is_full_and_an_empty_one_empty() -> None:
    bucket = Bucket(options("100/second", 100))
    bucket.retune(options("10/second", 10), 5.0)
    assert admitted(bucket, 5.0) == 10
    bucket.retune(options("1000/second", 1_000), 5.0)
    assert admitted(bucket, 5.0) == 0, "no burst for a higher limit"
    assert admitted(bucket, 5.01) == 10, "and no gap: the new rate holds at once"


def test_a_lower_rate_holds_at_once() -> None:
    bucket = Bucket(options("1000/second", 10))
    assert admitted(bucket, 1.0) == 10
    bucket.retune(options("1/second", 10), 1.0)
    assert admitted(bucket, 1.5) == 0
    assert admitted(bucket, 3.0) == 2


def test_reserved_tokens_stay_reserved() -> None:
    limit = RateLimit("1/second", burst=1, max_wait=5.0)
    limit.admit(0.0)
    waits = [limit.admit(0.0) for _ in range(2)]
    limit.retune(options("100/second", 1, max_wait=5.0), 0.0)
    for n, wait in enumerate(waits, 1):
        assert isinstance(wait, Wait)
        assert wait.ready_at == float(n)
        assert limit.settle(wait, wait.ready_at) == wait.permit


@pytest.mark.parametrize("key", [None, lambda tenant: tenant])
def test_the_policy_goes_on_under_the_new_numbers(key: Any) -> None:
    limit = RateLimit("2/hour", key=key)
    gate = limit.select(("a",), {}) if key else limit
    gate.admit(0.0)
    gate.admit(0.0)
    new = options("4/hour", 4, key=key)
    assert limit.retune(new, 0.0) is None
    assert limit.options is new
    assert "4/hour" in str(limit)
    gate = limit.select(("a",), {}) if key else limit
    with pytest.raises(RateLimited, match="4/hour"):
        gate.admit(0.0)
    gate.admit(900.0)
    with pytest.raises(RateLimited):
        gate.admit(900.0)


def test_every_key_keeps_its_share() -> None:
    buckets = KeyedBuckets(options("10/second", 10, key=lambda k: k))
    for n in range(11):
        for _ in range(n):
            buckets.admit(f"k{n}", 1, 0.0)
    buckets.retune(options("1/second", 20, key=lambda k: k), 0.0)
    for n in range(11):
        left = 0
        try:
            while True:
                buckets.admit(f"k{n}", 1, 0.0)
                left += 1
        except RateLimited:
            pass
        assert left == (0 if n == 10 else 1 + (9 - n) * 19 // 9)
    assert len(buckets) == 11
    buckets.retune(options("10/second", 10, key=lambda k: k), 1_000.0)
    assert len(buckets) == 0, "full ones are as good as absent"


@pytest.mark.parametrize(("rate", "burst"), [(20, 20), (20, 5), (200, 200), (200, 10), (50, 50)])
def test_under_load_there_is_neither_a_burst_nor_a_gap(rate: int, burst: int) -> None:
    bucket, ticks, admitted_at = Bucket(options("50/second", 10)), 1_000, []
    for tick in range(
        20 * ticks
    ):  # a call every millisecond, far more than is allowed; the change after ten seconds
        now = tick / ticks
        if tick == 10 * ticks:
            bucket.retune(options(f"{rate}/second", burst), now)
        try:
            bucket.admit(now)
        except RateLimited:
            continue
        admitted_at.append(now)
    before = [at for at in admitted_at if 2.0 <= at < 10.0]
    after = [at for at in admitted_at if at >= 10.0]
    assert abs(len(before) - 8 * 50) <= 1
    assert abs(len(after) - 10 * rate) <= 2, "the new rate holds from the first second on"
    gaps = [b - a for a, b in zip([before[-1], *after], after, strict=False)]
    assert max(gaps) <= 1 / min(rate, 50) + 1 / rate + 0.002, "nobody waits longer than two intervals"
    most = max(sum(at <= other < at + 0.1 for other in admitted_at) for at in (9.95, 10.0, *after[:20]))
    assert most <= 0.1 * max(rate, 50) + 2, "and not more at once than the higher rate lets through"


def test_a_hold_stays_and_what_is_reserved_after_it_stays_so_many_tokens() -> None:
    bucket = Bucket(options("10/second", 10, max_wait=100.0))
    bucket.hold(20.0)
    for _ in range(3):
        bucket.admit(10.0)  # reserved, the first of them for 20.0
    bucket.retune(options("1/second", 5), 12.0)
    assert admitted(bucket, 22.9) == 0
    assert admitted(bucket, 23.0) == 1
    bucket.retune(options("100/second", 5), 23.0)
    assert admitted(bucket, 23.02) == 2, "the hold is over: as ever"
