"""INDEX.md and the tests agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
INDEX = (HERE / "INDEX.md").read_text()
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
# The libraries that were looked at; of each, what concerns a part that is built here has a row.
LOOKED_AT = [
    "None of the peers",
    "tenacity",
    "stamina",
    "backoff",
    "pybreaker",
    "circuitbreaker",
    "aiobreaker",
    "asyncbreaker",
    "purgatory",
    "resilient-circuit",
    "limits",
    "pyrate-limiter",
    "throttled-py",
    "token-bucket",
    "aiolimiter",
    "hyx",
    "pyresilience",
    "aioresilience",
    "httpx-retries",
    "httpx over HTTP/2",
    "urllib3",
    "clientwright",
    "baldur-framework",
    "dnspython",
    "OpenTelemetry",
]


def rows() -> list[tuple[str, str, str]]:
    found = []
    for line in INDEX.splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| what is wrong")):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 3, line
            found.append((cells[0], cells[1], cells[2]))
    return found


def found_in(file: str) -> dict[str, bool]:
    """Each test of a file, and whether it carries the marker `peers`."""
    tree = ast.parse((TESTS / file).read_text())
    return {
        each.name: any("pytest.mark.peers" in ast.unparse(mark) for mark in each.decorator_list)
        for each in tree.body
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    }


def named(cells: list[str]) -> set[tuple[str, str]]:
    return {(file, test) for cell in cells for file, test in NAMED.findall(cell)}


def marked() -> set[tuple[str, str]]:
    """The tests that run a peer."""
    return {
        (f"peers/{path.name}", test)
        for path in HERE.glob("test_*.py")
        for test, is_peers in found_in(f"peers/{path.name}").items()
        if is_peers
    }


def test_every_library_has_its_rows() -> None:
    headings = re.findall(r"^## (.+)$", INDEX, re.MULTILINE)
    assert headings == LOOKED_AT
    for part in re.split(r"^## .+$", INDEX, flags=re.MULTILINE)[1:]:
        assert part.count("\n| ") > 1, part


def test_every_test_named_is_there() -> None:
    for file, test in named([cell for row in rows() for cell in row[1:]]):
        assert (TESTS / file).is_file(), file
        assert test in found_in(file), f"{file}::{test}"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_no_row_is_without_an_answer(row: tuple[str, str, str]) -> None:
    what, theirs, ours = row
    assert what
    assert NAMED.search(theirs) or re.match(r"not run( here)?: \S", theirs), theirs
    assert NAMED.search(ours) or re.match(
        r"(not built|a cost, measured by `make bench`|a matter of \S)", ours
    ), ours
    assert named([theirs]) <= marked(), "the middle column is for tests that run the peer"
    assert not named([ours]) & marked(), "the last column is for tests of ours"


def test_every_test_that_runs_a_peer_is_named() -> None:
    assert marked() == named([theirs for _, theirs, _ in rows()])
    assert len(marked()) >= 10
    assert sum(bool(NAMED.search(theirs)) for _, theirs, _ in rows()) >= 10
