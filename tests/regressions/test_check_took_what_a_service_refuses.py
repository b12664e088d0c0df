"""`resilient check` said ok to a file of more than a service reads, waited for ever for the writer of a pipe, and said
of a directory that is not there that its name ends wrongly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resilient.cli import documents
from resilient.config.source import MOST_BYTES
from tests.cli.commands import run


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    file.write_bytes(b" " * (MOST_BYTES - 2) + b"{}")
    assert documents.check(file).good
    file.write_bytes(b" " * (MOST_BYTES - 1) + b"{}")
    assert [problem.said for problem in documents.check(file).problems] == [
        f"{file} has more than 4,194,304 bytes: no service would read it"
    ]
    file.rename(tmp_path / "mount.json")
    assert not documents.check(tmp_path).good, "a service refuses it, too"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    done = run("check", str(pipe))
    assert (done.status, done.err) == (1, "")
    assert f"{pipe} is no ordinary file: no service would read it" in done.out


def test_what_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "mount"
    assert [problem.said for problem in documents.check(missing).problems] == [
        f"{missing} cannot be read: No such file or directory"
    ]
