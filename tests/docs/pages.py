"""Reads the guides: their code blocks, what these say they need, their links, headings and code spans."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = frozenset({"python", "sh", "toml", "yaml", "json", "http", "text", "mermaid"})
"""What a block may be called. One without a name would be one that nobody runs."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`]*)$")
_NEEDS = re.compile(r"<!--\s*fixture:\s*(?P<names>[\w, ]+?)\s*-->")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"(?P<html>[^\"]+)\"")
_SPAN = re.compile(r"(?P<ticks>`+)(?P<code>.+?)(?P=ticks)")


@dataclass
class Block:
    """A fenced block.

    Attributes:
        language: the first word of its info string.
        code: its text, without the indentation of the fence.
        line: number of its first line in the page, from 1.
        needs: names of fixtures, from the info string (``python fixture=origin``) or a comment before the block
            (``<!-- fixture: origin, clock -->``).
        fresh: whether it begins with an empty namespace (the fixture named ``fresh``).
        output: the text block that follows with nothing between: what it must print.
    """

    language: str
    code: str
    line: int
    needs: tuple[str, ...] = ()
    fresh: bool = False
    output: str | None = None


@dataclass
class Page:
    """A page of markdown, taken apart."""

    path: Path
    text: str
    blocks: list[Block] = field(default_factory=list)
    prose: str = ""
    """The text without its blocks."""

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT)) if self.path.is_relative_to(ROOT) else str(self.path)

    def links(self) -> Iterator[str]:
        """Every target of a link or an image."""
        for match in _LINK.finditer(_SPAN.sub("", self.prose)):
            yield match["target"] or match["html"]

    def spans(self) -> Iterator[str]:
        """Every inline code span."""
        for match in _SPAN.finditer(self.prose):
            yield match["code"].strip()

    def anchors(self) -> set[str]:
        """What ``#...`` may point to, by GitHub's rule."""
        found: set[str] = set()
        for heading in re.findall(r"^#{1,6} +(.+?)\s*$", self.prose, re.MULTILINE):
            slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            numbered = (f"{slug}-{n}" for n in itertools.count(1))
            found.add(next(each for each in itertools.chain([slug], numbered) if each not in found))
        return found


def parse(path: Path, text: str | None = None) -> Page:
    """Take a page apart.

    Raises:
        ValueError: a block that is not closed, has no language or one that is not known.
    """
    page = Page(path, path.read_text(encoding="utf-8") if text is None else text)
    prose: list[str] = []
    lines = page.text.splitlines()
    before = ""  # the last line that is not empty
    i = 0
    while i < len(lines):
        fence = _FENCE.match(lines[i])
        if fence is None:
            prose.append(lines[i])
            before = lines[i].strip() or before
            i += 1
            continue
        start = i + 1
        end = next((n for n in range(start, len(lines)) if lines[n].strip() == fence["ticks"]), None)
        if end is None:
            raise ValueError(f"{page.name}:{i + 1}: this block is never closed")
        block = _block(page, fence, lines[start:end], start + 1, before)
        last = page.blocks[-1] if page.blocks else None
        if block.language == "text" and last is not None and before == "```" and last.language == "python":
            last.output = block.code
        page.blocks.append(block)
        before = "```"
        i = end + 1
    page.prose = "\n".join(prose)
    return page


def _block(page: Page, fence: re.Match[str], lines: list[str], line: int, before: str) -> Block:
    language, *attributes = fence["info"].split() or [""]
    if language not in LANGUAGES:
        raise ValueError(
            f"{page.name}:{line - 1}: a block must say what it is: one of {', '.join(sorted(LANGUAGES))}"
        )
    needs: list[str] = []
    for attribute in attributes:
        key, _, value = attribute.partition("=")
        if key != "fixture":
            raise ValueError(f"{page.name}:{line - 1}: {attribute!r} means nothing; write fixture=name")
        needs += value.split(",")
    comment = _NEEDS.fullmatch(before)
    if comment is not None:
        needs += comment["names"].replace(",", " ").split()
    indent = len(fence["indent"])
    code = "\n".join(each[indent:] if not each[:indent].strip() else each for each in lines)
    return Block(
        language, code, line, tuple(name for name in needs if name != "fresh"), fresh="fresh" in needs
    )


def pages() -> list[Path]:
    """The pages whose blocks are run."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]
