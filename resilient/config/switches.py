"""Why a feature, or the level, is what it is."""

from __future__ import annotations

from ..core.errors import ConfigError
from ..flags.state import STATE
from .document import Pointer
from .explanation import Explanation
from .leaves import flat_leaves
from .numbers import CODE, DOCUMENT, EMERGENCY, OVERRIDE, PLAN
from .snapshot import Snapshot

LEVEL: Pointer = ("degradation", "level")
LEVEL_KEY = "degradation.level"
FLAGS = "flags."
AUTO = "auto"


def is_switch(key: object, /) -> bool:
    """Whether a key is that of a feature, ``flags.search``, or of the level, and not of a number.

    A dependency may be called ``flags``: then ``flags.retry.attempts`` is its number."""
    if not isinstance(key, str) or not key.startswith((FLAGS, LEVEL_KEY)):
        return False
    return key == LEVEL_KEY or (key.startswith(FLAGS) and key.removeprefix(FLAGS) not in flat_leaves())


def explain_switch(key: str, snapshot: Snapshot, /) -> Explanation | None:
    """Why it is what it is; also of a plan's switch that the emergency document throws. None for another key.

    Raises:
        ConfigError: there is no such feature.
    """
    above = snapshot.emergency if snapshot.waits is None else None
    for pointer, value in above.over.items() if above is not None else ():
        if key == ".".join(map(str, pointer)) and (pointer != LEVEL or STATE.flags.level == _level(value)):
            return Explanation(key, value, EMERGENCY, str(snapshot.sources.place(pointer)), lives=True)
    if key == LEVEL_KEY:
        return _of_level(key, snapshot)
    return _of_feature(key, snapshot) if is_switch(key) else None


def _level(given: int | str) -> int:
    levels = STATE.flags.levels
    return levels.index(given) if given in levels else int(given)


def _of_level(key: str, snapshot: Snapshot) -> Explanation:
    flags = STATE.flags
    why, reason = (DOCUMENT, None) if flags.overlay is None else (flags.overlay.why, flags.overlay.reason)
    if why in (OVERRIDE, AUTO):
        return Explanation(key, flags.level, why, reason, lives=True)
    plan = why.removeprefix("plan:")
    if plan != why:
        place = str(snapshot.sources.place(("plans", plan, "set", "level")))
        return Explanation(key, flags.level, PLAN, place, lives=True, cause=why)
    if not snapshot.digest:
        return Explanation(key, flags.level, CODE, None, lives=True)
    return Explanation(key, flags.level, DOCUMENT, str(snapshot.sources.place(LEVEL)), lives=True)


def _of_feature(key: str, snapshot: Snapshot) -> Explanation:
    flags, name = STATE.flags, key.removeprefix(FLAGS)
    details = flags.table.get(name)
    if details is None:
        raise ConfigError(
            f"explain: {name!r} is no feature of the flags in force; see features.details({name!r})"
        )
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
