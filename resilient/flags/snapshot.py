"""What a document says of features, frozen, and what each of them is at each level. No I/O, no clock.

Everything that is the same for all callers is evaluated once, when a `Flags` is made: reading a feature is a lookup in
a table. A level stands for "each feature with a step of its ladder at this level or below is degraded to the last of
these". Rules that tell callers apart stand above that, but for the last level, at which nobody is spared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
Noted = Mapping[str, str | int | float | bool]

_NOTHING: Noted = MappingProxyType({})

OFF = "off"
"""The variant in which a feature does nothing."""


@dataclass(frozen=True, slots=True)
class FlagDetails(Generic[T]):
    """What a feature is now, and why.

    Attributes:
        key: the feature.
        value: that of the variant; the caller's default where the document has none.
        variant: its name; None: the caller's default holds.
        enabled: whether the feature does anything: the value of a boolean flag, else whether the variant is not
            ``"off"``. With the caller's default: that if it is a bool, else True.
        reason: as OpenFeature has it: ``STATIC``, ``TARGETING_MATCH`` (a rule, or a step of the ladder), ``DEFAULT``,
            ``DISABLED`` or ``ERROR``.
        cause: what decided: ``protected``, ``targeting``, ``level:<n>``, ``default``, ``code_default`` or ``error``.
        level: the level at which the ladder has the step that decided; None where none did.
        error: OpenFeature's code, such as ``FLAG_NOT_FOUND``, where the reason is ``ERROR``.
        metadata: what the document notes of it, with what it notes of the whole set.
    """

    key: str
    value: T
    variant: str | None = None
    enabled: bool = True
    reason: str = "STATIC"
    cause: str = "default"
    level: int | None = None
    error: str | None = None
    metadata: Noted = field(default_factory=lambda: _NOTHING, repr=False, compare=False)

    @property
    def degraded(self) -> bool:
        """Whether a step of the ladder decided."""
        return self.level is not None


class Step(NamedTuple):
    """One step of a ladder: from this level on the feature is this variant."""

    level: int
    variant: str


class Rule(Protocol):
    """Tells callers apart. Two that are equal say the same."""

    def variant(self, attributes: Mapping[str, Any], level: int, /, *, tried: bool = False) -> str | None:
        """The variant that a caller gets at a level; None: what stands below rules decides. It may raise."""
        ...


@dataclass(frozen=True, slots=True)
class Flag:
    """One feature, as the document has it.

    Attributes:
        key: its name.
        variants: their values by name; all of one type.
        default: the variant at level 0; None leaves the value to the code.
        ladder: the steps down, by rising level.
        protected: whether no level degrades it.
        disabled: whether the document has no say: the code's default holds.
        rule: which variant which caller gets; above the ladder, but for the last level.
        metadata: what is noted of it, with what is noted of the whole set.
    """

    key: str
    variants: Mapping[str, Any]
    default: str | None = None
    ladder: tuple[Step, ...] = ()
    protected: bool = False
    disabled: bool = False
    rule: Rule | None = None
    metadata: Noted = field(default_factory=lambda: _NOTHING)

    def step_at(self, level: int, /) -> Step | None:
        """The step of the ladder that holds at a level."""
        if self.protected or self.disabled:
            return None
        below = [step for step in self.ladder if step.level <= level]
        return below[-1] if below else None

    def asks(self, level: int, last: int, /) -> bool:
        """Whether the rule has a say at a level; at the last one a step of the ladder stands above it."""
        if self.rule is None or self.protected or self.disabled:
            return False
        return level < last or self.step_at(level) is None


Table = Mapping[str, FlagDetails[Any]]


@dataclass(frozen=True)
class Flags:
    """All features of a document, and the level in force.

    Attributes:
        flags: by key.
        levels: their names; the first is the normal one, in which nothing is degraded.
        level: the one in force, an index into ``levels``.
        tables: what each feature is where no rule decides, for each level.
        table: the one of the level in force.
        fixed: those of ``table`` that are the same for every caller.
        targeted: what those with a rule are by it, by variant.

    Example:
        >>> flag = Flag("search", {"full": "full", "off": "off"}, "full", ladder=(Step(2, "off"),))
        >>> flags = Flags({"search": flag}, levels=("normal", "light", "heavy"))
        >>> [table["search"].variant for table in flags.tables]
        ['full', 'full', 'off']
    """

    flags: Mapping[str, Flag] = field(default_factory=dict)
    levels: tuple[str, ...] = ("normal",)
    level: int = 0
    tables: tuple[Table, ...] = field(init=False, repr=False, compare=False)
    table: Table = field(init=False, repr=False, compare=False)
    fixed: Table = field(init=False, repr=False, compare=False)
    targeted: Mapping[str, Table] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tables: tuple[dict[str, FlagDetails[Any]], ...] = tuple({} for _ in self.levels)
        for key, flag in self.flags.items():
            at: Step | None = None
            details = _details(flag, at)
            for level, table in enumerate(tables):
                step = flag.step_at(level)
                if step is not at:  # most features are one object in all tables
                    at, details = step, _details(flag, step)
                table[key] = details
        object.__setattr__(self, "flags", MappingProxyType(dict(self.flags)))
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "table", tables[self.level])
        asking = {
            key: flag for key, flag in self.flags.items() if flag.asks(self.level, len(self.levels) - 1)
        }
        fixed = {key: each for key, each in self.table.items() if key not in asking} if asking else self.table
        object.__setattr__(self, "fixed", fixed)
        object.__setattr__(self, "targeted", {key: _by_rule(flag) for key, flag in asking.items()})

    def rule_of(self, key: str, /) -> object:
        """What tells the callers of a feature apart; None: nothing does. Two that are equal say the same."""
        return (self.flags[key].rule, self.targeted[key]) if key in self.targeted else None

    def shown(self, level: int, /) -> str:
        """A level as people read it: its number and name."""
        return f"{level} ({self.levels[level]})" if level < len(self.levels) else f"{level}"


def _details(flag: Flag, step: Step | None) -> FlagDetails[Any]:
    if flag.disabled:
        return _to_the_code(flag, "DISABLED")
    variant = flag.default if step is None else step.variant
    if variant is None:
        return _to_the_code(flag, "DEFAULT")
    found = _in_variant(flag, variant)
    if step is not None:
        return replace(found, reason="TARGETING_MATCH", cause=f"level:{step.level}", level=step.level)
    if flag.protected:
        return replace(found, cause="protected")
    return found if flag.rule is None else replace(found, reason="DEFAULT")


def _to_the_code(flag: Flag, reason: str) -> FlagDetails[Any]:
    return FlagDetails(flag.key, None, reason=reason, cause="code_default", metadata=flag.metadata)


def _by_rule(flag: Flag) -> Table:
    return {
        name: replace(_in_variant(flag, name), reason="TARGETING_MATCH", cause="targeting")
        for name in flag.variants
    }


def _in_variant(flag: Flag, variant: str) -> FlagDetails[Any]:
    value = flag.variants[variant]
    enabled = value if isinstance(value, bool) else variant != OFF
    return FlagDetails(flag.key, value, variant, enabled, metadata=flag.metadata)


def changed(old: Flags, new: Flags, /) -> list[str]:
    """The features that are another thing than before, at least for some callers."""
    return [
        key
        for key in dict.fromkeys([*old.table, *new.table])
        if old.table.get(key) != new.table.get(key) or old.rule_of(key) != new.rule_of(key)
    ]
