"""The numbers of a pipeline: which it has, where each is in the options of its policies, and where each is from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ..core.backoff import Backoff
from ..core.errors import ConfigError
from ..core.options import seconds
from ..core.pipeline import Pipeline
from ..policies.breaker import CircuitBreaker
from ..policies.bulkhead import Bulkhead
from ..policies.ratelimit import RateLimit
from ..policies.retry import Retry
from ..policies.timeout import Timeout
from .document import Pointer
from .leaves import Leaves, flat_leaves, leaves

OVERRIDE, EMERGENCY, PLAN, DOCUMENT = "override", "emergency", "plan", "document"
ENVIRONMENT, PRESET, CODE = "environment", "preset", "code"
"""Where a number is from, the strongest first. ``preset``: `standard` makes it of the others."""

Path = tuple[str, ...]


class Value(NamedTuple):
    """A number in force, and where it is from: the place in the document, the variable, or why a person set it."""

    value: Any
    layer: str
    pointer: Pointer | None = None
    variable: str | None = None


Values = dict[str, Value]
"""The numbers of a pipeline by leaf, such as ``retry.wait.base``."""


TIMES = ("timeout.total", "timeout.attempt")


def targets_of(pipeline: Pipeline) -> Iterator[tuple[Any, Mapping[str, Path]]]:
    """What has numbers, and where each of them is in its options. Of two of a kind it is the outermost."""
    seen: set[str] = set()
    for target, paths in _all_targets(pipeline):
        if seen.isdisjoint(paths):
            seen |= paths.keys()
            yield target, paths


def _all_targets(pipeline: Pipeline) -> Iterator[tuple[Any, Mapping[str, Path]]]:
    for i, policy in enumerate(pipeline.policies):
        if isinstance(policy, Timeout):
            total = any(inner.repeats for inner in pipeline.policies[i + 1 :])
            yield policy, {TIMES[not total]: ("seconds",)}
        elif isinstance(policy, Retry):
            known = dict(leaves()["retry"])
            budget, wait = known.pop("budget"), known.pop("wait")
            paths = _paths("retry.", (), known)
            if isinstance(policy.options.wait, Backoff):
                paths |= _paths("retry.wait.", ("wait",), wait)  # type: ignore[arg-type]  # leaves, not one
            yield policy, paths
            yield policy.budget_for(pipeline.name), _paths("retry.budget.", (), budget)  # type: ignore[arg-type]  # leaves, not one
        elif isinstance(policy, (CircuitBreaker, RateLimit, Bulkhead)):
            yield policy, _paths(f"{policy.kind}.", (), leaves()[policy.kind])


def _paths(prefix: str, before: Path, known: Leaves) -> dict[str, Path]:
    return {f"{prefix}{name}": (*before, name) for name in known}


def numbers(parts: list[tuple[Any, Any, Mapping[str, Path]]]) -> Values:
    """What the code says."""
    return {
        leaf: Value(_read(given, path), CODE) for _, given, paths in parts for leaf, path in paths.items()
    }


def _read(options: Any, path: Path) -> Any:
    if path == ("rate",):
        return options.rate.text
    if path == ("burst",) and options.burst == options.rate.amount:
        return None  # it follows the rate
    for name in path:
        options = getattr(options, name)
    return options


def with_numbers(options: Any, paths: Mapping[str, Path], values: Values) -> Any:
    """The same options with the numbers that are not the code's."""
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for leaf, path in paths.items():
        if values[leaf].layer != CODE:
            (nested.setdefault(path[0], {}) if len(path) > 1 else changes)[path[-1]] = values[leaf].value
    changes |= {name: replace(getattr(options, name), **inner) for name, inner in nested.items()}
    if "rate" in changes and "burst" not in changes:
        changes["burst"] = _read(options, ("burst",))
    return replace(options, **changes) if changes else options


def shown(leaf: str, value: Any) -> str:
    """A number as the document writes it."""
    if value is None:
        return "null"
    rule = flat_leaves()[leaf].rule
    return seconds(value).replace(" ", "") if rule is not None and rule.unit == "seconds" else str(value)


def find_leaf(key: str, asked: str = "explain", /) -> tuple[str, str]:
    """The name of the dependency and the leaf that a key such as ``payments.retry.attempts`` stands for.

    Args:
        asked: the function that was called, for the reader.

    Raises:
        ConfigError: no leaf is called so.
    """
    words = key.split(".") if isinstance(key, str) else []
    for n in range(1, len(words)):  # names may have dots
        name, leaf = ".".join(words[:n]), ".".join(words[n:])
        if leaf in flat_leaves():
            return name, leaf
    close = difflib.get_close_matches(".".join(words[1:]), flat_leaves(), 1)
    instead = f"{words[0]}.{close[0]}" if close else "payments.retry.attempts"
    raise ConfigError(f"{asked}: key={key!r} names no number; write {instead!r}")
