"""The rules of a document, ``targeting`` and ``$evaluators``: checked whole before any of them is asked.

flagd's own evaluators find out what is wrong with a rule when a caller meets it: a name that is no variant, an operator
that nobody knows. Here that is said when the document is read, by what flagd's schema says of rules and by what can be
told of their results without a caller."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from reprlib import repr as shown
from typing import Any, NamedTuple

from ..core.forks import load_unforked
from .reading import MOST_PROBLEMS, Pointer, Reading
from .snapshot import Rule

DEEPEST = 64
MOST_PARTS = 10_000
"""Values and operators of one rule, with what it refers to, and those in a loop as often as that runs: about as many
microseconds for each read."""
_PIECE = 100
"""Characters of a text that count as one part: a loop may put it together again and again."""
MOST_OF_ALL = 1_000_000
"""The same of all rules together: each is asked once when the document is read."""
LARGEST = 2**53 - 1
"""Of a number: beyond it the evaluators of some languages lose digits, and products take seconds."""
MOST_WEIGHT = 2**31 - 1
"""All weights of a ``fractional`` together."""

MOST_NAMES = 300
"""Among more a similar one is not looked for."""

EVALUATORS = "$evaluators"
_REF = "$ref"
OURS = ("$flagd.timestamp", "$flagd.flagKey")
RANGES = ("=", "!=", ">", "<", ">=", "<=", "~", "^")
VERSION = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
)
_VERSION = re.compile(VERSION, re.ASCII)


class Arity(NamedTuple):
    """How many arguments an operator takes."""

    least: int
    most: int | None

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least}"
        return f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"


ONE, TWO, THREE, ANY = Arity(1, 1), Arity(2, 2), Arity(3, 3), Arity(1, None)

LISTS: dict[str, Arity] = {
    **dict.fromkeys(("==", "===", "!=", "!==", ">", ">=", "%", "/", "in"), TWO),
    **dict.fromkeys(("map", "filter", "all", "none", "some"), TWO),
    **dict.fromkeys(("substr", "<", "<="), Arity(2, 3)),
    **dict.fromkeys(("if", "or", "and", "+", "-", "max", "min", "merge", "cat"), ANY),
    "*": Arity(2, None),
    "reduce": THREE,
}
"""Operators of which each argument may be anything that has a value."""
LOOPS = ("map", "filter", "all", "none", "some", "reduce")
"""Those that ask their second argument for each item of the first."""
NEGATIONS = ("!", "!!")
"""Those that take one argument, in a list or not."""
STRINGS = ("starts_with", "ends_with")

_SPECIAL: dict[str, str] = {
    "var": "_var",
    "missing": "_missing",
    "missing_some": "_missing_some",
    "sem_ver": "_sem_ver",
    "fractional": "_fractional",
    **dict.fromkeys(STRINGS, "_strings"),
    **dict.fromkeys(NEGATIONS, "_negation"),
}
OPERATORS = frozenset({*LISTS, *_SPECIAL})

_BOOLEANS = frozenset(
    {
        "==",
        "===",
        "!=",
        "!==",
        ">",
        ">=",
        "<",
        "<=",
        "in",
        "all",
        "none",
        "some",
        "sem_ver",
        *STRINGS,
        *NEGATIONS,
    }
)
"""Operators that give true or false: as a flag's result these are the variants ``"true"`` and ``"false"``."""


def variant_named(result: Any) -> str | None:
    """The variant that a rule's result names, as flagd reads it; None: it names none."""
    if result is None or isinstance(result, str):
        return result
    return str(result).lower() if isinstance(result, bool) else str(result)


class Rules:
    """The rules of one document, being read.

    Args:
        read: complains.
    """

    def __init__(self, read: Reading) -> None:
        self._read = read
        self._shared: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}  # of shared rules
        self._parts = self._all = 0  # of the rule that is read, and of those before it
        self._in_shared = False
        self._make: Callable[[str, dict[str, Any]], Rule] | None = None
        self._told = False

    def share(self, raw: Any) -> None:
        """Read ``$evaluators``: rules that others name."""
        self._in_shared = True
        for name, rule in (self._read.object(raw, (EVALUATORS,)) or {}).items():
            place = (EVALUATORS, name)
            if self._read.object(rule, place) is not None:
                self._parts = 0
                self._shared[name] = self._operation(rule, place)
                self._sizes[name] = self._parts
        self._in_shared = False

    def rule(
        self, key: str, raw: dict[str, Any], variants: Mapping[str, Any], pointer: Pointer
    ) -> Rule | None:
        """The rule of a flag; None where it is wrong."""
        before = len(self._read.problems)
        if _REF in raw:
            instead = '{"if": [{"$ref": "vip"}, "full", null]}'
            self._wrong("a $ref stands inside a rule, and is none itself", pointer, instead)
            return None
        self._parts = 0
        logic = self._operation(raw, pointer)
        self._check_size(key, pointer)
        if len(self._read.problems) == before:
            self._check_results(key, logic, variants, pointer)
        if len(self._read.problems) > before or not self._has_evaluator(key, pointer):
            return None
        assert self._make is not None
        rule = self._make(key, logic)
        self._try(rule, variants, pointer)
        return rule

    def _check_size(self, key: str, pointer: Pointer) -> None:
        above = self._all <= MOST_OF_ALL
        self._all += self._parts
        if self._parts > MOST_PARTS:
            message = f"the rule of {key!r} has {self._parts:,} parts, with what it refers to"
            self._wrong(
                message, pointer, f"at most {MOST_PARTS:,}: compare with an attribute that says the same"
            )
        elif above and self._all > MOST_OF_ALL:
            message = f"with that of {key!r} all rules have more than {MOST_OF_ALL:,} parts together"
            self._wrong(message, pointer, "fewer")

    def _has_evaluator(self, key: str, pointer: Pointer) -> bool:
        if self._make is None and not self._told:
            try:
                load_unforked(self._load)
            except ImportError as exc:
                self._told = True
                self._wrong(
                    f"the flag {key!r} has targeting, which needs the extra `flags`, and it is not installed ({exc})",
                    pointer,
                    "pip install 'resilient-client[flags]' in the image first; or remove targeting",
                )
        return self._make is not None

    def _load(self) -> None:
        from .flagd import FlagdRule

        self._make = FlagdRule

    def _try(self, rule: Rule, variants: Mapping[str, Any], pointer: Pointer) -> None:
        """Ask it once on behalf of somebody of whom nothing is known: what breaks then would break in a call."""
        try:
            found = rule.variant({"targetingKey": "nobody"}, 0, tried=True)
        except Exception as exc:
            self._wrong(
                f"for a caller of whom nothing is known the rule fails: {type(exc).__name__}: {exc}",
                pointer,
                'a default beside each variable, {"var": ["age", 0]}',
            )
            return
        if found is not None and found not in variants:
            self._wrong(
                f"for a caller of whom nothing is known the rule gives {shown(found)}, which is no variant",
                pointer,
                f"one of {', '.join([*variants][:10])}, or null",
            )

    # -------------------------------------------------------------------------------------------------- results
    def _check_results(self, key: str, logic: Any, variants: Mapping[str, Any], pointer: Pointer) -> None:
        """Whatever a rule gives must be a variant: so far as that can be told without a caller."""
        told = set[str]()
        for result, place in _results(logic, pointer):
            name = variant_named(result)
            if name is None or name in variants or name in told:
                continue
            told.add(name)
            names = [*variants]
            near = self._near(name, names)
            self._read.wrong(
                f"the rule of {key!r} may give {shown(name)}, which is no variant",
                place,
                f"one of {', '.join(names[:10])}, or null",
                meant=near,
            )

    # ----------------------------------------------------------------------------------------------- operations
    def _wrong(self, message: str, pointer: Pointer, instead: str, *, meant: str | None = None) -> None:
        self._read.wrong(message, pointer, instead, meant=meant)

    def _near(self, word: str, names: list[str]) -> str | None:
        """The name that is probably meant; not looked for among very many, nor for what nobody will be shown."""
        if len(names) > MOST_NAMES or len(self._read.problems) >= MOST_PROBLEMS:
            return None
        return next(iter(difflib.get_close_matches(word, names, 1)), None)

    def _value(self, raw: Any, at: Pointer) -> Any:
        """Anything that has a value, with what it refers to in place of the reference."""
        self._parts += 1
        if len(at) > DEEPEST:
            self._wrong(f"the rule nests deeper than {DEEPEST}", at, "less in one rule")
            return None
        if isinstance(raw, dict):
            return self._reference(raw, at) if _REF in raw else self._operation(raw, at)
        if isinstance(raw, list):
            return [self._value(each, (*at, i)) for i, each in enumerate(raw)]
        if isinstance(raw, str):
            self._parts += len(raw) // _PIECE
        elif isinstance(raw, int) and not -LARGEST <= raw <= LARGEST:
            instead = "at most 2**53 - 1, or a text on both sides"
            self._wrong(f"the number {shown(raw)} is too large", at, instead)
        return raw

    def _reference(self, raw: dict[str, Any], at: Pointer) -> Any:
        name = raw[_REF]
        if len(raw) > 1 or not isinstance(name, str):
            self._wrong(f"{shown(raw)} is no reference", at, '{"$ref": "vip"} and nothing beside it')
        elif self._in_shared:
            # flagd puts them in by one pass over the text: what a second one would find depends on the language.
            self._wrong("a rule in $evaluators refers to another", at, "that one's rule itself")
        elif name not in self._shared:
            near = self._near(name, [*self._shared])
            self._wrong(
                f"there is no {name!r} in $evaluators",
                at,
                f"one of {', '.join([*self._shared][:10])}" if self._shared else "the rule itself",
                meant=f'{{"$ref": "{near}"}}' if near else None,
            )
        else:
            self._parts += self._sizes[name]
            return self._shared[name]
        return None

    def _operation(self, raw: dict[str, Any], at: Pointer) -> Any:
        if len(raw) != 1:
            self._wrong(f"{shown(raw)} has not one operator", at, '{"==": [{"var": "tier"}, "gold"]}')
            return None
        ((name, args),) = raw.items()
        if name not in OPERATORS:
            near = self._near(str(name), sorted(OPERATORS))
            known = "an operator of flagd's, such as if, in, ==, starts_with or fractional"
            self._wrong(f"there is no operator {shown(name)}", (*at, name), known, meant=near)
            return None
        place = (*at, name)
        if name == "reduce":
            self._check_growth(args, place)
        if name in LISTS:
            return {name: self._list(name, args, LISTS[name], place)}
        return {name: getattr(self, _SPECIAL[name])(name, args, place)}

    def _list(self, name: str, raw: Any, arity: Arity, at: Pointer) -> Any:
        if (
            not isinstance(raw, list)
            or len(raw) < arity.least
            or (arity.most is not None and len(raw) > arity.most)
        ):
            self._wrong(f"{name} takes a list of {arity}, and {shown(raw)} is none", at, "[...]")
            return raw
        return self._loop(raw, at) if name in LOOPS else self._value(raw, at)

    def _loop(self, raw: list[Any], at: Pointer) -> list[Any]:
        """As any list, but for how often its second argument is asked: not more often than the first has parts, if that
        stands here or is made of what does. How much a caller brings along is not known."""
        before = self._parts
        items = self._value(raw[0], (*at, 0))
        times, between = self._parts - before, self._parts
        body = self._value(raw[1], (*at, 1))
        self._parts = between + times * (self._parts - between)
        return [items, body, *(self._value(each, (*at, i)) for i, each in enumerate(raw[2:], 2))]

    def _check_growth(self, args: Any, at: Pointer) -> None:
        """A ``reduce`` that puts its accumulator into itself twice doubles it with each item: sixty fill any memory."""
        body = list(_inside(args[1])) if isinstance(args, list) and len(args) > 1 else []
        kept = [each["var"] for each in body if "var" in each and _is_accumulator(each["var"])]
        if len(kept) > 1 and any(each.keys() & _GROWING for each in body):
            self._wrong(
                "the reduce puts its accumulator into itself more than once, and would grow without bound",
                at,
                '{"var": "accumulator"} once',
            )

    def _negation(self, name: str, raw: Any, at: Pointer) -> Any:
        return self._list(name, raw, ONE, at) if isinstance(raw, list) else self._value(raw, at)

    def _var(self, name: str, raw: Any, at: Pointer) -> Any:
        if isinstance(raw, list):
            scalars = not any(isinstance(each, (dict, list)) for each in raw[1:])
            if not raw or not isinstance(raw[0], str) or not scalars:
                self._wrong(f"{name} takes a name and a default, and {shown(raw)} is none", at, '["age", 0]')
                return raw
            return [raw[0], *(self._value(each, (*at, i)) for i, each in enumerate(raw[1:], 1))]
        if isinstance(raw, str) and raw.startswith("$flagd.") and raw not in OURS:
            self._wrong(f"there is no {raw!r}", at, " or ".join(OURS))
        return self._plain(raw, at)

    def _missing(self, name: str, raw: Any, at: Pointer) -> Any:
        if not isinstance(raw, list) or not all(isinstance(each, str) for each in raw):
            self._wrong(f"{name} takes a list of names, and {shown(raw)} is none", at, '["tier", "region"]')
            return raw
        return self._value(raw, at)

    def _missing_some(self, name: str, raw: Any, at: Pointer) -> Any:
        if not isinstance(raw, list) or len(raw) != 2 or not _is_number(raw[0]):
            self._wrong(
                f"{name} takes how many and which, and {shown(raw)} is not that",
                at,
                '[1, ["tier", "region"]]',
            )
            return raw
        return [raw[0], self._missing(name, raw[1], (*at, 1))]

    def _strings(self, name: str, raw: Any, at: Pointer) -> Any:
        if (
            not isinstance(raw, list)
            or len(raw) != 2
            or not all(isinstance(each, (str, dict)) for each in raw)
        ):
            instead = '[{"var": "email"}, "@shop.example"]'
            self._wrong(f"{name} takes two texts, and {shown(raw)} is not that", at, instead)
            return raw
        return [self._plain(each, (*at, i)) for i, each in enumerate(raw)]

    def _sem_ver(self, name: str, raw: Any, at: Pointer) -> Any:
        good = isinstance(raw, list) and len(raw) == 3 and isinstance(raw[1], str) and raw[1] in RANGES
        if not good or not all(_is_version(raw[i]) for i in (0, 2)):
            self._wrong(
                f"{name} takes a version, one of {' '.join(RANGES)}, and a version, and {shown(raw)} is not that",
                at,
                '[{"var": "version"}, ">=", "1.2.0"]',
            )
            return raw
        return [self._plain(each, (*at, i)) for i, each in enumerate(raw)]

    def _plain(self, raw: Any, at: Pointer) -> Any:
        """A text, or an operation; the schema has no reference here."""
        if isinstance(raw, dict) and _REF in raw:
            self._wrong("a $ref cannot stand here", at, "the rule itself")
            return None
        return self._value(raw, at)

    def _fractional(self, name: str, raw: Any, at: Pointer) -> Any:
        if not isinstance(raw, list) or not raw:
            self._wrong(f"{name} takes a list of variants with weights", at, '[["new", 10], ["old", 90]]')
            return raw
        buckets = raw if isinstance(raw[0], list) else raw[1:]
        found = [] if buckets is raw else [self._by(raw[0], (*at, 0))]
        for i, bucket in enumerate(buckets, len(found)):
            found.append(self._bucket(bucket, (*at, i)))
        literal = [
            each[1] for each in found if isinstance(each, list) and len(each) == 2 and _is_number(each[1])
        ]
        if sum(literal) > MOST_WEIGHT:
            self._wrong(f"the weights of {name} are more than {MOST_WEIGHT:,} together", at, "smaller ones")
        return found

    def _by(self, raw: Any, at: Pointer) -> Any:
        """What the buckets are made by, where it is not the flag and the targeting key."""
        if not isinstance(raw, dict):
            instead = '{"var": "account"}, or leave it out: by targetingKey'
            self._wrong(f"{shown(raw)} is nothing to divide callers by", at, instead)
            return raw
        return self._plain(raw, at)

    def _bucket(self, raw: Any, at: Pointer) -> Any:
        if not isinstance(raw, list) or len(raw) not in (1, 2):
            self._wrong(f"{shown(raw)} is no variant with a weight", at, '["new", 10]')
            return raw
        weight = raw[1] if len(raw) == 2 else 1
        if not isinstance(weight, dict) and (
            not _is_number(weight) or isinstance(weight, float) or weight < 0
        ):
            self._wrong(
                f"the weight {shown(weight)} is no whole number from 0", (*at, 1), f"[{shown(raw[0])}, 10]"
            )
            return raw
        parts = [self._value(raw[0], (*at, 0))]
        return parts if len(raw) == 1 else [*parts, self._plain(weight, (*at, 1))]


_GROWING = {"cat", "merge", "*"}


def _inside(raw: Any) -> Iterator[dict[str, Any]]:
    """All objects in a rule."""
    found = [raw]
    while found:
        each = found.pop()
        if isinstance(each, dict):
            yield each
        found += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()


def _is_accumulator(name: Any) -> bool:
    """Whether a variable is, or may be, the accumulator or what holds it."""
    name = name[0] if isinstance(name, list) and name else name
    return not isinstance(name, str) or name in ("", "accumulator") or name.startswith("accumulator.")


def _is_number(raw: Any) -> bool:
    return isinstance(raw, (int, float)) and not isinstance(raw, bool)


def _is_version(raw: Any) -> bool:
    """A version, or a variable that has one."""
    return (isinstance(raw, dict) and "var" in raw) or (
        isinstance(raw, str) and _VERSION.match(raw) is not None
    )


def _results(logic: Any, at: Pointer) -> Iterator[tuple[Any, Pointer]]:
    """What a rule gives, so far as that stands in it, each with its place."""
    if not isinstance(logic, dict) or len(logic) != 1:
        yield logic, at
        return
    ((name, args),) = logic.items()
    place = (*at, name)
    if name == "if":
        last = len(args) - 1
        for i in range(len(args)):
            if i % 2 or i == last:  # else it is a condition
                yield from _results(args[i], (*place, i))
    elif name == "fractional":
        for i, bucket in enumerate(args):
            if isinstance(bucket, list):
                yield from _results(bucket[0], (*place, i, 0))
    elif name in _BOOLEANS:
        yield from ((True, place), (False, place))
