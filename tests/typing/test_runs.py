"""What the type checkers are shown also runs."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path

import pytest

FILES = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs(path: Path) -> None:
    module = runpy.run_path(str(path), run_name=f"typing_{path.stem}")
    asyncio.run(module["check_all"]())
