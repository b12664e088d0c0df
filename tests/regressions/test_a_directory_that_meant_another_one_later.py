"""``configure("config")`` meant another directory once the process had changed its own.

Servers do that after they have loaded the application: the document was gone, for good. A path with a NUL in it, and a
time-out of ``load()`` that is no time, ended in errors that name neither."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import ConfigError, configure
from resilient.config import load
from resilient.testing import KubeletVolume


@pytest.fixture(autouse=True)
def nothing_followed() -> Iterator[None]:
    configure()
    yield
    configure()


def test_it_is_the_one_that_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KubeletVolume(tmp_path / "config").write({"resilience.json": "{}"})
    monkeypatch.chdir(tmp_path)
    configure("config")
    monkeypatch.chdir("/")
    assert load().state == "ready"


class Bytes:
    def __fspath__(self) -> bytes:
        return b"/etc/resilient"


@pytest.mark.parametrize("directory", ["a\0b", Bytes()])
def test_what_is_no_path_is_refused(directory: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be a path; write configure\(directory='/etc/resilient'\)"):
        configure(directory)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), 1e20, "10", None])
def test_what_is_no_time_is_refused(tmp_path: Path, timeout: Any) -> None:
    configure(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(f"load: timeout={timeout!r} must be a number (seconds)")):
        load(timeout=timeout)
