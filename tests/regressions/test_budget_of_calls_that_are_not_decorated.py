"""`Pipeline.call` of a named pipeline had a new, full budget at every call.

The registry holds budgets weakly, and without a decorated function nobody else held this one: an outage was retried
without end."""

from __future__ import annotations

import pytest

from resilient import Pipeline, Retry
from resilient.testing import ManualClock


def test_calls_without_a_decorator_share_the_budget_of_their_dependency() -> None:
    pipeline, sent = Pipeline(Retry(2, wait=0), name="regression-budget", clock=ManualClock()), []

    def down() -> None:
        sent.append(1)
        raise ConnectionError

    for _ in range(50):
        with pytest.raises(ConnectionError):
            pipeline.call(down)
    assert len(sent) == 50 + 7, "35 tokens pay for seven retries"
