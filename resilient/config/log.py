"""What the config center writes into the log.

Handlers and filters are the user's: what they raise ends nothing here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..core.events import logger

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


def write(
    level: int, text: str, /, *, exc_info: bool = False, extra: Mapping[str, Any] | None = None
) -> None:
    """One line; with ``exc_info`` and the exception in hand."""
    try:
        logger().log(level, "%s", text, exc_info=exc_info, extra=extra)
    except Exception:  # noqa: S110 - whom could we tell?
        pass
