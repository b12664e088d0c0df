"""The sections ``flags``, ``$evaluators``, ``degradation`` and ``plans`` of a document, checked whole, as `Flags`.

``flags`` is a flag set as flagd has it, so that any flagd SDK reads the same document; what we add to a flag stands in
its ``metadata``, where flagd lets it pass. msgspec says what each key must be. Everything that is wrong is told, with
the place and what to write instead."""

from __future__ import annotations

import copy
import difflib
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from .planning import Planning
from .plans import Steering
from .reading import Pointer, Reading, keys_of
from .rules import EVALUATORS, Rules
from .snapshot import Flag, Flags, Step

MOST_LEVELS = 16

_SAFE = 2**53 - 1  # beyond it the SDKs of some languages lose digits; flagd refuses it
_LARGEST = sys.float_info.max
VALUE = (
    bool
    | Annotated[int, msgspec.Meta(ge=-_SAFE, le=_SAFE)]
    | Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]  # neither infinite nor NaN
    | str
    | dict[str, Any]
)
_VALUES = "a boolean, a text, a number of at most 2**53 - 1, or an object"
SCALAR = bool | int | float | str
_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "a text", dict: "an object"}


class FlagFields(msgspec.Struct):
    """A flag, as flagd has it."""

    state: Literal["ENABLED", "DISABLED"]
    variants: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]
    defaultVariant: str | None = None
    targeting: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class Metadata(msgspec.Struct):
    """What we read in a flag's metadata. Other keys pass, as in flagd."""

    degrade: str = ""
    protected: bool = False
    breakGlass: str = ""
    kind: str = "degradation"
    hardAt: int | str | None = None


class Degradation(msgspec.Struct):
    levels: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MOST_LEVELS)]
    level: int | str = 0
    pin: bool = False
    restoreAfter: str = "30s"
    restoreRamp: str = "120s"
    auto: dict[str, Any] = {}


_EXAMPLES = {
    "state": '"ENABLED"',
    "variants": '{"on": true, "off": false}',
    "defaultVariant": "the name of a variant, or null to leave the value to the code",
    "targeting": "an object, or leave it out",
    "metadata": '{"owner": "growth"}',
    "degrade": '"1:cached,3:off"',
    "protected": "true or false",
    "breakGlass": "the reason, as a text",
    "kind": '"degradation"',
    "levels": '["normal", "light", "heavy", "survival"]',
    "level": "0, or the name of a level",
    "pin": "true or false",
    "restoreAfter": "30s",
    "restoreRamp": "120s",
    "auto": '{mode: "shadow", maxLevel: 1, signals: {eventLoopLag: {enter: 100ms, exit: 30ms}}}',
    "hardAt": "3, or the name of a level",
}
_FIRST = "it as it was but for protected, and publish that first"


def parse_flags(tree: Mapping[str, Any], /, *, before: Flags | None = None) -> Flags:
    """The features of a document, and the level in force.

    Args:
        tree: the whole top level of the document, as plain dicts; other keys than ``flags``, ``$evaluators``,
            ``degradation``, ``plans`` and ``metadata`` belong to others.
        before: the flags in force, where there are any: what was protected in them must not go in the same change that
            removes the protection.

    Raises:
        DocumentError: something in these sections is wrong; with `DocumentError.problems` where several things are.

    Example:
        >>> flags = parse_flags({
        ...     "flags": {"search": {
        ...         "state": "ENABLED",
        ...         "variants": {"full": "full", "off": "off"},
        ...         "defaultVariant": "full",
        ...         "metadata": {"degrade": "heavy:off"},
        ...     }},
        ...     "degradation": {"levels": ["normal", "light", "heavy"], "level": "heavy"},
        ... })
        >>> flags.table["search"].variant
        'off'
    """
    return _Parser().parse(tree, before)


class _Parser:
    """One document."""

    def __init__(self) -> None:
        self._read = Reading(_EXAMPLES)
        self._levels: tuple[str, ...] = ("normal",)  # empty: they could not be read, and are complained of
        self._has_levels = False
        self._rules = Rules(self._read)
        self._planning = Planning(self._read, self._level)
        self._steering = Steering()
        self._set: dict[str, Any] = {}  # metadata of the whole set

    def parse(self, tree: Mapping[str, Any], before: Flags | None) -> Flags:
        if self._read.object(tree, ()) is None:
            raise self._read.error("the document")
        level = self._degradation(tree["degradation"]) if "degradation" in tree else 0
        if EVALUATORS in tree:
            self._rules.share(tree[EVALUATORS])
        if "metadata" in tree:
            self._set = self._read.object(tree["metadata"], ("metadata",)) or {}
            for name, value in self._set.items():
                self._scalar(name, value, ("metadata",))
        flags: dict[str, Flag] = {}
        for key, raw in (self._read.object(tree.get("flags", {}), ("flags",)) or {}).items():
            flag = self._flag(key, raw, ("flags", key))
            if flag is not None:
                flags[key] = flag
        plans = self._planning.plans(tree["plans"], flags) if "plans" in tree else {}
        if not self._read.problems and before is not None:
            self._keep(before, flags)
        if self._read.problems:
            raise self._read.error("flags and degradation")
        assert level is not None
        return Flags(flags, self._levels, level, MappingProxyType(plans), self._steering)

    def _degradation(self, raw: Any) -> int | None:
        pointer = ("degradation",)
        self._has_levels, self._levels = True, ()
        section = self._read.object(raw, pointer)
        if section is None:
            return None
        for key, meant in self._read.unknown(Degradation, section):
            known = ", ".join(keys_of(Degradation))
            self._read.wrong(f"there is no {key!r} in degradation", (*pointer, key), known, meant=meant)
        found = self._read.fields(Degradation, section, pointer)
        if found is None:
            return None
        self._levels = tuple(found["levels"])
        for i, name in enumerate(self._levels):
            place = (*pointer, "levels", i)
            if not name.isprintable() or not name.strip() or name.isdigit() or set(name) & set(":, "):
                self._read.wrong(
                    f"the level {name!r} cannot be told from a number or a step of a ladder",
                    place,
                    'a word such as "light"',
                )
            if name in self._levels[:i]:
                self._read.wrong(f"there are two levels {name!r}", place, "another name")
        self._steering = self._planning.steering(found, pointer)
        return self._level(found["level"], (*pointer, "level"))

    def _level(self, given: int | str, pointer: Pointer) -> int | None:
        """The number of a level; None where there is no such."""
        if not self._levels:
            return None  # they are complained of
        level = self._levels.index(given) if given in self._levels else given
        if isinstance(level, int) and 0 <= level < len(self._levels):
            return level
        instead = " or ".join(f"{i} ({name})" for i, name in enumerate(self._levels))
        self._read.wrong(f"there is no level {given!r}", pointer, instead, reason="reference")
        return None

    def _flag(self, key: str, raw: Any, pointer: Pointer) -> Flag | None:
        fields = self._read.object(raw, pointer)
        if fields is None:
            return None
        for name, meant in self._read.unknown(FlagFields, fields):
            instead = "it into metadata, where any key may stand"
            if name in keys_of(Metadata):
                instead, meant = f"metadata: {{{name}: ...}}", None
            self._read.wrong(f"the flag {key!r} has no {name!r}", (*pointer, name), instead, meant=meant)
        found = self._read.fields(FlagFields, fields, pointer)
        if found is None:
            return None
        variants = self._variants(key, found["variants"], (*pointer, "variants"))
        default = found["defaultVariant"]
        if default is not None and default not in variants:
            self._no_variant(key, default, variants, (*pointer, "defaultVariant"))
        metadata = self._metadata(key, found["metadata"], (*pointer, "metadata"))
        if metadata is None:
            return None
        disabled = found["state"] == "DISABLED"
        if metadata["protected"]:
            self._protect(key, metadata, default, disabled, pointer)
            if found["targeting"]:
                self._read.wrong(
                    f"{key!r} is protected and has targeting: a protected feature is the same for every caller",
                    (*pointer, "targeting"),
                    "one of the two",
                    reason="semantic",
                )
        ladder = self._ladder(key, metadata["degrade"], default, variants, (*pointer, "metadata", "degrade"))
        rule = None
        if found["targeting"]:
            rule = self._rules.rule(key, found["targeting"], variants, (*pointer, "targeting"))
        noted = {**self._set, **found["metadata"]}
        hard = self._hard(key, metadata["hardAt"], ladder, (*pointer, "metadata", "hardAt"))
        return Flag(key, variants, default, ladder, metadata["protected"], disabled, rule, noted, hard)

    def _hard(
        self, key: str, given: int | str | None, ladder: tuple[Step, ...], pointer: Pointer
    ) -> int | None:
        """The level from which on the ladder spares nobody."""
        if given is None:
            return None
        hard = self._level(given, pointer)
        if hard is not None and (not ladder or hard < ladder[0].level):
            message = f"{key!r} has hardAt {given}, and its ladder has no step there"
            self._read.wrong(message, pointer, "a level at which a step of degrade holds", reason="semantic")
        return hard

    def _variants(self, key: str, raw: dict[str, Any], pointer: Pointer) -> dict[str, Any]:
        variants = self._read.object(raw, pointer) or {}
        kinds = set[str]()
        for name, value in variants.items():
            ok, _ = self._read.value(VALUE, value, f"variant {name!r} of {key!r}", (*pointer, name), _VALUES)
            if ok:
                kinds.add(next(name for kind, name in _KINDS.items() if isinstance(value, kind)))
        if len(kinds) > 1:
            self._read.wrong(
                f"the variants of {key!r} are of different types: {' and '.join(sorted(kinds))}",
                pointer,
                "values of one type",
                reason="semantic",
            )
        return copy.deepcopy(variants)

    def _metadata(self, key: str, raw: dict[str, Any], pointer: Pointer) -> dict[str, Any] | None:
        metadata = self._read.object(raw, pointer) or {}
        for name, meant in self._read.unknown(Metadata, metadata):
            if meant is not None and meant != "kind":
                message = f"metadata of {key!r} has {name!r}, which does nothing"
                self._read.wrong(message, (*pointer, name), meant, meant=meant)
            self._scalar(name, metadata[name], pointer)
        found = self._read.fields(Metadata, metadata, pointer)
        if found is not None and found["kind"] != "degradation" and (found["degrade"] or found["protected"]):
            self._read.wrong(
                f"{key!r} is of kind {found['kind']!r}, and has what only kind degradation has",
                (*pointer, "kind"),
                _EXAMPLES["kind"],
            )
        return found

    def _scalar(self, name: str, value: Any, pointer: Pointer) -> None:
        """Metadata, as flagd has it: for a value that is none its evaluators refuse the whole document."""
        self._read.value(SCALAR, value, name, (*pointer, name), "a text, a number or a boolean")

    def _protect(
        self, key: str, metadata: dict[str, Any], default: str | None, disabled: bool, pointer: Pointer
    ) -> None:
        if metadata["degrade"]:
            self._read.wrong(
                f"{key!r} is protected and has a ladder: a protected feature cannot be degraded",
                (*pointer, "metadata", "degrade"),
                "one of the two",
                reason="semantic",
            )
        if default is None:
            self._read.wrong(
                f"{key!r} is protected, and there is no defaultVariant to keep it at",
                pointer,
                "defaultVariant: the name of a variant",
                reason="semantic",
            )
        if disabled and not metadata["breakGlass"].strip():
            self._read.wrong(
                f"{key!r} is protected, and state DISABLED would leave it to whatever the code says",
                (*pointer, "state"),
                '"ENABLED"; in an emergency add metadata.breakGlass with the reason',
                reason="semantic",
            )

    def _keep(self, before: Flags, flags: dict[str, Flag]) -> None:
        """What is protected loses that in a change of its own: an edit in haste must not take both."""
        for key, old in before.flags.items():
            new = flags.get(key)
            place: Pointer = ("flags", key)
            if not old.protected or old.disabled or (new is not None and new.protected):
                continue
            if new is None:
                self._read.wrong(f"{key!r} is protected, and gone", place, _FIRST, reason="guard")
            elif new.ladder:
                message = f"{key!r} is protected, and here it is not, and has a ladder"
                self._read.wrong(message, (*place, "metadata", "degrade"), _FIRST, reason="guard")
            elif new.rule is not None:
                message = f"{key!r} is protected, and here it is not, and has targeting"
                self._read.wrong(message, (*place, "targeting"), _FIRST, reason="guard")
            elif new.disabled or new.default != old.default:
                field = "state" if new.disabled else "defaultVariant"
                message = f"{key!r} is protected, and here it is not, and has another {field}"
                self._read.wrong(message, (*place, field), _FIRST, reason="guard")
            elif new.default is not None and new.variants[new.default] != old.variants[new.default]:
                message = (
                    f"{key!r} is protected, and here it is not, and its {new.default!r} has another value"
                )
                self._read.wrong(message, (*place, "variants", new.default), _FIRST, reason="guard")

    def _ladder(
        self, key: str, text: str, default: str | None, variants: dict[str, Any], pointer: Pointer
    ) -> tuple[Step, ...]:
        if text.strip() and not self._has_levels:
            instead = f"degradation: {{levels: {_EXAMPLES['levels']}}}"
            self._read.wrong(f"{key!r} has a ladder, and the document has no levels", pointer, instead)
            return ()
        if not text.strip() or not self._levels:
            return ()
        steps: list[Step] = []
        for part in text.split(","):
            at, _, variant = (each.strip() for each in part.partition(":"))
            if not at or not variant:
                message = f"the step {part.strip()!r} of {key!r} is not level:variant"
                self._read.wrong(message, pointer, _EXAMPLES["degrade"])
                continue
            level = self._level(int(at) if at.isascii() and at.isdigit() and len(at) < 4 else at, pointer)
            if level is not None:
                step = Step(level, variant)
                self._step(key, step, steps, default, variants, pointer)
                steps.append(step)
        return tuple(steps)

    def _step(
        self,
        key: str,
        step: Step,
        above: list[Step],
        default: str | None,
        variants: dict[str, Any],
        pointer: Pointer,
    ) -> None:
        """One step of a ladder, under those that are there."""
        level, variant = step
        if variant not in variants:
            self._no_variant(key, variant, variants, pointer)
        elif variant == default or variant in [each.variant for each in above]:
            self._read.wrong(
                f"the ladder of {key!r} comes back to {variant!r}: a higher level gives nothing back",
                pointer,
                "each variant once, and not the defaultVariant",
                reason="semantic",
            )
        if level == 0:
            self._read.wrong(
                f"the ladder of {key!r} begins at level 0, where nothing is degraded",
                pointer,
                f"1:{variant}, or defaultVariant: {variant}",
                reason="semantic",
            )
        elif above and level <= above[-1].level:
            self._read.wrong(
                f"the levels of the ladder of {key!r} do not rise",
                pointer,
                _EXAMPLES["degrade"],
                reason="semantic",
            )

    def _no_variant(self, key: str, given: str, variants: dict[str, Any], pointer: Pointer) -> None:
        names = list(variants)
        near = difflib.get_close_matches(given, names, 1)
        self._read.wrong(
            f"the flag {key!r} has no variant {given!r}",
            pointer,
            f"one of {', '.join(names[:10])}",
            meant=near[0] if near else None,
            reason="reference",
        )
