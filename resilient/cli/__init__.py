"""The command ``resilient``: asks what the library would ask, and checks what it counts on. Needs the extra ``cli``."""

from __future__ import annotations

import io
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A document may have characters that the place where this goes does not: better escaped than cut off.
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="resilient")
