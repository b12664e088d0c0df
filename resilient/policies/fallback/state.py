"""What a fallback gives. No I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def maker(fallback: Any, /) -> Callable[[tuple[Any, ...], dict[str, Any], Exception], Any]:
    """A function of (args, kwargs, error) that gives the stand-in: the value itself, or what the function
    returns."""
    if not callable(fallback):
        return lambda args, kwargs, error: fallback
    if _takes_error(fallback):
        return lambda args, kwargs, error: fallback(*args, **kwargs, error=error)
    return lambda args, kwargs, error: fallback(*args, **kwargs)


def _takes_error(fallback: Callable[..., Any]) -> bool:
    try:
        parameter = inspect.signature(fallback).parameters.get("error")
    except (TypeError, ValueError):  # builtins without a signature
        return False
    return parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY
