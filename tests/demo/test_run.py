"""The demo itself, in its short form: real processes on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from examples.demo import runner, schedule
from examples.demo.cluster.timeline import timeline
from examples.demo.columns import TITLES

ROOT = Path(__file__).parents[2]
BOUND = 90.0
"""Seconds after which a run hangs."""


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo", "--fast", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(demo: subprocess.Popen[str], status: int) -> str:
    try:
        told, errors = demo.communicate(timeout=BOUND)
    finally:
        demo.kill()
    assert demo.returncode == status, told + errors
    return told


def test_resilient_passes_and_the_baseline_charges_twice(tmp_path: Path) -> None:
    picture = tmp_path / "out" / "scorecard.svg"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    whole: dict[str, Any] = json.loads(finish(start(scratch, "--json", "--svg", str(picture)), 0))
    assert (whole["seed"], whole["fast"], whole["passed"]) == (1, True, True)
    told = whole["service"]
    assert [tuple(each.values()) for each in told["faults"]] == list(schedule.plan(1, fast=True).faults)
    assert list(told["columns"]) == list(TITLES)
    arrivals = len(schedule.plan(1, fast=True).arrivals)
    for card in told["columns"].values():
        assert card["orders"] == arrivals
        assert card["uncharged"] == 0
        assert [each["kind"] for each in card["recoveries"]] == [each["kind"] for each in told["faults"]]
    baseline, keyed, resilient = told["columns"].values()
    assert baseline["charged_twice"] > 0
    assert keyed["charged_twice"] == resilient["charged_twice"] == 0
    assert keyed["replays"] > 0
    assert resilient["replays"] > 0
    assert resilient["tally"]["counts"]["breaker_open"] > 0
    assert resilient["tally"]["counts"]["retries"] > 0
    assert baseline["tally"] == keyed["tally"] == {}
    assert all(verdict["passed"] for verdict in told["verdicts"])
    assert "</svg>" in picture.read_text(encoding="utf-8")
    assert list(scratch.iterdir()) == []
    card = whole["cluster"]["card"]
    assert card["orders"] == len(timeline(1, fast=True).arrivals)
    assert card["charged_twice"] == card["uncharged"] == 0
    assert card["allowed"] == card["orders"], "what is protected was never degraded"
    assert card["documents"][1] == 2, "the broken file and the one that degrades what is protected"
    found = [pod for pod, requests in card["received"].items() if requests]
    assert len(found) >= len(card["received"]) - 1, "the one that is killed may not live to be called"
    assert {"live", "stand-in", "off"} <= card["pages"].keys()
    assert all(verdict["passed"] for verdict in whole["cluster"]["verdicts"])


def test_a_key_that_payments_does_not_read_fails(tmp_path: Path) -> None:
    told = finish(start(tmp_path, "--act", "1", "--break-key"), 1)
    assert "FAIL resilient: no double charge" in told
    assert "PASS resilient: no confirmed order without its charge" in told


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_leaves_nothing(tmp_path: Path, by: signal.Signals) -> None:
    demo = start(tmp_path, "--json")
    bound = time.monotonic() + BOUND
    # With the books of all three open the processes are there.
    while len(list(tmp_path.glob("resilient-demo-*/*.sqlite"))) < len(TITLES) and demo.poll() is None:
        assert time.monotonic() < bound
    demo.send_signal(by)
    assert finish(demo, 130) == ""
    assert list(tmp_path.iterdir()) == []


def test_every_process_is_ended_when_the_run_is_cancelled() -> None:
    seen: list[runner.Lane] = []

    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None

        async def watch(plan: schedule.Plan, lanes: dict[str, runner.Lane]) -> None:
            seen.extend(lanes.values())
            assert all(child.returncode is None for lane in seen for child in lane.children)
            task.cancel()

        await runner.run(runner.Settings(schedule.plan(1, fast=True)), watch)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert [len(lane.children) for lane in seen] == [2, 2, 2]
    assert all(child.returncode is not None for lane in seen for child in lane.children)
    assert not any(lane.books.exists() for lane in seen)


def test_a_process_that_ends_by_itself_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "examples" / "demo"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    for module in ("__init__", "payments", "checkout"):
        (package / f"{module}.py").write_text("raise SystemExit('out of order')\n")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    with pytest.raises(runner.Broken, match="out of order"):
        asyncio.run(runner.run(runner.Settings(schedule.plan(1, fast=True))))


@pytest.mark.parametrize("module", ["payments", "checkout"])
def test_a_process_ends_when_nobody_is_left_to_talk_to(module: str) -> None:
    command = [sys.executable, "-m", f"examples.demo.{module}"]
    done = subprocess.run(command, cwd=ROOT, input=b"", capture_output=True, timeout=BOUND, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
