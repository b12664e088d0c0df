"""A mount that was gone for a moment, and came back as it was, left the state ``stale`` until another document came.

What was read before it went was kept as read, and so was not read again. Alerts on ``stale`` did not end."""

from __future__ import annotations

from pathlib import Path

from resilient.config.loader import Loader
from resilient.testing import KubeletVolume, ManualClock


class _Nobody:
    """No pipeline lives here."""

    def check(self, snapshot: object, /) -> None:
        pass

    def apply(self, snapshot: object, /) -> tuple[()]:
        return ()


def test_it_is_read_again(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path / "mount")
    volume.write({"a.json": "{}"})
    loader = Loader(volume.directory, lambda: (_Nobody(), ()), ManualClock())

    def state() -> str:
        assert list(loader.begin()) == []
        loader.finish(None)
        return loader.status.state

    assert state() == "ready"
    volume.directory.rename(tmp_path / "unmounted")
    assert [state(), state()] == ["ready", "stale"], "it might be in the middle of something"
    (tmp_path / "unmounted").rename(volume.directory)
    assert state() == "ready"
    assert loader.status.generation == 1, "it is the same"
