"""A config center that each test leaves as it found it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilient import configure
from resilient.config.center import PREFIX
from resilient.core.events import RUNTIME
from resilient.testing import KubeletVolume


@pytest.fixture
def volume(tmp_path: Path) -> KubeletVolume:
    return KubeletVolume(tmp_path / "mount")


@pytest.fixture
def center(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process's own, followed by nobody before and after."""
    monkeypatch.delenv("RESILIENT_CONFIG_DIR", raising=False)
    configure()
    yield
    for name in [each for each in os.environ if each.startswith(("RESILIENT_CONFIG_DIR", PREFIX))]:
        monkeypatch.delenv(name)
    configure()
    RUNTIME.begin()
