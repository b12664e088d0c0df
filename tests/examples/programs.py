"""Runs the programs of `examples`, as a reader would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOUND = 60.0
"""Seconds after which a program hangs."""


def run(name: str, *arguments: str, status: int = 0) -> list[str]:
    """The lines that `python -m examples.<name>` printed; what it did not keep of its promises fails."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.stdout.splitlines()
