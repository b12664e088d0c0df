"""What a rate limit may be told: the notation of rates, and what it says to all else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import PolicyError, RateLimit
from resilient.policies.ratelimit.options import Rate, RateLimitOptions, parse_rate
from tests.policies.wrong import Number, refused, right_numbers, wrong_numbers

SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "month": 2_592_000, "year": 31_104_000}
NUMBERS = [
    Number("burst", 1, 10**9, whole=True, optional=True),
    Number("max_wait", 0, 86_400),
    Number("max_keys", 1, 10**9, whole=True),
]


@wrong_numbers(*NUMBERS)
def test_a_wrong_number_is_refused(field: str, value: Any) -> None:
    text = refused(lambda: RateLimit("10/second", **{field: value}), "RateLimit", field, value)
    assert "number" in text
    assert f"; write {field}=" in text


@right_numbers(*NUMBERS)
def test_the_ends_of_a_range_belong_to_it(field: str, value: Any) -> None:
    expected = 10 if value is None else value
    key = str if field == "max_keys" else None
    assert getattr(RateLimit("10/second", key=key, **{field: value}).options, field) == expected


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [
        ("200/second", 200, 1),
        ("1/minute", 1, 60),
        ("10 per 2 minutes", 10, 120),
        ("10/2minutes", 10, 120),
        ("5 PER Hour", 5, 3_600),
        ("  7 / 3 days ", 7, 259_200),
        ("1/month", 1, 2_592_000),
        ("12per1year", 12, 31_104_000),
        ("1000000000/second", 10**9, 1),
    ],
)
def test_a_rate_is_read(text: str, amount: int, seconds: int) -> None:
    assert parse_rate(text) == Rate(amount, seconds * 10**9, text)


@given(
    st.integers(1, 10**6),
    st.sampled_from(["/", " / ", " per ", "per "]),
    st.integers(1, 99),
    st.sampled_from(sorted(SECONDS)),
    st.booleans(),
)
def test_any_rate_is_read(amount: int, per: str, times: int, unit: str, several: bool) -> None:
    rate = parse_rate(f"{amount}{per}{times} {unit}{'s' if several else ''}")
    assert rate.amount == amount
    assert rate.period == times * SECONDS[unit] * 10**9
    assert rate.interval == rate.period // amount


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        *[
            (text, "write '200/second'")
            for text in ("", "200", "fast", "/second", "200/fortnight", "1.5/second")
        ],
        *[(text, "write '200/second'") for text in ("-1/second", "200/second!", "x 200/second", "2//second")],
        *[(text, "put one RateLimit behind the other") for text in ("1/second; 9/hour", "1/second,9/hour")],
        *[(text, "1 to 1000000000 calls per second") for text in ("0/second", "1/0 seconds")],
        ("1000000001/second", "1 to 1000000000 calls per second"),
        *[(value, "is not a rate") for value in (None, 200, 1.5, True, b"1/second", ("1/second",), object())],
    ],
)
def test_what_is_no_rate_is_refused(rate: Any, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        RateLimit(rate)
    assert str(caught.value).startswith(f"RateLimit: rate={rate!r} ")
    assert says in str(caught.value)
    assert "write '200/second'" in str(caught.value)


def test_only_several_limits_are_told_to_stand_one_behind_the_other() -> None:
    with pytest.raises(PolicyError) as caught:
        RateLimit("fast")
    assert "behind" not in str(caught.value)
    assert "second, minute, hour, day, month, year" in str(caught.value)


@pytest.mark.parametrize("cost", [0, -1, True, 1.0, "1", None, float("nan")])
def test_a_cost_is_whole_and_at_least_one(cost: Any) -> None:
    text = refused(lambda: RateLimit("10/second", cost=cost), "RateLimit", "cost", cost)
    assert text.endswith("must be a whole number of at least 1, or a function of the arguments; write cost=1")


def test_a_cost_above_the_burst_is_refused() -> None:
    text = refused(lambda: RateLimit("10/second", cost=11), "RateLimit", "cost", 11)
    assert text.endswith("is more than the burst of 10: no call could ever pass; write burst=11")
    assert RateLimit("10/second", cost=10).options.cost == 10
    assert RateLimit("10/second", burst=11, cost=11).options.cost == 11


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        *[("key", value, "key=lambda request: request.tenant") for value in ("tenant", 1, True)],
        *[("overflow", value, "overflow='refuse'") for value in (None, "drop", True, "REFUSE")],
    ],
)
def test_the_wrong_kind_is_refused_with_what_to_write(field: str, value: Any, instead: str) -> None:
    assert instead in refused(lambda: RateLimit("10/second", **{field: value}), "RateLimit", field, value)


def test_the_burst_is_the_amount_unless_it_is_given() -> None:
    assert RateLimitOptions("10 per 2 minutes").capacity == 10
    assert RateLimitOptions("10 per 2 minutes", burst=3).capacity == 3
