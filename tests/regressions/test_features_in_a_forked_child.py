"""A forked child that only asked for features kept its parent's for ever: it knew them all, and only a feature that
nobody knows made it look for a document. So did a process that asked for nothing but the level."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from resilient.testing import KubeletVolume


def document(level: int) -> dict[str, str]:
    return {
        "resilience.json": json.dumps(
            {
                "flags": {
                    "search": {
                        "state": "ENABLED",
                        "variants": {"on": True, "off": False},
                        "defaultVariant": "on",
                        "metadata": {"degrade": "heavy:off"},
                    },
                },
                "degradation": {"levels": ["normal", "heavy"], "level": level},
            }
        )
    }


def run(body: str, directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(body)],
        env={**os.environ, "RESILIENT_CONFIG_DIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


READS = {
    "enabled": "features.enabled('search')",
    "variant": "features.variant('search', 'on') == 'on'",
    "details": "features.details('search').value",
    "level": "features.level() == 0",
    "degradable": "degradable('search', fallback=False)(lambda: True)()",
    "async": "asyncio.run(work())",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_it_follows_the_document(tmp_path: Path, read: str) -> None:
    KubeletVolume(tmp_path).write(document(0))
    run(
        f"""
        import asyncio, json, os, signal, threading
        from resilient import degradable, features
        from resilient.config import load
        from resilient.testing import KubeletVolume

        @degradable("search", fallback=False)
        async def work():
            return True

        load()
        assert {read}
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # where it never sees another one
            assert {read}
            KubeletVolume({str(tmp_path)!r}).write(json.loads({json.dumps(json.dumps(document(1)))}))
            while {read}:
                threading.Event().wait(0.01)
            os._exit(0)
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        tmp_path,
    )
