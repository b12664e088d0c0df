"""The rates that users of `limits` write mean the same here, and what is refused is refused with what to write."""

from __future__ import annotations

import random

import limits
import pytest
from limits import strategies

from resilient import PolicyError, RateLimit
from resilient.policies.ratelimit.options import NANOSECONDS, parse_rate
from resilient.testing import ManualClock

NOTATIONS = [
    "1/second", "200/second", "10/minute", "100/hour", "5/day", "7/month", "3/year",
    "1 per second", "10 per minute", "10 per 2 minutes", "100 per hour", "2 per 3 hours", "4 per 12 hours",
    "10/2minutes", "10/2 minutes", "10/ 2 minutes", "10 / 2 minutes", " 10/minute ", "10\tper\tminute",
    "10/seconds", "1 per 5 days", "1 per 2 months", "9 per 2 years", "1/SECOND", "1 PER Minute", "5/Hours",
    "10per minute", "10 perminute", "10perminute", "10per2minutes", "10/1second", "0010/second", "10 per 05 minutes",
]  # fmt: skip


@pytest.mark.parametrize("text", NOTATIONS)
def test_a_notation_means_what_limits_means(text: str) -> None:
    item, rate = limits.parse(text), parse_rate(text)
    assert (rate.amount, rate.period) == (item.amount, item.get_expiry() * NANOSECONDS)


@pytest.mark.parametrize("text", NOTATIONS)
def test_an_item_means_what_its_notation_means(text: str) -> None:
    item = limits.parse(text)
    assert parse_rate(item)[:2] == parse_rate(text)[:2]


@pytest.mark.parametrize(
    "item",
    [
        limits.RateLimitItemPerSecond(5),
        limits.RateLimitItemPerMinute(10, 2),
        limits.RateLimitItemPerHour(100, 1, "namespace"),
        limits.RateLimitItemPerDay(1),
        limits.RateLimitItemPerMonth(3),
        limits.RateLimitItemPerYear(2, 5),
    ],
    ids=str,
)
def test_every_kind_of_item(item: limits.RateLimitItem) -> None:
    rate = parse_rate(item)
    assert (rate.amount, rate.period) == (item.amount, item.get_expiry() * NANOSECONDS)
    assert RateLimit(item).options.rate == rate


def test_what_both_read_they_read_alike() -> None:
    """Texts thrown together from the pieces of the notation: none that we accept means something else there."""
    rand, both = random.Random(11), 0
    pieces = [
        "1",
        "10",
        "0",
        " ",
        "",
        "/",
        "per",
        " per ",
        "2",
        "3",
        "second",
        "minutes",
        "Hour",
        "day",
        "s",
        ";",
        "-",
        ".",
    ]
    for _ in range(20_000):
        text = "".join(rand.choice(pieces) for _ in range(rand.randint(2, 6)))
        try:
            rate = parse_rate(text)
        except PolicyError:
            continue
        item = limits.parse(text)
        assert (rate.amount, rate.period) == (item.amount, item.get_expiry() * NANOSECONDS), text
        both += 1
    assert both > 100


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "write '200/second'"),
        ("fast", "units: second, minute"),
        ("10", "write '200/second'"),
        ("10/fortnight", "units: second, minute"),
        ("ten/second", "write '200/second'"),
        ("-1/second", "write '200/second'"),
        ("1.5/second", "write '200/second'"),
        ("10/second; 100/minute", "put one RateLimit behind the other"),
        ("10/second, 100/minute", "put one RateLimit behind the other"),
        ("10/second|100/minute", "put one RateLimit behind the other"),
        ("0/second", "must allow 1"),
        ("10/0minutes", "must allow 1"),
        ("2000000000/second", "at least|must allow 1 to 1000000000"),
        (None, "give an item of `limits`"),
        (200, "give an item of `limits`"),
        (["10/second"], "give an item of `limits`"),
        (object(), "give an item of `limits`"),
    ],
)
def test_what_is_no_rate_is_refused_with_what_to_write(value: object, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        RateLimit(value)
    assert str(caught.value).startswith("RateLimit: rate=")


def test_a_limit_admits_no_more_in_a_window_than_limits_moving_window_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Side by side on one clock: ours lets through the same burst, and over any longer time no more than the rate
    and one burst."""
    clock = ManualClock()
    monkeypatch.setattr("limits.storage.memory.time", clock)
    item = limits.parse("10 per 2 seconds")
    theirs = strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
    ours = RateLimit(item)
    admitted = {"theirs": 0, "ours": 0}
    for _ in range(400):
        clock.advance(0.05)
        admitted["theirs"] += theirs.hit(item, "key")
        try:
            ours.admit(clock.monotonic())
            admitted["ours"] += 1
        except Exception:
            pass
    assert admitted["theirs"] == pytest.approx(100, abs=10)
    assert admitted["ours"] <= 10 + 5 * clock.monotonic()
    assert admitted["ours"] == pytest.approx(admitted["theirs"], abs=10)
