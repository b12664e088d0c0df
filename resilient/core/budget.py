"""The retry budget: what keeps retries from making an outage worse.

One per dependency, shared by everything that sends a call again. A retry needs both

- room in the window: at most ``ratio`` of the calls of the last ``window`` seconds, or the floor of ``floor``
per second
  (Finagle's RetryBudget);
- stock: ``stock`` tokens, full at the start; a retry costs ``cost``, which it gets back when it succeeds; a
call that
  succeeds at once brings 1 (botocore's retry quota). An empty stock stops the floor too, so that a total
  outage ends with no retries at all.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from .forks import tell_after_fork
from .options import Options, number
from .windows import respread

_SLOTS = 10


@dataclass(frozen=True)
class BudgetOptions(Options):
    """What a budget allows; see `Budget`."""

    policy: ClassVar[str] = "Budget"
    ratio: float = number(0.2, low=0, high=10, unit="retries per call", hint="ratio=0.2 for 20 %")
    window: float = number(10.0, low=1, high=600, unit="seconds", hint="window=10.0")
    floor: float = number(1.0, low=0, high=1_000, unit="retries per second", hint="floor=1.0")
    stock: int = number(35, low=0, high=1_000_000, integer=True, unit="tokens", hint="stock=35")
    cost: int = number(5, low=1, high=1_000, integer=True, unit="tokens per retry", hint="cost=5")

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.stock < self.cost:
            self.refuse(
                "stock", f"is less than one retry costs, {self.cost}", f"stock={7 * self.cost}, or 0 for none"
            )


class Budget:
    """How many retries a dependency may cost us.

    Args:
        ratio: retries per call over the window, 0..10.
        window: seconds, 1..600, in ten slots.
        floor: retries per second that are allowed however few calls there are, 0..1000.
        stock: tokens at the start and at most.
        cost: tokens that a retry takes, and gives back when it succeeds.

    Thread-safe; usable from sync and async code at once. The path of a call that succeeds at once takes no
    lock: successes are counted by one atomic step of the interpreter, and looked at when a retry is asked
    for.

    Sources: Finagle ``RetryBudget``, botocore ``RetryQuota``, gRPC A6 (retry throttling).

    Example:
        >>> budget = Budget(ratio=0.2, stock=10, cost=5)
        >>> [budget.withdraw(0.0) for _ in range(3)]
        [True, True, False]
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_full",
        "_lock",
        "_retries",
        "_slot",
        "_stock",
        "_taken",
        "count",
        "edge",
        "options",
    )

    def __init__(
        self,
        *,
        ratio: float = 0.2,
        window: float = 10.0,
        floor: float = 1.0,
        stock: int = 35,
        cost: int = 5,
    ) -> None:
        self.options = BudgetOptions(ratio, window, floor, stock, cost)
        self._lock = threading.RLock()
        self._stock = stock  # guarded by _lock
        self._full = 1.0  # how full it was when it could hold anything; guarded by _lock
        self.count = itertools.count().__next__  # successes; one step, without the lock, while now < edge
        self._taken = 0  # of those, already in _calls and _stock, or spent on reading; guarded by _lock
        self._calls = [0] * _SLOTS  # guarded by _lock
        self._retries = [0] * _SLOTS  # guarded by _lock
        self._slot = 0  # guarded by _lock
        self.edge = float("-inf")  # when the current slot ends; written under _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def retune(self, options: BudgetOptions, now: float, /) -> None:
        """Go on with other numbers; the stock stays as full as it was, and what was counted stays counted."""
        with self._lock:
            self._turn(now)
            self._look()
            old, self.options = self.options, options
            if old.stock:
                self._full = self._stock / old.stock
            self._stock = min(options.stock, round(self._full * options.stock))
            if options.window != old.window:
                ratio = old.window / options.window
                self._calls = respread(self._calls, self._slot, ratio)
                self._retries = respread(self._retries, self._slot, ratio)
                self._slot = 0
                self.edge = now + options.window / _SLOTS

    def succeeded(self, now: float, /) -> None:
        """A call succeeded at its first attempt."""
        if now < self.edge:
            self.count()
            return
        with self._lock:
            self._turn(now)
            self.count()

    def failed(self, now: float, /) -> None:
        """A call's first attempt failed."""
        with self._lock:
            if now >= self.edge:
                self._turn(now)
            self._calls[self._slot] += 1

    def withdraw(self, now: float, /) -> bool:
        """Ask for one retry; call it when the retry is scheduled, before the backoff. True: it is paid
        for."""
        options = self.options
        cost = options.cost
        with self._lock:
            if now >= self.edge:
                self._turn(now)
            self._look()
            if self._stock < cost:
                return False
            share, floor = options.ratio * sum(self._calls), options.floor * options.window
            if sum(self._retries) + 1 > (share if share > floor else floor):
                return False
            self._stock -= cost
            self._retries[self._slot] += 1
            return True

    def refund(self) -> None:
        """A retry that was paid for succeeded."""
        with self._lock:
            self._look()
            self._stock = min(self.options.stock, self._stock + self.options.cost)

    @contextmanager
    def paid(self) -> Iterator[None]:
        """Around all that lies between paying for a retry and making it: where that raises (the caller is
        cancelled while it waits), the retry is not made and counts nowhere."""
        try:
            yield
        except BaseException:
            with self._lock:
                self._look()
                self._stock = min(self.options.stock, self._stock + self.options.cost)
                for back in range(_SLOTS):  # it was counted in this slot or in an earlier one
                    if self._retries[self._slot - back]:
                        self._retries[self._slot - back] -= 1
                        break
            raise

    def remaining(self, now: float, /) -> float:
        """Retries that could be made at once, 0 or more."""
        options = self.options
        with self._lock:
            self._turn(now)
            self._look()
            room = max(options.ratio * sum(self._calls), options.floor * options.window) - sum(self._retries)
            return float(max(0, min(self._stock // options.cost, int(room))))

    def _look(self) -> None:
        # Reading the counter advances it by one; _taken leaves that one out the next time.
        new = self.count() - self._taken
        self._taken += new + 1
        if new:
            self._calls[self._slot] += new
            self._stock = min(self.options.stock, self._stock + new)

    def _turn(self, now: float) -> None:
        """Move to the slot of ``now``; time that goes back stays in the current slot."""
        if now < self.edge:
            return
        width = self.options.window / _SLOTS
        if self.edge == float("-inf"):
            self.edge = now + width
            return
        self._look()
        steps = int((now - self.edge) / width) + 1
        for _ in range(min(steps, _SLOTS)):
            self._slot = (self._slot + 1) % _SLOTS
            self._calls[self._slot] = 0
            self._retries[self._slot] = 0
        self.edge += steps * width

    def __repr__(self) -> str:
        o = self.options
        numbers = f"ratio={o.ratio:g}, window={o.window:g}, floor={o.floor:g}, stock={o.stock}, cost={o.cost}"
        return f"Budget({numbers})"
