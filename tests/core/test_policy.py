"""What every policy and gate has, before its author writes anything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient import (
    ConfigError,
    DeadlineExceeded,
    Gate,
    Pipeline,
    Policy,
    Rejected,
    Site,
    TimedOut,
    Verdict,
    Wait,
)
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import attach
from resilient.core.policy import verdict_on
from resilient.testing import ManualClock


class Open(Gate[int]):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def admit(self, now: float, /) -> int:
        return 7

    def record(self, permit: int, verdict: Verdict, latency: float, now: float, /) -> None:
        self.told.append((permit, verdict, latency, now))


VERDICTS = [
    (ValueError(), Verdict.FAILURE),
    (ConnectionError(), Verdict.FAILURE),
    (TimedOut("slow"), Verdict.FAILURE),
    (DeadlineExceeded("over"), Verdict.FAILURE),
    (Rejected("no"), Verdict.IGNORED),
    (ConfigError("wrong"), Verdict.IGNORED),
    (KeyboardInterrupt(), Verdict.IGNORED),
    (asyncio.CancelledError(), Verdict.IGNORED),
]


@pytest.mark.parametrize(("exc", "verdict"), VERDICTS, ids=lambda value: type(value).__name__)
def test_what_an_exception_says_of_the_callee(exc: BaseException, verdict: Verdict) -> None:
    assert verdict_on(exc) is verdict


@pytest.mark.parametrize("verdict", Verdict)
def test_who_has_reported_on_it_knows_better(verdict: Verdict) -> None:
    exc = ValueError()
    attach(exc, verdict=verdict)
    assert verdict_on(exc) is verdict


def test_a_gate_that_overrides_nothing_judges_as_everybody_does() -> None:
    gate = Open()
    assert gate.judge("result", None) is Verdict.SUCCESS
    assert gate.judge(None, ValueError()) is Verdict.FAILURE
    assert gate.judge(None, Rejected("no")) is Verdict.IGNORED
    assert gate.select((), {}) is gate


def test_what_is_overridden_is_asked() -> None:
    class Judge(Open):
        def judge(self, result: Any, exc: Exception | None, /) -> Verdict:
            return Verdict.IGNORED

    class ForExceptionsAlone(Judge):
        judges_results = False

        def judge(self, result: Any, exc: Exception | None, /) -> Verdict:
            return Verdict.IGNORED

    class Selects(Open):
        def select(self, args: Any, kwargs: Any, /) -> Gate[int]:
            return self

    assert [cls.judges_results for cls in (Open, Judge, ForExceptionsAlone)] == [False, True, False]
    assert [cls.selects for cls in (Open, Selects)] == [False, True]


def test_to_cancel_is_to_record_that_nothing_was_learnt() -> None:
    gate = Open()
    gate.cancel(7, 3.0)
    assert gate.told == [(7, Verdict.IGNORED, 0.0, 3.0)]
    Gate[int]().record(7, Verdict.FAILURE, 0.0, 0.0)


def test_a_gate_without_its_methods_says_which() -> None:
    class Bare(Gate[int]): ...

    with pytest.raises(NotImplementedError):
        Bare().admit(0.0)
    for method, name in ((Bare().settle, "settle"), (Bare().abandon, "abandon")):
        with pytest.raises(
            NotImplementedError, match=rf"Bare.admit returned a Wait, but it has no {name}\(\)"
        ):
            method(Wait(), 0.0)


def test_a_wait_without_a_word_waits_for_ever() -> None:
    wait: Wait[int] = Wait()
    assert (wait.ready_at, wait.until, wait.permit, wait.wake, wait.cost) == (
        None,
        float("inf"),
        None,
        None,
        1,
    )


def test_it_takes_name_and_clock_of_its_first_function() -> None:
    policy, first, second = Open(), ManualClock(), ManualClock()
    assert (policy.name, policy.clock) == (None, SYSTEM_CLOCK)
    for clock, name in ((first, "first"), (second, "second")):
        policy.adopt(Site(name, f"{name}_function", clock, len))
    assert (policy.name, policy.operation, policy.clock) == ("first", "first_function", first)


@pytest.mark.parametrize("mode", ["with", "async with"])
def test_a_block_is_admitted_and_recorded(mode: str) -> None:
    gate, clock = Open(), ManualClock()
    gate.clock = clock

    async def block(error: BaseException | None) -> None:
        if mode == "with":
            with gate.guard() as permit:
                clock.advance(2.0)
                assert permit == 7
                if error:
                    raise error
        else:
            async with gate.guard() as permit:
                clock.advance(2.0)
                assert permit == 7
                if error:
                    raise error

    clock.run(block(None))
    for error in (KeyError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            clock.run(block(error))
    assert [(each[1], each[2]) for each in gate.told] == [
        (Verdict.SUCCESS, 2.0),
        (Verdict.FAILURE, 2.0),
        (Verdict.IGNORED, 2.0),
    ]


def test_a_policy_alone_is_a_pipeline_of_one() -> None:
    gate = Open()
    bound: Any = gate(len)
    assert isinstance(bound.pipeline, Pipeline)
    assert bound.pipeline.policies == (gate,)
    assert gate.call(len, "abc") == 3
    assert str(Policy()) == "Policy"
    assert repr(gate) == "<Open>"
