"""Policies of one's own, with public names only and under 20 lines each, sync and async."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from resilient import Gate, Pipeline, Policy, Rejected, Retry, Site, Verdict, Wait
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, raised

P = ParamSpec("P")
R = TypeVar("R")


class NightShift(Gate[None]):
    """Nothing is sent in the first `closed` seconds of a day."""

    kind = "night_shift"

    def __init__(self, closed: float) -> None:
        self.closed = closed

    def admit(self, now: float, /) -> None:
        if now % 86_400 < self.closed:
            raise Rejected("it is night", policy=self.kind, reason="night", retry_after=self.closed - now)


class Allowance(Gate[float]):
    """Calls may fail `most` times; successes of results that are falsy are failures. Then it is over."""

    kind = "allowance"

    def __init__(self, most: int) -> None:
        self.left = most
        self.latencies: list[float] = []

    def admit(self, now: float, /) -> float:
        if self.left <= 0:
            raise Rejected("too many failures", policy=self.kind, reason="spent")
        return now

    def record(self, permit: float, verdict: Verdict, latency: float, now: float, /) -> None:
        self.latencies.append(latency)
        self.left -= verdict is Verdict.FAILURE

    def judge(self, result: Any, exc: Exception | None, /) -> Verdict:
        return Verdict.SUCCESS if exc is None and result else Verdict.FAILURE


class Pace(Gate[int]):
    """A call begins at least `gap` seconds after the one before; who is cancelled leaves no gap."""

    kind = "pace"

    def __init__(self, gap: float) -> None:
        self.gap, self.next = gap, 0.0

    def admit(self, now: float, /) -> int | Wait[int]:
        ready, self.next = max(now, self.next), max(now, self.next) + self.gap
        return 1 if ready <= now else Wait(ready_at=ready)

    def settle(self, wait: Wait[int], now: float, /) -> int:
        return 1

    def abandon(self, wait: Wait[int], now: float, /) -> None:
        self.next -= self.gap


class Tagged(Policy):
    """A wrapping policy: a note on every failure."""

    kind = "tagged"

    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return inner(*args, **kwargs)
            except Exception as exc:
                exc.add_note(f"in {site.dependency}.{site.operation}")
                raise

        return call

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return await inner(*args, **kwargs)
            except Exception as exc:
                exc.add_note(f"in {site.dependency}.{site.operation}")
                raise

        return call


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.parametrize("policy", [NightShift, Allowance, Pace])
def test_it_is_short(policy: type[Policy]) -> None:
    lines = [line for line in inspect.getsource(policy).splitlines() if line.strip()]
    assert len(lines) < 20


def test_it_needs_nothing_private() -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resilient"):
            assert node.module in ("resilient", "resilient.testing")
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr.startswith("__")


@both
def test_a_gate_says_no(mode: str, clock: ManualClock) -> None:
    policy = Pipeline(Retry(3), NightShift(closed=3_600.0), name="shop", clock=clock)
    fn = Script("ok")
    with capture_events() as seen:
        error = raised(mode, policy, fn, clock)
    assert isinstance(error, Rejected)
    assert (error.dependency, error.policy, error.reason, error.retry_after) == (
        "shop", "night_shift", "night", 3_600.0
    )  # fmt: skip
    assert [(event.by, event.reason) for event in seen.named("resilient.rejected")] == [
        ("night_shift", "night")
    ]  # type: ignore[attr-defined]
    assert fn.calls == 0
    clock.advance(3_600.0)
    assert call(mode, policy, fn, clock) == "ok"


@both
def test_a_gate_learns_and_judges_results(mode: str, clock: ManualClock) -> None:
    allowance = Allowance(2)
    policy = Pipeline(allowance, clock=clock)
    call(mode, policy, Script("fine", clock=clock, takes=2.0), clock)
    call(mode, policy, Script("", clock=clock), clock)
    assert allowance.left == 1
    raised(mode, policy, Script(KeyError, clock=clock), clock)
    assert isinstance(raised(mode, policy, Script("never"), clock), Rejected)
    assert allowance.latencies == [2.0, 0.0, 0.0]


@both
def test_a_gate_makes_wait(mode: str, clock: ManualClock) -> None:
    policy = Pipeline(Pace(0.5), clock=clock)
    fn = Script("ok", clock=clock)
    for _ in range(3):
        call(mode, policy, fn, clock)
    assert fn.at == [0.0, 0.5, 1.0]


def test_who_is_cancelled_while_he_waits_leaves_no_gap(clock: ManualClock) -> None:
    pace = Pace(10.0)

    @Pipeline(pace, clock=clock)
    async def work() -> float:
        return clock.monotonic()

    async def main() -> float:
        await work()
        waiter = asyncio.ensure_future(work())
        await asyncio.sleep(1.0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        return await work()

    assert clock.run(main()) == 10.0


@both
@pytest.mark.parametrize("gate", [NightShift(0.0), Allowance(5), Pace(0.0)])
def test_four_gates_in_a_row_and_a_block(mode: str, clock: ManualClock, gate: Gate[Any]) -> None:
    policy = Pipeline(NightShift(0.0), Pace(0.0), gate, Allowance(9), clock=clock)
    assert call(mode, policy, Script("ok"), clock) == "ok"
    with gate.guard(clock=clock):
        pass


@both
def test_a_wrapping_policy(mode: str, clock: ManualClock) -> None:
    error = raised(
        mode, Pipeline(Retry(2, wait=0), Tagged(), name="shop", clock=clock), Script(OSError), clock
    )
    (note,) = error.__notes__
    assert note.startswith("in shop.")


def test_it_is_found_by_its_kind_and_prints_its_name() -> None:
    pipeline = Pipeline(Tagged(), Pace(1.0))
    assert isinstance(pipeline["pace"], Pace)
    assert str(pipeline) == "Tagged -> Pace"


class SyncOnly(Policy):
    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        return inner


def test_a_policy_for_sync_functions_alone_says_so() -> None:
    assert SyncOnly()(len)([]) == 0

    async def work() -> None: ...

    with pytest.raises(NotImplementedError, match="SyncOnly does not work on async functions"):
        SyncOnly()(work)
    with pytest.raises(NotImplementedError, match="Policy does not work on sync functions"):
        Policy()(len)


class Forgetful(Gate[int]):
    def admit(self, now: float, /) -> int | Wait[int]:
        return Wait(ready_at=now + 1.0)


class Unfinished(Forgetful):
    def settle(self, wait: Wait[int], now: float, /) -> int:
        raise KeyError("of its own")


def test_a_gate_that_waits_and_does_not_say_how_is_told(clock: ManualClock) -> None:
    with pytest.raises(
        NotImplementedError, match=r"Forgetful.admit returned a Wait, but it has no settle\(\)"
    ):
        Pipeline(Forgetful(), clock=clock).call(len, [])
    with pytest.raises(KeyError):
        Pipeline(Unfinished(), clock=clock).call(len, [])
