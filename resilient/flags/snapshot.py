"""What a document says of features, frozen, and what each of them is just now. No I/O, no clock.

Everything that is the same for all callers is evaluated once, when a `Flags` is made: reading a feature is a lookup in
a table. A level stands for "each feature with a step of its ladder at this level or below is degraded to the last of
these". Rules that tell callers apart stand above that, but for the levels at which nobody is spared.

What changes without the document, as plans that begin and end, is an `Overlay`. Of a feature holds the first of: its
protection, what a person set, a step of its ladder from its hard level on, its rule, a plan, a step of its ladder, its
default; the code's."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from .plans import Plan, Steering

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
        cause: what decided: ``protected``, ``override``, ``targeting``, ``plan:<name>``, ``level:<n>``, ``restoring``
            (it is given back in a while), ``default``, ``code_default`` or ``error``.
        level: the level at which the ladder has the step that decided; None where none did.
        degraded: whether a level, a plan or a person made it another than it is normally, or it is not given back yet.
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
    degraded: bool = False


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
        rule: which variant which caller gets; above the ladder, but from the hard level on.
        hard: the level from which on the ladder stands above the rule and above plans; None: the last one.
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
    hard: int | None = None

    def step_at(self, level: int, /) -> Step | None:
        """The step of the ladder that holds at a level."""
        if self.protected or self.disabled:
            return None
        below = [step for step in self.ladder if step.level <= level]
        return below[-1] if below else None

    def spares(self, level: int, last: int, /) -> bool:
        """Whether rules and plans have a say at a level: from the hard one on a step of the ladder is above them."""
        return level < (last if self.hard is None else self.hard) or self.step_at(level) is None

    def asks(self, level: int, last: int, /) -> bool:
        """Whether the rule has a say at a level."""
        if self.rule is None or self.protected or self.disabled:
            return False
        return self.spares(level, last)

    def depth(self, variant: str | None, /) -> int | None:
        """How far down the ladder a variant is: 0 for the default; None for one that is not on it."""
        if variant == self.default:
            return 0
        return next((i for i, step in enumerate(self.ladder, 1) if step.variant == variant), None)


Table = Mapping[str, FlagDetails[Any]]


class Held(NamedTuple):
    """A feature that is given back later.

    Attributes:
        details: what it is until then.
        asks: whether its rule has a say until then.
    """

    details: FlagDetails[Any]
    asks: bool


class Overlay(NamedTuple):
    """What holds beside the document just now.

    Attributes:
        level: in force.
        why: what decided the level: ``document``, ``plan:<name>``, ``auto`` or ``override``.
        plans: the active ones.
        sets: the variants that they set, each with the name of the plan.
        overrides: the variants that persons set, for a time, each with why.
        held: what is given back later.
        reason: why, where a person set the level.
    """

    level: int
    why: str = "document"
    plans: tuple[str, ...] = ()
    sets: Mapping[str, tuple[str, str]] = MappingProxyType({})
    overrides: Mapping[str, tuple[str, str]] = MappingProxyType({})
    held: Mapping[str, Held] = MappingProxyType({})
    reason: str | None = None


@dataclass(frozen=True)
class Flags:
    """All features of a document, and what each is just now.

    Attributes:
        flags: by key.
        levels: their names; the first is the normal one, in which nothing is degraded.
        level: the one in force, an index into ``levels``.
        plans: what may be laid over it, by name.
        steering: how the level is found, and how features are given back.
        tables: what each feature is where neither rule nor overlay decides, for each level.
        table: what each is where no rule decides.
        fixed: those of ``table`` that are the same for every caller.
        targeted: what those with a rule are by it, by variant.
        overlay: what was laid over the document; None where nothing was.

    Example:
        >>> flag = Flag("search", {"full": "full", "off": "off"}, "full", ladder=(Step(2, "off"),))
        >>> flags = Flags({"search": flag}, levels=("normal", "light", "heavy"))
        >>> [table["search"].variant for table in flags.tables]
        ['full', 'full', 'off']
        >>> flags.under(Overlay(level=2)).table["search"].variant
        'off'
    """

    flags: Mapping[str, Flag] = field(default_factory=dict)
    levels: tuple[str, ...] = ("normal",)
    level: int = 0
    plans: Mapping[str, Plan] = field(default_factory=lambda: MappingProxyType({}))
    steering: Steering = field(default_factory=Steering)
    tables: tuple[Table, ...] = field(init=False, repr=False, compare=False)
    table: Table = field(init=False, repr=False, compare=False)
    fixed: Table = field(init=False, repr=False, compare=False)
    targeted: Mapping[str, Table] = field(init=False, repr=False, compare=False)
    overlay: Overlay | None = field(init=False, default=None)

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
        self._settle(None)

    def under(self, overlay: Overlay, /) -> Flags:
        """The same document with this laid over it. Cheap: what did not change is shared."""
        found = copy(self)
        object.__setattr__(found, "level", overlay.level)
        found._settle(overlay)
        return found

    def _settle(self, overlay: Overlay | None) -> None:
        last = len(self.levels) - 1
        asking = {
            key for key, flag in self.flags.items() if flag.rule is not None and flag.asks(self.level, last)
        }
        table = self.tables[self.level]
        if overlay is not None and (overlay.sets or overlay.overrides or overlay.held):
            table = {**table, **self._over(overlay, last)}
            asking -= overlay.overrides.keys()
            asking -= {key for key, held in overlay.held.items() if not held.asks}
        fixed = {key: each for key, each in table.items() if key not in asking} if asking else table
        object.__setattr__(self, "overlay", overlay)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "fixed", fixed)
        object.__setattr__(self, "targeted", {key: _by_rule(self.flags[key]) for key in asking})

    def _over(self, overlay: Overlay, last: int) -> Table:
        """What is not as the level has it."""
        found: dict[str, FlagDetails[Any]] = {}
        for key, (variant, plan) in overlay.sets.items():
            flag = self.flags.get(key)
            if flag is not None and not flag.disabled and flag.spares(self.level, last):
                found[key] = _set(flag, variant, f"plan:{plan}")
        found |= {key: held.details for key, held in overlay.held.items()}
        for key, (variant, _) in overlay.overrides.items():
            found[key] = _set(self.flags[key], variant, "override")
        return found

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
        cause = f"level:{step.level}"
        return replace(found, reason="TARGETING_MATCH", cause=cause, level=step.level, degraded=True)
    if flag.protected:
        return replace(found, cause="protected")
    return found if flag.rule is None else replace(found, reason="DEFAULT")


def _set(flag: Flag, variant: str, cause: str) -> FlagDetails[Any]:
    """A plan or a person says what it is."""
    found = _in_variant(flag, variant)
    return replace(found, reason="TARGETING_MATCH", cause=cause, degraded=variant != flag.default)


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
        if _differ(old.table.get(key), new.table.get(key)) or old.rule_of(key) != new.rule_of(key)
    ]


def _differ(old: FlagDetails[Any] | None, new: FlagDetails[Any] | None) -> bool:
    return old is not new and old != new  # most are one object in both
