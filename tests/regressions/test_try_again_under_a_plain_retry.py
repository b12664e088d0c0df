"""`raise tenacity.TryAgain` ended a call under `Retry()`.

It was understood only where `on=`, `wait=` or `stop=` was a strategy of tenacity as well."""

from __future__ import annotations

import tenacity

from resilient import Pipeline, Retry
from resilient.testing import ManualClock


def test_it_is_tried_again() -> None:
    made: list[None] = []

    @Pipeline(Retry(3), clock=ManualClock())
    def work() -> str:
        made.append(None)
        if len(made) < 3:
            raise tenacity.TryAgain
        return "done"

    assert work() == "done"
    assert len(made) == 3
