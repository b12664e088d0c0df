"""A body that was read after the call was cut at the right time, and said that the attempt had run out: an error that
outer retries repeat. What ran out is the whole call, or the caller's own time; neither is ever repeated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import resilient
import resilient.httpx
from resilient import DeadlineExceeded, Pipeline, Retry, TimedOut, Timeout
from resilient.core.clock import SYSTEM_CLOCK
from resilient.testing import ManualClock, Origin, answer, drip_body
from tests.http.calls import Caller, both

DRIPS = drip_body(0.02, answer(200, b"x" * 1000, chunked=True))


def policies(clock: Any, *, total: float, attempt: float | None = None) -> Pipeline:
    inner = [] if attempt is None else [Timeout(attempt)]
    return Pipeline(Timeout(total), Retry(1), *inner, name="svc", clock=clock)


@both
@pytest.mark.parametrize(
    ("total", "attempt", "own", "error", "said"),
    [
        (0.1, None, None, DeadlineExceeded, "svc.GET: the whole call took longer than 0.1 s"),
        (60.0, 0.1, None, TimedOut, "svc.GET: the attempt ran out of time"),
        (60.0, None, 0.1, DeadlineExceeded, "svc.GET: the attempt ran out of time"),
    ],
    ids=["the whole call", "the attempt", "the caller"],
)
def test_what_ran_out(
    mode: str,
    total: float,
    attempt: float | None,
    own: float | None,
    error: type[Exception],
    said: str,
    manual_clock: ManualClock,
) -> None:
    clock = manual_clock if mode == "async" else SYSTEM_CLOCK
    given = policies(clock, total=total, attempt=attempt)
    with (
        Origin(DRIPS, clock=manual_clock if mode == "async" else None) as origin,
        Caller(mode, origin.url, manual_clock, policies=given) as caller,
        resilient.deadline(own or 1000.0, clock=clock),
    ):
        exc = caller.fails("GET")
    assert isinstance(exc, httpx.TimeoutException)
    assert isinstance(exc, error)
    assert isinstance(exc, DeadlineExceeded) == (error is DeadlineExceeded)
    assert str(exc).startswith(said)


def test_of_a_transport_of_the_users() -> None:
    clock = ManualClock()

    class Dripping(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for _ in range(100):
                clock.advance(1.0)
                yield b"x"

    inner = httpx.MockTransport(lambda request: httpx.Response(200, stream=Dripping()))
    transport = resilient.httpx.wrap(
        inner, "svc", base_url="http://svc.svc", policies=policies(clock, total=5.0)
    )
    with httpx.Client(transport=transport) as client, pytest.raises(DeadlineExceeded) as caught:
        client.get("http://svc.svc/")
    assert str(caught.value).startswith("svc.GET: the whole call took longer than 5 s")
