"""What one good document comes to: frozen, published by one reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .decode import Section, Setting, Settings
from .document import Document


@dataclass(frozen=True)
class Snapshot:
    """A document that was found good.

    Attributes:
        generation: 1 for the first that this process saw, and one more for each after it.
        document: what it was read from; tells file and line.
        targets: the settings of each dependency.
        parts: what others made of their sections.
    """

    generation: int
    document: Document = field(repr=False)
    targets: Mapping[str, Settings] = field(repr=False)
    parts: tuple[tuple[Section, Any], ...] = field(default=(), repr=False)

    @property
    def digest(self) -> str:
        """Of the content; two generations that are equal say the same."""
        return self.document.digest

    @property
    def version(self) -> str | None:
        """``metadata.version``, where the document has one."""
        version = self.document.tree.get("metadata", {}).get("version")
        return None if version is None else str(version)

    def place(self, setting: Setting, /) -> str:
        """``file:line`` of a setting."""
        file, line = self.document.place(setting.pointer)
        return f"{file}:{line}"
