"""How long to wait before the next attempt. Pure maths; the source of randomness is module ``random``, which
is seeded anew in forked children (an own ``Random()`` is not: workers would draw the same jitter)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from .options import Options, number, seconds

Jitter = Literal["full", "equal", "decorrelated", "proportional", "none"]
JITTERS: tuple[str, ...] = ("full", "equal", "decorrelated", "proportional", "none")


@dataclass(frozen=True)
class Backoff(Options):
    """Exponential delays, capped, jittered. The cap holds after the jitter.

    Attributes:
        base: seconds before the first retry, without jitter; 0 or more. 0 is no delay at all.
        cap: seconds that no delay exceeds; at least ``base``.
        factor: growth from retry to retry; 1 keeps the delay constant.
        jitter: ``full``: anywhere in 0..delay (AWS, Envoy). ``equal``: in delay/2..delay. ``decorrelated``:
            in base..3 x the delay before (AWS, Finagle). ``proportional``: delay +-20 % (gRPC A6). ``none``.
    """

    policy: ClassVar[str] = "backoff"
    base: float = number(0.025, low=0, high=86_400, unit="seconds", hint="backoff(0.025) for 25 ms")
    cap: float = number(1.0, low=0, high=86_400, unit="seconds", hint="backoff(0.025, cap=1.0)")
    factor: float = number(2.0, low=1, high=100, unit="times", hint="factor=2.0")
    jitter: Jitter = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jitter not in JITTERS:
            self.refuse("jitter", f"must be one of {', '.join(map(repr, JITTERS))}", 'jitter="full"')
        if self.cap < self.base:
            self.refuse("cap", f"must be at least the base, {self.base:g} s", f"cap={max(1.0, self.base):g}")

    def ceiling(self, retry: int, /) -> float:
        """The delay before retry number ``retry`` (from 1), without jitter."""
        # 2.0 ** 1024 overflows; the cap is reached long before that.
        return min(self.cap, self.base * self.factor ** min(retry - 1, 200)) if self.base else 0.0

    def delay(
        self,
        retry: int,
        /,
        previous: float = 0.0,
        *,
        base: float | None = None,
        rand: Callable[[], float] = random.random,
    ) -> float:
        """Seconds to wait before retry number ``retry`` (from 1).

        Args:
            previous: the delay before, for ``decorrelated``.
            base: a larger base for this once; the cap is raised to it.
            rand: gives numbers in [0, 1).
        """
        if base is not None and base > self.base:
            return Backoff(base, max(self.cap, base), self.factor, self.jitter).delay(
                retry, previous, rand=rand
            )
        jitter = self.jitter
        if jitter == "decorrelated":
            start = self.base
            return min(self.cap, start + rand() * max(0.0, 3.0 * max(previous, start) - start))
        top = self.ceiling(retry)
        if jitter == "full":
            return top * rand()
        if jitter == "equal":
            return top * (0.5 + 0.5 * rand())
        if jitter == "proportional":
            return min(self.cap, top * (0.8 + 0.4 * rand()))
        return top

    def worst(self, retries: int, /) -> float:
        """The longest that all delays before ``retries`` retries can be together."""
        if self.jitter == "decorrelated":
            return self.cap * retries
        spread = 1.2 if self.jitter == "proportional" else 1.0
        return sum(min(self.cap, self.ceiling(n) * spread) for n in range(1, retries + 1))

    def __str__(self) -> str:
        shape = f"{seconds(self.base)}..{seconds(self.cap)}" if self.factor > 1 else seconds(self.base)
        return (
            f"backoff {shape} x{self.factor:g} {self.jitter} jitter" if self.factor > 1 else f"wait {shape}"
        )


def backoff(
    base: float = 0.025, *, cap: float = 1.0, factor: float = 2.0, jitter: Jitter = "full"
) -> Backoff:
    """Exponential backoff with jitter.

    Args:
        base: seconds before the first retry, before jitter; 0..86400.
        cap: seconds that no delay exceeds.
        factor: growth per retry, 1..100.
        jitter: ``"full"``, ``"equal"``, ``"decorrelated"``, ``"proportional"`` or ``"none"``.

    Raises:
        PolicyError: a value outside its range.

    Source: AWS Architecture Blog, *Exponential Backoff And Jitter*; gRPC proposal A6 for ``proportional``.

    Example:
        >>> backoff(0.1, cap=5.0).ceiling(3)
        0.4
    """
    return Backoff(base, cap, factor, jitter)
