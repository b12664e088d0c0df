"""Of several threads that called ``load()`` at once only the last was told that the document had been read.

Each asked for a look of its own, and replaced what the one before it was waiting for; the others waited until their
time was over, and raised."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilient import configure
from resilient.config import Status, load
from resilient.config.loader import Loader
from resilient.testing import KubeletVolume


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    KubeletVolume(tmp_path).write({"resilience.json": "{}"})
    configure(tmp_path)
    yield tmp_path
    configure()


def test_all_of_them_are_told(mount: Path) -> None:
    together = threading.Barrier(8)
    told: list[Status] = []

    def ask() -> None:
        together.wait()
        told.append(load())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.state for each in told] == ["ready"] * 8


def test_who_asks_before_the_look_begins_waits_for_it_and_who_asks_later_for_another(mount: Path) -> None:
    loader = Loader(mount, lambda: (_Nobody(), ()))
    first, second = loader.look_now(), loader.look_now()
    assert list(loader.begin()) == []
    late = loader.look_now()
    loader.finish(None)
    assert first.is_set()
    assert second.is_set()
    assert not late.is_set()
    assert loader.due == float("-inf"), "it has still to look"
    assert list(loader.begin()) == []
    loader.finish(None)
    assert late.is_set()


def test_a_child_waits_for_no_look_that_was_asked_for_in_its_parent(mount: Path) -> None:
    loader = Loader(mount, lambda: (_Nobody(), ()))
    parents = loader.look_now()
    loader.after_fork()
    childs = loader.look_now()
    assert list(loader.begin()) == []
    loader.finish(None)
    assert childs.is_set()
    assert not parents.is_set(), "its lock may be held for ever"


class _Nobody:
    """No pipeline lives here."""

    def check(self, snapshot: object, /) -> None:
        pass

    def apply(self, snapshot: object, /) -> tuple[()]:
        return ()
