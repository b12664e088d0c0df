"""The project itself: what its files promise about each other."""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]
TARGETS = ("demo", "test", "test-system", "soak", "lint", "bench", "mutants", "docs", "clean", "help")
LONGEST = 500
MADE = re.compile(r"\.git|\.venv.*|\..*_cache|\.hypothesis|__pycache__|build|dist|mutants|.*\.egg-info")


def files(top: Path = ROOT) -> Iterator[Path]:
    """The files that were written, not made."""
    for directory, below, names in os.walk(top):
        below[:] = [name for name in below if not MADE.fullmatch(name)]
        yield from (Path(directory, name) for name in names if not MADE.fullmatch(name))


def make(*arguments: str) -> str:
    handed_down = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # by a `make` around this test run
    outside = {name: value for name, value in os.environ.items() if name not in handed_down}
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_version_is_the_one_that_the_project_states() -> None:
    assert importlib.metadata.version("resilient-client") == VERSION


def test_the_changelog_has_a_section_of_the_version() -> None:
    headings = re.findall(r"^## \[([^]]+)]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert VERSION in headings


def test_a_module_has_one_subject() -> None:
    modules = [path for path in files(ROOT / "resilient") if path.suffix == ".py"]
    assert modules
    lengths = {path: len(path.read_text().splitlines()) for path in modules}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > LONGEST} == {}


def test_types_are_shipped() -> None:
    assert (ROOT / "resilient" / "py.typed").read_bytes() == b""


def foreign_imports(top: Path) -> Iterator[tuple[str, str]]:
    """Where something is imported that is neither ours nor the standard library's, and what."""
    for path in files(top):
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                if name.partition(".")[0] not in {*sys.stdlib_module_names, "resilient"}:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", name.partition(".")[0]


def test_the_ground_floor_imports_the_standard_library_only() -> None:
    assert dict(foreign_imports(ROOT / "resilient" / "core")) == {}


def test_what_is_imported_is_declared() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    declared, of_the_command = (
        {re.split(r"[^a-z0-9-]", each)[0] for each in needed}
        for needed in (PROJECT["project"]["dependencies"], extras["cli"])
    )
    own_extra = {
        "resilient/aiohttp.py": {"aiohttp"},
        "resilient/http/cut.py": {"urllib3"},  # what `resilient.requests` stands on
        "resilient/httpx2.py": {"httpx2", "httpcore2"},
        "resilient/requests.py": {"requests", "urllib3"},
    }
    declared.add("trio")  # imported only under its own loop: whoever gets there has it
    declared.add("h2")  # the extra http2: imported only where it is asked for, by name where it is missing
    of_flags = ("resilient/flags/flagd.py", "resilient/openfeature.py")
    own_extra |= {place: {"openfeature"} for place in of_flags}
    own_extra |= {f"resilient/grpc/{each.name}": {"grpc"} for each in (ROOT / "resilient/grpc").iterdir()}
    owners = importlib.metadata.packages_distributions()
    undeclared = {
        place: name
        for place, name in foreign_imports(ROOT / "resilient")
        if not place.startswith("resilient/testing/")  # what a test kit needs, those who test have
        and (declared | of_the_command if place.startswith("resilient/cli/") else declared).isdisjoint(
            owner.lower() for owner in owners.get(name, [])
        )
        and name not in own_extra.get(place.partition(":")[0], ())
    }
    assert undeclared == {}


def test_every_dependency_has_a_range() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for requirement in itertools.chain(PROJECT["project"]["dependencies"], *extras.values()):
        assert re.fullmatch(
            r"[a-z0-9-]+(\[[a-z]+])?>=[0-9.]+(b0)?,<[0-9.]+(; [a-z_]+ != '[a-z]+')?", requirement
        ), requirement


def test_help_tells_every_target() -> None:
    told = re.findall(r"^  make ([a-z-]+) +\S", make("help"), re.MULTILINE)
    assert sorted(told) == sorted(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_how(target: str) -> None:
    assert make("--dry-run", target)


def test_no_file_names_a_path_of_one_machine() -> None:
    pattern = re.compile(rb"(?<![\w./~-])/(?:work|root|home|Users)/(?=\w)")
    found = []
    for path in files():
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []
