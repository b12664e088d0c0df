"""The command ``resilient``: asks what the library would ask, and checks what it counts on. Needs the extra ``cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command with the arguments of the process."""
    try:
        from .app import app
    except ModuleNotFoundError as exc:
        if exc.name not in ("rich", "typer"):
            raise
        sys.stderr.write(f"resilient needs {exc.name}: pip install 'resilient-client[cli]'\n")
        sys.exit(2)
    app(prog_name="resilient")
