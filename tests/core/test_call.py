"""The call in force: what is allowed goes down, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient import Call, Criticality, PolicyError, criticality, current_call, deadline
from resilient.core.call import CURRENT, NO_CALL, put_back
from resilient.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=100.0)


def test_without_a_policy_there_is_a_call_without_limits() -> None:
    call = current_call()
    assert call is NO_CALL
    assert (call.deadline, call.attempt, call.idempotency_key) == (None, 1, None)
    assert call.criticality is Criticality.CRITICAL
    assert call.remaining() is None
    assert call.child_key("op") is None


COPIES: dict[str, Callable[[Call], Call]] = {
    "deadline": lambda call: call.with_deadline(1.0),
    "attempt": lambda call: call.with_attempt(3),
    "idempotency_key": lambda call: call.with_key("k2"),
    "criticality": lambda call: call.with_criticality(Criticality.SHEDDABLE),
}


@pytest.mark.parametrize("changed", COPIES)
@pytest.mark.parametrize("full", [False, True])
def test_a_copy_changes_one_thing_and_the_original_nothing(changed: str, full: bool) -> None:
    call = NO_CALL
    if full:
        call = (
            call.with_key("k1").with_attempt(2).with_criticality(Criticality.CRITICAL_PLUS)
        ).with_deadline(5.0)
    before = {name: getattr(call, name) for name in COPIES}
    copy = COPIES[changed](call)
    assert {name: getattr(call, name) for name in COPIES} == before
    assert {name for name in COPIES if getattr(copy, name) != before[name]} == {changed}


def test_of_two_deadlines_the_earlier_one_holds() -> None:
    call = NO_CALL.with_deadline(5.0)
    assert call.with_deadline(4.0).deadline == 4.0
    assert call.with_deadline(6.0) is call
    assert call.with_deadline(5.0).deadline == 5.0


def test_what_is_left(clock: ManualClock) -> None:
    with deadline(1.5, clock=clock) as call:
        assert call is current_call()
        assert call.deadline == 101.5
        clock.advance(1.0)
        assert call.remaining(clock) == 0.5
        clock.advance(9.0)
        assert call.remaining(clock) == 0.0
        with deadline(2.0, clock=clock) as inner:
            assert inner.deadline == 101.5
        with deadline(0.25, clock=ManualClock()) as inner:
            assert inner.deadline == 0.25
        assert current_call() is call
    assert current_call() is NO_CALL


@pytest.mark.parametrize("seconds", [0, -1, math.nan, -math.inf, math.inf, True, "1", None])
def test_a_deadline_is_in_the_future(seconds: Any) -> None:
    with (
        pytest.raises(
            PolicyError, match=r"^deadline: seconds=.* must be a number of more than 0; write dead"
        ),
        deadline(seconds),
    ):
        pytest.fail("it was set")
    assert current_call() is NO_CALL


@pytest.mark.parametrize("level", [*Criticality, *[each.value for each in Criticality]])
def test_criticality(level: Any) -> None:
    with criticality(level) as call:
        assert call is current_call()
        assert call.criticality is Criticality(level)
    assert current_call() is NO_CALL


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(PolicyError) as caught, criticality("urgent"):
        pytest.fail("it was set")
    assert str(caught.value) == (
        "criticality: 'urgent' is not a level; write one of 'sheddable', 'sheddable_plus', 'critical', 'critical_plus'"
    )


@pytest.mark.parametrize(
    "block", [lambda: deadline(1.0), lambda: criticality("critical")], ids=["deadline", "level"]
)
def test_an_exception_takes_it_back_too(block: Callable[[], Any]) -> None:
    with pytest.raises(KeyError), block():
        raise KeyError
    assert current_call() is NO_CALL


def test_tasks_inherit_it_and_do_not_give_theirs_back(clock: ManualClock) -> None:
    async def child() -> float | None:
        inherited = current_call().deadline
        with deadline(0.5, clock=clock):
            await asyncio.sleep(0.1)
        return inherited

    async def main() -> list[float | None]:
        with deadline(5.0, clock=clock):
            task = asyncio.ensure_future(child())
            await asyncio.sleep(0.05)
            return [await task, current_call().deadline]

    assert clock.run(main()) == [105.0, 105.0]


def test_threads_have_their_own() -> None:
    seen: list[Call] = []
    with deadline(5.0) as call:
        context = contextvars.copy_context()
        for work in (current_call, lambda: context.run(current_call)):
            thread = threading.Thread(target=lambda work=work: seen.append(work()))
            thread.start()
            thread.join()
    assert seen == [NO_CALL, call]


def test_what_another_context_set_is_not_put_back() -> None:
    tokens: list[Any] = []
    contextvars.copy_context().run(lambda: tokens.append(CURRENT.set(NO_CALL.with_attempt(2))))
    put_back(tokens[0])
    assert current_call() is NO_CALL


# ----------------------------------------------------------------------------------------------------- child keys
def test_child_keys_are_the_same_everywhere_and_different_from_each_other() -> None:
    def keys() -> list[str | None]:
        call = NO_CALL.with_key("parent")
        return [
            call.child_key("charge"), call.child_key("charge"), call.child_key("ship"),
            call.child_key("charge", "tax"), call.child_key("charge", "tip"),
        ]  # fmt: skip

    assert keys() == keys()
    assert len({*keys()}) == 5
    assert NO_CALL.with_key("other").child_key("charge") not in keys()
    call = NO_CALL.with_key("parent")
    assert call.child_key("charge", "tax") == call.child_key("charge", "tax"), (
        "a label is a name, not a count"
    )
    assert call.child_key("charge") == keys()[0] != call.child_key("charge", "1"), "a count is no label"


@pytest.mark.parametrize("copy", ["deadline", "criticality"])
def test_a_copy_with_other_limits_counts_on(copy: str) -> None:
    call = NO_CALL.with_key("parent")
    first = call.child_key("charge")
    with_limits = COPIES[copy](call)
    second = with_limits.child_key("charge")
    again = NO_CALL.with_key("parent")
    assert [first, second] == [again.child_key("charge"), again.child_key("charge")]
    assert call.child_key("charge") not in (first, second), "it is one call, and one count"


@pytest.mark.parametrize("copy", ["attempt", "idempotency_key"])
def test_another_attempt_makes_the_same_ones(copy: str) -> None:
    call = NO_CALL.with_key("k2")
    keys = [call.child_key("charge"), call.child_key("charge")]
    again = COPIES[copy](call)
    assert [again.child_key("charge"), again.child_key("charge")] == keys


def test_how_it_prints_keeps_the_key_to_itself() -> None:
    assert repr(NO_CALL) == "Call(deadline=None, attempt=1, criticality=critical)"
    assert repr(NO_CALL.with_key("secret")) == (
        "Call(deadline=None, attempt=1, idempotency_key=..., criticality=critical)"
    )
