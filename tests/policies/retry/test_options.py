"""What a retry may be told, and what it says to all else."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from resilient import TRANSIENT, Backoff, Budget, PolicyError, Retry, When, backoff
from tests.policies.wrong import Number, refused, right_numbers, wrong_numbers

NUMBERS = [Number("attempts", 1, 100, whole=True)]


@wrong_numbers(*NUMBERS)
def test_a_wrong_number_is_refused(field: str, value: Any) -> None:
    assert "whole number" in refused(lambda: Retry(**{field: value}), "Retry", field, value)


@right_numbers(*NUMBERS)
def test_the_ends_of_a_range_belong_to_it(field: str, value: Any) -> None:
    assert getattr(Retry(**{field: value}).options, field) == value


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        *[("on", value, "on=TRANSIENT") for value in (None, 5, "ConnectionError", [3], (ValueError, 3))],
        *[("on", value, "on=TRANSIENT") for value in (KeyboardInterrupt, BaseException, (int, OSError))],
        *[("wait", value, "wait=backoff(0.025, cap=1.0)") for value in (None, "1", True, [1], (1, 2))],
        *[("stop", value, "stop=tenacity.stop_after_delay(5)") for value in (3, "never", True, [])],
        *[("budget", value, "budget=Budget(ratio=0.2)") for value in (0.2, "20 %", True, Budget)],
        *[("idempotent", value, "idempotent=True") for value in ("yes", 0, 1, 2, 0.0, [], lambda: True)],
        *[("idempotency_key", value, "idempotency_key=lambda order: order.id") for value in ("id", 1, True)],
    ],
)
def test_the_wrong_kind_is_refused_with_what_to_write(field: str, value: Any, instead: str) -> None:
    assert instead in refused(lambda: Retry(**{field: value}), "Retry", field, value)


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), 86_401])
def test_seconds_between_attempts_have_the_range_of_a_backoff(value: float) -> None:
    with pytest.raises(PolicyError, match=r"^Retry: wait=.* must be 0 to 86,400 seconds; write wait=0.5$"):
        Retry(wait=value)


@pytest.mark.parametrize(("value", "cap"), [(0, 1.0), (0.5, 1.0), (7, 7)])
def test_seconds_are_a_wait_that_neither_grows_nor_spreads(value: float, cap: float) -> None:
    assert Retry(wait=value).options.wait == Backoff(value, cap, 1.0, "none")


def test_what_it_takes() -> None:
    assert Retry().options.on is TRANSIENT
    assert Retry().options.wait == Backoff(0.025, 1.0, 2.0, "full")
    assert Retry().options.attempts == 3
    assert repr(Retry(on=KeyError).options.on) == "When(KeyError)"
    assert repr(Retry(on=(KeyError, OSError)).options.on) == "When(KeyError, OSError)"
    when = When(KeyError)
    assert Retry(on=when).options.on is when
    strategy = tenacity.retry_if_exception_type(KeyError)
    assert Retry(on=strategy).options.on is strategy
    wait = tenacity.wait_fixed(1)
    assert Retry(wait=wait).options.wait is wait
    assert Retry(wait=backoff(1, cap=9)).options.wait == Backoff(1, 9)


def test_options_are_values_that_nobody_changes() -> None:
    options = Retry(5).options
    assert options == Retry(5).options != Retry(4).options
    with pytest.raises(AttributeError):
        options.attempts = 7  # type: ignore[misc]
