"""The answer to "why is this value in force"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .numbers import EMERGENCY, OVERRIDE


@dataclass(frozen=True)
class Explanation:
    """Why a number is what it is.

    Attributes:
        key: such as ``payments.retry.attempts``.
        value: in force, seconds as a float.
        layer: what decides it: ``"override"`` (a person, for a time), ``"emergency"`` (the emergency document),
            ``"plan"`` (a plan of the document that holds now), ``"document"``, ``"environment"``, ``"code"``;
            ``"auto"``: signals moved the level; or ``"preset"``: `standard` makes it of other numbers.
        place: ``file:line``, where a document decides; the variable, where the environment does; of an override, why
            and until when.
        lives: whether a pipeline of that name lives in this process; else the value is only what is in the document.
        pinned: why a person put the document in force that decides it, an older one; None: nobody did.
        cause: of a feature, as in `FlagDetails`; of the level, what decided it; None for numbers.
    """

    key: str
    value: Any
    layer: str
    place: str | None
    lives: bool
    pinned: str | None = None
    cause: str | None = None

    def __str__(self) -> str:
        where = f"{': ' if self.layer == OVERRIDE else ' at '}{self.place}" if self.place else ""
        where += f", by {self.cause}" if self.cause is not None else ""
        where += f", pinned: {self.pinned}" if self.pinned is not None else ""
        note = "" if self.lives else "; nothing of that name lives in this process"
        layer = "emergency document" if self.layer == EMERGENCY else self.layer
        return f"{self.key} = {self.value} (from the {layer}{where}{note})"
