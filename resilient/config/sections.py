"""The parts of the document that others understand."""

from __future__ import annotations

from .decode import Section

SECTIONS: tuple[Section, ...] = ()
