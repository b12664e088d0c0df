"""`resilient build`, `resilient diff` and `resilient watch`: the real command on real files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resilient.cli import changes, documents
from resilient.testing import KubeletVolume
from tests.cli.commands import run
from tests.cli.test_documents import GOOD, PLANS


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "resilience.yaml"
    file.write_text(GOOD.replace("...\n", PLANS))
    return file


# ---------------------------------------------------------------------------------------------------------------- build
def test_what_is_built_says_the_same(good: Path, tmp_path: Path) -> None:
    done = run("build", str(good))
    assert (done.status, done.err) == (0, "")
    built = tmp_path / "built.json"
    built.write_text(done.out)
    assert done.out == json.dumps(done.json, indent=2, sort_keys=True) + "\n"
    assert run("diff", str(good), str(built)).status == 0
    assert run("build", str(built)).out == done.out, "it is canonical"
    assert documents.check(built).good


def test_a_yaml_that_is_too_long_for_a_service_is_built(good: Path) -> None:
    good.write_text(f"# {'x' * 200_000}\n{good.read_text()}")
    done = run("check", str(good))
    assert done.status == 1
    assert "run `resilient build` and mount the JSON that it prints" in done.out
    assert run("build", str(good)).status == 0


def test_a_directory_is_built_to_one_document(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path / "mount")
    volume.write({"a.yaml": GOOD, "b.json": '{"metadata": {"version": "7"}}'})
    assert run("build", str(tmp_path / "mount")).json.keys() == {
        "flags",
        "degradation",
        "resiliency",
        "metadata",
    }


def test_nothing_is_printed_of_what_no_service_would_take(good: Path) -> None:
    good.write_text(good.read_text().replace("attempts: 2", "atempts: 2"))
    done = run("build", str(good))
    assert done.status == 1
    assert done.lines[1].endswith("/resiliency/targets/payments/retry/atempts: no such key; write attempts")
    assert "{" not in done.out


# ----------------------------------------------------------------------------------------------------------------- diff
def test_what_another_document_changes(good: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    text = good.read_text().replace("attempts: 2", "attempts: 4").replace("level: sale\n", "level: normal\n")
    text = text.replace("payments:\n", "payments:\n      timeout: {total: 2s}\n", 1).replace(
        "active: true", "active: false"
    )
    other.write_text(f"# written otherwise\n{text}")
    done = run("diff", str(good), str(other))
    assert (done.status, done.err) == (1, "")
    assert done.lines == [
        "degradation.level: 1 (sale) -> 0 (normal)",
        "flags.recommendations: off -> full",
        "payments.breaker.slow_after: 3s -> 0.45625s",
        "payments.retry.attempts: 2 -> 4",
        "payments.timeout.attempt: 3s -> 0.45625s",
        "payments.timeout.total: 10s -> 2s",
        "plans.meltdown: emergency, active -> emergency, not active",
    ]
    found = run("diff", str(good), str(other), "--json").json
    assert found[3] == {"path": "payments.retry.attempts", "before": 2, "after": 4}


def test_what_is_only_written_otherwise_is_no_difference(good: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    tree = json.loads(changes.build(good))
    tree["resiliency"]["policies"] = {"retry": {"careful": {"attempts": 2}}}
    tree["resiliency"]["targets"]["payments"]["retry"] = "careful"
    other.write_text(json.dumps(tree))
    done = run("diff", str(good), str(other))
    assert (done.status, done.out) == (0, "")


def test_numbers_that_only_the_code_of_the_service_can_take_are_told_as_they_stand(
    good: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(good.read_text().replace("{attempts: 2}", "{attempts: 2, wait: {base: 5s}}"))
    done = run("diff", str(good), str(other))
    assert done.status == 1
    assert "payments.retry.wait.base: 25ms -> 5s" in done.lines


def test_what_is_no_document_has_no_difference(good: Path, tmp_path: Path) -> None:
    done = run("diff", str(good), str(tmp_path / "none.yaml"))
    assert (done.status, done.out) == (2, "")
    assert "none.yaml cannot be read" in done.err


# ---------------------------------------------------------------------------------------------------------------- watch
def test_each_change_is_shown_when_it_comes(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path / "mount")
    volume.write({"a.yaml": GOOD})
    process = subprocess.Popen(
        [sys.executable, "-m", "resilient.cli", "watch", str(tmp_path / "mount"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["result"], first["generation"]) == ("applied", 1)
        volume.write({"a.yaml": GOOD.replace("attempts: 2", "attempts: 4")})
        second = json.loads(process.stdout.readline())
        assert (second["result"], second["differences"]) == ("applied", [["payments.retry.attempts", 2, 4]])
        volume.write({"a.yaml": "flags: ["})
        assert json.loads(process.stdout.readline())["result"] == "rejected"
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=30)
        assert (process.returncode, rest, err) == (0, "", "")
    finally:
        process.kill()
        process.wait()


def test_for_a_while_and_for_people(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path / "mount")
    volume.write(
        {
            "a.yaml": 'metadata: {version: "7", changedBy: alice, ticket: CHG-1}\n'
            + GOOD.replace("...\n", PLANS)
        }
    )
    done = run("watch", str(tmp_path / "mount"), "--for", "0")
    assert (done.status, done.err) == (0, "")
    told = [line[9:] for line in done.lines]
    assert f"applied       {tmp_path}/mount: generation 1, version 7, by alice, CHG-1" in told
    assert "flags.recommendations: (nothing) -> off" in told
    assert "payments.retry.attempts: (nothing) -> 2" in told
    assert any(line.startswith("plan          plans.meltdown") for line in told)
    done = run("watch", RESILIENT_CONFIG_DIR="")
    assert done.status == 2
    assert "such as resilient watch /etc/resilient" in done.err
