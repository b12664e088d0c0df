"""limits, pyrate-limiter, throttled-py, token-bucket, aiolimiter."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import limits
import pytest
from limits import strategies

from resilient import Pipeline, RateLimit, RateLimited
from resilient.testing import ManualClock
from tests.peers.peer import defect, in_threads, peer


def admitted(ask: Any, times: int) -> int:
    """How many of so many asked for are let through."""
    count = 0
    for _ in range(times):
        try:
            count += bool(ask())
        except RateLimited:
            pass
    return count


# -------------------------------------------------------------------------------------- limits: around the edge
@pytest.mark.peers
def test_limits_fixed_window_admits_twice_as_many_around_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(epoch=1_000_000.93)
    monkeypatch.setattr("limits.storage.memory.time", clock)
    item = limits.parse("10/second")
    window = strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    first = admitted(lambda: window.hit(item, "key"), 10)
    clock.advance(1.0)  # its window is over
    second = admitted(lambda: window.hit(item, "key"), 10)
    defect(first + second >= 19, "limits", f"{first + second} of 10/second around the edge of a window")


def test_ours_admits_no_more_around_any_edge() -> None:
    limit, now = RateLimit("10/second"), 1_000.93
    assert admitted(lambda: limit.admit(now), 20) == 10
    assert admitted(lambda: limit.admit(now + 0.07), 20) == 0
    assert admitted(lambda: limit.admit(now + 0.1), 20) == 1


def test_a_sync_and_an_async_caller_share_one_limit_of_ours() -> None:
    """Of limits' in-memory storages they cannot."""
    clock, limit = ManualClock(), RateLimit("3/hour")
    call = Pipeline(limit, clock=clock)(lambda: True)

    @Pipeline(limit, clock=clock)
    async def acall() -> bool:
        return True

    async def main() -> None:
        assert call()
        assert await acall()
        assert call()
        with pytest.raises(RateLimited):
            await acall()

    clock.run(main())


def test_a_rejection_of_ours_says_when_to_come_again() -> None:
    """limits' `hit` returns a bool."""
    limit = RateLimit("10/second", burst=1)
    limit.admit(1.0)
    with pytest.raises(RateLimited) as caught:
        limit.admit(1.0)
    assert caught.value.retry_after == pytest.approx(0.1)


@pytest.mark.peers
def test_limits_starts_threads_to_forget_keys() -> None:
    storage, item = limits.storage.MemoryStorage(), limits.parse("1000/second")
    window = strategies.FixedWindowRateLimiter(storage)
    window.hit(item, "key")
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    defect(bool(timers), "limits", f"a hit starts {timers}")
    for each in timers:
        each.join()


def test_keys_of_ours_are_forgotten_without_threads() -> None:
    limit = RateLimit("10/second", key=lambda key: key)

    def ask(key: int, now: float) -> None:
        limit.select((key,), {}).admit(now)

    for n in range(20_000):
        ask(n, n / 10_000)
    for n in range(2_000):  # time goes on: what has refilled is let go, a few at a time
        ask(0, 100.0 + n)
    assert limit.keys <= 2
    assert threading.active_count() == 1 or not any(
        isinstance(each, threading.Timer) for each in threading.enumerate()
    )


# ------------------------------------------------------------------------- pyrate-limiter: who waits for whom
@pytest.mark.peers
def test_pyrate_limiter_makes_a_free_key_wait_behind_an_exhausted_one() -> None:
    module = peer("pyrate_limiter")

    class ByKey(module.BucketFactory):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            import time

            return module.RateItem(name, int(time.monotonic() * 1_000), weight=weight)

        def get(self, item: Any) -> Any:
            if item.name not in self.buckets:
                self.buckets[item.name] = self.create(module.InMemoryBucket, [module.Rate(1, 400)])
            return self.buckets[item.name]

    async def main() -> float:
        limiter, loop = module.Limiter(ByKey()), asyncio.get_running_loop()
        await limiter.try_acquire_async("busy")
        waiting = asyncio.ensure_future(limiter.try_acquire_async("busy"))
        await asyncio.sleep(0.02)
        began = loop.time()
        await limiter.try_acquire_async("free")
        took = loop.time() - began
        await waiting
        return took

    took = asyncio.run(main())
    defect(took > 0.1, "pyrate-limiter", f"a free key waited {took:.2f} s behind another one")


def test_a_free_key_of_ours_waits_for_nobody() -> None:
    clock = ManualClock()

    @Pipeline(RateLimit("1/second", max_wait=60.0, key=lambda key: key), clock=clock)
    async def work(key: str) -> float:
        return clock.monotonic()

    async def main() -> None:
        await work("busy")
        waiting = [asyncio.ensure_future(work("busy")) for _ in range(3)]
        await asyncio.sleep(0)
        assert await work("free") == 0.0
        assert await asyncio.gather(*waiting) == pytest.approx([1.0, 2.0, 3.0])

    clock.run(main())


# ---------------------------------------------------------------------------------- throttled-py: keys that vanish
@pytest.mark.peers
def test_throttled_forgets_a_limited_key_when_others_come() -> None:
    module = peer("throttled")
    throttle = module.Throttled(using="token_bucket", quota=module.per_hour(1, burst=1))
    assert not throttle.limit("victim").limited
    assert throttle.limit("victim").limited
    for n in range(1_100):
        throttle.limit(str(n))
    defect(
        not throttle.limit("victim").limited, "throttled-py", "a limited key is free again after 1,100 others"
    )


def test_ours_never_forgets_a_key_in_use() -> None:
    limit = RateLimit("1/hour", burst=1, key=lambda key: key, max_keys=500, overflow="share")
    victim = limit.select(("victim",), {})
    victim.admit(0.0)
    for n in range(2_000):
        admitted(lambda n=n: limit.select((n,), {}).admit(1.0), 1)  # type: ignore[misc]
    with pytest.raises(RateLimited):
        victim.admit(2.0)


def test_ours_limits_whatever_burst_and_rate_are() -> None:
    """throttled-py's bucket in Redis limits nothing when the burst is less than half of the rate."""
    for rate, burst in [("10/second", 2), ("1000/second", 100), ("100/minute", 1), ("7/day", 3)]:
        limit = RateLimit(rate, burst=burst)
        assert admitted(lambda limit=limit: limit.admit(5.0), 2_000) == burst  # type: ignore[misc]


def test_ours_refills_by_the_fraction_of_a_second() -> None:
    """throttled-py gives 9 of 100/minute in 9 s, where 15 are due."""
    limit, count = RateLimit("100/minute", burst=1), 0
    for step in range(900):
        count += admitted(lambda step=step: limit.admit(step / 100), 1)  # type: ignore[misc]
    assert count == 15


# ---------------------------------------------------------------------------------------- token-bucket: no lock
@pytest.mark.peers
def test_token_bucket_admits_more_than_there_is_under_threads() -> None:
    module = peer("token_bucket")
    worst = 0
    for _ in range(10):  # a race: it shows in most rounds
        limiter, counts = module.Limiter(0.001, 5_000, module.MemoryStorage()), []
        in_threads(
            8,
            lambda limiter=limiter, counts=counts: counts.append(
                admitted(lambda: limiter.consume("k"), 3_000)
            ),
        )  # type: ignore[misc]
        worst = max(worst, sum(counts))
        if worst > 5_001:
            break
    defect(worst > 5_001, "token-bucket", f"{worst} admitted of 5,000")


def test_ours_admits_exactly_what_there_is_under_threads() -> None:
    limit, counts = RateLimit("1/hour", burst=5_000), []
    in_threads(8, lambda: counts.append(admitted(lambda: limit.admit(1.0), 1_000)))
    assert sum(counts) == 5_000


# ------------------------------------------------------------------------------------------ aiolimiter: who is next
@pytest.mark.peers
def test_aiolimiter_serves_the_small_before_the_first() -> None:
    clock = ManualClock()

    async def main() -> list[str]:
        # 8 a second: with 10 its float sums never come out, and in exact time its timer would fire for ever
        limiter, served = peer("aiolimiter").AsyncLimiter(8, 1.0), []

        async def one(cost: int, name: str) -> None:
            await limiter.acquire(cost)
            served.append(name)

        await limiter.acquire(8)
        tasks = [asyncio.ensure_future(one(7, "first"))]
        await asyncio.sleep(0)
        tasks += [asyncio.ensure_future(one(1, "small")) for _ in range(40)]
        await asyncio.gather(*tasks)
        return served

    served = clock.run(main())
    defect(
        served.index("first") > 20,
        "aiolimiter",
        f"the first in the queue was served as number {served.index('first') + 1}",
    )


def test_ours_serves_in_the_order_of_arrival() -> None:
    clock, served = ManualClock(), []

    @Pipeline(RateLimit("10/second", cost=lambda cost, name: cost, max_wait=60.0), clock=clock)
    async def one(cost: int, name: str) -> None:
        served.append(name)

    async def main() -> None:
        await one(10, "before")
        tasks = [asyncio.ensure_future(one(9, "first"))]
        await asyncio.sleep(0)
        tasks += [asyncio.ensure_future(one(1, f"small {n}")) for n in range(40)]
        await asyncio.gather(*tasks)

    clock.run(main())
    assert served == ["before", "first", *(f"small {n}" for n in range(40))]


def test_waits_of_ours_are_padded_by_nothing() -> None:
    """pyrate-limiter's are, by 50 ms and whole milliseconds."""
    clock = ManualClock()
    call = Pipeline(RateLimit("1000/second", burst=1, max_wait=9.0), clock=clock)(lambda: clock.monotonic())
    times = [call() for _ in range(5)]
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([0.001] * 4)
