"""What a retry may be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ...core.backoff import Backoff
from ...core.budget import Budget
from ...core.options import Options, check_state, number, refuse_async
from ...core.when import TRANSIENT, When
from .strategies import is_a, is_strategy

RETRY_AFTER_CEILING = 30.0
"""Seconds. A server that asks for more is not waited for: the error carries what it asked."""


@dataclass(frozen=True)
class RetryOptions(Options):
    """Every parameter of `Retry`; see there."""

    policy: ClassVar[str] = "Retry"
    attempts: int = number(
        3, low=1, high=100, integer=True, unit="in all, the first included", hint="attempts=3"
    )
    on: Any = TRANSIENT
    wait: Any = Backoff()
    stop: Any = None
    budget: Budget | None = None
    idempotent: bool | None = None
    idempotency_key: Callable[..., str] | None = None
    state: str | None = None
    """Set by the config document: ``observe`` or ``disabled``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_state(self)
        if not is_strategy(self.on):
            object.__setattr__(self, "on", When.of(self.on, policy="Retry", field="on", results=True))
        if isinstance(self.wait, (int, float)) and not isinstance(self.wait, bool):
            if not 0 <= self.wait <= 86_400:
                self.refuse("wait", "must be 0 to 86,400 seconds", "wait=0.5")
            object.__setattr__(self, "wait", Backoff(self.wait, max(1.0, self.wait), 1.0, "none"))
        if not isinstance(self.wait, Backoff) and not callable(self.wait):
            self.refuse(
                "wait", "must be a backoff, seconds, or a tenacity wait", "wait=backoff(0.025, cap=1.0)"
            )
        if is_a("stop_base", self.wait):
            self.refuse("wait", "says when to stop, not how long to wait", "stop= for it")
        if is_a("wait_base", self.stop):
            self.refuse("stop", "says how long to wait, not when to stop", "wait= for it")
        if self.stop is not None and not callable(self.stop):
            self.refuse("stop", "must be a tenacity stop, or None", "stop=tenacity.stop_after_delay(5)")
        if self.budget is not None and not isinstance(self.budget, Budget):
            self.refuse(
                "budget", "must be a Budget, or None for the dependency's own", "budget=Budget(ratio=0.2)"
            )
        if self.idempotent is not None and not isinstance(self.idempotent, bool):  # 0 is not False here
            self.refuse("idempotent", "must be True, False or None", "idempotent=True")
        if self.idempotency_key is not None and not callable(self.idempotency_key):
            self.refuse(
                "idempotency_key",
                "must be a function of the call's arguments",
                "idempotency_key=lambda order: order.id",
            )
        refuse_async(self, "idempotency_key")
        if self.idempotent is False and self.idempotency_key is not None:
            self.refuse(
                "idempotent", "contradicts idempotency_key=: a keyed call is safe to repeat", "one of the two"
            )
