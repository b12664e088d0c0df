"""The SDK that a test runs with.

A test file that takes its `httpx` from here runs twice: with httpx and `resilient.httpx`, and with httpx2 and
`resilient.httpx2`; `httpx` and `bound` are those of the run (see `conftest`), and so is the SDK's core, `httpcore`."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import httpcore as _httpcore
import httpcore2 as _httpcore2
import httpx as _httpx
import httpx2 as _httpx2

import resilient.httpx
import resilient.httpx2

SDKS: dict[str, tuple[ModuleType, ModuleType, ModuleType]] = {
    "httpx": (_httpx, resilient.httpx, _httpcore),
    "httpx2": (_httpx2, resilient.httpx2, _httpcore2),
}


class OfTheRun:
    """Stands for a module: that of the SDK which the running test is for."""

    def __init__(self, place: int) -> None:
        self._place = place
        self.name = "httpx"

    def __getattr__(self, name: str) -> Any:
        return getattr(SDKS[self.name][self._place], name)


httpx: Any = OfTheRun(0)
bound: Any = OfTheRun(1)
httpcore: Any = OfTheRun(2)


def choose(name: str) -> None:
    """From now on this SDK is meant."""
    httpx.name = bound.name = httpcore.name = name


def now(kinds: Any) -> Any:
    """The run's SDK's classes of the same names: a table that is made once holds those of httpx."""
    if kinds is None:
        return None
    if isinstance(kinds, tuple):
        return tuple(map(now, kinds))
    return getattr(httpx, kinds.__name__) if kinds.__module__ == "httpx" else kinds
