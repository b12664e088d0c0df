"""`resilient check` ended in a traceback, its findings cut off, where the output takes no such characters as the
document has; and `resilient doctor`, which says what is not installed, did so itself without pyyaml or msgspec."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import run

HIDING = """\
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_that_the_output_does_not_have(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "resilience.json"
    file.write_text('{"flags": {"売上": 5, "next": 6}}', encoding="utf-8")
    done = run("check", str(file), PYTHONIOENCODING=encoding)
    assert (done.status, done.err) == (1, "")
    assert "/flags/\\u58f2\\u4e0a: 5 must be an object" in done.out
    assert "/flags/next: 6 must be an object" in done.out


@pytest.mark.parametrize("module", ["yaml", "msgspec"])
def test_a_doctor_without_what_reads_documents(tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDING.format(module=module))
    done = run("doctor", "--json", path=tmp_path)
    assert done.err == ""
    assert "clock" in {finding["what"] for finding in done.json["findings"]}
