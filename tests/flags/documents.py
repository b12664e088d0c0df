"""Documents, written short."""

from __future__ import annotations

from typing import Any

LEVELS = ["normal", "light", "heavy", "survival"]


def flag(
    *variants: str, default: str | None = None, state: str = "ENABLED", **metadata: Any
) -> dict[str, Any]:
    """A flag of texts, each variant with its own name as value; the first one is the default."""
    return {
        "state": state,
        "variants": {name: name for name in variants},
        "defaultVariant": variants[0] if default is None else default,
        "metadata": metadata,
    }


def switch(**metadata: Any) -> dict[str, Any]:
    """A boolean flag that is on."""
    return {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "on",
        "metadata": metadata,
    }


def document(level: int | str = 0, /, **flags: Any) -> dict[str, Any]:
    """A document with these flags at a level; ``_`` in their names stands for ``-``."""
    return {
        "flags": {name.replace("_", "-"): each for name, each in flags.items()},
        "degradation": {"levels": LEVELS, "level": level},
    }
