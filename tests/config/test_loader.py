"""Looking, refusing, keeping the last good one: whatever is written, and however."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from resilient import DocumentError, Pipeline, Retry
from resilient.config.live import Live
from resilient.config.loader import EVERY, Loader
from resilient.config.section import Section
from resilient.core.registry import Registry
from resilient.testing import KubeletVolume, ManualClock, capture_events

from .samples import JSON, YAML


def attempts(n: Any) -> str:
    return json.dumps({"resiliency": {"targets": {"payments": {"retry": {"attempts": n}}}}})


class Flags:
    """A part of the document that somebody else understands."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.section = Section(frozenset({"flags"}), self.parse, self.published.append)

    def parse(self, tree: dict[str, Any]) -> Any:
        flags = tree.get("flags", {})
        if not all(isinstance(each, dict) for each in flags.values()):
            raise DocumentError("a flag must be a mapping", pointer=("flags", next(iter(flags))))
        if "crash" in flags:
            raise KeyError("crash")
        return sorted(flags)


class Kit:
    """A loader with a pipeline that follows it, turned by hand."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        registry = Registry()
        self.pipeline = Pipeline(Retry(3), name="payments", clock=self.clock)
        registry.add(self.pipeline)
        self.flags = Flags()
        self.live = Live(registry)
        self.loader = Loader(directory, lambda: (self.live, [self.flags.section]), self.clock)

    def look(self) -> str:
        """As the refresher does; the state afterwards."""
        assert list(self.loader.begin()) == []
        self.loader.finish(None)
        assert EVERY * 0.9 <= self.loader.due - self.clock.monotonic() <= EVERY * 1.1
        self.clock.advance(2.0)
        return self.loader.status.state

    @property
    def attempts(self) -> int:
        return int(self.pipeline["retry"].options.attempts)


@pytest.fixture
def kit(volume: KubeletVolume) -> Kit:
    return Kit(volume.directory)


@pytest.mark.parametrize("order", ["new", "old"])
def test_five_updates_are_five_generations(tmp_path: Path, order: Any) -> None:
    kit, volume = Kit(tmp_path), KubeletVolume(tmp_path, order=order)
    with capture_events() as seen:
        for n in range(1, 6):
            volume.write({"a.json": attempts(n)})
            assert kit.look() == "ready"
            assert (kit.loader.status.generation, kit.attempts) == (n, n)
            assert kit.look() == "ready"
    applied: list[Any] = seen.named("resilient.config.applied")
    assert [each.generation for each in applied] == [1, 2, 3, 4, 5]
    assert [each.changes for each in applied] == [1, 1, 1, 1, 1]


def test_at_every_step_of_a_write_one_generation_is_in_force(kit: Kit, volume: KubeletVolume) -> None:
    volume.write({"a.json": attempts(5), "b.json": '{"flags": {"a": {}}}'})
    kit.look()
    for step in volume.steps({"a.json": attempts(6), "b.json": '{"flags": {"b": {}}}'}):
        kit.look()
        new = step not in ("directory", "file")
        assert (kit.attempts, kit.flags.published[-1]) == ((6, ["b"]) if new else (5, ["a"]))


@pytest.mark.parametrize("text", [YAML, JSON], ids=["yaml", "json"])
def test_no_beginning_of_a_document_changes_anything(tmp_path: Path, text: str) -> None:
    name = "a.yaml" if text is YAML else "a.json"
    kit, file = Kit(tmp_path), tmp_path / name
    flag = "flags: {search: {}}\n" if text is YAML else '{"flags": {"search": {}},' + text[1:]
    whole = (flag + text if text is YAML else flag).rstrip()
    file.write_text(whole)
    assert kit.look() == "ready"
    held = (kit.loader.snapshot, str(kit.pipeline), list(kit.flags.published))
    for end in range(len(whole)):
        file.write_text(whole[:end])
        kit.look()
        assert kit.look() == "stale"
        assert (kit.loader.snapshot, str(kit.pipeline), kit.flags.published) == held
    file.write_text(whole)
    kit.look()
    assert kit.look() == "ready"
    assert kit.loader.snapshot is held[0], "it is the one that was in force all the time"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"resiliency": ', "syntax"),
        (b"\xff", "encoding"),
        (" " * 5_000_000, "size"),
        ('{"resilience": {}}', "structure"),
        (attempts(0), "structure"),
        ('{"resiliency": {"targets": {"payments": {"retry": "careful"}}}}', "reference"),
        ('{"flags": {"a": 1}}', "structure"),
        ('{"flags": {"crash": {}}}', "fault"),
        ('{"resiliency": {"targets": {"payments": {"retry": {"wait": {"base": "2s"}}}}}}', "policies"),
    ],
)
def test_what_is_refused_leaves_the_last_good_one_in_force_and_is_told_once(
    kit: Kit, volume: KubeletVolume, content: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    volume.write({"a.json": attempts(5)})
    kit.look()
    caplog.clear()
    with capture_events() as seen:
        for _ in range(3):
            volume.write({"a.json": content})
            assert kit.look() == "stale"
            volume.write({"a.json": content, "README": "another generation, the same documents"})
    problem = kit.loader.status.problem
    assert isinstance(problem, DocumentError)
    assert problem.reason == reason
    assert (kit.attempts, kit.loader.status.generation) == (5, 1)
    assert [(e.name, e.reason) for e in seen.events] == [("resilient.config.rejected", reason)]  # type: ignore[attr-defined]
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "generation 1 stays" in record.message
    assert "\n" not in record.message
    volume.write({"a.json": attempts(5)})
    with capture_events() as seen:
        assert kit.look() == "ready"
    assert seen.names == ["resilient.config.recovered"]
    assert kit.loader.status.problem is None


def test_a_hundred_bad_documents_are_a_hundred_lines_and_nothing_else(
    kit: Kit, volume: KubeletVolume, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(100):
        volume.write({"a.json": attempts(-n)})
        assert kit.look() == "not_ready"
        assert kit.look() == "not_ready"
    assert len(caplog.records) == 100
    assert "the numbers of the code hold" in caplog.text


@pytest.mark.parametrize("left", [{}, {"notes.txt": "moved"}])
def test_a_document_that_goes_clears_nothing(
    kit: Kit, volume: KubeletVolume, left: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    volume.write({"a.json": attempts(5)})
    kit.look()
    volume.write(left)
    with capture_events() as seen:
        assert kit.look() == "stale"
        assert kit.look() == "stale"
    assert [each.reason for each in seen.events] == ["missing"]  # type: ignore[attr-defined]
    assert kit.attempts == 5
    assert caplog.records[-1].levelno == logging.WARNING
    volume.write({"a.json": attempts(6)})
    assert kit.look() == "ready"
    assert kit.attempts == 6


def test_a_directory_that_comes_later_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kit = Kit(tmp_path / "later")
    assert kit.look() == "not_ready"
    assert [each.levelno for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert "there is no directory" in str(kit.loader.status.problem)
    KubeletVolume(tmp_path / "later").write({"a.json": attempts(7)})
    assert kit.look() == "ready"
    assert kit.attempts == 7


def test_what_leaves_the_document_goes_back_to_the_code(kit: Kit, volume: KubeletVolume) -> None:
    volume.write({"a.json": attempts(7)})
    kit.look()
    volume.write({"a.json": '{"metadata": {"allowMassChange": "CHG-1"}}'})
    assert kit.look() == "ready"
    assert kit.attempts == 3


def test_a_rollback_is_a_change_like_any_other(kit: Kit, volume: KubeletVolume) -> None:
    for n in (4, 5, 4):
        volume.write({"a.json": attempts(n)})
        kit.look()
    assert (kit.attempts, kit.loader.status.generation) == (4, 3)


def test_the_same_content_in_another_generation_is_no_change(kit: Kit, volume: KubeletVolume) -> None:
    volume.write({"a.json": attempts(4)})
    kit.look()
    volume.write({"a.json": attempts(4), "b.txt": "no document"})
    with capture_events() as seen:
        kit.look()
    assert seen.events == []


def test_a_plain_directory_is_read_when_it_has_settled(tmp_path: Path) -> None:
    kit, file = Kit(tmp_path), tmp_path / "a.json"
    file.write_text(attempts(4))
    assert kit.look() == "ready", "what is there at the start is read at once"
    for n in range(5, 8):
        file.write_text(attempts(n) + " " * n)
        kit.look()
        assert kit.attempts == 4, "it changes at every look: somebody writes"
    kit.look()
    assert kit.attempts == 7


def test_who_asks_for_a_look_is_not_kept_waiting_for_it_to_settle(tmp_path: Path) -> None:
    kit, file = Kit(tmp_path), tmp_path / "a.json"
    file.write_text(attempts(4))
    kit.look()
    file.write_text(attempts(5) + " ")
    kit.loader.look_now()
    kit.look()
    assert kit.attempts == 5


def test_what_a_fork_interrupted_is_done_again(kit: Kit, volume: KubeletVolume) -> None:
    volume.write({"a.json": attempts(5)})

    class Forked(BaseException):
        """In the child the thread is gone, wherever it was."""

    def interrupted(_: Any) -> None:
        raise Forked

    kit.flags.section = kit.flags.section._replace(publish=interrupted)
    with pytest.raises(Forked):
        kit.look()
    assert kit.attempts == 3
    kit.loader._sections = (kit.flags.section._replace(publish=kit.flags.published.append),)
    assert kit.look() == "ready"
    assert (kit.attempts, kit.loader.status.generation) == (5, 1)


def test_a_file_system_that_does_not_tell_of_changes_is_read_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit, file = Kit(tmp_path), tmp_path / "a.json"
    file.write_text(attempts(4))
    kit.look()
    monkeypatch.setattr("resilient.config.source.Directory._stats", lambda self: "as ever")
    file.write_text(attempts(5))
    looks = 0
    while kit.attempts == 4:
        kit.look()
        looks += 1
    assert 2 <= looks <= 61


def test_a_directory_that_never_stands_still_is_looked_at_again(
    kit: Kit, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resilient.config.source import Changing, Directory

    volume.write({"a.json": attempts(4)})
    with monkeypatch.context() as patched:

        def busy(self: Directory) -> Any:
            raise Changing("faster")

        patched.setattr(Directory, "read", busy)
        assert kit.look() == "not_ready"
    assert kit.look() == "ready"


def test_another_part_is_told_its_place_and_published_with_the_rest(kit: Kit, volume: KubeletVolume) -> None:
    volume.write({"a.json": attempts(5), "b.yaml": "flags:\n  on: 1\n...\n"})
    assert kit.look() == "not_ready"
    assert str(kit.loader.status.problem) == "b.yaml:2: flags.on: a flag must be a mapping"
    assert (kit.attempts, kit.flags.published) == (3, []), "whole, or not at all"
    volume.write({"a.json": attempts(5), "b.yaml": "flags: {on: {}}\n...\n"})
    kit.look()
    assert (kit.attempts, kit.flags.published) == (5, [["on"]])


def test_one_asks_for_a_look_and_is_told_when_it_is_over(kit: Kit) -> None:
    first = kit.loader.look_now()
    assert kit.loader.due == float("-inf")
    steps = kit.loader.begin()
    assert list(steps) == []
    second = kit.loader.look_now()  # while the first is under way
    kit.loader.finish(None)
    assert first.is_set()
    assert not second.is_set()
    assert kit.loader.due == float("-inf")
    kit.look()
    assert second.is_set()


def test_the_version_of_the_document_is_told(kit: Kit, volume: KubeletVolume) -> None:
    volume.write({"a.yaml": "metadata: {version: 2026-11-10.3}\n...\n"})
    with capture_events() as seen:
        kit.look()
    assert kit.loader.status.version == "2026-11-10.3"
    assert seen.events[0].version == "2026-11-10.3"  # type: ignore[attr-defined]
