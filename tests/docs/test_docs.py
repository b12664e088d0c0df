"""The guides tell the truth: their code runs, their links lead somewhere, their names and commands exist."""

from __future__ import annotations

import html
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, pages, parse
from tests.docs.running import Wrong, run
from tests.docs.signatures import members, written

PAGES = [str(path.relative_to(ROOT)) for path in pages()]
GUIDES = [name for name in PAGES if name == "README.md" or name.startswith("docs/")]


@pytest.mark.parametrize("name", PAGES)
def test_every_python_block_runs_and_prints_what_is_shown(name: str) -> None:
    page = parse(ROOT / name)
    assert run(page) == sum(block.language == "python" for block in page.blocks)


@pytest.mark.parametrize("name", PAGES)
def test_no_block_is_skipped(name: str) -> None:
    assert re.findall(r"\+SKIP|pytest\.skip|skip_?if", (ROOT / name).read_text(), re.IGNORECASE) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = parse(ROOT / name)
    lost = []
    for target in page.links():
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.path.parent / path).resolve() if path else page.path
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in parse(there).anchors()):
            lost.append(target)
    assert lost == []


def test_every_page_is_linked_from_the_index() -> None:
    index = parse(ROOT / "docs" / "index.md")
    linked = {(index.path.parent / target.partition("#")[0]).resolve() for target in index.links()}
    unlinked = {path.name for path in pages() if path.parent.name == "docs" and path.resolve() not in linked}
    assert unlinked - {"index.md"} == set()


@pytest.mark.parametrize("name", PAGES)
def test_every_make_target_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    page = parse(ROOT / name)
    commands = [*page.spans(), *(block.code for block in page.blocks if block.language in ("sh", "text"))]
    named = {
        target
        for command in commands
        for target in re.findall(r"^ *(?:\$ )?make ([a-z][a-z-]*)", command, re.MULTILINE)
    }
    assert named - targets == set()


def test_the_readme_says_how_to_see_it_and_how_to_test_it() -> None:
    commands = [block.code.strip() for block in parse(ROOT / "README.md").blocks if block.language == "sh"]
    assert "make demo" in commands
    assert "make test" in commands
    assert "pip install resilient-client" in commands


def test_the_figures_of_the_readme_are_those_of_its_picture() -> None:
    drawn = (ROOT / "docs" / "images" / "scorecard.svg").read_text(encoding="utf-8")
    # Every piece of text of the picture, in the order of its rows and columns.
    pieces = [html.unescape(each).strip() for each in re.findall(r"<text[^>]*>([^<]+)</text>", drawn)]
    text = " | ".join(re.sub(r"\s+", " ", each) for each in pieces)
    rows = re.findall(
        r"^\| [^|]+ \|((?: [\d.]+[^|]* \|){3})$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 9
    for row in rows:
        figures = [re.escape(each.strip()) for each in row.strip(" |").split("|")]
        assert re.search(r"(?<![\d.])" + r"[ |]+".join(figures) + r"(?![\d.])", text), row


def reference() -> dict[str, list[tuple[str, list[str]]]]:
    """What the reference says of each module: its entries, each with its members."""
    said: dict[str, list[tuple[str, list[str]]]] = {
        "resilient": [],
        "resilient.aiohttp": [],
        "resilient.config": [],
        "resilient.grpc": [],
        "resilient.httpx": [],
        "resilient.requests": [],
        "resilient.testing": [],
    }
    module = "resilient"
    for line in (ROOT / "docs" / "reference.md").read_text().splitlines():
        if line.startswith("## "):
            module = line[3:] if line[3:] in said else "resilient"
        elif entry := re.match(r"- `(.+?)`: \w", line):
            said[module].append((entry[1], []))
        elif member := re.match(r"  - `(.+?)`: \w", line):
            said[module][-1][1].append(member[1])
    return said


@pytest.mark.parametrize("name", reference())
def test_the_reference_has_every_public_name_with_its_signature(name: str) -> None:
    module = importlib.import_module(name)
    expected = sorted(written(each, getattr(module, each)) for each in module.__all__)
    assert sorted(entry for entry, _ in reference()[name]) == expected


@pytest.mark.parametrize("name", reference())
def test_the_reference_has_members_with_their_signatures(name: str) -> None:
    module = importlib.import_module(name)
    for entry, said in reference()[name]:
        known = getattr(module, entry.partition("(")[0])
        there = (
            {f".{each}{text}" for each, text in members(known).items()} if isinstance(known, type) else set()
        )
        assert set(said) - there - {"[kind]"} == set(), entry


# ------------------------------------------------------------------------------ the reader of pages is right itself
stops: list[Callable[[], None]] = []
"""What a block subscribed in a test below."""


def page_of(text: str) -> Page:
    return parse(Path("page.md"), text)


def block(code: str, info: str = "python") -> str:
    return f"```{info}\n{code}\n```\n"


def test_blocks_share_one_namespace_in_their_order() -> None:
    assert run(page_of(block("a = 1") + block("assert a == 1"))) == 2


def test_a_fresh_block_knows_nothing_of_the_others() -> None:
    with pytest.raises(NameError):
        run(page_of(block("a = 1") + "<!-- fixture: fresh -->\n" + block("a")))


def test_what_a_block_raises_fails_the_page_at_its_own_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run(page_of("# Title\n\n" + block("a = 1\n1 / 0")))
    assert caught.traceback[-1].lineno + 1 == 5


@pytest.mark.parametrize(
    "text",
    [
        block("print('a')") + block("b", "text"),
        block("print('a')"),
        block("a = 1") + "\n" + block("a", "text"),
        block(">>> 1 + 1\n3"),
    ],
)
def test_an_output_that_is_not_the_one_shown_fails(text: str) -> None:
    with pytest.raises(Wrong):
        run(page_of(text))


def test_the_output_shown_may_leave_out_what_differs_each_time() -> None:
    assert run(page_of(block("print('took', 17, 's')") + "\n" + block("took ... s", "text"))) == 1
    assert run(page_of(block(">>> 1 + 1\n2\n>>> a = 5") + block("assert a == 5"))) == 2


def test_a_text_block_after_prose_is_no_output() -> None:
    assert run(page_of(block("a = 1") + "\nAs if it were:\n\n" + block("anything", "text"))) == 1


@pytest.mark.parametrize(
    "given", ["<!-- fixture: clock, origin -->\n\n```python", "```python fixture=clock,origin"]
)
def test_fixtures_are_provided(given: str) -> None:
    code = "assert url.startswith('http://127.0.0.1:') and origin.clock is clock"
    assert run(page_of(f"{given}\n{code}\n```")) == 1


def test_an_unknown_fixture_fails() -> None:
    with pytest.raises(Wrong, match="no fixture 'moon'"):
        run(page_of("<!-- fixture: moon -->\n" + block("a = 1")))


def test_a_listener_that_stays_behind_fails() -> None:
    code = "import resilient\nfrom tests.docs.test_docs import stops\nstops.append(resilient.subscribe(repr))"
    with pytest.raises(Wrong, match="leaves listeners behind"):
        run(page_of(block(code)))
    stops.pop()()


@pytest.mark.parametrize("text", ["```\na\n```", "```rust\na\n```", "```python skip\na\n```", "```python\na"])
def test_a_block_that_would_not_be_run_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md:1"):
        page_of(text)


def test_anchors_and_links_are_found() -> None:
    page = page_of(
        '# A title: `code`!\n\n## A\n\n## A\n\n[x](y.md#z) ![i](i.svg) `[not](one)` <img src="j.svg">'
    )
    assert page.anchors() == {"a-title-code", "a", "a-1"}
    assert list(page.links()) == ["y.md#z", "i.svg", "j.svg"]
