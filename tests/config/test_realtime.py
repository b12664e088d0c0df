"""What takes time: a large document beside an event loop, and a hundred thousand reads beside a hostile writer."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from resilient import configure, standard
from resilient.config import load, status
from resilient.config.source import Changing, Directory
from resilient.testing import KubeletVolume

STALL = 0.06
"""Seconds that the event loop may stand still while a document of 1 MiB is put in force."""


def large(n: int) -> str:
    """A document of 1 MiB whose numbers all differ from those of another ``n``."""
    targets = {
        f"service-{i}": {
            "retry": {"attempts": 2 + (i + n) % 5, "wait": {"base": "50ms", "cap": f"{n + 2}s"}},
            "breaker": {"failure_ratio": 0.25, "open_for": f"{n + 1}s"},
            "bulkhead": {"limit": 60 + n},
            "timeout": {"total": f"{n + 4}s"},
        }
        for i in range(3_640)
    }
    metadata = {"allowMassChange": f"CHG-{n}"}
    return json.dumps({"metadata": metadata, "resiliency": {"targets": targets}}, indent=1)


def write(directory: Path, documents: list[str], asked: Any) -> None:
    """Another process writes, as the kubelet is one."""
    volume = KubeletVolume(directory)
    while (n := asked.recv()) is not None:
        volume.write({"a.json": documents[n]})
        asked.send(n)


async def longest_stall(generation: int) -> float:
    """How long the loop stood still at most, until that generation is in force."""
    longest, until = 0.0, time.monotonic() + 20.0
    while status().generation < generation:
        assert time.monotonic() < until
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began - 0.001)
    return longest


@pytest.mark.realtime
@pytest.mark.usefixtures("center")
def test_a_large_document_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    documents = [large(n) for n in range(6)]
    assert all(2**20 <= len(each) <= 1.02 * 2**20 for each in documents)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=write, args=(tmp_path, documents, theirs), daemon=True
    )
    process.start()
    pipelines = [standard(f"service-{i}") for i in range(50)]
    configure(tmp_path)
    ours.send(0)
    ours.recv()
    load()
    stalls = []
    gc.collect()
    gc.freeze()  # what the test runner holds, the collector would walk through too
    for n in range(1, len(documents)):
        ours.send(n)
        ours.recv()
        stalls.append(asyncio.run(longest_stall(n + 1)))
        assert pipelines[7]["bulkhead"].options.limit == 60 + n
    gc.unfreeze()
    ours.send(None)
    process.join()
    assert median(stalls) <= STALL, stalls


@pytest.mark.soak
@pytest.mark.parametrize("order", ["new", "old"])
def test_a_hundred_thousand_reads_beside_a_hostile_writer_tear_nothing(tmp_path: Path, order: Any) -> None:
    volume, directory = KubeletVolume(tmp_path, order=order), Directory(tmp_path)
    over = threading.Event()

    def generation(n: int) -> dict[str, str]:
        return {f"{key}.json": f"{key}{n}" for key in "abcd"}

    volume.write(generation(0))

    def write_on() -> None:
        n = 0
        while not over.is_set():
            n += 1
            volume.write(generation(n))

    writer = threading.Thread(target=write_on)
    writer.start()
    seen: Counter[str] = Counter()
    try:
        for _ in range(100_000):
            try:
                content = directory.read().content
            except Changing:
                seen["given up until the next look"] += 1
                continue
            generations = {value[1:] for value in content.values()}
            seen["whole" if len(content) == 4 and len(generations) == 1 else "torn"] += 1
            seen["newest"] = max(seen["newest"], int(generations.pop()))
    finally:
        over.set()
        writer.join()
    assert seen["torn"] == 0
    assert seen["newest"] > 1_000, "the writer did write"
    assert seen["whole"] > 90_000, seen
