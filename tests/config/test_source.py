"""A directory as the source of the document: whole generations, whoever writes and however."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from resilient import DocumentError
from resilient.config.source import MOST_BYTES, MOST_FILES, Changing, Directory, Missing, named
from resilient.testing import KubeletVolume

ORDERS = ("new", "old")


def both(n: int) -> dict[str, str]:
    return {"a.json": f"a{n}", "b.yaml": f"b{n}"}


def held(directory: Directory) -> dict[str, str]:
    return {name: value.decode() for name, value in directory.read().content.items()}


@pytest.fixture(params=ORDERS)
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> KubeletVolume:
    return KubeletVolume(tmp_path, order=request.param)


def test_every_update_is_seen_by_its_mark_and_read_whole(volume: KubeletVolume) -> None:
    directory = Directory(volume.directory)
    marks, digests = set(), set()
    for n in range(5):
        volume.write(both(n))
        marks.add(directory.mark())
        digests.add(directory.read().digest)
        assert held(directory) == both(n)
    assert (len(marks), len(digests)) == (5, 5)
    assert all(mark.atomic for mark in marks)


def test_at_every_step_of_a_write_one_generation_is_read(volume: KubeletVolume) -> None:
    directory = Directory(volume.directory)
    volume.write(both(0))
    swapped = False
    for step in volume.steps({**both(1), "c.json": "c1"}):
        swapped = swapped or step == "swap"
        assert held(directory) == ({**both(1), "c.json": "c1"} if swapped else both(0))


@pytest.mark.parametrize("order", ORDERS)
def test_a_hostile_writer_tears_nothing(order: Any, tmp_path: Path) -> None:
    volume, directory = KubeletVolume(tmp_path, order=order), Directory(tmp_path)
    volume.write(both(0))
    over = threading.Event()

    def write() -> None:
        n = 0
        while not over.is_set():
            n += 1
            volume.write(both(n))

    writer = threading.Thread(target=write)
    writer.start()
    torn, whole, reads, patience = 0, set(), 0, time.monotonic() + 30.0
    try:
        # However seldom a busy machine lets the writer write.
        while reads < 2_000 or (len(whole) <= 10 and time.monotonic() < patience):
            reads += 1
            try:
                content = held(directory)
            except Changing:
                continue
            torn += content["a.json"][1:] != content["b.yaml"][1:] or len(content) != 2
            whole.add(content["a.json"])
    finally:
        over.set()
        writer.join()
    assert torn == 0
    assert len(whole) > 10, "the writer did write"


class Swapped(Directory):
    """A directory that is swapped under every read, a number of times."""

    def __init__(self, volume: KubeletVolume, times: int) -> None:
        super().__init__(volume.directory)
        self.volume, self.times = volume, times

    def _read(self) -> Any:
        content = super()._read()
        if self.times:
            self.times -= 1
            self.volume.write(both(random.randrange(10**9)))
        return content


def test_a_read_that_meets_a_swap_is_made_again_and_given_up_after_ten(volume: KubeletVolume) -> None:
    volume.write(both(0))
    assert len(Swapped(volume, 9).read().content) == 2
    with pytest.raises(Changing, match="faster than it can be read"):
        Swapped(volume, 10).read()


def test_the_digest_is_of_the_content_not_of_times_or_generations(volume: KubeletVolume) -> None:
    directory = Directory(volume.directory)
    volume.write(both(1))
    first = directory.read()
    volume.write(both(2))
    assert directory.read().digest != first.digest
    volume.write(both(1))
    assert directory.read().digest == first.digest
    volume.write({"a.json": "a1b", "b.yaml": "1"})  # the same bytes, cut otherwise
    assert directory.read().digest != first.digest


def test_a_plain_directory_is_read_too_and_told_apart(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    first, mark = directory.read(), directory.mark()
    assert held(directory) == {"a.json": "{}"}
    assert not mark.atomic
    other = tmp_path / "b"
    other.write_text("{}")
    os.utime(other, ns=(0, 0))
    other.rename(tmp_path / "a.json")  # older than before by every clock
    assert directory.mark() != mark
    assert directory.read().digest == first.digest


def test_what_is_no_document_is_left_alone(tmp_path: Path) -> None:
    for name in ("a.json", "README.md", ".hidden.json", "b.json.swp"):
        (tmp_path / name).write_text(name)
    assert held(Directory(tmp_path)) == {"a.json": "a.json"}


def test_nothing_there_is_missing_and_has_no_mark(tmp_path: Path) -> None:
    absent = Directory(tmp_path / "absent")
    assert absent.mark().value is None
    with pytest.raises(Missing, match="there is no directory"):
        absent.read()
    with pytest.raises(Missing, match=r"there is no file \*\.json"):
        Directory(tmp_path).read()
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(Missing, match="or the one that the file is in"):
        Directory(tmp_path / "a.json").read()


def test_an_optional_configmap_that_is_deleted_is_missing(volume: KubeletVolume) -> None:
    volume.write(both(0))
    volume.write({})
    with pytest.raises(Missing):
        Directory(volume.directory).read()


@pytest.fixture
def strange(tmp_path: Path) -> dict[str, Path]:
    """Directories with something in them that is no document."""
    found = {
        kind: tmp_path / kind for kind in ("link", "pipe", "socket", "folder", "many", "big", "out", "up")
    }
    for each in found.values():
        each.mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (found["link"] / "a.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(found["pipe"] / "a.json")
    (found["folder"] / "a.json").mkdir()
    for n in range(MOST_FILES + 1):
        (found["many"] / f"{n}.json").write_text("{}")
    (found["big"] / "a.json").write_bytes(b" " * (MOST_BYTES // 2))
    (found["big"] / "b.json").write_bytes(b" " * (MOST_BYTES // 2 + 1))
    (found["out"] / "..data").symlink_to(tmp_path)
    (found["up"] / "..data").symlink_to("..")
    here = Path.cwd()
    os.chdir(found["socket"])  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("a.json")
    finally:
        os.chdir(here)
    return found


@pytest.mark.parametrize(
    ("kind", "reason", "said"),
    [
        ("link", "read", "a.json: is a link"),
        ("pipe", "read", "a.json: is no ordinary file"),
        ("socket", "read", "cannot be read"),
        ("folder", "read", "a.json"),
        ("many", "size", "101 files; at most 100"),
        ("big", "size", "b.json: more than 4,194,304 bytes"),
        ("out", "read", "points out of"),
        ("up", "read", "points out of"),
    ],
)
def test_what_is_strange_is_refused_and_never_waited_for(
    strange: dict[str, Path], kind: str, reason: str, said: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        Directory(strange[kind]).read()
    assert said in str(caught.value)
    assert caught.value.reason == reason


def test_no_descriptor_is_left_open(volume: KubeletVolume, strange: dict[str, Path]) -> None:
    volume.write(both(0))
    descriptors = Path("/proc/self/fd")
    before = set(descriptors.iterdir()) if descriptors.exists() else set()
    for _ in range(5):
        Directory(volume.directory).read()
        for each in strange.values():
            with pytest.raises(DocumentError):
                Directory(each).read()
    after = set(descriptors.iterdir()) if before else set()
    assert after <= before


def test_the_path_of_a_file_means_that_file_of_its_directory(volume: KubeletVolume) -> None:
    directory = named(volume.directory / "b.yaml")
    assert str(directory) == str(volume.directory / "b.yaml")
    for n in range(5):
        volume.write(both(n))
        assert directory.mark().atomic, "what is looked at is the link of the whole directory"
        assert held(directory) == {"b.yaml": f"b{n}"}
    volume.write({"a.json": "a"})
    with pytest.raises(Missing, match=r"there is no file b\.yaml in"):
        directory.read()


def test_a_single_file_of_a_plain_directory_is_marked_alone(tmp_path: Path) -> None:
    directory, file = named(tmp_path / "a.json"), tmp_path / "a.json"
    with pytest.raises(Missing, match=r"there is no file a\.json in"):
        directory.read()
    file.write_text("{}")
    mark = directory.mark()
    (tmp_path / "b.json").write_text("another's")
    assert directory.mark() == mark
    assert held(directory) == {"a.json": "{}"}
    file.write_text("{} ")
    assert directory.mark() != mark
