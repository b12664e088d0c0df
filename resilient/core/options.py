"""How a policy's options say their rules, and check them.

A policy's options are a frozen dataclass: the only definition of every parameter, its default, unit and
range. Each field carries its rule; a value outside it gives a `PolicyError` that names the field, the value,
the rule and what to write instead."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, TypeVar

from .errors import PolicyError

T = TypeVar("T")

_KEPT = 8
"""Changes that a call may live through and still end as it began."""


@dataclass(frozen=True)
class Rule:
    """What a number may be.

    Attributes:
        low: smallest value allowed.
        above: the value must be more than this.
        high: largest value allowed.
        integer: whether it must be whole.
        optional: whether None is allowed.
        unit: of the number, for the reader.
        hint: what to write instead of a wrong value.
    """

    low: float | None = None
    above: float | None = None
    high: float | None = None
    integer: bool = False
    optional: bool = False
    unit: str = ""
    hint: str = ""

    def __str__(self) -> str:
        parts = []
        if self.low is not None:
            parts.append(f"at least {_shown(self.low)}")
        if self.above is not None:
            parts.append(f"more than {_shown(self.above)}")
        if self.high is not None:
            parts.append(f"at most {_shown(self.high)}")
        kind = "a whole number" if self.integer else "a number"
        unit = f" ({self.unit})" if self.unit else ""
        rule = f"{kind}{unit}{', ' if parts else ''}{' and '.join(parts)}"
        return f"{rule}, or None" if self.optional else rule

    def allows(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if isinstance(value, float) and math.isnan(value):  # a whole number may be too large for a float
            return False
        if self.integer and (not isinstance(value, int)):
            return False
        return not (
            (self.low is not None and value < self.low)
            or (self.above is not None and value <= self.above)
            or (self.high is not None and value > self.high)
        )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:g}"


def number(default: Any, /, **rule: Any) -> Any:
    """A dataclass field with a `Rule`."""
    return field(default=default, metadata={"rule": Rule(**rule)})


@dataclass(frozen=True)
class Options:
    """Base of all options: checks every field that has a rule."""

    policy: ClassVar[str] = "Policy"

    def __post_init__(self) -> None:
        for each in fields(self):
            rule = each.metadata.get("rule")
            value = getattr(self, each.name)
            if rule is not None and not rule.allows(value):
                self.refuse(each.name, f"must be {rule}", rule.hint)
            if each.name == "name" and value is not None and (not isinstance(value, str) or not value):
                self.refuse("name", "must be a text that names the dependency, or None", "name='payments'")

    def refuse(self, name: str, rule: str, instead: str = "") -> None:
        """Raise the error for field ``name``."""
        hint = f"; write {instead}" if instead else ""
        raise PolicyError(f"{self.policy}: {name}={getattr(self, name)!r} {rule}{hint}")


class InForce(Generic[T]):
    """Numbers that may change while calls are under way: each call ends under those with which it began.

    Attributes:
        now: those of a call that begins now. Reading it needs no lock.
        before: until when others were in force, and these; the latest first.
    """

    __slots__ = ("before", "now")

    def __init__(self, options: T) -> None:
        self.now = options
        self.before: tuple[tuple[float, T], ...] = ()

    def change(self, options: T, at: float) -> None:
        """Other numbers from ``at`` on. One caller at a time."""
        self.before = ((at, self.now), *self.before)[:_KEPT]
        self.now = options

    def at(self, began: float | None) -> T:
        """Those of a call that began then; None: now."""
        options, before = self.now, self.before
        for until, older in before:
            if began is None or began >= until:
                break
            options = older
        return options


OBSERVE, DISABLED = "observe", "disabled"
SUSPENDED = (DISABLED, OBSERVE)
"""What an operator may make of a policy that turns calls away or repeats them: nothing of it, or told and not done."""


def check_state(options: Options, /) -> None:
    """Refuse a ``state`` that is none."""
    state = getattr(options, "state", None)
    if state not in (None, *SUSPENDED):
        options.refuse("state", f"must be one of {', '.join(SUSPENDED)}, or None", "state='observe'")


def refuse_async(options: Options, name: str, /) -> None:
    """A function that makes an option's value per call must give it, not a coroutine."""
    if inspect.iscoroutinefunction(getattr(options, name)):
        options.refuse(name, "must be a plain function: a coroutine is no value", "def, not async def")


def seconds(value: float, /) -> str:
    """A duration as people write it: ``0.5 s``, ``25 ms``."""
    return f"{value:g} s" if value == 0 or value >= 0.1 else f"{value * 1000:g} ms"


_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
DURATION = rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?(?:{_NUMBER}us)?"
"""A duration as documents write it, as a pattern."""

_DURATION = re.compile(DURATION)
_IN_ONE = (1 / 3_600, 1 / 60, 1, 1_000, 1_000_000)
"""Of each unit, in a second."""


def parse_duration(text: Any, /) -> float:
    """Seconds from ``1h2m3.5s``, ``250ms``, ``0s``.

    Raises:
        ValueError: it is not written so; a number needs its unit.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        raise ValueError("no duration")
    return sum(
        float(number) / in_one
        for number, in_one in zip(match.groups(), _IN_ONE, strict=True)
        if number is not None
    )
