"""docs/cli.md shows what the command prints."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator

import pytest

from resilient.cli import health, show
from resilient.testing import Nameserver
from tests.cli.commands import run
from tests.docs.pages import ROOT, Block, parse

PLACE = "127.0.0.1:5353"
"""Whom the page asks; here somebody else stands for it."""


def samples() -> Iterator[tuple[str, Block]]:
    """The commands that look something up, each with what the page shows for it."""
    blocks = parse(ROOT / "docs" / "cli.md").blocks
    for command, shown in itertools.pairwise(blocks):
        if command.language == "sh" and command.code.startswith("resilient resolve"):
            yield command.code.strip(), shown


@pytest.mark.parametrize(
    ("command", "shown"), list(samples()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_sample_is_what_is_printed(command: str, shown: Block) -> None:
    with Nameserver() as nameserver:
        nameserver.set("payments.shop", ["10.1.0.7:8080", "10.1.0.8:8080"], port="http")
        place = f"127.0.0.1:{nameserver.port}"
        done = run(*shlex.split(command.replace(PLACE, place))[1:])
    if shown.language == "json":
        assert done.json == json.loads(shown.code)
    else:
        printed = done.out.replace(place, PLACE)
        assert [line.rstrip() for line in printed.splitlines()] == shown.code.rstrip().splitlines()


def test_there_are_samples() -> None:
    assert len(list(samples())) == 3


def test_the_sample_of_findings_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show.findings([*health.namesakes(["resilient-client", "resilient"]), *health.descriptors(256, 4_096)])
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    (shown,) = (
        each for each in parse(ROOT / "docs" / "cli.md").blocks if each.code.startswith("BAD   import")
    )
    assert printed == shown.code.rstrip().splitlines()
