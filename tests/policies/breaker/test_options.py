"""What a breaker may be told, and what it says to all else."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import CircuitBreaker, PolicyError, When
from tests.policies.wrong import Number, refused, right_numbers, wrong_numbers

DAY = 86_400
NUMBERS = [
    Number("failure_ratio", 0, 1, open_below=True),
    Number("minimum_calls", 1, 1_000_000, whole=True),
    Number("window", 0.001, DAY),
    Number("count", 1, 100_000, whole=True, optional=True),
    Number("consecutive", 1, 1_000_000, whole=True, optional=True),
    Number("slow_after", 0, DAY, open_below=True, optional=True),
    Number("slow_ratio", 0, 1, open_below=True),
    Number("open_for", 0, DAY, open_below=True),
    Number("max_open", 0, DAY, open_below=True),
    Number("probes", 1, 1_000, whole=True),
    Number("probe_lease", 0, DAY, open_below=True),
]
# what a value at the end of its range needs beside it
WITH: dict[str, dict[str, Any]] = {
    "open_for": {"max_open": DAY},
    "max_open": {"open_for": 1e-9},
    "count": {"minimum_calls": 1},
    "slow_ratio": {"slow_after": 1.0},
}


@wrong_numbers(*NUMBERS)
def test_a_wrong_number_is_refused(field: str, value: Any) -> None:
    text = refused(lambda: CircuitBreaker(**{field: value}), "CircuitBreaker", field, value)
    assert "number" in text
    assert f"; write {field}=" in text


@right_numbers(*NUMBERS)
def test_the_ends_of_a_range_belong_to_it(field: str, value: Any) -> None:
    assert getattr(CircuitBreaker(**{field: value, **WITH.get(field, {})}).options, field) == value


def test_the_longest_open_time_is_not_below_the_first() -> None:
    text = refused(lambda: CircuitBreaker(open_for=5, max_open=4), "CircuitBreaker", "max_open", 4)
    assert text.endswith("must be at least open_for, 5 s; write max_open=5")
    assert CircuitBreaker(open_for=5, max_open=5).options.max_open == 5


def test_a_window_of_few_calls_can_hold_as_many_as_the_ratio_needs() -> None:
    text = refused(lambda: CircuitBreaker(count=10), "CircuitBreaker", "minimum_calls", 20)
    assert "can never be reached in a window of the last 10 calls" in text
    assert CircuitBreaker(count=10, minimum_calls=10).options.count == 10


@pytest.mark.parametrize("value", [None, 404, "KeyError", [3], BaseException, (KeyError, KeyboardInterrupt)])
def test_what_it_ignores_is_exceptions(value: Any) -> None:
    assert "exception classes or predicates" in refused(
        lambda: CircuitBreaker(ignore=value), "CircuitBreaker", "ignore", value
    )


def test_listeners_and_names_of_another_kind() -> None:
    refused(lambda: CircuitBreaker(listeners=5), "CircuitBreaker", "listeners", 5)  # type: ignore[arg-type]
    refused(lambda: CircuitBreaker(name=""), "CircuitBreaker", "name", "")


def test_what_it_takes() -> None:
    assert isinstance(CircuitBreaker().options.ignore, When)
    assert repr(CircuitBreaker(ignore=KeyError).options.ignore) == "When(KeyError)"
    assert CircuitBreaker(listeners=[]).options.listeners == ()


def test_options_are_named() -> None:
    with pytest.raises(TypeError):
        CircuitBreaker(0.5)  # type: ignore[misc]
    with pytest.raises(PolicyError):
        CircuitBreaker(window=-1.0)
