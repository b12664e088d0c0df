"""Lines of the log that are written while a call is on its way, or a document is read.

Handlers and filters are the user's: what they raise ends nothing here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .events import logger

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR

_LONGEST = 8_000
"""Characters of a line: container runtimes cut one at 16 KiB."""


def write(
    level: int, text: str, /, *, exc_info: bool = False, extra: Mapping[str, Any] | None = None
) -> None:
    """One line; with ``exc_info`` and the exception in hand."""
    try:
        logger().log(level, "%s", _line(text), exc_info=exc_info, extra=extra)
    except Exception:  # noqa: S110 - whom could we tell?
        pass


def _line(text: str) -> str:
    """What a document says may be long, and may be meant for a terminal."""
    shown = text[:_LONGEST].replace("\n", "; ")
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(text) <= _LONGEST else f"{shown}... ({len(text):,} characters)"
