"""The peers as they are installed. What they get wrong was seen in the versions that peers.md names; a release that has
mended it is a reason to change INDEX.md, and the test that showed it says so."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BRING = 'pip install -e ".[bench]"'


def peer(module: str) -> Any:
    """The module; a failure that says how to get it where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name != module.partition(".")[0]:
            raise
        pytest.fail(f"{module} is not installed: {BRING}", pytrace=False)


def defect(seen: bool, distribution: str, what: str) -> None:
    """The peer does wrong as stated; where it no longer does, the test says that, and of which version."""
    version = importlib.metadata.version(distribution)
    assert seen, (
        f"{distribution} {version} no longer does this: {what}. Good; take it out of tests/peers/INDEX.md"
    )


@contextmanager
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(count: int, job: Callable[[], object]) -> None:
    threads = [threading.Thread(target=job, daemon=True) for _ in range(count)]
    with quick_switches():
        for each in threads:
            each.start()
        for each in threads:
            each.join(30.0)
    assert not any(each.is_alive() for each in threads)
