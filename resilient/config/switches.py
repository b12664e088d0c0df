"""Why a feature, or the level, is what it is."""

from __future__ import annotations

import difflib

from ..core.errors import ConfigError
from ..flags.snapshot import Flags
from .document import Pointer
from .explanation import Explanation
from .leaves import flat_leaves
from .numbers import CODE, DOCUMENT, EMERGENCY, OVERRIDE, PLAN
from .snapshot import Snapshot

LEVEL: Pointer = ("degradation", "level")
LEVEL_KEY = "degradation.level"
FLAGS, PLANS, ACTIVE = "flags.", "plans.", ".active"
AUTO = "auto"


def is_switch(key: object, /) -> bool:
    """Whether a key is that of a feature, ``flags.search``, of the level, or of a plan, ``plans.sale.active``.

    A dependency may be called ``flags``: then ``flags.retry.attempts`` is its number."""
    if not isinstance(key, str):
        return False
    if key == LEVEL_KEY or (key.startswith(PLANS) and key.endswith(ACTIVE)):
        return True
    return key.startswith(FLAGS) and key.removeprefix(FLAGS) not in flat_leaves()


def explain_switch(key: str, snapshot: Snapshot, flags: Flags, /) -> Explanation:
    """Why a switch is what it is.

    Args:
        key: as `is_switch` knows them.
        flags: what is in force.

    Raises:
        ConfigError: there is no such feature or plan.
    """
    if key == LEVEL_KEY:
        return _of_level(key, snapshot, flags)
    if key.startswith(PLANS):
        return _of_plan(key, snapshot, flags)
    return _of_feature(key, snapshot, flags)


def _said_by(pointer: Pointer, snapshot: Snapshot) -> tuple[str, str | None]:
    """The layer and place of a switch that either document throws."""
    above = snapshot.emergency if snapshot.waits is None else None
    layer = EMERGENCY if above is not None and pointer in above.over else DOCUMENT
    return (
        (layer, str(snapshot.sources.place(pointer)))
        if snapshot.digest or layer == EMERGENCY
        else (CODE, None)
    )


def _of_plan(key: str, snapshot: Snapshot, flags: Flags) -> Explanation:
    name = key.removeprefix(PLANS).removesuffix(ACTIVE)
    plan = flags.plans.get(name)
    if plan is None:
        there = ", ".join(f"{PLANS}{each}{ACTIVE}" for each in flags.plans) or "no plan"
        raise ConfigError(f"explain: {name!r} is no plan of the document; it has {there}")
    layer, place = _said_by(("plans", name, "active"), snapshot)
    holds = flags.overlay is not None and name in flags.overlay.plans
    return Explanation(
        key, plan.active, layer, place, lives=True, cause=f"it {'holds' if holds else 'does not hold'} now"
    )


def _of_level(key: str, snapshot: Snapshot, flags: Flags) -> Explanation:
    why, reason = (DOCUMENT, None) if flags.overlay is None else (flags.overlay.why, flags.overlay.reason)
    if why in (OVERRIDE, AUTO):
        return Explanation(key, flags.level, why, reason, lives=True)
    plan = why.removeprefix("plan:")
    if plan != why:
        place = str(snapshot.sources.place(("plans", plan, "set", "level")))
        return Explanation(key, flags.level, PLAN, place, lives=True, cause=why)
    layer, said = _said_by(LEVEL, snapshot)
    return Explanation(key, flags.level, layer, said, lives=True)


def _of_feature(key: str, snapshot: Snapshot, flags: Flags) -> Explanation:
    name = key.removeprefix(FLAGS)
    details = flags.table.get(name)
    if details is None:
        close = difflib.get_close_matches(name, flags.table, 1)
        there = f"did you mean {FLAGS}{close[0]}?" if close else "see the flags of the document"
        raise ConfigError(f"explain: {name!r} is no feature of the flags in force; {there}")
    cause = details.cause
    at: Pointer = ("flags", name)
    plan = cause.removeprefix("plan:")
    layer = DOCUMENT
    if cause == OVERRIDE and flags.overlay is not None:
        return Explanation(key, details.variant, OVERRIDE, flags.overlay.overrides[name][1], lives=True)
    if cause == "code_default":
        layer = CODE
    elif plan != cause:
        layer, at = PLAN, ("plans", plan, "set", "flags", name)
    elif details.level is not None:
        at = (*at, "metadata", "degrade")
    elif cause == "default":
        at = (*at, "defaultVariant")
    if name in flags.targeted:
        cause += ", and its targeting above that, for each caller"
    place = str(snapshot.sources.place(at)) if snapshot.digest else None
    return Explanation(key, details.variant, layer, place, lives=True, cause=cause)
