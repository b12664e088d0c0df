"""How a parameter says its rule."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import pytest

from resilient import PolicyError
from resilient.core.options import Options, Rule, number, seconds

RULES = [
    (Rule(), "a number"),
    (Rule(low=0), "a number, at least 0"),
    (Rule(above=0), "a number, more than 0"),
    (Rule(high=1), "a number, at most 1"),
    (Rule(low=1, high=9, integer=True, unit="calls"), "a whole number (calls), at least 1 and at most 9"),
    (
        Rule(above=0, high=86_400, unit="seconds", optional=True),
        "a number (seconds), more than 0 and at most 86,400, or None",
    ),
]


@pytest.mark.parametrize(("rule", "text"), RULES, ids=[text for _, text in RULES])
def test_a_rule_is_a_sentence(rule: Rule, text: str) -> None:
    assert str(rule) == text


ALLOWS = [
    (Rule(low=1, high=3), [1, 2.5, 3], [0.999, 3.001, -1, math.inf, None]),
    (Rule(above=1), [1.001, 7], [1, 0, None]),
    (Rule(integer=True), [0, -5, 10**30], [0.0, 1.5, "1"]),
    (Rule(optional=True), [None, 0, 1.5], [True, "", math.nan]),
    (Rule(), [0, -1.5, math.inf], [None, True, False, math.nan, "1", b"", 1j, [], object()]),
]


@pytest.mark.parametrize(("rule", "right", "wrong"), ALLOWS, ids=[str(rule) for rule, _, _ in ALLOWS])
def test_what_a_rule_allows(rule: Rule, right: list[Any], wrong: list[Any]) -> None:
    assert [value for value in right if not rule.allows(value)] == []
    assert [value for value in wrong if rule.allows(value)] == []


@dataclass(frozen=True)
class Mine(Options):
    policy: ClassVar[str] = "Mine"
    size: int = number(3, low=1, integer=True, unit="items", hint="size=3")
    free: Any = None


def test_the_error_names_field_value_rule_and_what_to_write() -> None:
    with pytest.raises(PolicyError) as caught:
        Mine(size=0)
    assert str(caught.value) == "Mine: size=0 must be a whole number (items), at least 1; write size=3"
    assert Mine(free=object()).size == 3
    with pytest.raises(PolicyError) as caught:
        Mine().refuse("free", "is wrong")
    assert str(caught.value) == "Mine: free=None is wrong"


def test_a_rule_can_be_read_from_its_field() -> None:
    by_name = {each.name: each.metadata.get("rule") for each in fields(Mine)}
    assert by_name == {"size": Rule(low=1, integer=True, unit="items", hint="size=3"), "free": None}


def test_every_number_of_every_policy_says_what_to_write() -> None:
    from resilient.core.backoff import Backoff
    from resilient.core.budget import BudgetOptions
    from resilient.policies.breaker.options import CircuitBreakerOptions
    from resilient.policies.bulkhead.options import BulkheadOptions
    from resilient.policies.ratelimit.options import RateLimitOptions
    from resilient.policies.retry.options import RetryOptions
    from resilient.policies.timeout.options import TimeoutOptions

    for options in (
        Backoff, BudgetOptions, CircuitBreakerOptions, BulkheadOptions, RateLimitOptions, RetryOptions, TimeoutOptions
    ):  # fmt: skip
        for each in fields(options):
            rule = each.metadata.get("rule")
            if rule is None:
                assert (
                    not isinstance(each.default, (int, float))
                    or isinstance(each.default, bool)
                    or (each.name == "cost")
                ), f"{options.__name__}.{each.name} is a number without a rule"
            else:
                assert rule.hint, f"{options.__name__}.{each.name}"
                assert rule.allows(each.default), f"{options.__name__}.{each.name}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.025, "25 ms"),
        (0.099, "99 ms"),
        (0.1, "0.1 s"),
        (0.5, "0.5 s"),
        (60.0, "60 s"),
        (1e-4, "0.1 ms"),
    ],
)
def test_durations_as_people_write_them(value: float, text: str) -> None:
    assert seconds(value) == text
