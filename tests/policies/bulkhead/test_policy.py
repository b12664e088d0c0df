"""The bulkhead around calls, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient import (
    Bulkhead,
    BulkheadFull,
    Pipeline,
    PolicyError,
    RateLimit,
    RateLimited,
    TimedOut,
    Timeout,
    deadline,
)
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, raised


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@both
@pytest.mark.parametrize("outcome", ["ok", ConnectionError, KeyboardInterrupt])
def test_a_place_is_taken_while_it_runs_and_given_back_however_it_ends(
    mode: str, clock: ManualClock, outcome: Any
) -> None:
    bulkhead = Bulkhead(2)
    policy = Pipeline(bulkhead, clock=clock)
    seen = []

    def work() -> Any:
        seen.append(bulkhead.in_flight)
        return Script(outcome)()

    for _ in range(3):
        if outcome == "ok":
            assert call(mode, policy, work, clock) == "ok"
        else:
            with pytest.raises(outcome):
                call(mode, policy, work, clock)
    assert seen == [1, 1, 1]
    assert bulkhead.in_flight == 0


@both
def test_when_it_is_full_the_next_is_rejected(mode: str, clock: ManualClock) -> None:
    bulkhead = Bulkhead(2)
    policy = Pipeline(bulkhead, name="db", clock=clock)
    fn = Script("never")
    with bulkhead.guard(), bulkhead.guard(), capture_events() as seen:
        error = raised(mode, policy, fn, clock)
    assert isinstance(error, BulkheadFull)
    assert (error.policy, error.reason, error.dependency, fn.calls) == ("bulkhead", "full", "db", 0)
    assert [(event.by, event.reason) for event in seen.named("resilient.rejected")] == [("bulkhead", "full")]  # type: ignore[attr-defined]
    assert call(mode, policy, Script("ok"), clock) == "ok"


def crowd(clock: ManualClock, policy: Pipeline, *durations: float) -> list[Any]:
    """Calls that come at one time, each with the time that it takes; what became of them, and when they began."""

    @policy
    async def work(takes: float) -> float:
        began = clock.monotonic()
        await asyncio.sleep(takes)
        return began

    async def main() -> list[Any]:
        return await asyncio.gather(*(work(each) for each in durations), return_exceptions=True)

    return [each if isinstance(each, float) else type(each).__name__ for each in clock.run(main())]


def test_who_waits_is_served_in_the_order_of_arrival(clock: ManualClock) -> None:
    bulkhead = Bulkhead(1, queue=3, max_wait=100.0)
    began = crowd(clock, Pipeline(bulkhead, clock=clock), 1.0, 2.0, 3.0, 4.0, 5.0)
    assert began == [0.0, 1.0, 3.0, 6.0, "BulkheadFull"]
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


def test_nobody_waits_longer_than_said(clock: ManualClock) -> None:
    bulkhead = Bulkhead(1, queue=9, max_wait=2.5)
    with capture_events() as seen:
        began = crowd(clock, Pipeline(bulkhead, clock=clock), 1.0, 1.0, 1.0, 1.0)
    assert began == [0.0, 1.0, 2.0, "BulkheadFull"]
    waits = seen.named("resilient.limiter.waited")
    assert [(event.kind, event.duration, event.admitted) for event in waits] == [  # type: ignore[attr-defined]
        ("bulkhead", 1.0, True),
        ("bulkhead", 2.0, True),
        ("bulkhead", 2.5, False),
    ]


def test_nobody_waits_past_his_deadline(clock: ManualClock) -> None:
    bulkhead = Bulkhead(1, queue=9, max_wait=100.0)
    hold = Pipeline(bulkhead, clock=clock)

    @hold
    async def long() -> None:
        await asyncio.sleep(50.0)

    @Pipeline(bulkhead, clock=clock)
    async def short() -> None: ...

    async def main() -> None:
        task = asyncio.ensure_future(long())
        await asyncio.sleep(0)
        with deadline(2.0, clock=clock), pytest.raises(BulkheadFull) as caught:
            await short()
        assert caught.value.reason == "waited"
        assert clock.monotonic() == 2.0
        assert bulkhead.waiting == 0
        await task

    clock.run(main())


def test_in_sync_code_too(clock: ManualClock) -> None:
    bulkhead = Bulkhead(1, queue=9, max_wait=4.0)
    policy = Pipeline(bulkhead, clock=clock)
    with bulkhead.guard():
        assert isinstance(raised("sync", policy, Script("never"), clock), BulkheadFull)
        assert clock.monotonic() == 4.0
        with deadline(1.0, clock=clock):
            raised("sync", policy, Script("never"), clock)
        assert clock.monotonic() == 5.0
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)


@both
def test_the_time_out_inside_begins_when_the_call_is_let_in(mode: str, clock: ManualClock) -> None:
    bulkhead = Bulkhead(1)
    policy = Pipeline(bulkhead, Timeout(1.0), clock=clock)

    async def slow() -> None:
        await asyncio.sleep(5.0)

    with pytest.raises(TimedOut):
        clock.run(policy.acall(slow))
    assert bulkhead.in_flight == 0
    assert call(mode, policy, Script("ok"), clock) == "ok"


@both
def test_a_policy_inside_that_says_no_gives_the_place_back(mode: str, clock: ManualClock) -> None:
    bulkhead, limit = Bulkhead(1), RateLimit("1/hour")
    policy = Pipeline(bulkhead, limit, clock=clock)
    call(mode, policy, Script("ok"), clock)
    for _ in range(3):
        assert isinstance(raised(mode, policy, Script("never"), clock), RateLimited)
    assert bulkhead.in_flight == 0


def test_a_block_in_a_loop_that_would_have_to_wait_is_refused(clock: ManualClock) -> None:
    bulkhead = Bulkhead(1, queue=1, max_wait=1.0)

    async def main() -> None:
        async with bulkhead.guard(clock=clock):
            with pytest.raises(PolicyError, match="write `async with`"), bulkhead.guard(clock=clock):
                pytest.fail("it was let in")
            assert bulkhead.waiting == 0
        with bulkhead.guard(clock=clock):
            assert bulkhead.in_flight == 1

    clock.run(main())
    assert bulkhead.in_flight == 0


def test_how_it_prints() -> None:
    assert str(Bulkhead()) == "Bulkhead(100)"
    assert str(Bulkhead(10, queue=50, max_wait=0.05)) == "Bulkhead(10, queue 50 for 50 ms)"
