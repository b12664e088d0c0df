"""What became of the configuration, one record for each change: who, what, why, and how long it took.

The rows are numbered as in the table of what can go wrong between a ConfigMap and a process."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import configure
from resilient.config import history, load
from resilient.config.records import KEPT, Change, Difference, History
from resilient.flags.state import NOTHING, publish
from resilient.testing import KubeletVolume, capture_events

from .test_guard import WHOLE, Kit, numbers


class Told(Kit):
    """As it is, with a history."""

    def __init__(self, directory: Path, **where: Any) -> None:
        self.history = History()
        super().__init__(directory, history=self.history, **where)

    @property
    def last(self) -> Change:
        return self.history.changes()[-1]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Told]:
    yield Told(tmp_path / "mount")
    publish(NOTHING)


def attempts(n: Any) -> dict[str, Any]:
    return {"resiliency": {"targets": {"payments": {"retry": {"attempts": n}}}}}


def test_a_change_is_recorded_whole(kit: Told) -> None:
    kit.say(WHOLE, version="1", changedBy="alice", ticket="CHG-1")
    first = kit.last
    changed = json.loads(json.dumps(WHOLE))
    changed["degradation"]["level"] = 0
    changed["resiliency"]["targets"] = {
        "payments": {"retry": {"attempts": 2}},
        "search": {"breaker": {"open_for": "2s"}},
    }
    before = kit.clock.time()
    kit.say(changed, version="2", changedBy="bob", ticket="CHG-2")
    assert kit.last == Change(
        "applied",
        before,
        str(kit.loader),
        2,
        kit.loader.status.digest,
        first.digest,
        "2",
        "bob",
        "CHG-2",
        None,
        (
            Difference("payments.retry.attempts", 5, 2),
            Difference("flags.search", "off", "full"),
            Difference("degradation.level", "2 (heavy)", "0 (normal)"),
            Difference("search.breaker.open_for", None, 2.0),
        ),
        4,
    )
    assert kit.last.latency is not None
    assert (first.previous, first.generation) == (None, 1)
    assert first.differences[0] == Difference("payments.retry.attempts", 3, 5), (
        "the number that was the code's"
    )


def test_the_event_and_the_line_of_the_log_say_the_same(kit: Told, caplog: pytest.LogCaptureFixture) -> None:
    kit.say(attempts(4))
    with capture_events() as seen, caplog.at_level(logging.INFO, "resilient"):
        kit.say(attempts(2), changedBy="bob", ticket="CHG-2", version="2")
    (event,) = seen.named("resilient.config.applied")
    fields = event.fields()
    assert fields.pop("latency") >= 0
    digest = kit.last.digest
    assert digest is not None
    assert fields == {
        "dependency": "config",
        "operation": str(kit.loader),
        "generation": 2,
        "digest": digest[:12],
        "previous": kit.history.changes()[0].digest[:12],  # type: ignore[index]  # there is one
        "version": "2",
        "changed_by": "bob",
        "ticket": "CHG-2",
        "changes": 1,
        "differences": ("payments.retry.attempts: 4 -> 2",),
        "rollback_of": None,
        "pinned": None,
    }
    (line,) = [each for each in caplog.records if "is in force" in each.message]
    assert vars(line)["resilient.differences"] == ("payments.retry.attempts: 4 -> 2",)
    assert vars(line)["resilient.ticket"] == "CHG-2"


def test_what_was_refused_and_what_came_back_is_recorded(kit: Told) -> None:
    kit.say(attempts(4))
    kit.say(attempts(0))
    kit.say(attempts(0))
    kit.say(attempts(4))
    kit.volume.write({})
    kit.look()
    results = [(each.result, each.reason, each.generation) for each in kit.history.changes()]
    assert results == [
        ("applied", None, 1),
        ("rejected", "structure", 1),
        ("recovered", None, 1),
        ("rejected", "missing", 1),
    ]
    applied, refused, _, missing = kit.history.changes()
    assert refused.previous == applied.digest != refused.digest
    assert missing.digest is None


def test_row_19_content_that_was_there_before_is_told_as_a_rollback(
    kit: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "resilient")
    for n in (4, 5, 4, 5):
        kit.say(attempts(n))
    assert [each.rollback_of for each in kit.history.changes()] == [None, None, 1, 2]
    assert "generation 4 of " in caplog.text
    assert "is in force, the content of generation 2; 1 values changed" in caplog.text


def test_the_emergency_document_is_recorded_by_itself(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path / "emergency")
    kit = Told(tmp_path / "mount", emergency=tmp_path / "emergency")
    kit.say(attempts(4))
    volume.write({"e.json": json.dumps({**attempts(1), "metadata": {"ticket": "INC-12"}})})
    kit.look()
    assert (kit.last.source, kit.last.generation, kit.last.ticket) == (
        str(tmp_path / "emergency"),
        1,
        "INC-12",
    )
    assert kit.last.differences == (Difference("payments.retry.attempts", 4, 1),)
    volume.write({"e.json": "{}"})
    kit.look()
    assert kit.last.differences == (Difference("payments.retry.attempts", 1, 4),)


def test_what_stands_in_is_recorded_with_its_file(tmp_path: Path) -> None:
    bundled = tmp_path / "bundled.json"
    bundled.write_text(json.dumps(attempts(4)))
    kit = Told(tmp_path / "mount", bundled=bundled)
    kit.look()
    assert (kit.last.source, kit.last.result, kit.last.generation) == (str(bundled), "applied", 1)


def test_a_record_names_fifty_changes_and_counts_all(kit: Told) -> None:
    kit.say(numbers(2 * KEPT))
    assert (len(kit.last.differences), kit.last.count) == (KEPT, 2 * KEPT)


def test_row_44_fifty_records_are_kept(kit: Told) -> None:
    kit.say(attempts(4))
    for n in range(100):
        kit.say(attempts(-n))
    changes = kit.history.changes()
    assert len(changes) == KEPT
    assert {each.result for each in changes} == {"rejected"}


@pytest.mark.usefixtures("center")
def test_a_process_tells_its_history(volume: KubeletVolume) -> None:
    seen = len(history())
    volume.write({"a.json": json.dumps(attempts(4))})
    configure(volume.directory)
    load()
    change = history()[-1]
    assert (change.result, change.source) == ("applied", str(volume.directory))
    assert len(history()) == min(seen + 1, KEPT)


def test_many_threads_add_and_look() -> None:
    told = History()

    def add() -> None:
        for n in range(200):
            told.add(Change("applied", n, "here"))
            assert len(told.changes()) <= KEPT

    threads = [threading.Thread(target=add) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(told.changes()) == KEPT
