"""What the document may say of policies: each number under the name that it has in code, with its type and rule.

The options dataclasses are the only definition."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal

import msgspec

from ..core.backoff import JITTERS, Backoff, Jitter
from ..core.budget import BudgetOptions
from ..core.errors import PolicyError
from ..core.options import Options, Rule, parse_duration
from ..policies.breaker import CircuitBreakerOptions
from ..policies.bulkhead import BulkheadOptions
from ..policies.ratelimit import RateLimitOptions
from ..policies.ratelimit.options import parse_rate
from ..policies.retry import RetryOptions
from ..policies.timeout import TimeoutOptions

ForcedState = Literal["forced_open", "disabled", "observe"]
Suspended = Literal["disabled", "observe"]


class Duration(float):
    """Seconds, written with a unit: ``1h2m3.5s``, ``250ms``."""


class RateText(str):
    """A rate in the notation of `limits`: ``200/second``."""

    __slots__ = ()


@dataclass(frozen=True)
class Leaf:
    """A key that has a value.

    Attributes:
        type: what msgspec makes of the value.
        wanted: what it must be, for the reader.
        rule: its range, where it is a number.
        example: a value to write instead, where there is a usual one.
    """

    type: Any
    wanted: str
    rule: Rule | None = None
    example: str = ""


Leaves = Mapping[str, "Leaf | Leaves"]


def _numbers(options: type[Options]) -> dict[str, Leaf | Leaves]:
    """The fields of an options dataclass that have a rule."""
    found: dict[str, Leaf | Leaves] = {}
    for each in fields(options):
        rule: Rule | None = each.metadata.get("rule")
        if rule is not None:
            kind: Any = Duration if rule.unit == "seconds" else int if rule.integer else float
            wanted = str(rule).replace("None", "null")
            wanted = wanted.replace("a number (seconds)", "a duration with its unit, such as 250ms or 1m30s")
            default = "" if each.default is None else f"{each.default:{'d' if rule.integer else 'g'}}"
            example = f"{default}s" if kind is Duration and default else default
            found[each.name] = Leaf(kind | None if rule.optional else kind, wanted, rule, example)
    return found


@cache
def leaves() -> Mapping[str, Leaves]:
    """All that may be said of a policy, by its kind."""
    seconds = _numbers(TimeoutOptions)["seconds"]
    jitter = Leaf(Jitter, f"one of {', '.join(JITTERS)}")
    forced = Leaf(ForcedState | None, "one of forced_open, disabled, observe, or null")
    state = Leaf(Suspended | None, "one of disabled, observe, or null")
    return {
        "timeout": {"total": seconds, "attempt": seconds},
        "retry": {
            **_numbers(RetryOptions),
            "wait": {**_numbers(Backoff), "jitter": jitter},
            "budget": _numbers(BudgetOptions),
            "state": state,
        },
        "breaker": {**_numbers(CircuitBreakerOptions), "state": forced},
        "ratelimit": {
            **_numbers(RateLimitOptions),
            "rate": Leaf(RateText, "a rate, such as 200/second"),
            "state": state,
        },
        "bulkhead": {**_numbers(BulkheadOptions), "state": state},
    }


@cache
def flat_leaves() -> Mapping[str, Leaf]:
    """The same by their whole names, such as ``retry.wait.base``."""

    def flat(known: Leaves, before: str) -> Iterator[tuple[str, Leaf]]:
        for name, each in known.items():
            if isinstance(each, Leaf):
                yield before + name, each
            else:
                yield from flat(each, f"{before}{name}.")

    return dict(flat(leaves(), ""))


def _made(kind: type, value: Any) -> Any:
    """For msgspec: a value of a type that it does not know."""
    if kind is Duration:
        return Duration(parse_duration(value))
    if not isinstance(value, str):
        raise ValueError("no text")
    parse_rate(value)
    return RateText(value)


def value_of(leaf: Leaf, value: Any, /, *, text: bool = False) -> Any:
    """What stands for a leaf, as the options take it.

    Args:
        value: from the document.
        text: whether it is from where all is text: ``"3"`` and ``"null"`` are what they would be in the document.

    Raises:
        ValueError: it is nothing for this leaf; says what is.
    """
    try:
        given = None if text and value == "null" else value
        made = msgspec.convert(given, leaf.type, strict=not text, dec_hook=_made)
    except PolicyError as exc:  # of a rate
        raise ValueError(str(exc.args[0]).removeprefix("RateLimit: ")) from None
    except (msgspec.ValidationError, ValueError):
        made = _WRONG
    if made is _WRONG or (leaf.rule is not None and not leaf.rule.allows(made)):
        raise ValueError(f"{short(value)} must be {leaf.wanted}")
    if isinstance(made, Duration):
        return float(made)
    return value if leaf.type is RateText else made


_WRONG: Any = object()


def short(value: Any, /) -> str:
    """A value as the document writes it, not longer than a line."""
    said = json.dumps(value, ensure_ascii=False)
    return said if len(said) <= 60 else f"{said[:57]}..."
