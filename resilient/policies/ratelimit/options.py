"""What a rate limit may be told, and the notation of its rates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from ...core.errors import PolicyError
from ...core.options import Options, check_state, number, refuse_async

NANOSECONDS = 1_000_000_000
_UNITS = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "month": 2_592_000,
    "year": 31_104_000,
}  # as `limits` counts them
_NOTATION = re.compile(
    r"\s*(?P<amount>\d{1,18})\s*(?:/|per)\s*(?P<times>\d{1,9})?\s*(?P<unit>second|minute|hour|day|month|year)s?\s*",
    re.IGNORECASE | re.ASCII,
)


class Rate(NamedTuple):
    """``amount`` calls every ``period`` nanoseconds."""

    amount: int
    period: int
    text: str

    @property
    def interval(self) -> int:
        """Nanoseconds between two calls."""
        return self.period // self.amount


def parse_rate(value: Any, /) -> Rate:
    """A rate from a `limits` string or item: ``"200/second"``, ``"10 per 2 minutes"``,
    ``limits.RateLimitItemPerSecond(5)``.

    Raises:
        PolicyError: it is neither, or stands for nothing.
    """
    if isinstance(value, Rate):
        return value
    if isinstance(value, str):
        match = _NOTATION.fullmatch(value)
        if match is None:
            several = (
                " Several limits: put one RateLimit behind the other." if re.search(r"[;,|]", value) else ""
            )
            raise PolicyError(
                f"RateLimit: rate={value!r} is not a rate; write '200/second' or '10 per 2 minutes' "
                f"(units: {', '.join(_UNITS)}).{several}"
            )
        amount, seconds = int(match["amount"]), int(match["times"] or 1) * _UNITS[match["unit"].lower()]
    else:
        given, expiry = getattr(value, "amount", None), getattr(value, "get_expiry", None)
        if not isinstance(given, int) or not callable(expiry):
            raise PolicyError(
                f"RateLimit: rate={value!r} is not a rate; write '200/second', or give an item of `limits`"
            )
        amount, seconds = given, int(expiry())
    if amount < 1 or seconds < 1 or amount > seconds * NANOSECONDS:
        raise PolicyError(
            f"RateLimit: rate={value!r} must allow 1 to 1000000000 calls per second; write '200/second'"
        )
    return Rate(
        amount, seconds * NANOSECONDS, value if isinstance(value, str) else f"{amount} per {seconds} seconds"
    )


@dataclass(frozen=True)
class RateLimitOptions(Options):
    """Every parameter of `RateLimit`; see there."""

    policy: ClassVar[str] = "RateLimit"
    rate: Any
    burst: int | None = number(
        None, low=1, high=10**9, integer=True, optional=True, unit="calls", hint="burst=50"
    )
    cost: int | Callable[..., int] = 1
    max_wait: float = number(0.0, low=0, high=86_400, unit="seconds", hint="max_wait=0.5")
    key: Callable[..., Any] | None = None
    max_keys: int = number(1_000_000, low=1, high=10**9, integer=True, unit="keys", hint="max_keys=1_000_000")
    overflow: str = "refuse"
    name: str | None = None
    state: str | None = None
    """Set by the config document: ``observe`` or ``disabled``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_state(self)
        object.__setattr__(self, "rate", parse_rate(self.rate))
        if self.burst is None:
            object.__setattr__(self, "burst", self.rate.amount)
        if not callable(self.cost):
            if isinstance(self.cost, bool) or not isinstance(self.cost, int) or self.cost < 1:
                self.refuse(
                    "cost", "must be a whole number of at least 1, or a function of the arguments", "cost=1"
                )
            if self.cost > self.capacity:
                self.refuse(
                    "cost",
                    f"is more than the burst of {self.burst}: no call could ever pass",
                    f"burst={self.cost}",
                )
        if self.key is not None and not callable(self.key):
            self.refuse(
                "key", "must be a function of the call's arguments", "key=lambda request: request.tenant"
            )
        refuse_async(self, "key")
        refuse_async(self, "cost")
        if self.overflow not in ("refuse", "share"):
            self.refuse("overflow", "must be 'refuse' or 'share'", "overflow='refuse'")
        if self.key is None:
            for name in ("max_keys", "overflow"):
                if getattr(self, name) != getattr(type(self), name):
                    self.refuse(
                        name, "has no effect without key=", "key=lambda request: request.tenant beside it"
                    )

    @cached_property
    def refusal(self) -> str:
        """What a call without a token is told."""
        return f"the rate limit of {self.rate.text} (burst {self.burst}) has no token"

    @property
    def capacity(self) -> int:
        """The burst in force."""
        assert self.burst is not None
        return self.burst
