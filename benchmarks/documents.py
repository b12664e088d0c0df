"""What a large config document does to an event loop: how long that stands still while the document is put in force.

A document of 1 MiB, of which every number changes, followed by 50 pipelines. Another process writes it, as the
kubelet is one; the loop sleeps a millisecond again and again, and the longest delay of each change counts. In an
interpreter of its own, because the collector walks through all that a process holds: that of the other groups is not
a service's."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Outcome, Settings, spread
from resilient import configure, standard
from resilient.config import load, status
from resilient.testing import KubeletVolume

ROOT = Path(__file__).parents[1]
TARGETS = 3_640
PIPELINES = 50
CHANGES = 9
_IN_FORCE_WITHIN = 30.0


def document(n: int) -> str:
    """A document of 1 MiB whose numbers all differ from those of another ``n``."""
    targets = {
        f"service-{i}": {
            "retry": {"attempts": 2 + (i + n) % 5, "wait": {"base": "50ms", "cap": f"{n + 2}s"}},
            "breaker": {"failure_ratio": 0.25, "open_for": f"{n + 1}s"},
            "bulkhead": {"limit": 60 + n},
            "timeout": {"total": f"{n + 4}s"},
        }
        for i in range(TARGETS)
    }
    return json.dumps({"resiliency": {"targets": targets}}, indent=1)


def write(directory: str, asked: Any) -> None:
    """Write the document of each number that is asked for."""
    volume = KubeletVolume(directory)
    while (n := asked.recv()) is not None:
        volume.write({"a.json": document(n)})
        asked.send(n)


async def longest_stall(generation: int) -> float:
    """Milliseconds for which the loop stood still at most, until that generation is in force."""
    longest, until = 0.0, time.monotonic() + _IN_FORCE_WITHIN
    while status().generation < generation:
        assert time.monotonic() < until, "it is not in force"
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began - 0.001)
    return longest * 1e3


def main() -> None:
    """In the interpreter of its own: print the stalls."""
    changes = int(sys.argv[1])
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        writer = multiprocessing.get_context("spawn").Process(
            target=write, args=(directory, theirs), daemon=True
        )
        writer.start()
        pipelines = [standard(f"service-{i}") for i in range(PIPELINES)]
        configure(directory)
        ours.send(0)
        ours.recv()
        load()
        stalls = []
        for n in range(1, changes + 1):
            ours.send(n)
            ours.recv()
            stalls.append(asyncio.run(longest_stall(n + 1)))
            assert pipelines[7]["bulkhead"].options.limit == 60 + n, "it was not followed"
        ours.send(None)
        writer.join()
    print(json.dumps(stalls))


def measure(settings: Settings) -> Outcome:
    changes = CHANGES if settings.rounds > 3 else 1
    command = [sys.executable, "-m", "benchmarks.documents", str(changes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return Outcome({"config.stall": spread(json.loads(done.stdout))})


if __name__ == "__main__":
    main()
