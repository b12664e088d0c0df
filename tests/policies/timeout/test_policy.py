"""Time-outs around calls, sync and async."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resilient import (
    Bulkhead,
    Call,
    DeadlineExceeded,
    Pipeline,
    PolicyError,
    Retry,
    TimedOut,
    Timeout,
    current_call,
    deadline,
)
from resilient.core.call import NO_CALL
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, raised


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=100.0)


async def hang() -> None:
    await asyncio.sleep(3600.0)


@both
def test_the_deadline_goes_down_and_is_taken_back(mode: str, clock: ManualClock) -> None:
    seen: list[Call] = []
    policy = Pipeline(Timeout(2.0), clock=clock)
    call(mode, policy, lambda: seen.append(current_call()), clock)
    raised(mode, policy, Script(KeyError), clock)
    assert seen[0].deadline == 102.0
    assert seen[0].remaining(clock) == 2.0
    assert current_call() is NO_CALL


@both
@pytest.mark.parametrize(("outer", "expected"), [(1.0, 101.0), (2.0, 102.0), (5.0, 102.0)])
def test_the_earlier_one_of_two_holds(mode: str, clock: ManualClock, outer: float, expected: float) -> None:
    seen: list[Any] = []
    with deadline(outer, clock=clock):
        call(mode, Pipeline(Timeout(2.0), clock=clock), lambda: seen.append(current_call().deadline), clock)
        assert current_call().deadline == 100.0 + outer
    assert seen == [expected]


@both
def test_after_the_callers_deadline_nothing_is_begun(mode: str, clock: ManualClock) -> None:
    fn = Script("never")
    with capture_events() as seen, deadline(1.0, clock=clock):
        clock.advance(1.0)
        error = raised(mode, Pipeline(Timeout(2.0), name="payments", clock=clock), fn, clock)
    assert type(error) is DeadlineExceeded
    assert "the deadline that the caller set is over" in str(error)
    assert fn.calls == 0
    assert [(event.by, event.dependency) for event in seen.named("resilient.rejected")] == [  # type: ignore[attr-defined]
        ("deadline", "payments")
    ]


# ---------------------------------------------------------------------------------------------------------- async
@pytest.mark.parametrize(
    ("policies", "error", "after"),
    [
        ((Timeout(2.0),), TimedOut, 2.0),
        ((Timeout(2.0), Bulkhead()), TimedOut, 2.0),
        ((Timeout(2.0), Retry(3, wait=0)), DeadlineExceeded, 2.0),
        ((Retry(3, wait=0), Timeout(2.0)), TimedOut, 6.0),
        ((Timeout(5.0), Retry(2, wait=0), Timeout(2.0)), TimedOut, 4.0),
        ((Timeout(4.5), Retry(2, wait=0.25), Timeout(2.0)), TimedOut, 4.25),
    ],
)
def test_a_call_that_hangs(
    clock: ManualClock, policies: tuple[Any, ...], error: type[Exception], after: float
) -> None:
    with pytest.raises(TimedOut) as caught:
        clock.run(Pipeline(*policies, clock=clock).acall(hang))
    assert type(caught.value) is error
    assert clock.monotonic() == pytest.approx(100.0 + after)


def test_the_total_ends_the_last_attempt_short(clock: ManualClock) -> None:
    with pytest.warns(UserWarning, match="more than the deadline"):
        policy = Pipeline(Timeout(3.0), Retry(3, wait=0), Timeout(2.0), clock=clock)
    with pytest.raises(DeadlineExceeded):
        clock.run(policy.acall(hang))
    assert clock.monotonic() == 103.0


def test_an_earlier_deadline_of_the_caller_ends_it_as_such(clock: ManualClock) -> None:
    async def main() -> None:
        with deadline(1.5, clock=clock):
            await Pipeline(Retry(3, wait=0), Timeout(2.0), clock=clock).acall(hang)

    with pytest.raises(DeadlineExceeded, match="the deadline that the caller set is over"):
        clock.run(main())
    assert clock.monotonic() == 101.5


@pytest.mark.parametrize(
    ("callers", "error"), [(1.0, DeadlineExceeded), (2.0, DeadlineExceeded), (2.5, TimedOut)]
)
def test_of_two_that_end_at_one_time_the_callers_is_named(
    clock: ManualClock, callers: float, error: type[Exception]
) -> None:
    """A retry must not repeat what the caller has no time for."""

    async def main() -> None:
        with deadline(callers, clock=clock):
            await Pipeline(Timeout(2.0), clock=clock).acall(hang)

    with pytest.raises(TimedOut) as caught:
        clock.run(main())
    assert type(caught.value) is error
    stuck = Stuck()
    with deadline(callers, clock=clock), pytest.raises(TimedOut) as caught:
        Pipeline(Timeout(2.0, walk_away=True), clock=clock).call(stuck)
    assert type(caught.value) is error
    stuck.leave.set()
    join_walkers()


def test_a_function_that_ends_in_time_is_left_alone(clock: ManualClock) -> None:
    async def work() -> str:
        await asyncio.sleep(1.9)
        return "ok"

    assert clock.run(Pipeline(Timeout(2.0), clock=clock).acall(work)) == "ok"


def test_the_callers_own_cancellation_is_no_time_out(clock: ManualClock) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(Pipeline(Timeout(2.0), clock=clock).acall(hang))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(main())


def test_a_time_out_of_the_functions_own_is_its_own(clock: ManualClock) -> None:
    async def work() -> None:
        async with asyncio.timeout(1.0):
            await hang()

    with pytest.raises(TimeoutError) as caught:
        clock.run(Pipeline(Timeout(2.0), clock=clock).acall(work))
    assert not isinstance(caught.value, TimedOut)


# ----------------------------------------------------------------------------------------------------------- sync
def test_a_function_that_ends_late_has_its_result_returned_and_told_of(clock: ManualClock) -> None:
    policy = Pipeline(Timeout(2.0), name="payments", clock=clock)
    with capture_events() as seen:
        assert policy.call(Script("late", clock=clock, takes=3.5)) == "late"
        assert policy.call(Script("in time", clock=clock, takes=2.0)) == "in time"
        with pytest.raises(ConnectionError):
            policy.call(Script(ConnectionError, clock=clock, takes=2.25))
    overruns = seen.named("resilient.timeout.overrun")
    assert [(event.timeout, event.overrun) for event in overruns] == [(2.0, 1.5), (2.0, 0.25)]  # type: ignore[attr-defined]


def test_no_attempt_begins_after_the_end(clock: ManualClock) -> None:
    fn = Script(ConnectionError, clock=clock, takes=3.0)
    with pytest.raises(ConnectionError):
        Pipeline(Timeout(2.0), Retry(3, wait=0), clock=clock).call(fn)
    assert fn.calls == 1


def test_what_timed_out_inside_when_the_whole_time_was_over_is_the_whole_calls(clock: ManualClock) -> None:
    """As an HTTP layer's operations do, which are cut at the deadline."""
    policy = Pipeline(Timeout(2.0), Retry(3, wait=0), clock=clock)
    with pytest.raises(DeadlineExceeded) as caught:
        policy.call(Script(TimedOut, clock=clock, takes=2.0))
    assert type(caught.value.__cause__) is TimedOut
    with pytest.raises(TimedOut) as early:
        policy.call(Script(TimedOut, clock=clock, takes=0.5))
    assert type(early.value) is TimedOut, "three attempts, and time was left"


# ------------------------------------------------------------------------------------------------------ walk away
class Stuck:
    """A function that stays until it is let go."""

    def __init__(self, result: Any = "late") -> None:
        self.result = result
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.deadline: float | None = None

    def __call__(self) -> Any:
        self.deadline = current_call().deadline
        self.entered.set()
        assert self.leave.wait(30)
        return self.result


def join_walkers() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("resilient-walk-away"):
            thread.join(30)


@pytest.mark.parametrize(
    ("retry", "error"), [((), TimedOut), ((Retry(1),), DeadlineExceeded)], ids=["alone", "total"]
)
def test_who_walks_away_leaves_it_behind_and_counts_it(
    clock: ManualClock, retry: tuple[Any, ...], error: type[Exception]
) -> None:
    stuck, limit = Stuck(), Timeout(2.0, walk_away=True)
    with capture_events() as seen, pytest.raises(TimedOut) as caught:
        Pipeline(limit, *retry, clock=clock).call(stuck)
    assert type(caught.value) is error
    assert clock.monotonic() == 102.0
    assert limit.leaked == 1
    assert [(event.timeout, event.leaked) for event in seen.named("resilient.timeout.abandoned")] == [
        (2.0, 1)
    ]  # type: ignore[attr-defined]
    assert stuck.entered.wait(30)
    assert stuck.deadline == 102.0, "it runs in the call's context"
    stuck.leave.set()
    join_walkers()
    assert limit.leaked == 0


@pytest.mark.parametrize("outcome", ["ok", KeyError, SystemExit])
def test_who_comes_in_time_is_not_left_behind(outcome: Any) -> None:
    limit = Timeout(60.0, walk_away=True)
    if outcome == "ok":
        assert limit.call(Script("ok")) == "ok"
    else:
        with pytest.raises(outcome):
            limit.call(Script(outcome))
    assert limit.leaked == 0
    join_walkers()


def test_walking_away_at_the_callers_deadline(clock: ManualClock) -> None:
    stuck, limit = Stuck(), Timeout(2.0, walk_away=True)
    with deadline(0.5, clock=clock), pytest.raises(DeadlineExceeded, match="that the caller set"):
        Pipeline(limit, clock=clock).call(stuck)
    assert clock.monotonic() == 100.5
    stuck.leave.set()
    join_walkers()


def test_walking_away_is_for_sync_functions() -> None:
    with pytest.raises(
        PolicyError, match=r"walk_away=True is for sync functions; hang is async .*leave it out"
    ):
        Timeout(2.0, walk_away=True)(hang)


# --------------------------------------------------------------------------------------------------------- the rest
def test_how_it_prints_says_what_it_bounds() -> None:
    assert str(Timeout(2.0)) == "Timeout(2 s)"
    assert str(Timeout(0.25, walk_away=True)) == "Timeout(0.25 s, walk away)"
    assert str(Pipeline(Timeout(9.0), Retry(1), Timeout(0.5))) == (
        "Timeout(total 9 s) -> Retry(1 attempts, on transient, backoff 25 ms..1 s x2 full jitter) "
        "-> Timeout(attempt 0.5 s)"
    )


def test_functions_of_one_time_out_do_not_share_their_time(clock: ManualClock) -> None:
    limit = Pipeline(Timeout(2.0), clock=clock)

    @limit
    async def one() -> float:
        await asyncio.sleep(1.5)
        return clock.monotonic()

    async def main() -> list[float]:
        first = asyncio.ensure_future(one())
        await asyncio.sleep(1.0)
        return [await one(), await first]

    assert clock.run(main()) == [102.5, 101.5]
