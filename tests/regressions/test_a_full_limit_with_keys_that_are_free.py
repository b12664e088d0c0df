"""A limit with keys refused every new one for up to two days, although those that it held had long been full again."""

from __future__ import annotations

import pytest

from resilient import Pipeline, RateLimit, RateLimited
from resilient.testing import ManualClock


def test_keys_that_are_full_again_make_room(manual_clock: ManualClock) -> None:
    limit = RateLimit("1000/day", key=str, max_keys=2)
    call = Pipeline(limit, clock=manual_clock)(str)
    call("a")
    call("b")
    manual_clock.advance(80.0)
    with pytest.raises(RateLimited, match="holds 2 keys in use"):
        call("c")
    manual_clock.advance(10.0)  # a token flows in each 86.4 s: both are full again
    assert call("c") == "c"
    assert limit.keys == 2
    manual_clock.advance(90.0)
    for key in "defghi":
        call(key)
        manual_clock.advance(90.0)
    assert limit.keys == 2


def test_those_in_use_stay(manual_clock: ManualClock) -> None:
    limit = RateLimit("1/minute", burst=3, key=str, max_keys=100)
    call = Pipeline(limit, clock=manual_clock)(str)
    for number in range(50):
        for _ in range(3):
            call(number)
    for number in range(50, 100):
        call(number)
    manual_clock.advance(61.0)  # the second half is full again, and the first has one token each
    for number in range(1_000, 1_050):
        call(number)
    for number in range(50):
        call(number)
        with pytest.raises(RateLimited, match="has no token"):
            call(number)
