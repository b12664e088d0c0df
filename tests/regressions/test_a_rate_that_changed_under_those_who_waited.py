"""A rate limit refused calls for seconds or minutes after its rate had been changed.

Calls that waited for a token and gave up after the rate had been lowered gave back what a token had been worth before:
the bucket owed for calls that never ran, and refused others for that long. And a keyed limit that had been full of keys
went on refusing new ones after the rate was raised, though keys had become free at the new one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resilient import Pipeline, RateLimit, RateLimited
from resilient.core.policy import Wait
from resilient.policies.ratelimit.options import RateLimitOptions
from resilient.policies.ratelimit.state import Bucket, KeyedBuckets
from resilient.testing import ManualClock

FAST = RateLimitOptions("1000/second", burst=1, max_wait=1.0)
SLOW = RateLimitOptions("10/second", burst=1, max_wait=1.0)


@pytest.mark.parametrize("costs", [1, 3])
@pytest.mark.parametrize(("old", "new"), [(FAST, SLOW), (SLOW, FAST)])
def test_who_gives_up_gives_back_whole_tokens(
    old: RateLimitOptions, new: RateLimitOptions, costs: int
) -> None:
    old, new = replace(old, burst=3), replace(new, burst=3)
    bucket = Bucket(old)
    bucket.admit_cost(0.0, 3)
    waits = [bucket.admit_cost(0.0, costs) for _ in range(3)]
    bucket.retune(new, 0.0)
    for wait in reversed(waits):
        assert isinstance(wait, Wait)
        assert wait.permit is not None
        bucket.give_back(wait.permit, wait.cost, 0.0)
    assert bucket.available(0.0) == 0
    token = new.rate.interval / 1e9
    assert bucket.available(token * 1.001) == 1


@pytest.mark.parametrize("max_keys", [1, 1_000])
def test_so_they_do_by_key(max_keys: int) -> None:
    by_key: dict[str, Any] = {"key": str, "max_keys": max_keys, "overflow": "share"}
    buckets = KeyedBuckets(replace(FAST, **by_key))
    buckets.admit("somebody", 1, 0.0)
    buckets.admit("one", 1, 0.0)
    waits = [buckets.admit("one", 1, 0.0) for _ in range(500)]
    buckets.retune(replace(SLOW, **by_key), 0.0)
    for wait in reversed(waits):
        assert isinstance(wait, Wait)
        assert wait.permit is not None
        buckets.give_back("one", wait.permit, 1, 0.0)
    permit = buckets.admit("one", 1, 0.1001)
    assert not isinstance(permit, Wait)


def test_keys_that_are_free_at_the_new_rate_make_room() -> None:
    clock = ManualClock()
    limit = RateLimit("1/hour", burst=10, key=lambda tenant: tenant, max_keys=10)
    pipeline = Pipeline(limit, clock=clock)

    @pipeline
    def call(tenant: int) -> int:
        return tenant

    for tenant in range(10):
        call(tenant)
    with pytest.raises(RateLimited, match="holds 10 keys in use"):
        call(10)
    limit.retune(replace(limit.options, rate="1/second", burst=60), clock.monotonic())
    with pytest.raises(RateLimited, match="holds 10 keys in use"):
        call(10)
    clock.advance(10.0)
    assert call(10) == 10
