"""Windows over outcomes beside a list of all outcomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.windows import CountWindow, TimeWindow, Totals

TICK = 0.125  # an eighth of a slot of a window of 10 s: exact in binary

steps = st.lists(
    st.tuples(
        st.one_of(st.just(0), st.integers(0, 20), st.integers(60, 200)),
        st.sampled_from(["good", "good", "bad", "slow", "slow and bad", "look"]),
    ),
    max_size=60,
)


def streak(outcomes: list[tuple[int, bool, bool]]) -> int:
    length = 0
    for _, failure, _ in reversed(outcomes):
        if not failure:
            break
        length += 1
    return length


@given(steps)
def test_the_last_seconds(script: list[tuple[int, str]]) -> None:
    window, outcomes, tick, began = TimeWindow(10.0), list[tuple[int, bool, bool]](), 16, None
    for ticks, what in script:
        tick += ticks
        began = tick if began is None else began  # slots begin with the first outcome or look
        now, slot = tick * TICK, (tick - began) // 8
        if what == "look":
            held = [each for each in outcomes if each[0] > slot - 10]
            failures, slows = sum(each[1] for each in held), sum(each[2] for each in held)
            assert window.totals(now) == Totals(len(held), failures, slows)
            continue
        outcomes.append((slot, "bad" in what, "slow" in what))
        if what == "good" and now < window.quick_until:
            window.count()  # as the breaker does, without its lock
        else:
            window.add(now, failure="bad" in what, slow="slow" in what)
        assert window.streak == streak(outcomes)


@given(steps, st.integers(1, 8))
def test_the_last_calls(script: list[tuple[int, str]], size: int) -> None:
    window, outcomes = CountWindow(size), list[tuple[int, bool, bool]]()
    for tick, what in script:
        assert not tick < window.quick_until, "nothing may be counted without the lock"
        if what == "look":
            held = outcomes[-size:]
            failures, slows = sum(each[1] for each in held), sum(each[2] for each in held)
            assert window.totals(tick) == Totals(len(held), failures, slows)
            continue
        outcomes.append((0, "bad" in what, "slow" in what))
        window.add(tick, failure="bad" in what, slow="slow" in what)
        assert window.streak == streak(outcomes)


def test_a_success_is_counted_without_the_lock_only_in_its_slot_and_outside_a_streak() -> None:
    window = TimeWindow(10.0)
    assert not window.quick_until > 5.0, "before the first outcome there is no slot"
    window.add(5.0, failure=False, slow=False)
    assert window.quick_until == 6.0
    window.add(5.5, failure=True, slow=False)
    assert not window.quick_until > 5.5, "the next success ends a streak, which needs the lock"
    window.totals(6.5)
    assert not window.quick_until > 6.5, "also in the slot after it"
    window.add(6.5, failure=False, slow=True)
    assert window.quick_until == 7.0
    window.totals(7.25)
    assert window.quick_until == 8.0


def test_a_count_window_says_who_calls_it_without_the_lock() -> None:
    with pytest.raises(AssertionError, match="without the lock"):
        CountWindow(5).count()
