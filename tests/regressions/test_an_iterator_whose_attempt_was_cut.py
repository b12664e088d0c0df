"""A body that can be read once was sent again, without what the first attempt had taken, where an async attempt ran out
of time while the body was waited for: what a cancellation interrupts was not asked whether it can be repeated."""

from __future__ import annotations

import asyncio

from resilient import OutcomeUnknown, report_of
from resilient.testing import ManualClock, Origin
from tests.http.calls import Caller, policies


class Rows:
    """An async iterator that is no generator: nothing tells that it was begun."""

    def __init__(self) -> None:
        self._left = [b"a", b"b", b"c"]

    def __aiter__(self) -> Rows:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        if len(self._left) == 2:
            await asyncio.sleep(5.0)
        return self._left.pop(0)


def test_it_is_sent_once(manual_clock: ManualClock) -> None:
    quick = policies(manual_clock, attempt=1.0, total=60.0)
    with (
        Origin(clock=manual_clock) as origin,
        Caller("async", origin.url, manual_clock, policies=quick, profile="supported") as caller,
    ):
        exc = caller.fails("POST", content=Rows())
        assert isinstance(exc, OutcomeUnknown)
        report = report_of(exc)
        assert report is not None
        assert report.why_not_retried == "body"
        assert report.attempts == 1
        assert [each.complete for each in origin.requests] == [False]
