"""An exception object that one test had given up on was not retried in the next one.

Whoever gives up leaves a mark with the time, so that a retry further out does not start over. A mark made by another
clock always held: a constant that is raised again under the clock of another test was "nested" there."""

from __future__ import annotations

import pytest

from resilient import Pipeline, Retry
from resilient.testing import ManualClock


def test_it_is_judged_anew() -> None:
    constant = ConnectionError("made once")
    for _ in range(2):
        made: list[None] = []

        def work(made: list[None] = made) -> None:
            made.append(None)
            raise constant

        with pytest.raises(ConnectionError):
            Pipeline(Retry(3), clock=ManualClock()).call(work)
        assert len(made) == 3
