"""Wrong values for an option, and what the error has to say of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from resilient import PolicyError


@dataclass(frozen=True)
class Number:
    """An option that is a number, as its documentation has it: the smallest and the largest value that belong to it.

    Attributes:
        open_below: ``low`` itself does not belong to it.
    """

    field: str
    low: float
    high: float
    whole: bool = False
    optional: bool = False
    open_below: bool = False

    def wrong(self) -> Iterator[Any]:
        yield from (math.nan, math.inf, -math.inf, True, False, "1", b"1", [1], 1j)
        step = 1 if self.whole else 1e-3
        yield self.low - step
        yield self.high + max(step, self.high * 1e-9)
        if self.open_below:
            yield self.low
        if self.whole:
            yield self.low + 0.5
            yield float(self.low)
        if not self.optional:
            yield None

    def right(self) -> Iterator[Any]:
        yield self.high
        yield self.low + (1e-9 if self.open_below else 0)
        if self.optional:
            yield None


def wrong_numbers(*numbers: Number) -> pytest.MarkDecorator:
    """A test for each wrong value: gives ``field`` and ``value``."""
    table = [(each.field, value) for each in numbers for value in each.wrong()]
    return pytest.mark.parametrize(("field", "value"), table, ids=[f"{f}={v!r}" for f, v in table])


def right_numbers(*numbers: Number) -> pytest.MarkDecorator:
    """A test for the ends of each range, which belong to it."""
    table = [(each.field, value) for each in numbers for value in each.right()]
    return pytest.mark.parametrize(("field", "value"), table, ids=[f"{f}={v!r}" for f, v in table])


def refused(build: Callable[[], object], policy: str, field: str, value: Any) -> str:
    """That it is refused, with field, value, rule and what to write instead; the text."""
    with pytest.raises(PolicyError) as caught:
        build()
    text = str(caught.value)
    assert text.startswith(f"{policy}: {field}={value!r} "), text
    rule, _, instead = text.removeprefix(f"{policy}: {field}={value!r} ").partition("; write ")
    assert rule, text
    assert instead, text
    return text
