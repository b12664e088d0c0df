"""How long to wait: the formulas, and that no delay leaves its bounds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import Backoff, PolicyError, backoff
from tests.policies.wrong import Number, refused, right_numbers, wrong_numbers

chance = st.floats(0, 1, exclude_max=True)
bases = st.floats(0, 100)


def of(base: float, over: float, factor: float, jitter: Any) -> Backoff:
    return backoff(base, cap=base + over, factor=factor, jitter=jitter)


@given(bases, st.floats(0, 100), st.floats(1, 10), st.integers(1, 3_000), chance)
def test_between_what_and_what(base: float, over: float, factor: float, retry: int, rand: float) -> None:
    top = of(base, over, factor, "none").delay(retry)
    assert top == of(base, over, factor, "none").ceiling(retry)
    cap = base + over
    assert top <= cap
    if base:
        assert base <= top
        if retry < 100:
            assert top == pytest.approx(min(cap, base * factor ** (retry - 1)))
    else:
        assert top == 0.0
    bounds = {"full": (0.0, 1.0), "equal": (0.5, 1.0), "proportional": (0.8, 1.2)}
    for jitter, (low, high) in bounds.items():
        delay = of(base, over, factor, jitter).delay(retry, rand=lambda: rand)
        assert delay == pytest.approx(min(cap, top * (low + (high - low) * rand)))
        assert delay <= cap, "the cap holds after the jitter"


@given(st.floats(0.001, 10), st.floats(0, 100), st.floats(0, 200), chance)
def test_decorrelated(base: float, over: float, previous: float, rand: float) -> None:
    delay = of(base, over, 2.0, "decorrelated").delay(7, previous, rand=lambda: rand)
    start = max(previous, base)
    assert delay == pytest.approx(min(base + over, base + rand * (3 * start - base)))


@given(bases, st.floats(0, 100), st.floats(1, 10), st.integers(0, 30), st.randoms(use_true_random=False))
@pytest.mark.parametrize("jitter", ["full", "equal", "decorrelated", "proportional", "none"])
def test_the_worst_is_never_exceeded(
    jitter: Any, base: float, over: float, factor: float, retries: int, rand: random.Random
) -> None:
    wait = of(base, over, factor, jitter)
    for draw in (rand.random, lambda: 0.0, lambda: 1 - 2**-53):
        total, previous = 0.0, 0.0
        for retry in range(1, retries + 1):
            previous = wait.delay(retry, previous, rand=draw)
            total += previous
        assert total <= wait.worst(retries) * (1 + 1e-9)
    if jitter != "decorrelated":
        assert total >= wait.worst(retries) * (1 - 1e-9), "and nearly reached"


def test_the_worst_in_numbers() -> None:
    assert backoff(1, cap=5).worst(4) == 1 + 2 + 4 + 5
    assert backoff(1, cap=5, jitter="proportional").worst(4) == pytest.approx(1.2 + 2.4 + 4.8 + 5)
    assert backoff(1, cap=5, jitter="decorrelated").worst(4) == 20
    assert backoff(1, cap=5).worst(0) == 0


def test_a_larger_base_for_once() -> None:
    wait = backoff(0.025, cap=0.5, jitter="none")
    assert wait.delay(1, base=1.0) == 1.0, "the cap is raised to it"
    assert wait.delay(3, base=1.0) == 1.0
    assert backoff(0.025, cap=3, jitter="none").delay(3, base=1.0) == 3.0
    assert backoff(0.025, cap=9, factor=3, jitter="none").delay(2, base=1.0) == 3.0
    assert backoff(0.025, cap=9, jitter="equal").delay(2, base=1.0, rand=lambda: 0.0) == 1.0
    assert wait.delay(1, base=0.01) == 0.025, "a smaller one changes nothing"
    assert wait.delay(1) == 0.025


def test_chance_is_the_modules_own() -> None:
    """Which is seeded anew in forked children."""
    state = random.getstate()
    random.seed(7)
    expected = random.random()
    random.seed(7)
    assert backoff(1.0).delay(1) == expected
    random.setstate(state)


NUMBERS = [Number("base", 0, 86_400), Number("cap", 0, 86_400), Number("factor", 1, 100)]


@wrong_numbers(*NUMBERS)
def test_a_wrong_number_is_refused(field: str, value: Any) -> None:
    assert "number" in refused(lambda: backoff(**{field: value}), "backoff", field, value)


@right_numbers(*NUMBERS)
def test_the_ends_of_each_range_belong_to_it(field: str, value: Any) -> None:
    beside = {"base": {"cap": 86_400}, "cap": {"base": 0}}.get(field, {})
    assert getattr(backoff(**{field: value, **beside}), field) == value


@pytest.mark.parametrize("value", ["some", None, True, "FULL"])
def test_the_jitter_is_one_of_those_there_are(value: Any) -> None:
    text = refused(lambda: backoff(jitter=value), "backoff", "jitter", value)
    assert "'full', 'equal', 'decorrelated', 'proportional', 'none'" in text


def test_the_cap_is_not_below_the_base() -> None:
    text = refused(lambda: backoff(2.0, cap=1.5), "backoff", "cap", 1.5)
    assert text.endswith("must be at least the base, 2 s; write cap=2")
    with pytest.raises(PolicyError, match=r"write cap=1$"):
        backoff(0.5, cap=0.1)


@pytest.mark.parametrize(
    ("wait", "text"),
    [
        (backoff(), "backoff 25 ms..1 s x2 full jitter"),
        (backoff(0.5, cap=9, factor=1.5, jitter="none"), "backoff 0.5 s..9 s x1.5 none jitter"),
        (backoff(0.05, factor=1), "wait 50 ms"),
        (backoff(0, factor=1), "wait 0 s"),
    ],
)
def test_how_it_prints(wait: Backoff, text: str) -> None:
    assert str(wait) == text
