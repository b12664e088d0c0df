"""What a circuit breaker may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ...core.options import Options, number
from ...core.when import When

FORCED = ("forced_open", "disabled", "observe")
"""What an operator may force it to."""


@dataclass(frozen=True)
class CircuitBreakerOptions(Options):
    """Every parameter of `CircuitBreaker`; see there."""

    policy: ClassVar[str] = "CircuitBreaker"
    failure_ratio: float = number(0.5, above=0, high=1, unit="share of calls", hint="failure_ratio=0.5")
    minimum_calls: int = number(
        20, low=1, high=1_000_000, integer=True, unit="calls", hint="minimum_calls=20"
    )
    window: float = number(10.0, low=0.001, high=86_400, unit="seconds", hint="window=10.0")
    count: int | None = number(
        None, low=1, high=100_000, integer=True, optional=True, unit="calls", hint="count=100"
    )
    consecutive: int | None = number(
        10,
        low=1,
        high=1_000_000,
        integer=True,
        optional=True,
        unit="failures in a row",
        hint="consecutive=10",
    )
    slow_after: float | None = number(
        None, above=0, high=86_400, optional=True, unit="seconds", hint="slow_after=1.0"
    )
    slow_ratio: float = number(0.5, above=0, high=1, unit="share of calls", hint="slow_ratio=0.5")
    open_for: float = number(5.0, above=0, high=86_400, unit="seconds", hint="open_for=5.0")
    max_open: float = number(60.0, above=0, high=86_400, unit="seconds", hint="max_open=60.0")
    probes: int = number(3, low=1, high=1_000, integer=True, unit="successes that close it", hint="probes=3")
    probe_lease: float = number(10.0, above=0, high=86_400, unit="seconds", hint="probe_lease=10.0")
    ignore: Any = ()
    listeners: tuple[Any, ...] = ()
    storage: Any = None
    name: str | None = None
    state: str | None = None
    """Forced by the config document: ``forced_open``, ``disabled`` or ``observe``; in code there are methods."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_open < self.open_for:
            self.refuse(
                "max_open", f"must be at least open_for, {self.open_for:g} s", f"max_open={self.open_for:g}"
            )
        if self.count is not None and self.minimum_calls > self.count:
            self.refuse(
                "minimum_calls",
                f"can never be reached in a window of the last {self.count} calls",
                f"minimum_calls={self.count} or less",
            )
        if self.slow_after is None and self.slow_ratio != type(self).slow_ratio:
            self.refuse("slow_ratio", "has no effect without slow_after", "slow_after=1.0 beside it")
        if self.count is not None and self.window != type(self).window:
            self.refuse("window", "has no effect beside count", "one of the two")
        if self.state not in (None, *FORCED):
            self.refuse("state", f"must be one of {', '.join(FORCED)}, or None", "state='observe'")
        ignore = When.of(self.ignore, policy="CircuitBreaker", field="ignore", example="ignore=(ValueError,)")
        object.__setattr__(self, "ignore", ignore)
        if not isinstance(self.listeners, (list, tuple, set, frozenset)):
            self.refuse("listeners", "must be a list of pybreaker listeners", "listeners=[MyListener()]")
        object.__setattr__(self, "listeners", tuple(self.listeners))
        for listener in self.listeners:
            if not hasattr(listener, "state_change"):
                self.refuse(
                    "listeners",
                    f"has {listener!r}, which is no pybreaker.CircuitBreakerListener",
                    "listeners=[MyListener()] with a subclass of that, or resilient.subscribe(function)",
                )
        if self.storage is not None and not hasattr(type(self.storage), "opened_at"):
            self.refuse(
                "storage",
                "is no pybreaker.CircuitBreakerStorage",
                'storage=pybreaker.CircuitMemoryStorage("closed")',
            )
