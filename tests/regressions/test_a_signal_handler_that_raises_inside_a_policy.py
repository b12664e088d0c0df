"""After a signal handler had raised inside a policy (Celery's soft time limit), later calls of the thread were wrong.

A breaker told its transitions to nobody any more: the one who had been telling was thought to be still at it. And the
deadline of the call that was ended stayed behind: the token that would have put it back had not been kept yet."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import pytest

from resilient import CircuitBreaker, Pipeline, Retry, Timeout, current_call
from resilient.core.call import NO_CALL
from resilient.testing import ManualClock


class Boom(BaseException):
    """What the handler raises."""


class Interrupted:
    """A lock at whose release a signal comes: the interpreter runs handlers when that call has returned."""

    def __init__(self, releases: int) -> None:
        self._lock = threading.Lock()
        self.left = releases

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        self.left -= 1
        if not self.left:
            raise Boom


def test_a_breaker_goes_on_telling() -> None:
    booms = 0
    for releases in range(1, 6):
        told: list[object] = []
        breaker = CircuitBreaker(consecutive=1)
        breaker._state._changed = told.append
        lock: Any = Interrupted(releases)
        breaker._state._lock = lock
        try:
            breaker.force_open()
        except Boom:
            booms += 1
        told.clear()
        lock.left = -1
        breaker.reset()
        assert told, f"release {releases}"
    assert booms >= 3


@pytest.mark.parametrize("policy", [Timeout(9.0), Retry(2, wait=0), Retry(idempotency_key=lambda: "key")])
def test_nothing_of_the_call_stays_behind(policy: Any) -> None:
    booms = 0
    clock = ManualClock()

    @Pipeline(policy, clock=clock)
    def work() -> None:
        if current_call().attempt == 1:
            raise ConnectionError

    def ends_after(changes: int) -> Any:
        """A profile function that raises when the variable was set so often, before what `set` returned is kept."""
        left = [changes]

        def look(frame: FrameType, event: str, arg: Any) -> None:
            if event == "c_return" and getattr(arg, "__qualname__", "") == "ContextVar.set":
                left[0] -= 1
                if not left[0]:
                    raise Boom

        return look

    before = sys.getprofile()
    sys.setprofile(ends_after(1))
    try:
        work()
    except Boom:
        booms += 1
    except ConnectionError:
        pass
    finally:
        sys.setprofile(before)
    assert booms == 1
    assert current_call() is NO_CALL
