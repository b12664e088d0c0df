"""`features`: what operators have switched, as code asks for it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, TypeVar, overload

from ..core.errors import PolicyError
from .context import Collecting, note, noted
from .evaluation import find, within
from .evaluations import EVALUATIONS
from .snapshot import FlagDetails
from .state import STATE, in_force, unknown

T = TypeVar("T")


class Features:
    """The features of the document in force; the one object is `features`.

    Nothing here waits, and nothing raises for what a document says or does not say: where it has no answer, the
    caller's default holds. Thread-safe, and the same in async code. Each question is answered from one document; two
    questions may meet two.

    Example:
        >>> features.enabled("search-suggestions", default=True)
        True
        >>> features.level()
        0
    """

    __slots__ = ()

    def enabled(self, key: str, default: bool = False, *, context: Mapping[str, Any] | None = None) -> bool:
        """Whether a feature does anything: the value of a boolean flag, else whether its variant is not ``"off"``.

        Args:
            key: the feature.
            default: what holds where the document does not know it, or leaves it to the code.
            context: what is known of the caller, for this question; see `context`.
        """
        flags = in_force()
        found = flags.fixed.get(key) or find(flags, key, context)
        if EVALUATIONS.on:
            EVALUATIONS.tell(key, found)
        if found is None or found.variant is None:
            return _own(found, key, default)
        if found.degraded:
            note(key, found.variant)
        return found.enabled

    def variant(self, key: str, default: str, *, context: Mapping[str, Any] | None = None) -> str:
        """The name of a feature's variant.

        Args:
            key: the feature.
            default: what holds where the document does not know it, or leaves it to the code.
            context: what is known of the caller, for this question; see `context`.
        """
        flags = in_force()
        found = flags.fixed.get(key) or find(flags, key, context)
        if EVALUATIONS.on:
            EVALUATIONS.tell(key, found)
        if found is None or found.variant is None:
            return _own(found, key, default)
        if found.degraded:
            note(key, found.variant)
        return found.variant

    @overload
    def details(self, key: str, *, context: Mapping[str, Any] | None = ...) -> FlagDetails[Any]: ...
    @overload
    def details(self, key: str, default: T, *, context: Mapping[str, Any] | None = ...) -> FlagDetails[T]: ...
    def details(
        self, key: str, default: Any = None, *, context: Mapping[str, Any] | None = None
    ) -> FlagDetails[Any]:
        """What a feature is and why: its value, its variant, and what decided.

        Args:
            key: the feature.
            default: the value where the document does not know it, or leaves it to the code; also where the document's
                value is of another type, unless it is None. A float takes whole numbers too.
            context: what is known of the caller, for this question; see `context`.

        An object (a dict) is the caller's own copy.
        """
        found = self._details(key, default, context)
        if EVALUATIONS.on:
            EVALUATIONS.tell(key, found)
        return found

    def _details(self, key: str, default: Any, context: Mapping[str, Any] | None) -> FlagDetails[Any]:
        flags = in_force()
        found = flags.fixed.get(key) or find(flags, key, context)
        if found is None:
            unknown(key)
            code = "FLAG_NOT_FOUND" if STATE.ready else "PROVIDER_NOT_READY"
            return FlagDetails(key, default, None, default is not False, "ERROR", "code_default", error=code)
        if found.variant is None:
            return replace(found, value=default, enabled=default is not False)
        if default is not None and not _alike(found.value, default):
            STATE.complain(
                f"{key}: type",
                "feature %r: its variant %r is %r, and the code wants the type of its default %r, which holds",
                key,
                found.variant,
                found.value,
                default,
            )
            return FlagDetails(
                key,
                default,
                None,
                default is not False,
                "ERROR",
                "error",
                error="TYPE_MISMATCH",
                metadata=found.metadata,
            )
        if found.degraded:
            note(key, found.variant)
        return replace(found, value=copy.deepcopy(found.value)) if type(found.value) is dict else found

    def level(self) -> int:
        """The level in force: 0 is the normal one, in which nothing is degraded."""
        return in_force().level

    def context(self, known: Mapping[str, Any] | None = None, /, **more: Any) -> AbstractContextManager[None]:
        """A block, ``with`` in sync and async code alike, in which this is known of the caller: rules in the document
        (``targeting``) decide by it which variant he gets.

        Args:
            known: by name; ``targetingKey`` is who he is, a text: he is put into the same part of a split each time.
            more: the same, as keyword arguments.

        Raises:
            PolicyError: ``known`` is no mapping.

        Blocks may stand in each other: the inner one adds to what the outer says. Tasks and threads that took the
        context along see it too.

        Example:
            >>> with features.context(targetingKey="account-7", tier="gold"):
            ...     features.variant("checkout", "old")
            'old'
        """
        if known is not None and not isinstance(known, Mapping):
            raise PolicyError(
                f"features.context: {known!r} must be a mapping of what is known of the caller; "
                "write features.context({'targetingKey': account}, tier='gold')"
            )
        return within({**(known or {}), **more})

    def collecting(self) -> Collecting:
        """A block, ``with`` in sync and async code alike, which collects the features that were met in a degraded
        variant inside it, also in tasks and threads that took its context along.

        What it gives is a dict of features and variants, which grows while the block runs. Blocks may stand in each
        other; each collects what happens inside it.

        Example:
            >>> with features.collecting() as degraded:
            ...     features.enabled("search-suggestions")
            False
            >>> degraded
            {}
        """
        return Collecting()

    def degraded(self) -> dict[str, str]:
        """What the innermost block of `collecting` around this code has met so far; empty outside of one."""
        return noted()


features: Final = Features()


def _own(found: FlagDetails[Any] | None, key: str, default: T) -> T:
    if found is None:
        unknown(key)
    return default


def _alike(value: Any, default: Any) -> bool:
    """Whether code that can work with ``default`` can work with ``value``."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))
