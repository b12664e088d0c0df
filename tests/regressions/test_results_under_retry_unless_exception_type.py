"""`on=tenacity.retry_unless_exception_type(...)` returned the first result, where tenacity goes on until the exception.

It is a subclass of `retry_if_exception`, and all of those were taken to look at exceptions alone."""

from __future__ import annotations

import pytest
import tenacity

from resilient import Pipeline, Retry
from resilient.testing import ManualClock


def test_results_are_retried_until_the_exception_comes() -> None:
    made: list[None] = []

    @Pipeline(Retry(9, on=tenacity.retry_unless_exception_type(LookupError)), clock=ManualClock())
    def work() -> str:
        made.append(None)
        if len(made) == 3:
            raise LookupError
        return "not yet"

    with pytest.raises(LookupError):
        work()
    assert len(made) == 3
