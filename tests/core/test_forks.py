"""What a forked child makes anew. Real forks stand in tests/races."""

from __future__ import annotations

import gc

from resilient.core import forks
from resilient.core.events import RUNTIME


class Remade:
    def __init__(self) -> None:
        self.times = 0

    def after_fork(self) -> None:
        self.times += 1


def test_who_registered_and_lives_is_told() -> None:
    alive, dead, told = Remade(), Remade(), []
    dead.after_fork = lambda: told.append("dead")  # type: ignore[method-assign]
    for each in (alive, dead):
        forks.tell_after_fork(each)
    del dead, each
    gc.collect()
    before = RUNTIME._lock
    forks._in_child()
    assert alive.times == 1
    assert told == [], "it is held weakly"
    assert RUNTIME._lock is not before
