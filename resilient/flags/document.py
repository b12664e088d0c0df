"""The sections ``flags`` and ``degradation`` of a document, checked whole, as `Flags`.

``flags`` is a flag set as flagd has it, so that any flagd SDK reads the same document; what we add to a flag stands in
its ``metadata``, where flagd lets it pass. msgspec says what each key must be. Everything that is wrong is told, with
the place and what to write instead."""

from __future__ import annotations

import copy
import difflib
import sys
from collections.abc import Iterator, Mapping
from reprlib import repr as shown
from typing import Annotated, Any, Literal

import msgspec

from ..core.errors import DocumentError
from .snapshot import Flag, Flags, Step

MOST_LEVELS = 16
MOST_PROBLEMS = 20
"""Problems that an error carries; its message counts all."""

_SAFE = 2**53 - 1  # beyond it the SDKs of some languages lose digits; flagd refuses it
_LARGEST = sys.float_info.max
_VALUE = (
    bool
    | Annotated[int, msgspec.Meta(ge=-_SAFE, le=_SAFE)]
    | Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]  # neither infinite nor NaN
    | str
    | dict[str, Any]
)
_SCALAR = bool | int | float | str
_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "a text", dict: "an object"}

Pointer = tuple[str | int, ...]


class _Flag(msgspec.Struct):
    """A flag, as flagd has it."""

    state: Literal["ENABLED", "DISABLED"]
    variants: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]
    defaultVariant: str | None = None
    targeting: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class _Metadata(msgspec.Struct):
    """What we read in a flag's metadata. Other keys pass, as in flagd."""

    degrade: str = ""
    protected: bool = False
    breakGlass: str = ""
    kind: str = "degradation"


class _Degradation(msgspec.Struct):
    levels: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MOST_LEVELS)]
    level: int | str = 0


_SHAPES: dict[type[msgspec.Struct], dict[str, msgspec.structs.FieldInfo]] = {
    kind: {each.name: each for each in msgspec.structs.fields(kind)}
    for kind in (_Flag, _Metadata, _Degradation)
}
"""The keys of each; finding them out takes longer than decoding a flag."""

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
}
_LATER = {
    "auto": "`level`, and change it by hand",
    "pin": "`level` alone: nothing else raises it",
}
"""Keys of ``degradation`` that the format has and this version does not."""


def parse_flags(tree: Mapping[str, Any], /) -> Flags:
    """The features of a document, and the level in force.

    Args:
        tree: the whole top level of the document, as plain dicts; other keys than ``flags`` and ``degradation`` belong
            to others.

    Raises:
        DocumentError: something in these two sections is wrong; with `DocumentError.problems` where several things are.

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
    return _Parser().parse(tree)


class _Parser:
    """One document; collects what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[DocumentError] = []
        self.levels: tuple[str, ...] = ("normal",)  # empty: they could not be read, and are complained of
        self.has_levels = False

    def parse(self, tree: Mapping[str, Any]) -> Flags:
        level = self._degradation(tree["degradation"]) if "degradation" in tree else 0
        flags: dict[str, Flag] = {}
        for key, raw in (self._object(tree.get("flags", {}), ("flags",)) or {}).items():
            flag = self._flag(key, raw, ("flags", key))
            if flag is not None:
                flags[key] = flag
        if self.problems:
            raise self._all()
        assert level is not None
        return Flags(flags, self.levels, level)

    def _all(self) -> DocumentError:
        if len(self.problems) == 1:
            return self.problems[0]
        first = self.problems[:MOST_PROBLEMS]
        more = f", of which these are the first {len(first)}" if len(first) < len(self.problems) else ""
        return DocumentError(
            f"{len(self.problems)} things are wrong with flags and degradation{more}", problems=tuple(first)
        )

    def _wrong(self, message: str, pointer: Pointer, instead: str | None = None) -> None:
        self.problems.append(DocumentError(message, pointer=pointer, suggestion=instead))

    # -------------------------------------------------------------------------------------------------- the shapes
    def _object(self, raw: Any, pointer: Pointer) -> dict[str, Any] | None:
        """The object itself; None where it is none."""
        if not isinstance(raw, dict):
            self._wrong(f"{shown(raw)} must be an object", pointer, "{...} with names as keys")
            return None
        for key in raw:
            if not isinstance(key, str) or not key.isprintable() or not key:
                self._wrong(f"the key {key!r} must be a text that can be printed", pointer, "a name")
        return {key: value for key, value in raw.items() if isinstance(key, str)}

    def _fields(
        self, kind: type[msgspec.Struct], raw: dict[str, Any], pointer: Pointer
    ) -> dict[str, Any] | None:
        """What the keys of ``kind`` say, defaults filled in; None where one of them is missing or wrong."""
        found: dict[str, Any] = {}
        for each in _SHAPES[kind].values():
            if each.name in raw:
                try:
                    found[each.name] = msgspec.convert(raw[each.name], each.type)
                except msgspec.ValidationError as exc:
                    message = f"{each.name}: {shown(raw[each.name])} will not do: {_why(exc)}"
                    self._wrong(message, (*pointer, each.name), _EXAMPLES[each.name])
            elif each.required:
                self._wrong(f"{each.name} is missing", pointer, f"{each.name}: {_EXAMPLES[each.name]}")
            elif each.default_factory is not msgspec.NODEFAULT:
                found[each.name] = each.default_factory()
            else:
                found[each.name] = each.default
        return found if len(found) == len(_SHAPES[kind]) else None

    def _unknown(self, kind: type[msgspec.Struct], raw: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        """Keys that ``kind`` does not have, each with the one that is probably meant."""
        known = _SHAPES[kind]
        for key in raw:
            if key not in known:
                yield key, next(iter(difflib.get_close_matches(key, list(known), 1, 0.75)), None)

    # --------------------------------------------------------------------------------------------------- sections
    def _degradation(self, raw: Any) -> int | None:
        pointer = ("degradation",)
        self.has_levels, self.levels = True, ()
        section = self._object(raw, pointer)
        if section is None:
            return None
        for key, meant in self._unknown(_Degradation, section):
            if key in _LATER:
                self._wrong(f"{key} is not supported", (*pointer, key), _LATER[key])
            else:
                self._wrong(f"there is no {key!r} in degradation", (*pointer, key), meant or "levels, level")
        found = self._fields(_Degradation, section, pointer)
        if found is None:
            return None
        self.levels = tuple(found["levels"])
        for i, name in enumerate(self.levels):
            place = (*pointer, "levels", i)
            if not name.isprintable() or not name.strip() or name.isdigit() or set(name) & set(":, "):
                self._wrong(
                    f"the level {name!r} cannot be told from a number or a step of a ladder",
                    place,
                    'a word such as "light"',
                )
            if name in self.levels[:i]:
                self._wrong(f"there are two levels {name!r}", place, "another name")
        return self._level(found["level"], (*pointer, "level"))

    def _level(self, given: int | str, pointer: Pointer) -> int | None:
        """The number of a level; None where there is no such."""
        level = self.levels.index(given) if given in self.levels else given
        if isinstance(level, int) and 0 <= level < len(self.levels):
            return level
        instead = " or ".join(f"{i} ({name})" for i, name in enumerate(self.levels))
        self._wrong(f"there is no level {given!r}", pointer, instead)
        return None

    def _flag(self, key: str, raw: Any, pointer: Pointer) -> Flag | None:
        fields = self._object(raw, pointer)
        if fields is None:
            return None
        for name, meant in self._unknown(_Flag, fields):
            ours = name in {each.name for each in msgspec.structs.fields(_Metadata)}
            instead = (
                f"metadata: {{{name}: ...}}" if ours else meant or "it into metadata, where any key may stand"
            )
            self._wrong(f"the flag {key!r} has no {name!r}", (*pointer, name), instead)
        found = self._fields(_Flag, fields, pointer)
        if found is None:
            return None
        if found["targeting"]:
            self._wrong(
                f"the flag {key!r} has targeting, which needs an evaluator that this version does not have",
                (*pointer, "targeting"),
                "defaultVariant and metadata.degrade, and remove targeting",
            )
        variants = self._variants(key, found["variants"], (*pointer, "variants"))
        default = found["defaultVariant"]
        if default is not None and default not in variants:
            self._wrong(
                f"the flag {key!r} has no variant {default!r}",
                (*pointer, "defaultVariant"),
                _one_of(default, variants),
            )
        metadata = self._metadata(key, found["metadata"], (*pointer, "metadata"))
        if metadata is None:
            return None
        disabled = found["state"] == "DISABLED"
        if metadata["protected"]:
            self._protect(key, metadata, default, disabled, pointer)
        ladder = self._ladder(key, metadata["degrade"], default, variants, (*pointer, "metadata", "degrade"))
        return Flag(key, variants, default, ladder, metadata["protected"], disabled)

    def _variants(self, key: str, raw: dict[str, Any], pointer: Pointer) -> dict[str, Any]:
        variants = self._object(raw, pointer) or {}
        kinds = set[str]()
        for name, value in variants.items():
            try:
                kinds.add(_KINDS[type(msgspec.convert(value, _VALUE))])
            except msgspec.ValidationError as exc:
                self._wrong(
                    f"variant {name!r} of {key!r}: {shown(value)} will not do: {_why(exc)}",
                    (*pointer, name),
                    "a boolean, a text, a number of at most 2**53 - 1, or an object",
                )
        if len(kinds) > 1:
            self._wrong(
                f"the variants of {key!r} are of different types: {' and '.join(sorted(kinds))}",
                pointer,
                "values of one type",
            )
        return copy.deepcopy(variants)

    def _metadata(self, key: str, raw: dict[str, Any], pointer: Pointer) -> dict[str, Any] | None:
        metadata = self._object(raw, pointer) or {}
        if "hardAt" in metadata:
            self._wrong(
                "hardAt is not supported: it overrides targeting", (*pointer, "hardAt"), "degrade alone"
            )
        for name, meant in self._unknown(_Metadata, metadata):
            if meant is not None and meant != "kind":
                self._wrong(f"metadata of {key!r} has {name!r}, which does nothing", (*pointer, name), meant)
            try:
                msgspec.convert(metadata[name], _SCALAR)
            except msgspec.ValidationError:
                self._wrong(
                    f"metadata of {key!r}: {name} must be a text, a number or a boolean",
                    (*pointer, name),
                    "a scalar",
                )
        found = self._fields(_Metadata, metadata, pointer)
        if found is not None and found["kind"] != "degradation" and (found["degrade"] or found["protected"]):
            self._wrong(
                f"{key!r} is of kind {found['kind']!r}, and has what only kind degradation has",
                (*pointer, "kind"),
                _EXAMPLES["kind"],
            )
        return found

    def _protect(
        self, key: str, metadata: dict[str, Any], default: str | None, disabled: bool, pointer: Pointer
    ) -> None:
        if metadata["degrade"]:
            self._wrong(
                f"{key!r} is protected and has a ladder: a protected feature cannot be degraded",
                (*pointer, "metadata", "degrade"),
                "one of the two",
            )
        if default is None:
            self._wrong(
                f"{key!r} is protected, and there is no defaultVariant to keep it at",
                pointer,
                "defaultVariant: the name of a variant",
            )
        if disabled and not metadata["breakGlass"].strip():
            self._wrong(
                f"{key!r} is protected, and state DISABLED would leave it to whatever the code says",
                (*pointer, "state"),
                '"ENABLED"; in an emergency add metadata.breakGlass with the reason',
            )

    def _ladder(
        self, key: str, text: str, default: str | None, variants: dict[str, Any], pointer: Pointer
    ) -> tuple[Step, ...]:
        if text.strip() and not self.has_levels:
            instead = f"degradation: {{levels: {_EXAMPLES['levels']}}}"
            self._wrong(f"{key!r} has a ladder, and the document has no levels", pointer, instead)
            return ()
        if not text.strip() or not self.levels:
            return ()
        steps: list[Step] = []
        for part in text.split(","):
            at, _, variant = (each.strip() for each in part.partition(":"))
            if not at or not variant:
                message = f"the step {part.strip()!r} of {key!r} is not level:variant"
                self._wrong(message, pointer, _EXAMPLES["degrade"])
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
            self._wrong(f"the flag {key!r} has no variant {variant!r}", pointer, _one_of(variant, variants))
        elif variant == default or variant in [each.variant for each in above]:
            self._wrong(
                f"the ladder of {key!r} comes back to {variant!r}: a higher level gives nothing back",
                pointer,
                "each variant once, and not the defaultVariant",
            )
        if level == 0:
            self._wrong(
                f"the ladder of {key!r} begins at level 0, where nothing is degraded",
                pointer,
                f"1:{variant}, or defaultVariant: {variant}",
            )
        elif above and level <= above[-1].level:
            self._wrong(f"the levels of the ladder of {key!r} do not rise", pointer, _EXAMPLES["degrade"])


def _one_of(given: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(given, list(names), 1)
    return near[0] if near else f"one of {', '.join(list(names)[:10])}"


def _why(exc: msgspec.ValidationError) -> str:
    """What msgspec says, without the place inside the value, which is shown as a whole."""
    text = str(exc).partition(" - at ")[0]
    return text if len(text) <= 80 else f"{text[:77]}..."
