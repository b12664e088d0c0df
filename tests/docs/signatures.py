"""Signatures as the reference page writes them: names, kinds and defaults, without types."""

from __future__ import annotations

import enum
import inspect
from typing import Any

import resilient

_MARKS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _default(value: Any) -> str:
    for name in ("TRANSIENT", "ANY_ERROR"):
        if value is getattr(resilient, name):
            return name
    if isinstance(value, resilient.Backoff):
        return "backoff()"
    if type(value).__module__.startswith("resilient.") and not isinstance(value, enum.Enum):
        return repr(value)
    return str(value) if isinstance(value, enum.Enum) else repr(value)


def signature(value: Any, /) -> str:
    """What stands between the brackets, brackets included; ``self`` and the marks of positional-only left out."""
    parts = []
    star = False
    for parameter in inspect.signature(value).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        mark = _MARKS.get(parameter.kind, "")
        star = star or mark == "*"
        given = "" if parameter.default is parameter.empty else f"={_default(parameter.default)}"
        parts.append(f"{mark}{parameter.name}{given}")
    return f"({', '.join(parts)})"


def members(cls: type, /) -> dict[str, str]:
    """The public methods (with their signature) and properties (without) that a class itself defines."""
    found = {}
    for name, value in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            found[name] = ""
        elif isinstance(value, (staticmethod, classmethod)) or inspect.isfunction(value):
            found[name] = signature(inspect.unwrap(getattr(cls, name)))
    return found


def written(name: str, value: Any, /) -> str:
    """How the page writes a public name: as a call where it is called, else bare."""
    if inspect.ismodule(value) or not callable(value):
        return name
    if inspect.isbuiltin(value):
        return f"{name}()"
    if isinstance(value, type):
        made_by_us = issubclass(value, (BaseException, enum.Enum)) or getattr(value, "_is_protocol", False)
        if made_by_us or getattr(value, "__init__", None) is object.__init__:
            return name
    return name + signature(value)
