"""The parts of the document that others understand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..flags.document import parse_flags
from ..flags.plans import Plan
from ..flags.snapshot import Flag, Flags
from ..flags.state import NOTHING, STATE
from .center import CENTER
from .degrading import DEGRADING
from .feed import BUNDLED, CACHE
from .section import Item, Section


def _flags(tree: dict[str, Any]) -> Flags:
    # What is protected now does not go in the change that takes the protection away. What only stood in for the
    # document protects nothing from it: it may be older, and what it protects may be gone by now, step by step.
    followed = CENTER.status().source not in (CACHE, BUNDLED)
    return parse_flags(tree, before=STATE.flags if STATE.ready and followed else None)


def _schema(targets: dict[str, Any]) -> dict[str, Any]:
    from ..flags.schema import sections_schema

    return sections_schema(targets)


def _items(flags: Flags) -> dict[str, Item]:
    found = {
        f"flags.{key}": Item(_meant(flag), flags.table[key].variant) for key, flag in flags.flags.items()
    }
    if len(flags.levels) > 1:
        level = flags.shown(flags.level)
        found["degradation.level"] = Item(level, level, lever=True)
    for name, plan in flags.plans.items():
        shown = f"{plan.kind}, {'active' if plan.active else 'not active'}"
        found[f"plans.{name}"] = Item(plan, shown, lever=True)
    return found


def _meant(flag: Flag) -> object:
    """What it is while nothing is degraded."""
    value = None if flag.default is None else flag.variants[flag.default]
    return (flag.disabled, value, flag.rule)


def _test(flags: Flags) -> None:
    """Every feature at every level, and every rule at the one in force."""
    for key, flag in flags.flags.items():
        for table in flags.tables:
            table[key]
        if flag.rule is not None and flags.level > 0:  # at level 0 it was asked when it was read
            flag.rule.variant({}, flags.level)


def _degrades(before: Flags, after: Flags) -> bool:
    """Whether each feature is what it was, or further down, and the level no lower."""
    if after.level < before.level or before.flags.keys() != after.flags.keys():
        return False
    if any(before.flags[key].rule != flag.rule for key, flag in after.flags.items()):
        return False
    on = {
        name: replace(plan, active=plan.active or after.plans[name].active)
        for name, plan in _shared(before, after)
    }
    if before.plans.keys() != after.plans.keys() or on != after.plans or before.steering != after.steering:
        return False
    pairs = ((old, after.table[key]) for key, old in before.table.items())
    return all(
        new == old or (new.level or 0) > (old.level or 0) or (old.enabled and not new.enabled)
        for old, new in pairs
    )


def _shared(before: Flags, after: Flags) -> list[tuple[str, Plan]]:
    return [(name, plan) for name, plan in before.plans.items() if name in after.plans]


SECTIONS: tuple[Section, ...] = (
    Section(
        frozenset({"flags", "$evaluators", "degradation", "plans"}),
        _flags,
        DEGRADING.take,
        _schema,
        NOTHING,
        _items,
        _test,
        _degrades,
        DEGRADING.look,
    ),
)
