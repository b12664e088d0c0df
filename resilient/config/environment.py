"""Numbers of policies from environment variables: ``RESILIENT__PAYMENTS__RETRY__ATTEMPTS=2``.

They stand between the code and the config document: what a deployment sets, and the document overrules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core.errors import ConfigError
from .center import PREFIX as PREFIX
from .leaves import flat_leaves, value_of


class Setting(NamedTuple):
    """A number, and the variable that sets it."""

    value: Any
    variable: str


Environment = Mapping[str, Mapping[str, Setting]]
"""By the name of the dependency as variables spell it, then by leaf."""


def spelt(name: str, /) -> str:
    """The name of a dependency as variables have it.

    Example:
        >>> spelt("ledger-0.shop")
        'LEDGER_0_SHOP'
    """
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")


def read_environment(environ: Mapping[str, str], /) -> Environment:
    """What the variables say of each dependency.

    Raises:
        ConfigError: the first that says nothing which a policy has.
    """
    found: dict[str, dict[str, Setting]] = {}
    for variable in sorted(environ):
        if variable.startswith(PREFIX):
            target, leaf = read_name(variable)
            value = read_value(variable, leaf, environ[variable])
            found.setdefault(target, {})[leaf] = Setting(value, variable)
    return found


def read_name(variable: str, /) -> tuple[str, str]:
    """The dependency, as it is spelt, and the leaf that a variable is for.

    Raises:
        ConfigError: there is no such leaf.
    """
    words = variable.removeprefix(PREFIX).lower().split("__")
    target, leaf = spelt(words[0]), ".".join(words[1:])
    if target and leaf in flat_leaves():
        return target, leaf
    if ".".join(words) in flat_leaves():  # of which dependency?
        target, leaf = "PAYMENTS", ".".join(words)
    close = difflib.get_close_matches(leaf, flat_leaves(), 1)
    example = (close[0] if close else "retry.attempts").upper().replace(".", "__")
    raise ConfigError(
        f"{variable} names no number of a policy; write {PREFIX}{target or 'PAYMENTS'}__{example}"
    )


def read_value(variable: str, leaf: str, text: str) -> Any:
    """The number that a variable gives to a leaf.

    Raises:
        ConfigError: it is nothing for that leaf.
    """
    known = flat_leaves()[leaf]
    try:
        return value_of(known, text, text=True)
    except ValueError as exc:
        instead = f"; write {variable}={known.example}" if known.example else ""
        raise ConfigError(f"{variable}: {exc}{instead}") from None
