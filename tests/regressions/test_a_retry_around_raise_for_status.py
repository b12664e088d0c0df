"""A retry around ``raise_for_status()`` began anew what the client's retry had given up on: three attempts became
nine."""

from __future__ import annotations

import httpx
import pytest

from resilient import Pipeline, Retry
from resilient.testing import ManualClock, Origin
from tests.http.calls import Caller, both, report


@both
@pytest.mark.parametrize(("status", "requests"), [(503, 3), (404, 2)])
def test_what_was_given_up_is_not_begun_anew(
    requests: int, status: int, mode: str, manual_clock: ManualClock
) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.always(status)
        outer = Pipeline(Retry(2, on=httpx.HTTPStatusError, wait=0), clock=manual_clock)

        @outer
        def get() -> None:
            caller.get().raise_for_status()

        with pytest.raises(httpx.HTTPStatusError) as caught:
            get()
        assert len(origin.requests) == requests, "an answer that no retry cares for may be asked for again"
        assert report(caught.value).why_not_retried == ("nested" if status == 503 else "attempts")


def test_an_error_that_is_raised_again_by_a_later_call_is_judged_anew(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller("sync", origin.url, manual_clock) as caller:
        origin.always(503)
        response = caller.get()
    manual_clock.advance(1.0)
    tries: list[int] = []

    def cached() -> None:
        tries.append(1)
        response.raise_for_status()

    with pytest.raises(httpx.HTTPStatusError):
        Pipeline(Retry(3, on=httpx.HTTPStatusError, wait=0), clock=manual_clock).call(cached)
    assert len(tries) == 3
