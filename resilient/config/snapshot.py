"""What one good document comes to: frozen, published by one reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.errors import DocumentError
    from .decode import Target
    from .document import Sources
    from .emergency import Emergency
    from .section import Section


@dataclass(frozen=True)
class Snapshot:
    """A document that was found good. The tree itself is let go: it would be most of what a process holds of it.

    Attributes:
        generation: 1 for the first that this process saw, and one more for each after it.
        digest: of the content; two that are equal say the same. Of no document, "".
        version: ``metadata.version``, where the document has one.
        sources: tells where in the files something stands.
        targets: what it says of each dependency.
        parts: what others made of their sections.
        emergency: what stands above it; None where there is no such document.
        waits: why what the emergency says of levels and plans is not in force yet; None where it is.
    """

    generation: int
    digest: str
    version: str | None
    sources: Sources = field(repr=False)
    targets: Mapping[str, Target] = field(repr=False)
    parts: tuple[tuple[Section, Any], ...] = field(default=(), repr=False)
    emergency: Emergency | None = field(default=None, repr=False)
    waits: DocumentError | None = None
