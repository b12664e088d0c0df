"""The level that moves by itself."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.flags.auto import AutoLevel
from resilient.flags.plans import Auto, Signal

AUTO = Auto("on", 2, 5.0, 60.0, {"lag": Signal(0.1, 0.03), "shed": Signal(0.05, 0.01)})
QUIET = {"lag": 0.0, "shed": 0.0}


def walk(auto: Auto, readings: list[dict[str, float]], every: float = 1.0) -> list[int]:
    level = AutoLevel()
    return [level.look(auto, each, i * every) for i, each in enumerate(readings)]


def test_any_signal_raises_it_a_step_at_a_time() -> None:
    found = walk(AUTO, [{"lag": 0.0, "shed": 0.06}] * 30)
    assert found == [0] * 5 + [1] * 5 + [2] * 20


def test_all_signals_must_be_low_for_a_step_down() -> None:
    high, half = {"lag": 0.2, "shed": 0.0}, {"lag": 0.0, "shed": 0.02}
    found = walk(AUTO, [high] * 11 + [half] * 300 + [QUIET] * 130)
    assert found[:311] == [0] * 5 + [1] * 5 + [2] * 301
    assert found[311:] == [2] * 60 + [1] * 60 + [0] * 10


def test_a_signal_that_says_nothing_keeps_it_where_it_is() -> None:
    found = walk(AUTO, [{"lag": 0.2}] * 6 + [{"lag": 0.0}] * 200)
    assert found == [0] * 5 + [1] * 201, (
        "nobody knows whether it is low; the other one raises it all the same"
    )


def test_one_quiet_moment_begins_the_time_anew() -> None:
    high = {"lag": 0.2, "shed": 0.0}
    assert set(walk(AUTO, ([high] * 4 + [QUIET]) * 20)) == {0}
    down = walk(AUTO, [high] * 6 + ([QUIET] * 59 + [{"lag": 0.05, "shed": 0.0}]) * 5)
    assert set(down[6:]) == {1}


def test_switched_off_it_stands_at_0() -> None:
    level = AutoLevel()
    for now in range(20):
        level.look(AUTO, {"lag": 1.0}, now)
    assert level.level == 2
    assert level.look(Auto("on", 1, 5.0, 60.0, AUTO.signals), {"lag": 0.05}, 20) == 1, (
        "another maximum holds at once"
    )
    assert level.look(Auto(), {}, 21) == 0


@pytest.mark.parametrize("seed", range(20))
def test_row_35_noise_at_a_threshold_moves_it_no_faster_than_the_hold_times(seed: int) -> None:
    noise = random.Random(seed)
    level = AutoLevel()
    steps = [(0.0, 0)]
    for second in range(600):
        found = level.look(AUTO, {"lag": noise.gauss(0.1, 0.05), "shed": noise.gauss(0.01, 0.02)}, second)
        assert 0 <= found <= AUTO.most
        if found != steps[-1][1]:
            assert abs(found - steps[-1][1]) == 1
            wait = AUTO.enter_for if found > steps[-1][1] else AUTO.exit_for
            assert second - steps[-1][0] >= wait
            steps.append((second, found))


READING = st.dictionaries(st.sampled_from(["lag", "shed"]), st.sampled_from([0.0, 0.02, 0.05, 0.1, 0.5]))


@given(st.lists(st.tuples(READING, st.sampled_from([0.5, 1.0, 30.0])), max_size=80))
def test_each_step_has_its_reason(readings: list[tuple[dict[str, float], float]]) -> None:
    """Against the rule as it is written: high all the while, or low all the while, since the last step."""
    level, now, seen = AutoLevel(), 0.0, list[tuple[float, bool, bool]]()
    last = 0.0
    for reading, later in readings:
        now += later
        known = [(reading[name], signal) for name, signal in AUTO.signals.items() if name in reading]
        high = any(value >= signal.enter for value, signal in known)
        low = len(known) == 2 and all(value <= signal.exit for value, signal in known)
        seen.append((now, high, low))
        before = level.level
        after = level.look(AUTO, reading, now)
        if after != before:
            up = after > before
            span = AUTO.enter_for if up else AUTO.exit_for
            since = [each for each in seen if each[0] >= now - span]
            assert all(each[1] if up else each[2] for each in since)
            assert now - last >= span or len([each for each in seen if each[0] < last]) == 0
            last = now
