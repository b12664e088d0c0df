"""The pytest plugin, in a pytest of its own; and what is imported when."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess
import sys

import pytest

import resilient.testing

ROOT = pathlib.Path(resilient.testing.__file__).parents[2]

FIXTURES = """
import random
import httpx
import resilient
from resilient.testing import slow

def test_clock(manual_clock):
    assert manual_clock.monotonic() == 0.0

def test_origin(origin):
    assert origin.clock is None
    assert httpx.get(origin.url).status_code == 200

def test_origin_on_the_clock(origin, manual_clock):
    assert origin.clock is manual_clock
    origin.script(slow(3600.0))
    assert httpx.get(origin.url).status_code == 200
    assert manual_clock.monotonic() == 3600.0

def test_events(resilient_events, manual_clock):
    answers = iter([ConnectionError(), "done"])

    @resilient.Pipeline(resilient.Retry(attempts=2), clock=manual_clock)
    def fetch():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert fetch() == "done"
    assert len(resilient_events.named("resilient.retry.scheduled")) == 1

def test_inactive(resilient_inactive):
    calls = []

    @resilient.Retry(attempts=3)
    def fetch():
        calls.append(1)
        raise ConnectionError

    assert not resilient.is_active()
    try:
        fetch()
    except ConnectionError:
        assert len(calls) == 1

def test_active_again():
    assert resilient.is_active()

def test_seed(fault_seed):
    assert fault_seed == 42
    assert random.random() == random.Random(42).random()
"""


def pytest_of_its_own(
    directory: pathlib.Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    installed = importlib.metadata.entry_points(group="pytest11", name="resilient")
    plugin = [] if installed else ["-p", "resilient.testing.plugin"]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            "/dev/null",
            *plugin,
            *arguments,
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_fixtures(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test_it.py").write_text(FIXTURES)
    run = pytest_of_its_own(tmp_path, "test_it.py", RESILIENT_FAULT_SEED="42")
    assert "7 passed" in run.stdout, run.stdout + run.stderr


def test_a_failed_test_shows_its_seed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test_it.py").write_text("def test(fault_seed):\n    assert fault_seed == -1\n")
    run = pytest_of_its_own(tmp_path, "test_it.py")
    assert "RESILIENT_FAULT_SEED=" in run.stdout


def test_the_plugin_brings_nothing_along(tmp_path: pathlib.Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test():\n"
        "    ours = {name for name in sys.modules if name.split('.')[0] == 'resilient'}\n"
        "    assert ours == {'resilient', 'resilient.testing', 'resilient.testing.plugin'}\n"
    )
    run = pytest_of_its_own(tmp_path, "test_it.py")
    assert "1 passed" in run.stdout, run.stdout + run.stderr


def test_is_not_imported_with_the_library() -> None:
    code = (
        "import sys, resilient; print([name for name in sys.modules if name.startswith('resilient.testing')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


def test_a_clock_does_not_load_asyncio() -> None:
    code = "import sys; from resilient.testing import ManualClock, Origin; print('asyncio' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"


def test_every_public_name_is_there() -> None:
    assert dir(resilient.testing) == resilient.testing.__all__
    for name in resilient.testing.__all__:
        assert getattr(resilient.testing, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        resilient.testing.nothing  # noqa: B018
