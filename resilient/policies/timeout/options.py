"""What a timeout may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...core.options import Options, number


@dataclass(frozen=True)
class TimeoutOptions(Options):
    """Every parameter of `Timeout`; see there."""

    policy: ClassVar[str] = "Timeout"
    seconds: float = number(2.0, above=0, high=86_400, unit="seconds", hint="Timeout(2.0)")
    walk_away: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.walk_away, bool):
            self.refuse("walk_away", "must be True or False", "walk_away=True")
