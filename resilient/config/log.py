"""What the config center writes into the log."""

from __future__ import annotations

from ..core.log import ERROR, INFO, WARNING, write

__all__ = ["ERROR", "INFO", "WARNING", "write"]
