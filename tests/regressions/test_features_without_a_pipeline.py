"""A service that asks for features and has no pipeline never read the document that its environment names: the code's
defaults held at every level. And who asked for nothing but the level was never the first who needs the document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

READS = {
    "enabled": ("features", "features.enabled('search', True)"),
    "level": ("features", "features.level() == 0"),
    "degradable": ("degradable", "degradable('search', fallback=False)(lambda: True)()"),
}


@pytest.mark.parametrize(("name", "read"), READS.values(), ids=READS)
def test_it_follows_the_document(tmp_path: Path, name: str, read: str) -> None:
    document = {
        "flags": {
            "search": {
                "state": "ENABLED",
                "variants": {"on": True, "off": False},
                "defaultVariant": "on",
                "metadata": {"degrade": "heavy:off"},
            },
        },
        "degradation": {"levels": ["normal", "heavy"], "level": "heavy"},
    }
    (tmp_path / "resilience.json").write_text(json.dumps(document))
    program = f"""
        import signal, threading
        from resilient import {name}

        signal.alarm(20)  # where it never learns the level
        assert {read}, "nothing was read before somebody asked"
        while {read}:
            threading.Event().wait(0.01)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "RESILIENT_CONFIG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
