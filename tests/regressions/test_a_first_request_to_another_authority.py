"""A client's first request to another authority than its own had no deadline at all, and the time-outs that the whole
call had over a redirect were told as those of one attempt, or as the caller's own."""

from __future__ import annotations

import httpx
import pytest

from resilient import DeadlineExceeded, Pipeline, Policy, Retry, Timeout, deadline
from resilient.core.clock import SYSTEM_CLOCK, Clock
from resilient.testing import ManualClock, Origin, answer, hang, slow
from tests.http.calls import Caller, both


def clocks(mode: str, manual_clock: ManualClock) -> tuple[Clock, ManualClock | None]:
    """Of the client and of the origin: blocking sockets wait in real time."""
    return (manual_clock, manual_clock) if mode == "async" else (SYSTEM_CLOCK, None)


TOTAL = [
    pytest.param((Timeout(0.3), Retry(3)), id="around a retry"),
    pytest.param((Timeout(0.3),), id="alone"),
]


@both
@pytest.mark.parametrize("policies", TOTAL)
def test_the_deadline_holds(policies: tuple[Policy, ...], mode: str, manual_clock: ManualClock) -> None:
    clock, theirs = clocks(mode, manual_clock)
    with Origin(clock=theirs) as other:
        other.always(hang())
        pipeline = Pipeline(*policies, name="svc", clock=clock)
        with Caller(mode, "http://svc.example", manual_clock, policies=pipeline) as caller:
            exc = caller.fails("GET", other.url + "/far")
    assert isinstance(exc, DeadlineExceeded)
    assert isinstance(exc, httpx.TimeoutException)
    assert str(exc) == "svc.GET: the whole call took longer than 0.3 s"
    if mode == "async":
        assert manual_clock.monotonic() == pytest.approx(0.3, abs=0.02)


@both
@pytest.mark.parametrize("policies", TOTAL)
def test_over_redirects_it_is_said_what_ran_out(
    policies: tuple[Policy, ...], mode: str, manual_clock: ManualClock
) -> None:
    clock, theirs = clocks(mode, manual_clock)
    with Origin(clock=theirs) as origin:
        origin.always(slow(0.2, answer(302, headers={"Location": "/on"})))
        pipeline = Pipeline(*policies, name="svc", clock=clock)
        with Caller(mode, origin.url, manual_clock, policies=pipeline, follow_redirects=True) as caller:
            exc = caller.fails()
    assert isinstance(exc, DeadlineExceeded)
    assert str(exc) == "svc.GET: the whole call took longer than 0.3 s"
    if mode == "async":
        assert manual_clock.monotonic() == pytest.approx(0.3, abs=0.02)


@both
def test_and_of_the_callers_time_too(mode: str, manual_clock: ManualClock) -> None:
    clock, theirs = clocks(mode, manual_clock)
    with Origin(clock=theirs) as other:
        other.always(hang())
        pipeline = Pipeline(Timeout(9.0), Retry(3), name="svc", clock=clock)
        with Caller(mode, "http://svc.example", manual_clock, policies=pipeline) as caller:

            async def get() -> None:
                with deadline(0.3, clock=clock):
                    await caller.client.get(other.url + "/far")

            with pytest.raises(DeadlineExceeded) as caught:
                if mode == "async":
                    caller.run(get())
                else:
                    with deadline(0.3, clock=clock):
                        caller.get(other.url + "/far")
    assert "the whole call" not in str(caught.value)
