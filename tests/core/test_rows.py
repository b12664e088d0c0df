"""The drivers of gates: latency, waits, hand-overs, and what is given back when a row is not passed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from resilient import Bulkhead, Gate, Pipeline, Rejected, Verdict, Wait, deadline
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, raised


class Desk(Gate[str]):
    """A gate that does as it is told and notes what it was asked.

    Args:
        answer: what `admit` returns or raises.
        settled: what `settle` returns or raises.
    """

    kind = "desk"

    def __init__(self, answer: Any = "permit", settled: Any = "later") -> None:
        self.answer, self.settled = answer, settled
        self.notes: list[tuple[Any, ...]] = []

    def admit(self, now: float, /) -> str | Wait[str]:
        self.notes.append(("admit", now))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer  # type: ignore[no-any-return]

    def record(self, permit: str, verdict: Verdict, latency: float, now: float, /) -> None:
        self.notes.append(("record", permit, verdict.value, latency, now))

    def cancel(self, permit: str, now: float, /) -> None:
        self.notes.append(("cancel", permit, now))

    def settle(self, wait: Wait[str], now: float, /) -> str:
        self.notes.append(("settle", now))
        if isinstance(self.settled, BaseException):
            raise self.settled
        return self.settled  # type: ignore[no-any-return]

    def abandon(self, wait: Wait[str], now: float, /) -> None:
        self.notes.append(("abandon", now))


class Selecting(Desk):
    """The same, through the general driver."""

    def select(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Gate[str]:
        self.notes.append(("select", args, kwargs))
        return self


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=10.0)


rows = pytest.mark.parametrize("before", range(4), ids=lambda n: f"{n} before it")


def row(before: int, desk: Desk, clock: ManualClock) -> Pipeline:
    """The desk behind some others: places 1 to 3 of the written-out frame, and the general one."""
    return Pipeline(*(Desk() for _ in range(before)), desk, name="shop", clock=clock)


@both
@rows
def test_latency_counts_from_when_it_was_let_in(mode: str, before: int, clock: ManualClock) -> None:
    desk = Desk(lambda: Wait(ready_at=14.0))
    call(mode, row(before, desk, clock), Script("ok", clock=clock, takes=2.0), clock)
    assert desk.notes == [("admit", 10.0), ("settle", 14.0), ("record", "later", "success", 2.0, 16.0)]
    desk = Desk()
    raised(mode, row(before, desk, clock), Script(KeyError, clock=clock, takes=2.0), clock)
    assert desk.notes == [("admit", 16.0), ("record", "permit", "failure", 2.0, 18.0)]


@both
@rows
def test_a_permit_that_is_nothing_is_a_permit(mode: str, before: int, clock: ManualClock) -> None:
    for nothing in (None, 0, ""):
        desk = Desk(nothing)
        call(mode, row(before, desk, clock), Script("ok"), clock)
        assert desk.notes[-1] == ("record", nothing, "success", 0.0, 10.0)
        pipeline = Pipeline(desk, Desk(Rejected("no")), clock=clock)
        raised(mode, pipeline, Script("never"), clock)
        assert desk.notes[-1] == ("cancel", nothing, 10.0)


@both
@rows
@pytest.mark.parametrize("when", ["asked", "settled"])
def test_who_was_passed_before_takes_back_and_who_comes_after_is_not_asked(
    mode: str, before: int, when: str, clock: ManualClock
) -> None:
    no = Rejected("no", policy="desk", reason="closed")
    desk = Desk(no) if when == "asked" else Desk(lambda: Wait(ready_at=12.0), no)
    first = [Desk() for _ in range(before)]
    last = Desk()
    fn = Script("never")
    with capture_events() as seen:
        error = raised(mode, Pipeline(*first, desk, last, name="shop", clock=clock), fn, clock)
    assert error is no
    assert fn.calls == 0
    assert last.notes == []
    now = 10.0 if when == "asked" else 12.0
    for each in first:
        assert each.notes == [("admit", 10.0), ("cancel", "permit", now)]
    assert error.dependency == "shop"  # type: ignore[attr-defined]
    assert error.operation  # type: ignore[attr-defined]
    assert [(event.by, event.reason) for event in seen.named("resilient.rejected")] == [("desk", "closed")]  # type: ignore[attr-defined]


@both
def test_a_rejection_keeps_the_name_that_it_has(mode: str, clock: ManualClock) -> None:
    error = raised(mode, row(0, Desk(Rejected("no", dependency="bank")), clock), Script("never"), clock)
    assert error.dependency == "bank"  # type: ignore[attr-defined]
    assert error.operation  # type: ignore[attr-defined]
    full = Rejected("no", dependency="bank", operation="pay")
    assert raised(mode, row(0, Desk(full), clock), Script("never"), clock).operation == "pay"  # type: ignore[attr-defined]


@both
@rows
def test_a_gate_that_fails_by_itself_leaves_nothing(mode: str, before: int, clock: ManualClock) -> None:
    bulkhead = Bulkhead(1)
    pipeline = Pipeline(bulkhead, *(Desk() for _ in range(before)), Desk(ZeroDivisionError()), clock=clock)
    for _ in range(2):
        assert type(raised(mode, pipeline, Script("never"), clock)) is ZeroDivisionError
    assert bulkhead.in_flight == 0


@both
def test_a_reservation_past_the_deadline_is_settled_at_once(mode: str, clock: ManualClock) -> None:
    desk = Desk(lambda: Wait(ready_at=15.0), Rejected("too late"))
    with capture_events() as seen, deadline(4.0, clock=clock):
        raised(mode, row(0, desk, clock), Script("never"), clock)
    assert desk.notes == [("admit", 10.0), ("settle", 10.0)]
    assert seen.named("resilient.limiter.waited") == [], "nobody waited"
    desk = Desk(lambda: Wait(ready_at=14.0))
    with deadline(4.0, clock=clock):
        call(mode, row(0, desk, clock), Script("ok"), clock)
    assert desk.notes[1] == ("settle", 14.0)


@both
def test_a_queue_is_waited_in_until_its_end_or_the_deadline(mode: str, clock: ManualClock) -> None:
    for seconds, ends in ((60.0, 15.0), (2.0, 17.0)):
        desk = Desk(lambda: Wait(until=clock.monotonic() + 5.0), Rejected("in vain"))
        with capture_events() as seen, deadline(seconds, clock=clock):
            raised(mode, row(0, desk, clock), Script("never"), clock)
        assert desk.notes[-1] == ("settle", ends)
        (waited,) = seen.named("resilient.limiter.waited")
        assert (waited.kind, waited.duration, waited.admitted) == ("desk", min(5.0, seconds), False)  # type: ignore[attr-defined]


@both
def test_a_timer_that_fires_early_is_no_early_settling(mode: str, clock: ManualClock) -> None:
    class Hasty(ManualClock):
        def sleep(self, seconds: float, /) -> None:
            super().sleep(seconds * 0.999)

    hasty = Hasty(start=10.0)
    desk = Desk(lambda: Wait(ready_at=14.0))
    call(mode, row(0, desk, hasty), Script("ok"), hasty)
    assert desk.notes[1] == ("settle", 14.0)


def test_who_is_served_while_he_queues_goes_on_at_once(clock: ManualClock) -> None:
    waits: list[Wait[str]] = []

    def queue() -> Wait[str]:
        waits.append(Wait(until=1_000.0))
        return waits[-1]

    desk = Desk(queue)

    async def main() -> float:
        task = asyncio.ensure_future(row(0, desk, clock).acall(asyncio.sleep, 0))
        await asyncio.sleep(3.0)
        waits[0].permit = "served"
        assert waits[0].wake is not None
        waits[0].wake()
        await task
        return clock.monotonic()

    assert clock.run(main()) == 13.0


@both
def test_who_was_served_before_he_could_wait_does_not(mode: str, clock: ManualClock) -> None:
    def served() -> Wait[str]:
        wait: Wait[str] = Wait(until=1_000.0)
        wait.permit = "served"
        return wait

    assert call(mode, row(0, Desk(served), clock), Script("ok"), clock) == "ok"
    assert clock.monotonic() == 10.0


def test_a_thread_wakes_who_waits_in_a_thread() -> None:
    clock = ManualClock(autojump=False)
    bulkhead = Bulkhead(1, queue=1, max_wait=60.0)
    pipeline = Pipeline(bulkhead, clock=clock)
    results: list[Any] = []
    guard = bulkhead.guard(clock=clock)
    guard.__enter__()
    thread = threading.Thread(target=lambda: results.append(pipeline.call(Script("ok"))))
    thread.start()
    clock.wait_until_blocked()
    guard.__exit__(None, None, None)
    thread.join(30)
    assert results == ["ok"]
    assert bulkhead.in_flight == 0


@both
def test_the_waiter_who_is_thrown_out_is_abandoned(mode: str, clock: ManualClock) -> None:
    class Interrupted(ManualClock):
        def sleep(self, seconds: float, /) -> None:
            raise KeyboardInterrupt

    desk, first = Desk(lambda: Wait(ready_at=14.0)), Desk()
    if mode == "sync":
        with pytest.raises(KeyboardInterrupt):
            Pipeline(first, desk, clock=Interrupted(start=10.0)).call(Script("never"))
    else:

        async def main() -> None:
            task = asyncio.ensure_future(Pipeline(first, desk, clock=clock).acall(asyncio.sleep, 0))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        clock.run(main())
    assert desk.notes == [("admit", 10.0), ("abandon", 10.0)]
    assert first.notes == [("admit", 10.0), ("cancel", "permit", 10.0)]


@both
def test_each_gate_chooses_by_the_arguments(mode: str, clock: ManualClock) -> None:
    desk, other = Selecting(), Desk()
    pipeline = Pipeline(other, desk, clock=clock)
    call(mode, pipeline, lambda *args, **kwargs: "ok", clock, 1, b=2)
    assert desk.notes[0] == ("select", (1,), {"b": 2})
    assert [note[0] for note in desk.notes] == ["select", "admit", "record"]
    raised(mode, pipeline, Script(KeyError), clock)
    assert desk.notes[-1][2] == "failure"
    assert [note[0] for note in other.notes] == ["admit", "record"] * 2


@both
def test_a_gate_that_does_not_learn_is_not_told_of_success_and_gives_back_all_the_same(
    mode: str, clock: ManualClock
) -> None:
    cancelled: list[str] = []

    class Deaf(Gate[str]):
        def admit(self, now: float, /) -> str:
            return "permit"

        def cancel(self, permit: str, now: float, /) -> None:
            cancelled.append(permit)

    assert call(mode, Pipeline(Deaf(), Desk(), clock=clock), Script("ok"), clock) == "ok"
    raised(mode, Pipeline(Deaf(), Desk(), clock=clock), Script(KeyError), clock)
    assert cancelled == []
    raised(mode, Pipeline(Deaf(), Desk(Rejected("no")), clock=clock), Script("never"), clock)
    assert cancelled == ["permit"]
