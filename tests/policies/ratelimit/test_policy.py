"""The rate limit around calls, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import limits
import pytest

from resilient import (
    Bulkhead,
    BulkheadFull,
    Pipeline,
    PolicyError,
    RateLimit,
    RateLimited,
    Retry,
    Timeout,
    Wait,
    deadline,
)
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, raised


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1_000.0)


def admitted(mode: str, policy: Pipeline, clock: ManualClock, *args: Any, tries: int = 100) -> int:
    """How many calls pass until one is rejected."""
    for n in range(tries):
        try:
            call(mode, policy, lambda *args: "ok", clock, *args)
        except RateLimited:
            return n
    return tries


@both
@pytest.mark.parametrize("burst", [1, 7, 50])
def test_a_full_bucket_lets_its_burst_pass_and_then_the_rate(
    mode: str, clock: ManualClock, burst: int
) -> None:
    limit = RateLimit("10/second", burst=burst)
    policy = Pipeline(limit, name="catalog", clock=clock)
    assert admitted(mode, policy, clock) == burst
    clock.advance(0.25)
    assert admitted(mode, policy, clock) == min(burst, 2)
    clock.advance(1_000.0)
    assert limit.available() == burst
    assert admitted(mode, policy, clock) == burst


@both
def test_a_rejection(mode: str, clock: ManualClock) -> None:
    policy = Pipeline(RateLimit("10/minute", burst=1), name="catalog", clock=clock)
    call(mode, policy, Script("ok"), clock)
    clock.advance(2.0)
    with capture_events() as seen:
        error = raised(mode, policy, fn := Script("never"), clock)
    assert isinstance(error, RateLimited)
    assert fn.calls == 0
    assert (error.policy, error.reason, error.limit, error.remaining) == (
        "ratelimit",
        "empty",
        "10/minute",
        0,
    )
    assert error.retry_after == pytest.approx(4.0)
    assert error.dependency == "catalog"
    (event,) = seen.named("resilient.rejected")
    assert (event.by, event.reason) == ("ratelimit", "empty")  # type: ignore[attr-defined]
    clock.advance(error.retry_after)
    assert call(mode, policy, Script("ok"), clock) == "ok"


@both
def test_a_call_has_its_cost(mode: str, clock: ManualClock) -> None:
    limit = RateLimit("10/hour", cost=3)
    policy = Pipeline(limit, clock=clock)
    assert admitted(mode, policy, clock) == 3
    assert limit.available() == 1


@both
def test_the_cost_may_come_from_the_arguments(mode: str, clock: ManualClock) -> None:
    limit = RateLimit("10/hour", cost=lambda items: len(items))
    policy = Pipeline(limit, clock=clock)
    call(mode, policy, len, clock, "1234567")
    assert limit.available() == 3
    error = raised(mode, policy, len, clock, "1234")
    assert (error.reason, error.remaining) == ("empty", 3)  # type: ignore[attr-defined]
    error = raised(mode, policy, len, clock, "12345678901")
    assert error.reason == "cost above burst"  # type: ignore[attr-defined]
    error = raised(mode, policy, len, clock, "")
    assert isinstance(error, PolicyError)
    assert limit.available() == 3


@both
def test_each_key_has_its_own(mode: str, clock: ManualClock) -> None:
    limit = RateLimit("2/hour", key=lambda tenant: tenant)
    policy = Pipeline(limit, clock=clock)
    assert [admitted(mode, policy, clock, tenant) for tenant in ("ann", "bob", "ann", "cy")] == [2, 2, 0, 2]
    assert limit.keys == 3
    assert RateLimit("2/hour").keys == 0


@both
@pytest.mark.parametrize(("overflow", "passes"), [("refuse", 0), ("share", 2)])
def test_past_the_keys(mode: str, clock: ManualClock, overflow: str, passes: int) -> None:
    limit = RateLimit("2/hour", key=lambda tenant: tenant, max_keys=2, overflow=overflow)
    policy = Pipeline(limit, clock=clock)
    for tenant in ("ann", "bob"):
        call(mode, policy, str, clock, tenant)
    assert admitted(mode, policy, clock, "cy") == passes
    assert admitted(mode, policy, clock, "dee") == 0
    assert [admitted(mode, policy, clock, tenant) for tenant in ("ann", "bob")] == [1, 1]
    assert limit.keys == 2


@both
def test_it_waits_for_its_token_in_the_order_of_arrival(mode: str, clock: ManualClock) -> None:
    policy = Pipeline(RateLimit("1/second", burst=1, max_wait=2.0), clock=clock)
    with capture_events() as seen:
        for _ in range(3):
            call(mode, policy, Script("ok"), clock)
    assert clock.monotonic() == 1_002.0
    waits = seen.named("resilient.limiter.waited")
    assert [(event.kind, event.duration, event.admitted) for event in waits] == [  # type: ignore[attr-defined]
        ("ratelimit", 1.0, True),
        ("ratelimit", 1.0, True),
    ]


def test_many_wait_at_once(clock: ManualClock) -> None:
    policy = Pipeline(RateLimit("1/second", burst=1, max_wait=2.0), clock=clock)
    at: list[tuple[int, float]] = []

    @policy
    async def work(n: int) -> None:
        at.append((n, clock.monotonic() - 1_000.0))

    async def main() -> list[Any]:
        return await asyncio.gather(*(work(n) for n in range(5)), return_exceptions=True)

    results = clock.run(main())
    assert at == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert [type(result) for result in results[3:]] == [RateLimited, RateLimited], "their wait is too long"
    assert [result.retry_after for result in results[3:]] == [3.0, 3.0], "and they reserved nothing"


@both
def test_a_wait_that_the_deadline_cannot_pay_is_refused_at_once(mode: str, clock: ManualClock) -> None:
    limit = RateLimit("1 per 10 seconds", burst=1, max_wait=60.0)
    policy = Pipeline(limit, clock=clock)
    call(mode, policy, Script("ok"), clock)
    with deadline(5.0, clock=clock):
        error = raised(mode, policy, Script("never"), clock)
    assert isinstance(error, RateLimited)
    assert (error.reason, error.retry_after) == ("deadline", 10.0)
    assert clock.monotonic() == 1_000.0, "at once"
    clock.advance(10.0)
    assert limit.available() == 1, "and its reservation was given back"
    call(mode, policy, Script("ok"), clock)
    with deadline(10.0, clock=clock):
        call(mode, policy, Script("ok"), clock)


@both
def test_the_wait_draws_on_the_timeout_around_it(mode: str, clock: ManualClock) -> None:
    limit = RateLimit("1 per 10 seconds", burst=1, max_wait=60.0)
    policy = Pipeline(Timeout(9.0), limit, clock=clock)
    call(mode, policy, Script("ok"), clock)
    assert raised(mode, policy, Script("never"), clock).reason == "deadline"  # type: ignore[attr-defined]


@both
def test_a_call_that_never_ran_has_its_token_back_and_one_that_failed_has_not(
    mode: str, clock: ManualClock
) -> None:
    limit, bulkhead = RateLimit("10/hour"), Bulkhead(1)
    policy = Pipeline(limit, bulkhead, clock=clock)
    with bulkhead.guard():
        assert isinstance(raised(mode, policy, Script("never"), clock), BulkheadFull)
    assert limit.available() == 10
    raised(mode, policy, Script(ConnectionError), clock)
    assert limit.available() == 9
    keyed = RateLimit("10/hour", key=str, cost=4)
    policy = Pipeline(keyed, bulkhead, clock=clock)
    with bulkhead.guard():
        for _ in range(5):
            assert isinstance(raised(mode, policy, str, clock, "ann"), BulkheadFull)
    assert admitted(mode, policy, clock, "ann") == 2


def test_a_waiter_that_is_cancelled_leaves_its_place_to_the_next(clock: ManualClock) -> None:
    limit = RateLimit("1/second", burst=1, max_wait=1.0)

    @Pipeline(limit, clock=clock)
    async def work() -> float:
        return clock.monotonic()

    async def main() -> float:
        await work()
        waiter = asyncio.ensure_future(work())
        await asyncio.sleep(0.5)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        return await work()

    assert clock.run(main()) == 1_001.0


@both
def test_one_token_for_each_attempt(mode: str, clock: ManualClock) -> None:
    limit = RateLimit("10/hour")
    policy = Pipeline(Retry(3, wait=0), limit, clock=clock)
    raised(mode, policy, Script(ConnectionError), clock)
    assert limit.available() == 7


def test_items_of_limits_are_rates(clock: ManualClock) -> None:
    limit = RateLimit(limits.RateLimitItemPerMinute(10, 2), burst=3)
    assert (limit.options.rate.amount, limit.options.rate.interval) == (10, 12 * 10**9)
    assert str(limit) == "RateLimit(10 per 120 seconds, burst 3)"
    assert admitted("sync", Pipeline(limit, clock=clock), clock) == 3


def test_a_block(clock: ManualClock) -> None:
    limit = RateLimit("2/hour")
    with limit.guard(clock=clock) as permit:
        assert permit == clock.monotonic() + 1_800.0
    with limit.guard(clock=clock):
        pass
    with pytest.raises(RateLimited), limit.guard(clock=clock):
        pytest.fail("it was let in")


@pytest.mark.parametrize("options", [{"key": lambda tenant: tenant}, {"cost": lambda tenant: 1}])
def test_a_block_of_a_limit_that_needs_arguments_is_given_them(
    clock: ManualClock, options: dict[str, Any]
) -> None:
    limit = RateLimit("2/hour", **options)
    with (
        pytest.raises(PolicyError, match=r"name them: limit\.select\(args, kwargs\)\.guard\(\)"),
        limit.guard(),
    ):
        pytest.fail("it was let in")
    for _ in range(2):
        with limit.select(("ann",), {}).guard(clock=clock):
            pass
    with pytest.raises(RateLimited), limit.select(("ann",), {}).guard(clock=clock):
        pytest.fail("it was let in")


def test_a_block_waits_only_where_that_stops_no_loop(clock: ManualClock) -> None:
    limit = RateLimit("1/second", burst=1, max_wait=5.0)
    for _ in range(2):
        with limit.guard(clock=clock):
            pass
    assert clock.sleeps == [1.0]

    async def main() -> None:
        says = r"^ratelimit\.guard\(\): .* write `async with`$"
        with pytest.raises(PolicyError, match=says), limit.guard(clock=clock):
            pytest.fail("it was let in")
        async with limit.guard(clock=clock):
            assert clock.monotonic() == 1_002.0, "the refused one left its reservation"

    clock.run(main())


def test_two_step_use_by_hand(clock: ManualClock) -> None:
    limit = RateLimit("1/second", burst=1, max_wait=5.0, cost=1)
    now = clock.monotonic()
    assert limit.admit(now) == now + 1.0, "when it is full again"
    wait = limit.admit(now)
    assert isinstance(wait, Wait)
    assert wait.ready_at == now + 1.0
    with pytest.raises(RateLimited) as caught:
        limit.settle(wait, now + 0.5)
    assert (caught.value.reason, caught.value.retry_after) == ("deadline", 0.5)
    again = limit.admit(now + 1.0)
    assert again == now + 2.0
    limit.cancel(again, now + 1.0)
    assert limit.admit(now + 1.0) == now + 2.0


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (RateLimit("200/second"), "RateLimit(200/second, burst 200)"),
        (RateLimit("200/second", burst=50, cost=2), "RateLimit(200/second, burst 50, cost 2)"),
        (RateLimit("9/minute", max_wait=0.05), "RateLimit(9/minute, burst 9, waits 50 ms)"),
        (RateLimit("9/minute", cost=len), "RateLimit(9/minute, burst 9, cost per call)"),
        (RateLimit("9/minute", key=len, max_keys=7), "RateLimit(9/minute, burst 9, per key, 7 keys)"),
    ],
)
def test_how_it_prints(limit: RateLimit, text: str) -> None:
    assert str(limit) == text


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), True, "2", None])
def test_a_hold_of_no_sense(seconds: Any) -> None:
    with pytest.raises(PolicyError, match=r"must be a number of at least 0; write limit.hold"):
        RateLimit("1/second").hold(seconds)


def test_a_hold_by_the_clock_of_the_pipeline() -> None:
    clock = ManualClock()
    limit = RateLimit("100/second")
    send = Pipeline(limit, name="bank", clock=clock)(lambda: "sent")
    limit.hold(2.0)
    with pytest.raises(RateLimited) as caught:
        send()
    assert caught.value.retry_after == pytest.approx(2.0)
    clock.advance(2.0)
    assert send() == "sent"
    with pytest.raises(PolicyError, match=r"key="):
        RateLimit("1/second", key=lambda tenant: tenant).hold(1.0)
