"""What a bulkhead may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...core.options import Options, check_state, number


@dataclass(frozen=True)
class BulkheadOptions(Options):
    """Every parameter of `Bulkhead`; see there."""

    policy: ClassVar[str] = "Bulkhead"
    limit: int = number(
        100, low=1, high=1_000_000, integer=True, unit="calls in flight", hint="Bulkhead(100)"
    )
    queue: int = number(0, low=0, high=1_000_000, integer=True, unit="waiting calls", hint="queue=50")
    max_wait: float = number(0.0, low=0, high=86_400, unit="seconds", hint="max_wait=0.5")
    name: str | None = None
    state: str | None = None
    """Set by the config document: ``observe`` or ``disabled``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_state(self)
        if bool(self.queue) != bool(self.max_wait):
            missing = "max_wait" if self.queue else "queue"
            self.refuse(
                missing,
                "leaves nobody to wait: a queue needs a length and a time",
                f"Bulkhead({self.limit}, queue={self.queue or 50}, max_wait={self.max_wait or 0.5:g})",
            )
