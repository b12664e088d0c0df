"""What one good document comes to: frozen, published by one reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.errors import DocumentError

if TYPE_CHECKING:
    from .decode import Target
    from .document import Document, Sources
    from .emergency import Emergency
    from .section import Section
    from .source import Files


class Noted(NamedTuple):
    """What a document's ``metadata`` notes of it.

    Attributes:
        version: ``version``.
        changed_by: ``changedBy``.
        ticket: ``ticket``.
        allowed: ``allowMassChange``: the ticket by which it may take away or change most of what there was.
    """

    version: str | None = None
    changed_by: str | None = None
    ticket: str | None = None
    allowed: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """A document that was found good. The tree itself is let go: it would be most of what a process holds of it.

    Attributes:
        generation: 1 for the first that this process saw, and one more for each after it.
        digest: of the content; two that are equal say the same. Of no document, "".
        noted: what it notes of itself.
        sources: tells where in the files something stands.
        targets: what it says of each dependency.
        plans: what it says of each dependency while a plan holds, by its name.
        parts: what others made of their sections.
        emergency: what stands above it; None where there is no such document.
        waits: why what the emergency says of levels and plans is not in force yet; None where it is.
    """

    generation: int
    digest: str
    noted: Noted
    sources: Sources = field(repr=False)
    targets: Mapping[str, Target] = field(repr=False)
    plans: Mapping[str, Mapping[str, Target]] = field(default_factory=dict, repr=False)
    parts: tuple[tuple[Section, Any], ...] = field(default=(), repr=False)
    emergency: Emergency | None = field(default=None, repr=False)
    waits: DocumentError | None = None


def snapshot_of(
    files: Files | None,
    sections: Sequence[Section],
    generation: int = 1,
    emergency: Files | None = None,
    *,
    may_wait: bool = False,
    most_yaml: int | None = None,
) -> Snapshot:
    """What the files come to.

    Args:
        files: None while there is no config document.
        emergency: what stands above them.
        may_wait: whether what the emergency says of levels and plans may wait for a document that has them.
        most_yaml: bytes of YAML in one file; None: as in a service.

    Raises:
        DocumentError: with file, line and what to write instead.
    """
    from .decode import decode, noted_in, placed
    from .document import MOST_YAML, NOWHERE, Document, parse
    from .emergency import laid_over, read_emergency
    from .guard import refuse_too_many

    document = Document({}, "", NOWHERE)
    if files is not None:
        document = parse(files, most_yaml=MOST_YAML if most_yaml is None else most_yaml)
    refuse_too_many(document)
    targets, plans = decode(document, sections)
    parts = _parts(document, sections)
    noted = noted_in(document)
    if emergency is None:
        return Snapshot(generation, document.digest, noted, document.sources, targets, plans, parts)
    above = read_emergency(emergency)
    both = document._replace(sources=above.sources.before(document.sources))
    waits = None
    if above.over:
        try:
            parts = _parts(both._replace(tree=laid_over(document.tree, above.over)), sections)
        except DocumentError as exc:
            unfit = "the emergency document does not fit the config document: "
            waits = placed(exc, both, before=unfit, reason="emergency")
            if not may_wait:
                raise waits from exc
    return Snapshot(
        generation, document.digest, noted, both.sources, targets, plans, parts, emergency=above, waits=waits
    )


def _parts(document: Document, sections: Sequence[Section]) -> tuple[tuple[Section, Any], ...]:
    from .decode import placed

    try:
        return tuple((section, section.parse(document.tree)) for section in sections)
    except DocumentError as exc:
        raise placed(exc, document) from exc
