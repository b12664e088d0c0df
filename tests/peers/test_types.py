"""What a type checker knows of a function that was decorated."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.peer import defect, peer

FUNCTIONS = """
def plain(sku: str) -> int: return len(sku)
async def later(sku: str) -> int: return len(sku)
"""

THEIRS = {
    "pybreaker": "pybreaker.CircuitBreaker()(plain)",
    "circuitbreaker": "circuitbreaker.CircuitBreaker()(plain)",
    "aiobreaker": "aiobreaker.CircuitBreaker()(plain)",
    "asyncbreaker": "asyncbreaker.CircuitBreaker()(later)",
    "purgatory": "purgatory.SyncCircuitBreakerFactory()('x')(plain)",
    "pyrate-limiter": "pyrate_limiter.Limiter(pyrate_limiter.Rate(1, 1)).as_decorator()(plain)",
}
NAMES = "from resilient import Bulkhead, CircuitBreaker, Pipeline, RateLimit, Retry, Timeout, standard"
OURS = [
    "Retry()",
    "CircuitBreaker()",
    "RateLimit('9/second')",
    "Bulkhead(9)",
    "Timeout(1.0)",
    "Pipeline(Timeout(1.0), Retry(), name='typed')",
    "standard('typed-too')",
]


def revealed(program: str, where: Path) -> list[str]:
    """The types that mypy reveals, in order."""
    file = where / "decorated.py"
    file.write_text(program)
    command = [sys.executable, "-m", "mypy", "--python-executable", sys.executable, "--no-error-summary"]
    done = subprocess.run(
        [*command, "--cache-dir", str(where / "cache"), str(file)],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return re.findall(r'Revealed type is "(.*)"', done.stdout) or [done.stdout + done.stderr]


@pytest.mark.peers
def test_peers_lose_what_the_decorated_function_takes_and_gives(tmp_path: Path) -> None:
    modules = sorted({expression.partition(".")[0] for expression in THEIRS.values()})
    for module in modules:
        peer(module)
    lines = [f"import {', '.join(modules)}", FUNCTIONS, *(f"reveal_type({each})" for each in THEIRS.values())]
    types = revealed("\n".join(lines), tmp_path)
    assert len(types) == len(THEIRS), types
    for name, seen in zip(THEIRS, types, strict=True):
        defect("str" not in seen, name, f"a decorated function is {seen}")


def test_ours_keep_what_the_decorated_function_takes_and_gives(tmp_path: Path) -> None:
    asked = [f"reveal_type({policy}({fn}))" for policy in OURS for fn in ("plain", "later")]
    types = revealed("\n".join([NAMES, FUNCTIONS, *asked]), tmp_path)
    for of_plain, of_later in zip(types[::2], types[1::2], strict=True):
        assert of_plain == "def (sku: str) -> int"
        assert re.fullmatch(r"def \(sku: str\) -> [\w.]*Coroutine\[Any, Any, int\]", of_later)
    assert len(types) == 2 * len(OURS)
