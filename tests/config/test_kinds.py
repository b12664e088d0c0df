"""Every row of the table of failure modes that concerns a source, for every kind of source.

The rows are numbered as in the table of what can go wrong between a ConfigMap and a process."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient.config.source import Changing, Directory, named
from resilient.testing import KubeletVolume, capture_events

from .samples import JSON, YAML
from .test_loader import Kit, attempts


class Place:
    """Somewhere a document is written to, and the path by which it is followed."""

    def __init__(self, path: Path, write: Callable[[dict[str, Any]], None]) -> None:
        self.path = path
        self.write = write

    def kit(self) -> Kit:
        return Kit(self.path)


def _volume(order: Any, name: str) -> Callable[[Path], Place]:
    def make(directory: Path) -> Place:
        return Place(directory / name, KubeletVolume(directory, order=order).write)

    return make


def _plain(name: str) -> Callable[[Path], Place]:
    def make(directory: Path) -> Place:
        directory.mkdir()

        def write(files: dict[str, Any]) -> None:
            for each in directory.iterdir():
                if each.name not in files:
                    each.unlink()
            for key, value in files.items():
                (directory / key).write_bytes(value if isinstance(value, bytes) else value.encode())

        return Place(directory / name, write)

    return make


KINDS = {
    "volume": _volume("new", ""),
    "volume of an old kubelet": _volume("old", ""),
    "directory": _plain(""),
    "file of a volume": _volume("new", "a.json"),
    "file of a volume of an old kubelet": _volume("old", "a.json"),
    "file": _plain("a.json"),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made: Place = request.param(tmp_path / "mount")
    return made


def settled(kit: Kit) -> str:
    """After so many looks as a plain directory needs."""
    kit.look()
    return kit.look()


def test_row_01_five_updates_are_five_generations(place: Place) -> None:
    kit = place.kit()
    for n in range(1, 6):
        place.write({"a.json": attempts(n)})
        assert settled(kit) == "ready"
        assert (kit.loader.status.generation, kit.attempts) == (n, n)


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "directory"])
def test_row_02_no_read_mixes_generations(kind: str, tmp_path: Path) -> None:
    """The hundred thousand reads are in `test_realtime`. The files of a plain directory have no generations."""
    place = KINDS[kind](tmp_path / "mount")
    directory, over = named(place.path), threading.Event()
    place.write({"a.json": "0 0"})

    def write() -> None:
        n = 0
        while not over.is_set():
            n += 1
            place.write({"a.json": f"{n} {n}"})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [_read(directory) for _ in range(500)]
    finally:
        over.set()
        writer.join()
    assert {a == b for a, b in (each.split() for each in seen if each)} == {True}


def _read(directory: Directory) -> str:
    try:
        return directory.read().content["a.json"].decode()
    except Changing:
        return ""


def test_row_03_a_directory_that_goes_while_it_is_read_is_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kit = place.kit()
    place.write({"a.json": attempts(4)})
    settled(kit)
    caplog.clear()
    read, swapped = Directory._read, []

    def meanwhile(self: Directory) -> Any:
        content = read(self)
        if not swapped:
            swapped.append(True)
            place.write({"a.json": attempts(6)})
        return content

    place.write({"a.json": attempts(5) + " "})
    monkeypatch.setattr(Directory, "_read", meanwhile)
    settled(kit)
    assert settled(kit) == "ready"
    assert kit.attempts == 6
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_row_04_the_same_content_is_no_change(place: Place) -> None:
    kit = place.kit()
    place.write({"a.json": attempts(4)})
    settled(kit)
    with capture_events() as seen:
        place.write({"a.json": attempts(4)})
        for each in place.path.parent.rglob("a.json"):
            os.utime(each, ns=(0, 0))
        settled(kit)
        place.write({"a.json": attempts(4), "README": "another generation"})
        settled(kit)
    assert seen.events == []


@pytest.mark.parametrize("text", [YAML, JSON], ids=["row_05_yaml", "row_06_json"])
def test_rows_05_06_half_of_a_document_changes_nothing(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every kind of source, at some of the places; `test_loader` has every one of them for one kind."""
    name = "a.yaml" if text is YAML else "a.json"
    whole = text.rstrip()
    ends = random.Random(5).sample(range(len(whole)), 12)
    for number, kind in enumerate((_volume("new", ""), _volume("old", name), _plain(""), _plain(name))):
        place = kind(tmp_path / str(number))
        kit = place.kit()
        place.write({name: whole})
        assert settled(kit) == "ready"
        held = kit.loader.snapshot
        for end in ends:
            caplog.clear()
            place.write({name: whole[:end]})
            for _ in range(3):
                kit.look()
            assert kit.loader.status.state == "stale"
            assert kit.loader.snapshot is held
            assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1
            place.write({name: whole})
            assert settled(kit) == "ready"


def test_row_07_bytes_that_are_no_text_are_refused_and_a_mark_of_order_or_crlf_is_none_of_them(
    place: Place,
) -> None:
    kit = place.kit()
    for n, (content, state) in enumerate(
        (
            (b"\xef\xbb\xbf" + attempts(4).encode(), "ready"),
            (attempts(5).replace(" ", "\r\n").encode(), "ready"),
            (b"\xff" + attempts(6).encode(), "stale"),
            (attempts(6).encode()[:-1] + b"\x00}", "stale"),
            (attempts(6).encode("utf-16"), "stale"),
        )
    ):
        place.write({"a.json": content})
        assert settled(kit) == state, n
    assert kit.attempts == 5


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b" \n"])
def test_row_08_what_is_no_document_clears_nothing(place: Place, content: bytes) -> None:
    kit = place.kit()
    place.write({"a.json": attempts(5)})
    settled(kit)
    place.write({"a.json": content})
    assert settled(kit) == "stale"
    assert kit.attempts == 5


def test_row_12_yaml_says_what_its_json_twin_says(tmp_path: Path) -> None:
    place = _volume("new", "")(tmp_path)
    kit = place.kit()
    flags = {"on": {}, "off": {}, "12:30:00": {}, "1": {}}
    place.write({"a.json": json.dumps({"flags": flags, "metadata": {"version": 1e3}})})
    kit.look()
    twin, version = kit.flags.published[-1], kit.loader.status.version
    yaml = "flags: {on: {}, off: {}, 12:30:00: {}, 1: {}}\nmetadata: {version: 1e3}\n...\n"
    place.write({"a.yaml": yaml})
    assert kit.look() == "ready"
    assert (
        (kit.flags.published[-1], kit.loader.status.version) == (twin, version) == (sorted(flags), "1000.0")
    )
    for wrong in ("{version: 010}", "{version: 1, version: 2}"):
        place.write({"a.yaml": f"metadata: {wrong}\n...\n"})
        assert kit.look() == "stale"


def test_row_13_what_is_too_large_or_too_deep_is_refused(place: Place) -> None:
    kit = place.kit()
    place.write({"a.json": attempts(5)})
    settled(kit)
    deep = '{"a":' * 10_000 + "1" + "}" * 10_000
    for content in (b" " * (5 * 1024 * 1024), deep.encode()):
        place.write({"a.json": content})
        assert settled(kit) == "stale"
        assert kit.loader.status.problem is not None
        assert kit.loader.status.problem.reason == "size"  # type: ignore[attr-defined]
    assert kit.attempts == 5


def test_row_14_a_configmap_that_is_deleted_and_not_optional_changes_nothing(place: Place) -> None:
    kit = place.kit()
    place.write({"a.json": attempts(5)})
    settled(kit)
    with capture_events() as seen:  # the kubelet leaves its files alone
        for _ in range(130):
            assert kit.look() == "ready"
    assert seen.events == []


def test_row_15_a_configmap_that_is_deleted_and_optional_clears_nothing(place: Place) -> None:
    kit = place.kit()
    place.write({"a.json": attempts(5)})
    settled(kit)
    with capture_events() as seen:
        place.write({})
        assert settled(kit) == "stale"
        assert kit.attempts == 5
        place.write({"a.json": attempts(5)})
        assert settled(kit) == "ready"
    assert seen.names == ["resilient.config.rejected", "resilient.config.recovered"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_row_16_a_directory_that_comes_later_is_found(kind: Callable[[Path], Place], tmp_path: Path) -> None:
    later = tmp_path / "mount"
    path = kind(tmp_path / "model").path
    kit = Kit(later / path.name if path.name == "a.json" else later)
    assert kit.look() == "not_ready"
    assert kit.attempts == 3, "the code's"
    kind(later).write({"a.json": attempts(7)})
    assert settled(kit) == "ready"
    assert kit.attempts == 7


@pytest.mark.parametrize("mtime", [-3_600, 3_600, None])
def test_row_18_clocks_do_not_count(place: Place, mtime: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = place.kit()
    place.write({"a.json": attempts(4)})
    settled(kit)
    place.write({"a.json": attempts(5)})
    for each in place.path.parent.rglob("a.json"):
        then = each.stat().st_mtime + mtime if mtime is not None else 0.0
        os.utime(each, (then, then))
    monkeypatch.setattr("time.time", lambda: 0.0)
    settled(kit)
    assert kit.attempts == 5


def test_row_19_what_was_there_before_is_a_change_like_any_other(place: Place) -> None:
    kit = place.kit()
    for n in (4, 5, 4):
        place.write({"a.json": attempts(n)})
        settled(kit)
    assert (kit.attempts, kit.loader.status.generation) == (4, 3)


def test_row_44_a_hundred_refusals_are_a_hundred_lines_and_keep_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    kit = place.kit()
    place.write({"a.json": attempts(5)})
    settled(kit)
    caplog.clear()
    with capture_events() as seen:
        for n in range(100):
            place.write({"a.json": attempts(-n)})
            settled(kit)
            settled(kit)
    assert len(caplog.records) == 100
    assert seen.names == ["resilient.config.rejected"] * 100
    problem = kit.loader.status.problem
    assert problem is not None
    assert problem.__traceback__ is problem.__cause__ is problem.__context__ is None
