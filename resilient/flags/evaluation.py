"""Who asks for a feature, and what it is for him where that is not the same for all.

What is known of a caller is a mapping, as OpenFeature has it: `Features.context` says it for a block, ``context=`` for
one question. It is kept in one context variable, and seen by tasks and threads that took its context along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from .snapshot import FlagDetails, Flags
from .state import STATE

TARGETING_KEY = "targetingKey"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class _Layer:
    """One block, while code runs in it.

    Attributes:
        attributes: what holds inside it, with what the blocks around it say.
        above: the block around it.
        open: it was not left yet.
    """

    __slots__ = ("above", "attributes", "open")

    def __init__(self, attributes: Mapping[str, Any], above: _Layer | None) -> None:
        self.attributes = attributes
        self.above = above
        self.open = True


_LAYER: ContextVar[_Layer | None] = ContextVar("resilient_evaluation_context", default=None)


def _innermost() -> _Layer | None:
    layer = _LAYER.get()
    while layer is not None and not layer.open:  # left in another context
        layer = layer.above
    return layer


def known() -> Mapping[str, Any]:
    """What the blocks around this code say of the caller."""
    layer = _innermost()
    return _NOTHING if layer is None else layer.attributes


@contextmanager
def within(attributes: Mapping[str, Any]) -> Iterator[None]:
    """A block; see `Features.context`."""
    above = _innermost()
    around = _NOTHING if above is None else above.attributes
    layer = _Layer(MappingProxyType({**around, **_named(attributes)}), above)
    _LAYER.set(layer)
    try:
        yield
    finally:
        # Not by a token: a coroutine that was left behind may end in another context, where nothing can be put back.
        layer.open = False
        if _LAYER.get() is layer:
            _LAYER.set(above)


def _named(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the targeting key as a text, as every SDK has it, so that all put the same caller into the same bucket."""
    who = attributes.get(TARGETING_KEY)
    if who is None or isinstance(who, str):
        return attributes
    return {**attributes, TARGETING_KEY: str(who)}


def find(flags: Flags, key: str, given: Mapping[str, Any] | None = None, /) -> FlagDetails[Any] | None:
    """What a feature is for who asks; None: the document does not know it. Asked where `Flags.fixed` has no answer.

    Args:
        given: what is known of him beside `known`, and above it.

    What is wrong with a rule, or with what is known, goes into the log once and never into the caller's way. What is
    known of him does not: it may be about a person, or forged by one.
    """
    otherwise = flags.table.get(key)
    if otherwise is None:
        return None
    rule = flags.flags[key].rule
    assert rule is not None
    try:
        attributes = known() if given is None else {**known(), **_named(given)}
        variant = rule.variant(attributes, flags.level)
        found = otherwise if variant is None else flags.targeted[key].get(variant)
        if found is not None:
            return found
        why = "what it gives is no variant"
    except Exception as exc:
        why = type(exc).__name__
    STATE.complain(f"{key}: rule", "feature %r: its targeting failed (%s)", key, why)
    if otherwise.degraded:  # a rule that is broken gives back nothing that the level took
        return otherwise
    return FlagDetails(
        key, None, None, True, "ERROR", "error", error="GENERAL", metadata=flags.flags[key].metadata
    )
