"""A centre that pushes: asked by a thread of its own, and no less checked than a mounted file."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resilient import ConfigError, DocumentError, configure, standard
from resilient.config import Source, load, status
from resilient.config.feed import Feed
from resilient.config.push import LONGEST_PAUSE, LONGEST_WAIT, Pushed
from resilient.config.records import Change, History
from resilient.config.source import MOST_BYTES, Changing
from resilient.testing import ManualClock

from .test_center import eventually, program
from .test_loader import attempts


class Centre:
    """A centre in this process, which says what it is told to say."""

    def __init__(self, content: Any = None) -> None:
        self.changed = threading.Condition()
        self.content = attempts(4) if content is None else content
        self.number = 1
        self.error: Exception | None = None
        self.waits: list[tuple[str, float]] = []
        self.reads = 0

    def read(self) -> tuple[bytes, str]:
        with self.changed:
            self.reads += 1
            if self.error is not None:
                raise self.error
            content = self.content.encode() if isinstance(self.content, str) else self.content
            return content, str(self.number)

    def wait(self, revision: str, timeout: float) -> None:
        with self.changed:
            self.waits.append((revision, timeout))
            self.changed.wait_for(lambda: str(self.number) != revision, 20.0)
            if self.error is not None:
                raise self.error

    def say(self, content: Any, error: Exception | None = None) -> None:
        with self.changed:
            self.content, self.error = content, error
            self.number += 1
            self.changed.notify_all()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Stepped(Centre):
    """One that is waited for by nobody."""

    def wait(self, revision: str, timeout: float) -> None:
        self.waits.append((revision, timeout))
        if self.error is not None:
            raise self.error


def told(pushed: Pushed) -> str:
    (content,) = pushed.read().content.values()
    return content.decode()


class TestSteps:
    def test_a_document_is_there_once_it_was_read(self) -> None:
        nudges: list[bool] = []
        centre = Stepped()
        pushed = Pushed(centre, lambda: nudges.append(True))
        with pytest.raises(Changing, match="Stepped has not answered yet"):
            pushed.read()
        marks = [pushed.mark()]
        assert 0.0 <= pushed.step() <= 1.1
        assert told(pushed) == attempts(4)
        assert centre.waits == [], "there is no revision yet that it could wait for"
        marks.append(pushed.mark())
        pushed.step()
        assert centre.waits == [("1", LONGEST_WAIT)]
        assert pushed.mark() == marks[-1], "the same again is nothing new"
        centre.say(attempts(5))
        pushed.step()
        assert told(pushed) == attempts(5)
        marks.append(pushed.mark())
        assert len(set(marks)) == 3
        assert all(each.atomic for each in marks)
        assert len(nudges) == 2
        assert centre.waits[-1] == ("1", LONGEST_WAIT)
        pushed.step()
        assert centre.waits[-1] == ("2", LONGEST_WAIT)

    @pytest.mark.parametrize(
        ("content", "name"),
        [
            (" \n{}", "document.json"),
            (b"\xef\xbb\xbf{}", "document.json"),
            ("flags: {}\n...\n", "document.yaml"),
            ("", "document.yaml"),
        ],
    )
    def test_json_and_yaml_are_told_apart(self, content: Any, name: str) -> None:
        pushed = Pushed(Stepped(content))
        pushed.step()
        assert list(pushed.read().content) == [name]

    def test_what_cannot_be_read_is_told_and_asked_for_ever_more_seldom(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("random.random", lambda: 1.0)
        centre = Stepped()
        pushed = Pushed(centre)
        pushed.step()
        centre.say(None, ConnectionError("refused"))
        pauses = [pushed.step() for _ in range(8)]
        assert pauses == [2.0, 4.0, 8.0, 16.0, *[LONGEST_PAUSE] * 4]
        assert len(centre.waits) == 1, "it is read, and not waited for"
        with pytest.raises(DocumentError, match=r"^cannot be read: ConnectionError: refused$") as first:
            pushed.read()
        with pytest.raises(DocumentError) as second:
            pushed.read()
        assert first.value is not second.value
        assert first.value.reason == "read"
        mark = pushed.mark()
        centre.say(attempts(4))
        assert pushed.step() <= 1.1
        assert told(pushed) == attempts(4)
        assert pushed.mark() != mark

    def test_those_that_are_cut_off_at_once_do_not_come_back_at_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        centre = Stepped()
        pushed = Pushed(centre)
        pushed.step()
        pauses = set()
        for _ in range(20):
            centre.error = TimeoutError("of the long poll")
            reads = centre.reads
            pauses.add(pushed.step())
            assert centre.reads == reads, "not before the pause"
            centre.error = None
            pushed.step()
            assert told(pushed) == attempts(4), "it is no trouble while it can be read"
        assert len(pauses) == 20
        assert 0.0 <= min(pauses) < max(pauses) <= 2.0
        said = [each.message for each in caplog.records]
        assert said == ["config: Stepped: wait() raised TimeoutError: of the long poll; it is read instead"]

    @pytest.mark.parametrize(
        ("given", "said", "reason"),
        [
            ("{}", r"read\(\) returned \(str, str\); return the document as bytes", "read"),
            (None, r"read\(\) returned \(NoneType, str\)", "read"),
            (b" " * (MOST_BYTES + 1), "more than 4,194,304 bytes", "size"),
        ],
    )
    def test_what_is_no_document_is_told(self, given: Any, said: str, reason: str) -> None:
        class Wrong(Stepped):
            def read(self) -> tuple[bytes, str]:
                return given, "1"

        pushed = Pushed(Wrong())
        pushed.step()
        with pytest.raises(DocumentError, match=said) as caught:
            pushed.read()
        assert caught.value.reason == reason

    def test_a_revision_that_is_none_is_told(self) -> None:
        class Wrong(Stepped):
            def read(self) -> Any:
                return b"{}", 7

        pushed = Pushed(Wrong())
        pushed.step()
        with pytest.raises(DocumentError, match=r"returned \(bytes, int\)"):
            pushed.read()

    def test_it_is_called_what_it_calls_itself(self) -> None:
        class Named(Stepped):
            def __str__(self) -> str:
                return "https://config.shop.svc"

        assert str(Pushed(Named())) == "https://config.shop.svc"

    def test_a_name_that_cannot_be_said_is_the_class(self) -> None:
        class Named(Stepped):
            def __str__(self) -> str:
                raise ValueError

        assert str(Pushed(Named())) == "Named"

    def test_a_centre_that_hangs_is_told_and_what_it_said_stays(self) -> None:
        clock = ManualClock()
        seen: list[tuple[str, str]] = []

        class Hangs(Stepped):
            def wait(self, revision: str, timeout: float) -> None:
                for seconds in (150.0, 1.0, 600.0):
                    clock.advance(seconds)
                    feed.look()
                    seen.append((feed.status.state, str(feed.status.problem)))

        pushed = Pushed(Hangs(), clock=clock)
        feed = Feed(pushed, History(), clock)
        pushed.step()
        files = feed.look()
        assert files is not None
        feed.accept(files, Change("applied", 0.0, "it", 1), 0)
        feed.dealt_with()
        pushed.step()
        silent = ("stale", "has not answered for 150 s")
        assert seen == [("ready", "None"), silent, silent]
        feed.look()
        assert (feed.status.state, feed.status.problem) == ("ready", None), "it has answered"

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ValueError("<html>\n" + "x" * 10**6), "ValueError: <html> " + "x" * 293 + "..."),
            (Unspeakable(), "Unspeakable: and its text ValueError"),
        ],
    )
    def test_what_a_call_raises_is_told_in_a_line(
        self, error: Exception, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        centre = Stepped()
        pushed = Pushed(centre)
        pushed.step()
        centre.error = error
        pushed.step()
        pushed.step()
        with pytest.raises(DocumentError) as caught:
            pushed.read()
        assert str(caught.value) == f"cannot be read: {said}"
        assert [each.message for each in caplog.records] == [
            f"config: Stepped: wait() raised {said}; it is read instead"
        ]

    def test_a_long_poll_that_breaks_with_another_text_each_time_is_told_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        centre = Stepped()
        pushed = Pushed(centre)
        pushed.step()
        for number in range(5):
            centre.error = TimeoutError(f"request {number}")
            pushed.step()
            centre.error = None
            pushed.step()
        assert len(caplog.records) == 1


@pytest.fixture
def centre(monkeypatch: pytest.MonkeyPatch) -> Iterator[Centre]:
    """One that may be read a hundred times a second."""
    monkeypatch.setattr("resilient.config.push.LEAST", 0.01)
    made = Centre()
    yield made
    configure()
    made.say("{}")  # whoever waits for it waits no longer
    for thread in threading.enumerate():
        if thread.name == "resilient-source":
            thread.join(20)


@pytest.mark.usefixtures("center")
class TestProcess:
    def test_it_is_followed_like_a_directory(self, centre: Centre) -> None:
        pipeline = standard("payments")
        source: Source = centre
        configure(source=source)
        assert centre.reads == 0, "nothing is started before the first call"
        assert load().state == "ready"
        assert pipeline["retry"].options.attempts == 4
        for n in range(5, 8):
            centre.say(attempts(n))
            eventually(lambda n=n: pipeline["retry"].options.attempts == n)
        assert status().generation == 4

    def test_what_is_refused_leaves_the_last_good_one_in_force(self, centre: Centre) -> None:
        pipeline = standard("payments")
        configure(source=centre)
        load()
        for content in ("{", attempts(0), b"\xff", "[]"):
            centre.say(content)
            eventually(lambda: status().state == "stale")
            assert pipeline["retry"].options.attempts == 4
            centre.say(attempts(4))
            eventually(lambda: status().state == "ready")

    def test_a_centre_that_is_down_at_the_start_is_told(self, centre: Centre, tmp_path: Path) -> None:
        centre.error = ConnectionError("refused")
        configure(source=centre)
        with pytest.raises(DocumentError, match="cannot be read: ConnectionError: refused"):
            load()
        (tmp_path / "image.json").write_text(attempts(7))
        configure(source=centre, bundled=tmp_path / "image.json", required=True)
        assert (status().state, status().source) == ("stale", "bundled")

    def test_row_17_the_last_good_one_of_a_centre_stands_in(self, centre: Centre, tmp_path: Path) -> None:
        from resilient.config.center import CENTER

        configure(source=centre, cache=tmp_path)
        load()
        assert CENTER._loader is not None
        assert CENTER._loader._cache is not None
        thread = CENTER._loader._cache._thread
        if thread is not None:
            thread.join(20)
        configure()
        centre.error = ConnectionError("refused")
        pipeline = standard("payments")
        configure(source=centre, cache=tmp_path, required=True)
        assert (status().state, status().source) == ("stale", "cache")
        assert pipeline["retry"].options.attempts == 4
        centre.say(attempts(5))
        eventually(lambda: status().state == "ready")

    def test_a_centre_that_does_not_answer_holds_up_nobody(self, centre: Centre) -> None:
        class Silent(Centre):
            def read(self) -> tuple[bytes, str]:
                with centre.changed:
                    centre.changed.wait(20)
                return b"{}", "1"

        pipeline = standard("payments")
        configure(source=Silent())
        assert pipeline.call(lambda: "done") == "done"
        with pytest.raises(ConfigError, match=r"Silent has not answered within 0\.01 s"):
            load(timeout=0.01)
        assert status().state == "not_ready"

    def test_where_there_is_another_source_the_thread_ends_and_reads_no_more(self, centre: Centre) -> None:
        configure(source=centre)
        load()
        (thread,) = [each for each in threading.enumerate() if each.name == "resilient-source"]
        eventually(lambda: centre.waits)
        reads = centre.reads
        configure()
        centre.say(attempts(9))
        thread.join(20)
        assert not thread.is_alive()
        assert centre.reads == reads
        assert status().generation == 0

    def test_a_thread_that_ended_is_begun_again(
        self, centre: Centre, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def ends(pushed: Pushed) -> float:
            raise MemoryError

        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        pipeline = standard("payments")
        configure(source=centre)
        load()
        (thread,) = [each for each in threading.enumerate() if each.name == "resilient-source"]
        with monkeypatch.context() as patched:
            patched.setattr(Pushed, "step", ends)
            centre.say(attempts(5))
            thread.join(20)
        centre.say(attempts(6))
        eventually(lambda: pipeline["retry"].options.attempts == 6)

    @pytest.mark.parametrize("raised", [SystemExit(), asyncio.CancelledError(), Unspeakable()])
    def test_whatever_a_call_raises_is_told_and_ends_no_thread(
        self, centre: Centre, raised: Exception
    ) -> None:
        configure(source=centre)
        load()
        (thread,) = [each for each in threading.enumerate() if each.name == "resilient-source"]
        centre.say(attempts(5), raised)
        eventually(lambda: f"cannot be read: {type(raised).__name__}: " in str(status().problem))
        assert thread.is_alive()
        assert status().state == "stale"

    def test_where_no_thread_can_be_started_it_is_told(
        self, centre: Centre, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if thread.name == "resilient-source":
                raise RuntimeError("can't start new thread")
            real(thread)

        configure(source=centre)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            with pytest.raises(DocumentError, match="no thread to ask for it: can't start new thread"):
                load()
        eventually(lambda: status().state == "ready")

    def test_the_directory_of_the_environment_is_not_followed_beside_it(
        self, centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from resilient.config.center import CENTER

        monkeypatch.setenv("RESILIENT_CONFIG_DIR", str(tmp_path))
        configure(source=centre)
        assert CENTER.followed.directory is None

    @pytest.mark.parametrize("source", ["https://config", object(), Centre])
    def test_what_is_no_source_is_refused(self, source: Any) -> None:
        if source is Centre:
            source = type("Half", (), {"read": lambda self: (b"", "")})()
        with pytest.raises(ConfigError, match=r"must have read\(\) and wait\(revision, timeout\)"):
            configure(source=source)

    def test_one_of_the_two_is_followed(self, centre: Centre) -> None:
        with pytest.raises(ConfigError, match="name one of them"):
            configure("/etc/resilient", source=centre)

    def test_no_credential_of_a_source_is_in_an_error(self) -> None:
        @dataclass
        class Half:
            token: str

        @dataclass
        class Whole(Half):
            def read(self) -> tuple[bytes, str]:
                raise NotImplementedError

            def wait(self, revision: str, timeout: float) -> None:
                raise NotImplementedError

        with pytest.raises(ConfigError, match=r"source .*Half must have read\(\)") as half:
            configure(source=Half("s3cret"))  # type: ignore[arg-type]  # as a wrong one is
        with pytest.raises(ConfigError, match=r"source=.*Whole; name one of them") as whole:
            configure("/etc/resilient", source=Whole("s3cret"))
        assert "s3cret" not in f"{half.value} {whole.value} {Pushed(Whole('s3cret'))}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_row_41_a_forked_child_asks_too(tmp_path: Path) -> None:
    said = program(
        """
        import os, threading
        from resilient import configure, standard
        from resilient.config import load

        class Centre:
            number = 2
            def read(self):
                n = self.number
                return b'{"resiliency": {"targets": {"payments": {"retry": {"attempts": %d}}}}}' % n, str(n)
            def wait(self, revision, timeout):
                while str(self.number) == revision:
                    threading.Event().wait(0.01)

        centre = Centre()
        pipeline = standard("payments")
        configure(source=centre)
        assert load().generation == 1
        child = os.fork()
        if child == 0:
            centre.number = 9
            assert pipeline.call(lambda: 1) == 1
            while pipeline["retry"].options.attempts != 9:
                threading.Event().wait(0.01)
            os._exit(7)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), pipeline["retry"].options.attempts)
        """,
        tmp_path,
    )
    assert said == "7 2"
