"""What a fallback may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ...core.options import Options
from ...core.when import ANY_ERROR, When


@dataclass(frozen=True)
class FallbackOptions(Options):
    """Every parameter of `Fallback`; see there."""

    policy: ClassVar[str] = "Fallback"
    fallback: Any
    on: Any = ANY_ERROR

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "on", When.of(self.on, policy="Fallback", field="on"))
