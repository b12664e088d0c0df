"""From the plain tree to settings of policies, each with the place where it is written.

The options dataclasses are the only definition: what stands in the document are their fields that are numbers, under
the same names and rules. Functions, exceptions and whatever else says what a call *is* stay in code."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from ..core.errors import DocumentError
from ..core.options import Options
from ..policies.breaker import CircuitBreakerOptions
from ..policies.bulkhead import BulkheadOptions
from ..policies.ratelimit import RateLimitOptions
from ..policies.retry import RetryOptions
from ..policies.timeout import TimeoutOptions
from .document import Document, Pointer
from .leaves import Leaf, Leaves, leaves, short, value_of
from .section import Section
from .snapshot import Noted

MOST_PROBLEMS = 50
LONGEST_WORD = 100
_WORDS = {"version": "2026-11-10.1", "changedBy": "alice", "ticket": "CHG-4711"}
"""What of ``metadata`` is told with a change, with an example of each."""

ALLOW = "allowMassChange"
"""Of ``metadata``: the ticket by which a document may take away or change most of what there was."""

_SHOWN = 20
"""Names that are told where none is similar."""
_MOST_NAMES = 300
"""Among more a similar one is not looked for: it would take a second, for each that is wrong."""


TARGETS: Pointer = ("resiliency", "targets")
"""Where the document has what holds as a rule."""


class Said:
    """What the document says of one kind of policy of one dependency. Small: a document may have thousands.

    Args:
        values: by leaf, ``wait.base`` for what is nested.
        own: those that the target says itself.
        target: the dependency.
        kind: of the policy.
        use: the named policy that says the others.
        root: where the targets stand.

    Attributes:
        values: as given.
    """

    __slots__ = ("_kind", "_own", "_root", "_target", "_use", "values")

    def __init__(
        self,
        values: Mapping[str, Any],
        own: Collection[str],
        target: str,
        kind: str,
        use: str = "",
        root: Pointer = TARGETS,
    ) -> None:
        self.values = values
        self._root = root
        self._own = own
        self._target = target
        self._kind = kind
        self._use = use

    def pointer(self, leaf: str, /) -> Pointer:
        """The keys that lead to where a value is written."""
        steps = leaf.split(".")
        if leaf in self._own:
            return (*self._root, self._target, self._kind, *steps)
        return ("resiliency", "policies", self._kind, self._use, *steps)


Target = Mapping[str, Said]
"""What the document says of one dependency, by kind of policy."""

Named = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""The named policies, by kind."""


_IN_CODE: Mapping[str, type[Options]] = {
    "retry": RetryOptions,
    "breaker": CircuitBreakerOptions,
    "ratelimit": RateLimitOptions,
    "bulkhead": BulkheadOptions,
    "timeout": TimeoutOptions,
}
_MEANT = {
    "deadline": "timeout.total",
    "attempt_timeout": "timeout.attempt",
    "attempts": "retry.attempts",
    "concurrency": "bulkhead.limit",
    "rate": "ratelimit.rate",
    "circuit_breaker": "breaker",
    "rate_limit": "ratelimit",
}
"""Words of the code, and what the document calls them."""

_NOT_THERE = {
    "$evaluators": "targeting is",
    "plans": "plans are",
    "flags": "flags are",
    "degradation": "degradation is",
}
"""Parts of the format that are refused by name where nobody understands them."""


class Decoded(NamedTuple):
    """What a document says of policies.

    Attributes:
        targets: of each dependency.
        plans: the same, while a plan holds, by its name.
    """

    targets: dict[str, Target]
    plans: dict[str, dict[str, Target]]


def decode(document: Document, sections: Iterable[Section] = ()) -> Decoded:
    """What the document says of each dependency.

    Args:
        sections: those that others understand; their keys are left to them.

    Raises:
        DocumentError: with all that is wrong, up to fifty things, each with file and line.
    """
    decoder = _Decoder(document)
    known = {"$schema", "metadata", "resiliency"}.union(*(each.keys for each in sections))
    for key in document.tree:
        if key in _NOT_THERE and key not in known:
            decoder.refuse(f"{_NOT_THERE[key]} not supported by this version; remove it", (key,))
        elif key not in known:
            decoder.unknown((key,), known)
    decoder.metadata()
    named = decoder.named()
    targets, plans = decoder.targets(TARGETS, named), decoder.plans(named)
    decoder.done()
    return Decoded(targets, plans)


def placed(
    error: DocumentError, document: Document, /, *, before: str = "", reason: str | None = None
) -> DocumentError:
    """The same error with file and line, and so all its problems.

    Args:
        before: words before its own.
        reason: another than its own.
    """
    places = document.sources.places([each.pointer for each in (error, *error.problems)])

    def made(each: DocumentError, problems: tuple[DocumentError, ...] = ()) -> DocumentError:
        file, line = places[each.pointer]
        return DocumentError(
            (before if each is error else "") + str(each.args[0]),
            pointer=each.pointer,
            file=file,
            line=line,
            suggestion=each.suggestion,
            reason=reason or each.reason,
            problems=problems,
        )

    return made(error, tuple(made(each) for each in error.problems))


def noted_in(document: Document, /) -> Noted:
    """What its ``metadata`` notes, once that was decoded."""
    metadata = document.tree.get("metadata", {})
    words = (metadata.get(key) for key in (*_WORDS, ALLOW))
    return Noted(*(None if word is None else str(word) for word in words))


def _is_word(value: Any) -> bool:
    if isinstance(value, str):
        return value.isprintable() and len(value) <= LONGEST_WORD
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


class _Decoder:
    """One walk over one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._problems: list[DocumentError] = []

    # ------------------------------------------------------------------------------------------------- problems
    def refuse(
        self, message: str, pointer: Pointer, *, suggestion: str | None = None, reason: str = "structure"
    ) -> None:
        self._problems.append(DocumentError(message, pointer=pointer, suggestion=suggestion, reason=reason))
        if len(self._problems) == MOST_PROBLEMS:
            self.done()

    def unknown(self, pointer: Pointer, known: Iterable[str]) -> None:
        """A key that nobody knows."""
        key = str(pointer[-1])
        names = sorted(known)
        close = difflib.get_close_matches(key, names, 1)
        meant = _MEANT.get(key) if len(pointer) > 1 else None
        suggestion = close[0] if close else meant
        instead = f"write {suggestion}" if suggestion else f"there are {', '.join(names)}"
        self.refuse(f"no such key; {instead}", pointer, suggestion=suggestion)

    def done(self) -> None:
        """Raise what was found."""
        if not self._problems:
            return
        error = self._problems[0]
        if len(self._problems) > 1:
            said = f"{len(self._problems)} things are wrong"
            error = DocumentError(said, reason=error.reason, problems=tuple(self._problems))
        raise placed(error, self._document)

    # ----------------------------------------------------------------------------------------------------- walk
    def mapping(self, pointer: Pointer) -> dict[str, Any]:
        """What stands at the pointer; empty where nothing or something else does."""
        found: Any = self._document.tree
        for step in pointer:
            if not isinstance(found, dict) or step not in found:
                return {}
            found = found[step]
        if isinstance(found, dict):
            return found
        self.refuse(f"{short(found)} must be a mapping", pointer)
        return {}

    def metadata(self) -> None:
        """What is shown, in metrics too, is no more than a word."""
        given = self.mapping(("metadata",))
        for key, example in _WORDS.items():
            if not _is_word(given.get(key)):
                self.refuse(
                    f"{short(given[key])} must be a printable text of at most {LONGEST_WORD} characters, or a number; "
                    f'write {key}: "{example}"',
                    ("metadata", key),
                )
        ticket = given.get(ALLOW, "-")
        if not isinstance(ticket, str) or not ticket.strip() or not _is_word(ticket):
            self.refuse(
                f"{short(ticket)} must be the ticket that says why so much may change; write {ALLOW}: "
                f'"{_WORDS["ticket"]}"',
                ("metadata", ALLOW),
            )

    def named(self) -> Named:
        for key in self.mapping(("resiliency",)):
            if key not in ("policies", "targets"):
                self.unknown(("resiliency", key), ("policies", "targets"))
        at: Pointer = ("resiliency", "policies")
        return {
            kind: {
                name: self._policy(kind, self.mapping((*at, kind, name)), (*at, kind, name))
                for name in self.mapping((*at, kind))
            }
            for kind in self._kinds(at)
        }

    def targets(self, root: Pointer, named: Named) -> dict[str, Target]:
        return {
            target: {kind: self._target(root, target, kind, named) for kind in self._kinds((*root, target))}
            for target in self.mapping(root)
        }

    def plans(self, named: Named) -> dict[str, dict[str, Target]]:
        """What plans set of policies; all else of them is for others."""
        tree = self._document.tree.get("plans")
        found: dict[str, dict[str, Target]] = {}
        for name, plan in tree.items() if isinstance(tree, dict) else ():
            sets = plan.get("set") if isinstance(plan, dict) else None
            if isinstance(sets, dict) and isinstance(sets.get("targets"), dict):
                found[name] = self.targets(("plans", name, "set", "targets"), named)
        return found

    def _kinds(self, at: Pointer) -> list[str]:
        """The kinds of policies that stand there."""
        given = self.mapping(at)
        for kind in given:
            if kind not in leaves():
                self.unknown((*at, kind), leaves())
        return [kind for kind in given if kind in leaves()]

    def _target(self, root: Pointer, target: str, kind: str, named: Named) -> Said:
        at: Pointer = (*root, target, kind)
        given = self.mapping(at[:-1])[kind]
        if isinstance(given, str):
            return Said(self._named(given, at, kind, named), (), target, kind, given, root)
        given = self.mapping(at)
        if "use" not in given:
            own = self._policy(kind, given, at)
            return Said(own, own, target, kind, root=root)
        use = given["use"]
        base = self._named(use, (*at, "use"), kind, named)
        own = self._policy(kind, {key: value for key, value in given.items() if key != "use"}, at)
        return Said({**base, **own}, own, target, kind, use, root)

    def _named(self, name: Any, at: Pointer, kind: str, named: Named) -> Mapping[str, Any]:
        there = named.get(kind, {})
        if isinstance(name, str) and name in there:
            return there[name]
        close = difflib.get_close_matches(str(name), there, 1) if len(there) <= _MOST_NAMES else []
        names = sorted(there)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        known = f"there are {', '.join(names[:_SHOWN])}{more}" if names else "there is none"
        self.refuse(
            f"{short(name)} is no name in resiliency.policies.{kind}; "
            + (f"write {close[0]}" if close else known),
            at,
            suggestion=close[0] if close else None,
            reason="reference",
        )
        return {}

    def _policy(self, kind: str, given: Mapping[str, Any], at: Pointer) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._leaves(leaves()[kind], given, at, "", found, _IN_CODE[kind])
        return found

    def _leaves(
        self,
        known: Leaves,
        given: Mapping[str, Any],
        at: Pointer,
        before: str,
        found: dict[str, Any],
        options: type[Options] | None = None,
    ) -> None:
        for key, value in given.items():
            pointer, leaf = (*at, key), known.get(key)
            if isinstance(leaf, Leaf):
                self._leaf(leaf, value, pointer, f"{before}{key}", found)
            elif leaf is not None:
                self._leaves(leaf, self.mapping(pointer), pointer, f"{before}{key}.", found)
            elif options is not None and any(each.name == key for each in fields(options)):
                self.refuse("is said in code: it is part of what the call is; leave it out", pointer)
            else:
                self.unknown(pointer, known)

    def _leaf(self, leaf: Leaf, value: Any, pointer: Pointer, name: str, found: dict[str, Any]) -> None:
        try:
            found[name] = value_of(leaf, value)
        except ValueError as exc:
            instead = f"; write {pointer[-1]}: {leaf.example}" if leaf.example else ""
            self.refuse(f"{exc}{instead}", pointer)
