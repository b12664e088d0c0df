"""The command, run as people run it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """A command that is over."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """What it printed, without the empty ends of lines."""
        return [line.rstrip() for line in self.out.splitlines()]


def run(*arguments: str, path: Path | None = None, **environment: str) -> Done:
    """Run ``resilient`` with these arguments.

    Args:
        path: a directory with more packages.
        environment: of the process, beside what it needs to run; nothing of ours.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RESILIENT_")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-m", "resilient.cli", *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
