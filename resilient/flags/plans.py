"""What a document prepares for later: plans, and by which signs the level may move by itself. Pure; no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

SCHEDULED, EMERGENCY = "scheduled", "emergency"
OFF, SHADOW, ON = "off", "shadow", "on"


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


class Window(NamedTuple):
    """When a plan holds, in seconds since the epoch: from ``start`` on, and no more at ``end``."""

    start: float
    end: float

    def overlaps(self, other: Window, /) -> bool:
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Plan:
    """Changes that were prepared together.

    Attributes:
        name: of the plan.
        kind: ``"scheduled"``, which holds in its window, or ``"emergency"``, which holds while a person says so.
        active: whether a person lets it hold.
        window: when it holds.
        group: of those of one group no two hold at a time.
        owner: whom to ask.
        level: the lowest level while it holds; None: it does not raise it.
        flags: the variants of features while it holds.
        targets: the numbers of policies while it holds, as the document has them.

    Example:
        >>> plan = Plan("sale", "scheduled", active=True, window=Window(100.0, 200.0))
        >>> [plan.holds(at) for at in (99.9, 100.0, 200.0)]
        [False, True, False]
    """

    name: str
    kind: str
    active: bool
    window: Window | None = None
    group: str = ""
    owner: str = ""
    level: int | None = None
    flags: Mapping[str, str] = field(default_factory=_nothing)
    targets: Mapping[str, Any] = field(default_factory=_nothing)

    def holds(self, at: float, /) -> bool:
        """Whether it holds at a time, in seconds since the epoch."""
        return self.active and (self.window is None or self.window.start <= at < self.window.end)

    def may_meet(self, other: Plan, /) -> bool:
        """Whether both may hold at a time."""
        if self.group and self.group == other.group:
            return False
        return self.window is None or other.window is None or self.window.overlaps(other.window)


class Signal(NamedTuple):
    """By which readings the level moves: at ``enter`` and above it rises, at ``exit`` and below it may fall."""

    enter: float
    exit: float


@dataclass(frozen=True)
class Auto:
    """How the level moves by itself.

    Attributes:
        mode: ``"off"``; ``"shadow"``: it only tells what it would do; ``"on"``.
        most: the highest level that it goes to.
        enter_for: seconds that a signal must be high for each step up.
        exit_for: seconds that all must be low for each step down.
        signals: by name.
    """

    mode: str = OFF
    most: int = 0
    enter_for: float = 5.0
    exit_for: float = 60.0
    signals: Mapping[str, Signal] = field(default_factory=_nothing)


@dataclass(frozen=True)
class Steering:
    """How the level is found, and how features are given back.

    Attributes:
        pinned: whether the document's level holds, whatever plans, signals and persons say.
        restore_after: seconds after something was taken until anything is given back.
        restore_ramp: seconds over which features are given back, each in each pod at a time of its own.
        auto: how the level moves by itself.
    """

    pinned: bool = False
    restore_after: float = 30.0
    restore_ramp: float = 120.0
    auto: Auto = field(default_factory=Auto)
