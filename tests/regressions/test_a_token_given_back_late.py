"""A call that never ran had its token given back whole, however late: also where the bucket had filled up meanwhile and
others had used what flowed in. So the callee met more than the rate allows."""

from __future__ import annotations

import pytest

from resilient import RateLimit, RateLimited


@pytest.mark.parametrize("keyed", [False, True])
def test_what_has_flowed_in_again_is_not_given_back(keyed: bool) -> None:
    limit = RateLimit("1/second", burst=1, key=(lambda: "k") if keyed else None)
    gate = limit.select((), {}) if keyed else limit
    waits_further_in = gate.admit(100.0)
    assert isinstance(waits_further_in, float)
    gate.admit(101.0)  # runs
    gate.cancel(waits_further_in, 101.5)
    with pytest.raises(RateLimited) as caught:
        gate.admit(101.5)
    assert caught.value.retry_after == 0.5


@pytest.mark.parametrize("keyed", [False, True])
def test_what_has_not_is(keyed: bool) -> None:
    limit = RateLimit("1/second", burst=1, max_wait=9.0, key=(lambda: "k") if keyed else None)
    gate = limit.select((), {}) if keyed else limit
    first = gate.admit(100.0)
    assert isinstance(first, float)
    gate.cancel(first, 100.25)  # a quarter has flowed in: three quarters come back
    assert gate.admit(100.25) == 101.25
