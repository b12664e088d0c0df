"""`RateLimit("10per minute")` was refused, although `limits`, whose notation it is, takes it.

The pattern asked for a word boundary on both sides of "per", and there is none between a digit and a letter."""

from __future__ import annotations

import limits
import pytest

from resilient import RateLimit


@pytest.mark.parametrize("text", ["10per minute", "10per2minutes", "10 per2 minutes", "10perminute"])
def test_what_limits_reads_is_read(text: str) -> None:
    theirs = limits.parse(text)
    rate = RateLimit(text).options.rate
    assert rate.interval * theirs.amount == theirs.get_expiry() * 10**9
