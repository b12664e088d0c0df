"""What importing costs: CPU time of a whole interpreter, less that of one which imports nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Outcome, Settings, Spread, spread
from benchmarks.rows import exactly

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "bare": "pass",
    "import.package": "import resilient",
    "import.policies": "from resilient import CircuitBreaker, Pipeline, RateLimit, Retry, Timeout",
    "import.tenacity_pybreaker_limits": "import tenacity, pybreaker, limits",
}
FOREIGN = ("asyncio", "logging", "httpx", "tenacity", "pybreaker", "limits", "opentelemetry")


def cpu_seconds(program: str, environment: dict[str, str]) -> float:
    """CPU time of an interpreter that runs it, start and end included."""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, program
    return usage.ru_utime + usage.ru_stime


def loaded(program: str) -> set[str]:
    """Which of the foreign packages are loaded after it."""
    tell = f"{program}\nimport sys\nprint(*(set({FOREIGN!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", tell], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def measure(settings: Settings) -> Outcome:
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    order = list(PROGRAMS)
    shuffle = random.Random(11).shuffle
    with tempfile.TemporaryDirectory() as compiled:
        # Bytecode is there, as it is for whatever an installer has installed, also where the environment forbids it.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for program in PROGRAMS.values():
            cpu_seconds(program, environment)
        for _ in range(settings.import_rounds):
            shuffle(order)
            for name in order:
                taken[name].append(cpu_seconds(PROGRAMS[name], environment))
    values = {name: _over(taken[name], taken["bare"]) for name in PROGRAMS if name != "bare"}
    by_site = loaded(PROGRAMS["bare"])  # what .pth files of the environment load is not ours
    values["import.foreign"] = exactly(len(loaded(PROGRAMS["import.policies"]) - by_site))
    return Outcome(values)


def _over(some: list[float], bare: list[float]) -> Spread:
    return spread([1000 * (a - b) for a, b in zip(some, bare, strict=True)])
