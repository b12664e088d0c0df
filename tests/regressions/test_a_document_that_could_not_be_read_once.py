"""A document that could not be read at one look was not read at any later one, and nobody was told of a fault of ours.

In a mounted directory the mark of the generation was kept all the same: while descriptors were short for a moment, a
new generation was missed until there was another. And what broke the look itself, such as a file name that is no UTF-8,
left the state ``ready``: ``load()`` said that all was well."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resilient import DocumentError, configure
from resilient.config import load, status
from resilient.config.loader import Loader
from resilient.config.source import Directory, Files
from resilient.testing import KubeletVolume, ManualClock


class _Nobody:
    """No pipeline lives here, or one that takes nothing."""

    full = False

    def check(self, snapshot: object, /) -> None:
        if self.full:
            raise MemoryError

    def apply(self, snapshot: object, /) -> tuple[()]:
        return ()


@pytest.fixture
def nobody() -> _Nobody:
    return _Nobody()


@pytest.fixture
def volume(tmp_path: Path) -> KubeletVolume:
    volume = KubeletVolume(tmp_path / "mount")
    volume.write({"a.json": '{"metadata": {"version": "1"}}'})
    return volume


@pytest.fixture
def loader(volume: KubeletVolume, nobody: _Nobody) -> Loader:
    loader = Loader(volume.directory, lambda: (nobody, ()), ManualClock())
    look(loader)
    assert loader.status.version == "1"
    return loader


def look(loader: Loader) -> None:
    assert list(loader.begin()) == []
    loader.finish(None)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """As in a process that has all open that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_moment_without_descriptors(volume: KubeletVolume, loader: Loader) -> None:
    volume.write({"a.json": '{"metadata": {"version": "2"}}'})
    with no_descriptors():
        look(loader)
    assert loader.status.state == "stale"
    assert "Too many open files" in str(loader.status.problem)
    look(loader)
    assert (loader.status.state, loader.status.version) == ("ready", "2")


def test_a_generation_whose_files_come_after_its_link(volume: KubeletVolume, loader: Loader) -> None:
    folder = volume.directory / (volume.directory / "..data").readlink()
    later = volume.directory / "..later"
    folder.rename(later)
    (volume.directory / "..data").unlink()
    (volume.directory / "..data").symlink_to("..other")
    look(loader)
    assert loader.status.state == "stale"
    later.rename(volume.directory / "..other")
    look(loader)
    assert loader.status.state == "ready"


def test_a_fault_of_a_look_is_told_and_ends_with_it(
    volume: KubeletVolume, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(directory: Directory) -> Files:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Directory, "read", broken)
        volume.write({"a.json": '{"metadata": {"version": "2"}}'})
        with pytest.raises(MemoryError) as caught:
            loader.begin().send(None)
        loader.broke(caught.value)
    assert isinstance(loader.status.problem, DocumentError)
    assert (loader.status.state, loader.status.problem.reason) == ("stale", "fault")
    volume.write({"a.json": '{"metadata": {"version": "1"}}'})
    look(loader)
    assert (loader.status.state, loader.status.problem) == ("ready", None)


def test_who_asks_has_a_refused_document_tried_again(
    volume: KubeletVolume, loader: Loader, nobody: _Nobody
) -> None:
    nobody.full = True
    volume.write({"a.json": '{"metadata": {"version": "2"}}'})
    look(loader)
    assert loader.status.state == "stale"
    nobody.full = False
    look(loader)
    assert loader.status.state == "stale", "it is not parsed every second"
    loader.look_now()
    look(loader)
    assert (loader.status.state, loader.status.version) == ("ready", "2")


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    configure(tmp_path)
    try:
        load()
        odd = tmp_path / os.fsdecode(b"caf\xe9.json")
        odd.write_text("{}")
        with pytest.raises(
            DocumentError, match=r"^caf\\udce9\.json: a file name that is no text; rename it$"
        ):
            load()
        assert status().state == "stale"
        odd.unlink()
        assert load().state == "ready"
    finally:
        configure()


def test_a_copy_of_a_mount_in_which_links_became_what_they_led_to(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    for place in (tmp_path, tmp_path / "..data"):
        (place / "a.json").write_text("{}")
    assert Directory(tmp_path).read().content == {"a.json": b"{}"}
