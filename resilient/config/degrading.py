"""What the flags in force are from moment to moment: the document, with plans, signals and persons over it.

Looked at once a second by the thread that looks at the document. What is taken is taken at once; what is given back is
given back slowly (`resilient.flags.restore`)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.events import RUNTIME, emit
from ..core.forks import tell_after_fork
from ..core.log import INFO, WARNING, write
from ..flags.auto import AutoLevel
from ..flags.plans import OFF, ON, Plan
from ..flags.restore import Restoring, share_of
from ..flags.snapshot import Flags, Overlay
from ..flags.state import NOTHING, STATE, announce
from .events import AutoLevelMoved, PlanChanged
from .records import AUTO_LEVEL, PLAN, PLAN_ENDED, Change, Difference, History
from .signals import SIGNALS, Signals
from .switches import FLAGS, LEVEL_KEY

JUMP = 2.0
"""Seconds that the wall clock may be moved without a word."""

Laid = Mapping[str, tuple[Any, str]]
"""What persons set, by key such as ``flags.search``, each with why and until when."""

_NOTHING: Laid = MappingProxyType({})

UsePlans = Callable[[tuple[str, ...]], tuple[Difference, ...]]
"""Brings the policies to what these plans set; the numbers that changed."""


@cache
def _pod() -> str:
    return socket.gethostname()


class Settled(NamedTuple):
    """What was put in force just now, and what was.

    Attributes:
        before: the flags that were.
        after: those that are.
        plans: that held before.
        active: those that hold now.
    """

    before: Flags
    after: Flags
    plans: tuple[str, ...]
    active: Mapping[str, Plan]


def may_set(flags: Flags, key: str, variant: str, /) -> bool:
    """Whether a person may set a feature, ``flags.search``, to a variant."""
    flag = flags.flags.get(key.removeprefix(FLAGS))
    return flag is not None and not flag.protected and variant in flag.variants


def active_at(flags: Flags, at: float, /) -> dict[str, Plan]:
    """The plans that hold at a time, in seconds since the epoch."""
    return {name: plan for name, plan in flags.plans.items() if plan.holds(at)}


def overlay_of(flags: Flags, active: Mapping[str, Plan], auto: int = 0, laid: Laid = _NOTHING, /) -> Overlay:
    """What holds beside the document.

    Args:
        active: the plans that hold.
        auto: the automatic level.
        laid: what persons set.
    """
    level, why, reason = flags.level, "document", None
    steering = flags.steering
    sets: dict[str, tuple[str, str]] = {}
    for name, plan in active.items():
        sets |= {key: (variant, name) for key, variant in plan.flags.items()}
        if plan.level is not None and plan.level > level and not steering.pinned:
            level, why = plan.level, f"plan:{name}"
    if auto > level and steering.auto.mode == ON and not steering.pinned:
        level, why = auto, "auto"
    overrides: dict[str, tuple[str, str]] = {}
    for key, (value, because) in laid.items():
        if key == LEVEL_KEY:
            level, why, reason = min(value, len(flags.levels) - 1), "override", because
        elif may_set(flags, key, value):
            overrides[key.removeprefix(FLAGS)] = (value, because)
    return Overlay(
        level, why, tuple(active), MappingProxyType(sets), MappingProxyType(overrides), reason=reason
    )


class Degrading:
    """Keeps the flags in force. Thread-safe.

    Args:
        clock: where time comes from.
        signals: what moves the level.
        share: where in the ramp a feature of this pod is given back, 0 to 1.
    """

    def __init__(
        self,
        clock: Clock = SYSTEM_CLOCK,
        signals: Signals = SIGNALS,
        share: Callable[[str], float] = lambda feature: share_of(_pod(), feature),
    ) -> None:
        self._clock = clock
        self._signals = signals
        self._lock = threading.RLock()
        self._document = NOTHING  # guarded by _lock, as all below
        self._overlay: Overlay | None = None
        self._laid: Laid = {}
        self._auto = AutoLevel()
        self._restoring = Restoring(share)
        self._behind: float | None = None  # how far the wall clock is ahead of the other one
        self._use_plans: UsePlans = lambda names: ()
        self._history = History()
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def follow(self, use_plans: UsePlans, history: History, /) -> None:
        """Who brings policies to what plans set, and who is told."""
        self._use_plans, self._history = use_plans, history

    @property
    def plans(self) -> tuple[str, ...]:
        """Those that hold now."""
        overlay = self._overlay
        return () if overlay is None else overlay.plans

    @property
    def restoring(self) -> Mapping[str, float]:
        """The features that are given back later, each with the seconds until then."""
        now = self._clock.monotonic()
        return {key: max(0.0, at - now) for key, at in self._restoring.until.items()}

    def take(self, flags: Flags, /) -> None:
        """There is another document. One caller at a time, of this and of `look`."""
        with self._lock:
            self._document = flags
            if flags is NOTHING:
                self._auto = AutoLevel()
            settled = self._settle(self._active(), surely=True)
        self._tell(settled)

    def look(self) -> None:
        """See what time and signals have changed."""
        self._see_clock()
        auto = self._document.steering.auto
        readings = self._signals.readings(auto.signals if auto.mode != OFF else ())
        with self._lock:
            old = self._auto.level
            new = self._auto.look(auto, readings, self._clock.monotonic())
            settled = self._settle(self._active())
        if new != old:
            self._tell_auto(old, new, readings)
        self._tell(settled)

    def lay_over(self, laid: Callable[[], Laid], /) -> tuple[Difference, ...]:
        """Have what persons set hold, and nothing else of theirs; what changed. Plans begin and end in `look`.

        Args:
            laid: gives what they have set by now: somebody else may set something meanwhile.
        """
        with self._lock:
            self._laid = laid()
            plans = self._document.plans
            settled = self._settle({name: plans[name] for name in self.plans if name in plans})
        return self._tell(settled)

    # ------------------------------------------------------------------------------------------------- settling
    def _active(self) -> dict[str, Plan]:
        return active_at(self._document, self._clock.time())

    def _settle(self, active: Mapping[str, Plan], *, surely: bool = False) -> Settled | None:
        """Put in force what holds now; None where that is so already. Under the lock."""
        flags, before = self._document, STATE.flags
        plans = self.plans
        if flags is NOTHING:
            self._overlay = None
            if not surely:
                return None
            return Settled(STATE.replace(flags), flags, plans, {})
        overlay = overlay_of(flags, active, self._auto.level, self._laid)
        after = flags.under(overlay)
        if before is not NOTHING:
            held = self._restoring.look(before, after, self._clock.monotonic())
            if held:
                overlay = overlay._replace(held=held)
                after = flags.under(overlay)
        if not surely and overlay == self._overlay:
            return None
        self._overlay = overlay
        return Settled(STATE.replace(after), after, plans, active)

    # -------------------------------------------------------------------------------------------------- telling
    def _tell(self, settled: Settled | None) -> tuple[Difference, ...]:
        """Bring policies to the plans that hold now, and tell what changed. Not under the lock."""
        if settled is None:
            return ()
        announce(settled.before, settled.after)
        changed = _differences(settled.before, settled.after)
        names, before = tuple(settled.active), settled.plans
        if names == before:
            return changed
        changed = (*changed, *self._use_plans(names))
        for name in before:
            if name not in settled.active:
                self._tell_plan(name, settled.after.plans.get(name), changed, active=False)
        for name, plan in settled.active.items():
            if name not in before:
                self._tell_plan(name, plan, changed, active=True)
        return changed

    def _tell_auto(self, old: int, new: int, readings: Mapping[str, float]) -> None:
        flags = self._document
        shadow = flags.steering.auto.mode != ON
        said = ", ".join(f"{name} {value:.3g}" for name, value in readings.items()) or "no signals"
        event = AutoLevelMoved("degradation", "auto", old=old, new=new, shadow=shadow, signals=said)
        moved = f"{'would be ' if shadow else ''}{flags.shown(old)} -> {flags.shown(new)}"
        write(
            WARNING if new > old else INFO,
            f"degradation: the automatic level {moved}: {said}",
            extra=event.attributes(),
        )
        if not shadow:
            self._note(AUTO_LEVEL, "degradation.auto", said, (Difference("degradation.auto", old, new),))
        if RUNTIME.listeners:
            emit(event)

    def _tell_plan(
        self, name: str, plan: Plan | None, changed: tuple[Difference, ...], *, active: bool
    ) -> None:
        shown = f" ({', '.join(map(str, changed[:10]))})" if changed else ""
        owner = f", owner {plan.owner}" if plan is not None and plan.owner else ""
        event = PlanChanged(
            name,
            "plan",
            active=active,
            kind="" if plan is None else plan.kind,
            owner="" if plan is None else plan.owner,
            differences=tuple(map(str, changed[:50])),
        )
        word = "holds from now on" if active else "does not hold any more"
        write(WARNING if active else INFO, f"plan {name} {word}{owner}{shown}", extra=event.attributes())
        self._note(PLAN if active else PLAN_ENDED, f"plans.{name}", None, changed)
        if RUNTIME.listeners:
            emit(event)

    def _note(self, result: str, source: str, reason: str | None, changed: tuple[Difference, ...]) -> None:
        self._history.add(
            Change(
                result,
                self._clock.time(),
                source,
                reason=reason,
                differences=changed[:50],
                count=len(changed),
            )
        )

    def _see_clock(self) -> None:
        """The wall clock may be set: windows go by it all the same."""
        ahead = self._clock.time() - self._clock.monotonic()
        before, self._behind = self._behind, ahead
        if before is not None and abs(ahead - before) > JUMP and self._document.plans:
            write(
                WARNING,
                f"plans: the clock of this machine jumped by {ahead - before:+.1f} s; windows go by it",
            )


def _differences(before: Flags, after: Flags) -> tuple[Difference, ...]:
    """What is another than before."""
    found = []
    if before.level != after.level:
        found.append(Difference(LEVEL_KEY, before.level, after.level))
    for key in dict.fromkeys([*before.table, *after.table]):
        old, new = before.table.get(key), after.table.get(key)
        if old is not new and (was := old and old.variant) != (is_ := new and new.variant):
            found.append(Difference(f"{FLAGS}{key}", was, is_))
    return tuple(found)


DEGRADING = Degrading()
