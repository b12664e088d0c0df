"""What stands in for a document that is gone or broken at the start: the last good one of before, the image's own."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient import ConfigError, Pipeline, Retry, configure, standard
from resilient.config import load, status
from resilient.config.cache import NAME, Cache
from resilient.config.live import Live
from resilient.config.loader import Loader
from resilient.config.sections import SECTIONS
from resilient.config.source import Files, digest_of
from resilient.core.registry import Registry
from resilient.flags.state import NOTHING, STATE, publish
from resilient.testing import KubeletVolume, ManualClock, capture_events

from .test_center import program
from .test_loader import attempts

TEXTS = {"a.json": attempts(4), "b.yaml": "\ufeffmetadata: {version: 中文}\r\n...\n"}


def files(texts: dict[str, str]) -> Files:
    content = {name: text.encode() for name, text in texts.items()}
    return Files(content, digest_of(content))


def written(cache: Cache) -> None:
    """Wait for the thread that writes."""
    thread = cache._thread
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive()


class Kit:
    """A process that starts, turned by hand."""

    def __init__(self, directory: Path | None, sections: Any = (), **stand_ins: Path) -> None:
        clock = ManualClock()
        registry = Registry()
        self.pipeline = Pipeline(Retry(3), name="payments", clock=clock)
        registry.add(self.pipeline)
        self.live = Live(registry)
        self.loader = Loader(directory, lambda: (self.live, sections), clock, **stand_ins)

    def look(self) -> tuple[str, str | None, int]:
        """The state, what is in force, and its number."""
        list(self.loader.begin())
        self.loader.finish(None)
        if self.loader._cache is not None:
            written(self.loader._cache)
        status = self.loader.status
        return status.state, status.source, int(self.pipeline["retry"].options.attempts)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk"


class TestCache:
    def test_what_is_kept_is_read_byte_by_byte_by_nobody_else(self, disk: Path) -> None:
        cache = Cache(disk)
        assert cache.read() is None
        cache.keep(files(TEXTS))
        written(cache)
        assert Cache(disk).read() == files(TEXTS)
        assert stat.S_IMODE((disk / NAME).stat().st_mode) == 0o600
        assert [each.name for each in disk.iterdir()] == [NAME], "nothing else is left"

    def test_of_several_that_come_at_once_the_last_is_kept(
        self, disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache, begun, go_on, wrote = Cache(disk), threading.Event(), threading.Event(), []
        real = Cache._write

        def slow(self: Cache, each: Files) -> None:
            wrote.append(each)
            begun.set()
            assert go_on.wait(20)
            real(self, each)

        monkeypatch.setattr(Cache, "_write", slow)
        for n in range(5):
            cache.keep(files({"a.json": attempts(n)}))
            assert begun.wait(20)
        go_on.set()
        written(cache)
        assert [each.content["a.json"].decode() for each in wrote] == [attempts(0), attempts(4)]
        assert cache.read() == wrote[-1]

    @pytest.mark.parametrize("end", [0, 1, 20, -40, -1])
    def test_row_17_half_of_it_is_none(self, disk: Path, end: int, caplog: pytest.LogCaptureFixture) -> None:
        cache = Cache(disk)
        cache.keep(files(TEXTS))
        written(cache)
        caplog.set_level(logging.INFO)
        (disk / NAME).write_bytes((disk / NAME).read_bytes()[:end])
        for _ in range(3):
            assert cache.read() is None
        assert [each.levelno for each in caplog.records] == [logging.INFO]
        assert "is not used" in caplog.text

    @pytest.mark.parametrize(
        "kept",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"[" * 100_000,
            b"\xff",
            b'{"digest": "0", "files": {"a.json": "{}"}}',
            b'{"digest": "0", "files": []}',
            b'{"digest": "0", "files": {"a.json": 7}}',
            b'{"digest": "0", "files": {"a.json": "\\ud800"}}',
            json.dumps({"digest": digest_of({}), "files": {}}).encode(),
        ],
    )
    def test_row_17_what_was_changed_is_none(self, disk: Path, kept: bytes) -> None:
        disk.mkdir()
        (disk / NAME).write_bytes(kept)
        assert Cache(disk).read() is None

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
    def test_what_is_no_file_is_none_and_never_waited_for(
        self, disk: Path, make: Callable[[Path], None]
    ) -> None:
        disk.mkdir()
        make(disk / NAME)
        assert Cache(disk).read() is None

    def test_what_is_no_file_leaves_no_descriptor(self, disk: Path) -> None:
        (disk / NAME).mkdir(parents=True)
        before = sorted(Path("/proc/self/fd").iterdir())
        assert Cache(disk).read() is None
        assert sorted(Path("/proc/self/fd").iterdir()) == before

    @pytest.mark.parametrize("mode", [0o620, 0o602])
    def test_what_others_may_write_is_none(
        self, disk: Path, mode: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache = Cache(disk)
        cache.keep(files(TEXTS))
        written(cache)
        (disk / NAME).chmod(mode)
        caplog.set_level(logging.INFO)
        assert cache.read() is None
        assert "is not used: ValueError: another user may have written it" in caplog.text

    def test_what_another_user_has_written_is_none(self, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = Cache(disk)
        cache.keep(files(TEXTS))
        written(cache)
        monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
        assert cache.read() is None

    def test_a_link_is_replaced_and_what_it_leads_to_stays(self, disk: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.write_text("precious")
        disk.mkdir()
        (disk / NAME).symlink_to(other)
        cache = Cache(disk)
        cache.keep(files(TEXTS))
        written(cache)
        assert cache.read() == files(TEXTS)
        assert other.read_text() == "precious"

    def test_what_a_killed_process_has_begun_is_taken_away_and_no_other(self, disk: Path) -> None:
        disk.mkdir()
        for name, age in {".resilient-old.tmp": 4000, ".resilient-new.tmp": 60, "other.tmp": 4000}.items():
            (disk / name).touch()
            os.utime(disk / name, (time.time() - age,) * 2)
        (disk / ".resilient-loop.tmp").symlink_to(".resilient-loop.tmp")
        cache = Cache(disk)
        cache.keep(files(TEXTS))
        written(cache)
        left = {each.name for each in disk.iterdir()}
        assert left == {NAME, ".resilient-new.tmp", ".resilient-loop.tmp", "other.tmp"}

    def test_row_43_a_disk_that_fills_up_keeps_the_last_whole_one(self, disk: Path) -> None:
        said = program(
            f"""
            import resource
            from pathlib import Path
            from resilient.config.cache import Cache
            from resilient.config.source import Files, digest_of

            def files(text):
                return Files({{"a.json": text}}, digest_of({{"a.json": text}}))

            cache = Cache(Path({str(disk)!r}))
            cache.keep(files(b"small"))
            cache._thread.join()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a write stops there, in the middle
            cache.keep(files(b"x" * 100_000))
            cache._thread.join()
            print(cache.read().content, [each.name for each in cache._file.parent.iterdir()])
            """,
            disk,
        )
        assert said == f"{{'a.json': b'small'}} ['{NAME}']"

    def test_what_another_worker_has_written_is_not_written_again(self, disk: Path) -> None:
        for _ in range(2):
            cache = Cache(disk)
            cache.keep(files(TEXTS))
            written(cache)
            wrote = (disk / NAME).stat().st_ino
            (disk / "kept").unlink(missing_ok=True)
            (disk / "kept").hardlink_to(disk / NAME)  # its number is not given to another one
        assert (disk / NAME).stat().st_nlink == 2, "it is the first one's"
        assert wrote == (disk / NAME).stat().st_ino

    def test_whatever_breaks_a_write_the_next_one_is_made(
        self, disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(cache: Cache, each: Files) -> None:
            raise MemoryError

        caplog.set_level(logging.INFO)
        cache = Cache(disk)
        with monkeypatch.context() as patched:
            patched.setattr(Cache, "_write", full)
            cache.keep(files({"a.json": attempts(1)}))
            written(cache)
        assert "MemoryError()" in caplog.text
        cache.keep(files(TEXTS))
        written(cache)
        assert cache.read() == files(TEXTS)

    @pytest.mark.parametrize("why", ["read-only", "full"])
    def test_row_43_where_nothing_can_be_written_it_is_told_once(
        self, disk: Path, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(*args: Any, **kwargs: Any) -> Any:
            raise OSError(f"{why} file system")

        monkeypatch.setattr(
            "resilient.config.cache." + ("tempfile.mkstemp" if why == "read-only" else "os.fsync"), fails
        )
        caplog.set_level(logging.INFO)
        cache = Cache(disk)
        for n in range(3):
            cache.keep(files({"a.json": attempts(n)}))
            written(cache)
        assert [each.levelno for each in caplog.records] == [logging.INFO]
        assert f"{why} file system" in caplog.text
        assert list(disk.iterdir()) == [], "what was begun is taken away"

    def test_where_no_thread_can_be_started_it_is_told_once(
        self, disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        caplog.set_level(logging.INFO)
        cache = Cache(disk)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", fails)
            cache.keep(files(TEXTS))
            cache.keep(files(TEXTS))
        assert [each.levelno for each in caplog.records] == [logging.INFO]
        cache.keep(files(TEXTS))
        written(cache)
        assert cache.read() == files(TEXTS)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_a_forked_child_writes_too(self, disk: Path) -> None:
        cache = Cache(disk)
        with cache._lock:  # another thread holds it, in the middle of its work
            cache._thread = threading.current_thread()
            child = os.fork()
            if child == 0:
                cache.keep(files(TEXTS))
                written(cache)
                os._exit(0)
        os.waitpid(child, 0)
        assert cache.read() == files(TEXTS)


class TestStart:
    def test_row_17_the_last_good_one_stands_in_and_is_marked(
        self, volume: KubeletVolume, disk: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        volume.write({"a.json": attempts(5)})
        assert Kit(volume.directory, cache=disk).look() == ("ready", "document", 5)
        volume.write({"a.json": "{"})
        caplog.set_level(logging.INFO)
        kit = Kit(volume.directory, cache=disk)
        with capture_events() as seen:
            for _ in range(3):
                assert kit.look() == ("stale", "cache", 5)
        applied: list[Any] = seen.named("resilient.config.applied")
        assert [each.operation for each in applied] == [str(disk / NAME)]
        assert f"generation 1 of {disk / NAME} is in force" in caplog.text
        volume.write({"a.json": attempts(6)})
        assert kit.look() == ("ready", "document", 6)
        volume.write({"a.json": "{"})
        assert kit.look() == ("stale", "document", 6), (
            "what was good in this process stays, not what was kept"
        )
        assert Kit(volume.directory, cache=disk).look() == ("stale", "cache", 6)

    def test_the_same_document_takes_its_place_without_a_change(
        self, volume: KubeletVolume, disk: Path
    ) -> None:
        volume.write({"a.json": attempts(5)})
        Kit(volume.directory, cache=disk).look()
        volume.write({})
        kit = Kit(volume.directory, cache=disk)
        assert kit.look() == ("stale", "cache", 5)
        volume.write({"a.json": attempts(5)})
        with capture_events() as seen:
            assert kit.look() == ("ready", "document", 5)
        assert seen.names == ["resilient.config.recovered"]
        assert kit.loader.status.generation == 1

    def test_row_17_a_broken_one_is_ignored(self, volume: KubeletVolume, disk: Path, tmp_path: Path) -> None:
        bundled = tmp_path / "image.json"
        bundled.write_text(attempts(7))
        disk.mkdir()
        (disk / NAME).write_text("{")
        assert Kit(volume.directory, cache=disk).look() == ("not_ready", None, 3)
        assert Kit(volume.directory, cache=disk, bundled=bundled).look() == ("stale", "bundled", 7)

    def test_one_that_is_whole_and_would_be_refused_is_ignored(
        self, volume: KubeletVolume, disk: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache = Cache(disk)
        cache.keep(files({"a.json": attempts(0)}))  # of a version that took it
        written(cache)
        kit = Kit(volume.directory, cache=disk)
        assert kit.look() == ("not_ready", None, 3)
        assert f"{disk / NAME} is not used: a.json:1:" in caplog.text
        assert "there is no directory" in str(kit.loader.status.problem)
        volume.write({"a.json": attempts(5)})
        assert kit.look() == ("ready", "document", 5)

    def test_what_stands_in_is_not_kept_as_the_last_good_one(
        self, volume: KubeletVolume, disk: Path, tmp_path: Path
    ) -> None:
        bundled = tmp_path / "image.json"
        bundled.write_text(attempts(7))
        assert Kit(volume.directory, cache=disk, bundled=bundled).look() == ("stale", "bundled", 7)
        assert not disk.exists()

    def test_a_bundled_document_is_the_document_where_there_is_no_other(self, tmp_path: Path) -> None:
        (tmp_path / "image.yaml").write_text(
            "resiliency: {targets: {payments: {retry: {attempts: 7}}}}\n...\n"
        )
        kit = Kit(None, bundled=tmp_path / "image.yaml")
        assert kit.look() == ("ready", "bundled", 7)
        assert kit.loader.status.problem is None

    @pytest.mark.parametrize("content", [None, "{", attempts(0)])
    def test_a_bundled_document_that_is_broken_is_told_once(
        self, volume: KubeletVolume, tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        bundled = tmp_path / "image.json"
        if content is not None:
            bundled.write_text(content)
        kit = Kit(volume.directory, bundled=bundled)
        for _ in range(3):
            assert kit.look() == ("not_ready", None, 3)
        warnings = [each.message for each in caplog.records if each.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert str(bundled) in warnings[0]
        volume.write({"a.json": attempts(5)})
        assert kit.look() == ("ready", "document", 5)

    def test_an_emergency_stands_above_what_stands_in(self, volume: KubeletVolume, tmp_path: Path) -> None:
        bundled = tmp_path / "image.json"
        bundled.write_text(attempts(7))
        KubeletVolume(tmp_path / "emergency").write({"a.json": attempts(1)})
        kit = Kit(volume.directory, bundled=bundled, emergency=tmp_path / "emergency")
        assert kit.look() == ("stale", "bundled", 1)

    def test_what_stood_in_protects_nothing_from_the_document(
        self, volume: KubeletVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may be months older: what it protects may have been let go since, step by step."""
        protected = {
            "state": "ENABLED",
            "variants": {"on": True},
            "defaultVariant": "on",
            "metadata": {"protected": True},
        }
        bundled = tmp_path / "image.json"
        bundled.write_text(json.dumps({"flags": {"payment": protected}}))
        assert STATE.flags is NOTHING
        kit = Kit(volume.directory, SECTIONS, bundled=bundled)
        monkeypatch.setattr("resilient.config.center.Center.status", lambda self: kit.loader.status)
        try:
            kit.look()
            volume.write({"a.json": "{}"})
            assert kit.look()[:2] == ("ready", "document")
            volume.write({"a.json": bundled.read_text()})
            kit.look()
            volume.write({"a.json": "{}"})
            assert kit.look()[:2] == ("stale", "document"), "what the document protects stays protected"
        finally:
            publish(NOTHING)


@pytest.mark.usefixtures("center")
class TestRequired:
    def test_row_16_a_start_without_a_document_fails_and_says_why(self, volume: KubeletVolume) -> None:
        with pytest.raises(ConfigError) as caught:
            configure(volume.directory, required=True)
        assert str(caught.value) == (
            f"configure: required=True, and no config document is in force: there is no directory {volume.directory}; "
            "mend it, or give one that stands in: configure(..., bundled='/app/resilience.json')"
        )
        assert status().state == "error"
        configure(volume.directory)
        assert status().state == "not_ready", "it is not required any more"
        pipeline = standard("payments")
        assert pipeline.call(lambda: "done") == "done", "no call sees it"
        volume.write({"a.json": attempts(5)})
        load()
        assert status().state == "ready"
        assert pipeline["retry"].options.attempts == 5

    def test_a_document_that_is_refused_fails_it_with_its_place(self, volume: KubeletVolume) -> None:
        volume.write({"a.json": attempts(0)})
        with pytest.raises(
            ConfigError, match=r"a\.json:1: resiliency\.targets\.payments\.retry\.attempts: 0 must be"
        ):
            configure(volume.directory, required=True)

    def test_a_good_document_is_in_force_when_it_returns(self, volume: KubeletVolume) -> None:
        volume.write({"a.json": attempts(5)})
        pipeline = standard("payments")
        configure(volume.directory, required=True)
        assert pipeline["retry"].options.attempts == 5
        assert status().state == "ready"

    def test_what_stands_in_will_do(self, volume: KubeletVolume, tmp_path: Path) -> None:
        (tmp_path / "image.json").write_text(attempts(7))
        configure(volume.directory, bundled=tmp_path / "image.json", required=True)
        assert (status().state, status().source) == ("stale", "bundled")

    def test_an_emergency_alone_will_not(self, tmp_path: Path) -> None:
        KubeletVolume(tmp_path).write({"a.json": attempts(1)})
        with pytest.raises(ConfigError, match="no config document is in force: none is named"):
            configure(emergency=tmp_path, required=True)

    def test_where_none_is_named_it_fails_too(self) -> None:
        with pytest.raises(ConfigError, match="there is no directory to load"):
            configure(required=True)

    def test_it_is_true_or_false(self) -> None:
        with pytest.raises(ConfigError, match="required='yes' must be True or False"):
            configure(required="yes")  # type: ignore[arg-type]


@pytest.mark.usefixtures("center")
def test_the_process_keeps_its_last_good_document(volume: KubeletVolume, disk: Path) -> None:
    volume.write({"a.json": attempts(5)})
    configure(volume.directory, cache=disk)
    load()
    from resilient.config.center import CENTER

    assert CENTER._loader is not None
    assert CENTER._loader._cache is not None
    written(CENTER._loader._cache)
    volume.write({})
    configure()
    pipeline = standard("payments")
    configure(volume.directory, cache=disk, required=True)
    assert (status().source, pipeline["retry"].options.attempts) == ("cache", 5)
