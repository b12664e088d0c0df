"""The section ``plans``, and what of ``degradation`` moves the level: checked whole, as `Plan` and `Steering`.

What cannot be right whatever a person switches on later is refused here: two plans that may hold at a time and want
different things."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator, Mapping
from reprlib import repr as shown
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from ..core.options import parse_duration
from .plans import SCHEDULED, Auto, Plan, Signal, Steering, Window
from .reading import Pointer, Reading, keys_of
from .snapshot import Flag

MOST_PLANS = 100
MOST_SIGNALS = 20
_LONGEST = 86_400.0
_EMERGENCY = "active: true or false; an emergency plan holds while a person says so"


class PlanFields(msgspec.Struct):
    """A plan."""

    kind: Literal["scheduled", "emergency"]
    set: dict[str, Any]
    window: dict[str, Any] | None = None
    active: bool | None = None
    exclusiveGroup: str = ""
    owner: str = ""


class WindowFields(msgspec.Struct):
    """When a scheduled plan holds."""

    start: str
    end: str


class SetFields(msgspec.Struct):
    """What a plan changes."""

    level: int | str | None = None
    flags: dict[str, str] = {}
    targets: dict[str, Any] = {}


class AutoFields(msgspec.Struct):
    """How the level moves by itself."""

    maxLevel: int | str
    signals: Annotated[dict[str, Any], msgspec.Meta(min_length=1, max_length=MOST_SIGNALS)]
    mode: Literal["off", "shadow", "on"] = "off"
    enterFor: str = "5s"
    exitFor: str = "60s"


class SignalFields(msgspec.Struct):
    """Where a signal is high, and where it is low."""

    enter: float | str
    exit: float | str


_EXAMPLES = {
    "kind": '"scheduled" or "emergency"',
    "set": "{level: 1, flags: {search-page-size: small}}",
    "window": '{start: "2026-11-10T23:50:00+08:00", end: "2026-11-11T02:00:00+08:00"}',
    "active": "true or false",
    "exclusiveGroup": '"sale"',
    "owner": '"sre"',
    "start": '"2026-11-10T23:50:00+08:00"',
    "end": '"2026-11-11T02:00:00+08:00"',
    "level": "1, or the name of a level",
    "flags": "{search-page-size: small}",
    "targets": "{payments: {ratelimit: {rate: 100/second}}}",
    "mode": '"off", "shadow" or "on"',
    "maxLevel": "1, or the name of a level",
    "enterFor": "5s",
    "exitFor": "60s",
    "signals": "{eventLoopLag: {enter: 100ms, exit: 30ms}}",
    "enter": "100ms, or a number",
    "exit": "30ms, or a number",
}

_DEFAULTS = {"restoreAfter": "30s", "restoreRamp": "120s", "enterFor": "5s", "exitFor": "60s"}

Level = Callable[[int | str, Pointer], int | None]
"""Gives the number of a level; complains, and gives None, where there is no such."""


class Planning:
    """Reads them, out of one document.

    Args:
        read: where what is wrong is told.
        level: finds levels.
    """

    def __init__(self, read: Reading, level: Level) -> None:
        self._read = read.of(_EXAMPLES)
        self._level = level

    # ---------------------------------------------------------------------------------------------- degradation
    def steering(self, found: Mapping[str, Any], pointer: Pointer) -> Steering:
        """What ``degradation`` says beside its levels."""
        after = self._seconds(found["restoreAfter"], "restoreAfter", pointer)
        ramp = self._seconds(found["restoreRamp"], "restoreRamp", pointer)
        auto = self._auto(found["auto"], (*pointer, "auto")) if found["auto"] else Auto()
        return Steering(found["pin"], after, ramp, auto)

    def _auto(self, raw: dict[str, Any], pointer: Pointer) -> Auto:
        found = self._fields(AutoFields, raw, pointer, "auto")
        if found is None:
            return Auto()
        most = self._level(found["maxLevel"], (*pointer, "maxLevel")) or 0
        signals = {
            name: signal
            for name, each in found["signals"].items()
            if (signal := self._signal(name, each, (*pointer, "signals", name))) is not None
        }
        enter, exit_ = (self._seconds(found[name], name, pointer) for name in ("enterFor", "exitFor"))
        return Auto(found["mode"], most, enter, exit_, MappingProxyType(signals))

    def _signal(self, name: str, raw: Any, pointer: Pointer) -> Signal | None:
        fields = self._read.object(raw, pointer)
        found = (
            None if fields is None else self._fields(SignalFields, fields, pointer, f"the signal {name!r}")
        )
        if found is None:
            return None
        enter, exit_ = (self._reading(found[key], (*pointer, key)) for key in ("enter", "exit"))
        if enter is None or exit_ is None:
            return None
        if exit_ >= enter:
            self._read.wrong(
                f"the signal {name!r} is low at {found['exit']} already, and high at {found['enter']}",
                (*pointer, "exit"),
                "less than enter: in between nothing moves",
                reason="semantic",
            )
        return Signal(enter, exit_)

    def _reading(self, given: float | str, pointer: Pointer) -> float | None:
        try:
            number = parse_duration(given) if isinstance(given, str) else float(given)
        except ValueError:
            number = -1.0
        if 0 <= number < float("inf"):
            return number
        key = str(pointer[-1])
        self._read.wrong(
            f"{key}: {shown(given)} is neither a duration nor a number from 0", pointer, _EXAMPLES[key]
        )
        return None

    def _seconds(self, given: str, key: str, pointer: Pointer) -> float:
        try:
            number = parse_duration(given)
        except ValueError:
            number = -1.0
        if 0 <= number <= _LONGEST:
            return number
        message = f"{key}: {shown(given)} is no duration from 0s to 24h"
        self._read.wrong(message, (*pointer, key), _DEFAULTS[key])
        return 0.0

    # ---------------------------------------------------------------------------------------------------- plans
    def plans(self, raw: Any, flags: Mapping[str, Flag]) -> dict[str, Plan]:
        """All plans by name."""
        given = self._read.object(raw, ("plans",)) or {}
        if len(given) > MOST_PLANS:
            self._read.wrong(
                f"there are {len(given):,} plans", ("plans",), f"at most {MOST_PLANS}", reason="size"
            )
            return {}
        found = {
            name: plan
            for name, each in given.items()
            if (plan := self._plan(name, each, flags, ("plans", name))) is not None
        }
        for one, other in itertools.combinations(found.values(), 2):
            self._together(one, other)
        return found

    def _plan(self, name: str, raw: Any, flags: Mapping[str, Flag], pointer: Pointer) -> Plan | None:
        fields = self._read.object(raw, pointer)
        found = None if fields is None else self._fields(PlanFields, fields, pointer, f"the plan {name!r}")
        if found is None:
            return None
        scheduled = found["kind"] == SCHEDULED
        window = self._window(found["window"], (*pointer, "window")) if found["window"] is not None else None
        if scheduled and found["window"] is None:
            instead = f"window: {_EXAMPLES['window']}"
            self._read.wrong(f"the plan {name!r} is scheduled, and has no window", pointer, instead)
        elif not scheduled and found["window"] is not None:
            message = f"the plan {name!r} is for emergencies, and has a window"
            self._read.wrong(message, (*pointer, "window"), _EMERGENCY)
        at = (*pointer, "set")
        sets = self._fields(SetFields, found["set"], at, f"the plan {name!r}")
        if sets is None:
            return None
        if not (sets["level"] is not None or sets["flags"] or sets["targets"]):
            self._read.wrong(f"the plan {name!r} sets nothing", at, _EXAMPLES["set"])
        level = None if sets["level"] is None else self._level(sets["level"], (*at, "level"))
        self._check_flags(name, sets["flags"], flags, (*at, "flags"))
        active = scheduled if found["active"] is None else found["active"]
        return Plan(
            name,
            found["kind"],
            active,
            window,
            found["exclusiveGroup"],
            found["owner"],
            level,
            MappingProxyType(sets["flags"]),
            MappingProxyType(sets["targets"]),
        )

    def _check_flags(
        self, plan: str, sets: Mapping[str, str], flags: Mapping[str, Flag], pointer: Pointer
    ) -> None:
        for key, variant in sets.items():
            flag, place = flags.get(key), (*pointer, key)
            if flag is None:
                instead = ", ".join([*flags][:10]) or "no flags: the document has none"
                self._read.wrong(
                    f"the plan {plan!r} sets {key!r}, which is no flag here",
                    place,
                    instead,
                    reason="reference",
                )
            elif flag.protected:
                self._read.wrong(
                    f"the plan {plan!r} sets {key!r}, which is protected: a protected feature cannot be degraded",
                    place,
                    "one of the two",
                    reason="semantic",
                )
            elif variant not in flag.variants:
                self._read.wrong(
                    f"the plan {plan!r} sets {key!r} to {shown(variant)}, which is no variant of it",
                    place,
                    f"one of {', '.join([*flag.variants][:10])}",
                    reason="reference",
                )

    def _window(self, raw: dict[str, Any], pointer: Pointer) -> Window | None:
        found = self._fields(WindowFields, raw, pointer, "a window")
        if found is None:
            return None
        start, end = (self._moment(found[key], (*pointer, key)) for key in ("start", "end"))
        if start is None or end is None:
            return None
        if end <= start:
            message = f"the window ends at {found['end']}, and starts at {found['start']}"
            self._read.wrong(message, (*pointer, "end"), "a later moment", reason="semantic")
        return Window(start, end)

    def _moment(self, text: str, pointer: Pointer) -> float | None:
        key = str(pointer[-1])
        try:
            moment = datetime.datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.timestamp()
            why = "does not say by which clock"
        except (ValueError, OverflowError):
            why = "is no moment"
        self._read.wrong(
            f"{key}: {shown(text)} {why}", pointer, f"{_EXAMPLES[key]}, with its offset", reason="semantic"
        )
        return None

    def _together(self, one: Plan, other: Plan) -> None:
        """Whether two plans go together."""
        place: Pointer = ("plans", other.name)
        if one.group and one.group == other.group:
            if one.window and other.window and one.window.overlaps(other.window):
                message = f"the windows of {one.name!r} and {other.name!r} overlap"
            elif one.window is other.window is None and one.active and other.active:
                message = f"{one.name!r} and {other.name!r} are both active"
            else:
                return
            message += f", and of the group {one.group!r} only one may hold"
            self._read.wrong(message, place, "one of the two", reason="semantic")
        elif one.may_meet(other):
            there = dict(_values(one))
            for path, value in _values(other):
                if there.get(path, value) != value:
                    at = ".".join(path)
                    self._read.wrong(
                        f"{one.name!r} sets {at} to {shown(there[path])} and {other.name!r} to {shown(value)}, "
                        "and both may hold at a time",
                        (*place, "set", *path),
                        f"the same value, or exclusiveGroup: {_EXAMPLES['exclusiveGroup']} in both",
                        reason="semantic",
                    )

    def _fields(
        self, shape: type[msgspec.Struct], raw: dict[str, Any], pointer: Pointer, what: str
    ) -> dict[str, Any] | None:
        """What the keys of a shape say; None where something is wrong."""
        for key, meant in self._read.unknown(shape, raw):
            message = f"{what} has no {key!r}"
            self._read.wrong(message, (*pointer, key), ", ".join(keys_of(shape)), meant=meant)
        return self._read.fields(shape, raw, pointer)


def _values(plan: Plan) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All that a plan sets but its level, by path: of levels the highest holds."""
    for key, variant in plan.flags.items():
        yield ("flags", key), variant
    yield from _leaves(plan.targets, ("targets",))


def _leaves(tree: Mapping[str, Any], at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*at, str(key)))
        else:
            yield (*at, str(key)), value
