"""A body of the caller's that failed with an error that networks have too (a file that was gone, an answer that is
passed on and broke) was sent again and counted as the callee's failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

import resilient.httpx
from resilient import CircuitBreaker, Pipeline, Retry, Verdict
from resilient.testing import ManualClock, Origin
from tests.http.calls import Caller, both, report

ERRORS = [FileNotFoundError("gone"), TimeoutError("of another server"), httpx.ReadError("of another server")]


@both
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["ours", "theirs"])
def test_it_is_not_the_callees(error: Exception, where: str, mode: str, manual_clock: ManualClock) -> None:
    def rows() -> Iterator[bytes]:
        yield b"a,1\n"
        raise error

    async def arows() -> AsyncIterator[bytes]:
        yield b"a,1\n"
        raise error

    breaker = CircuitBreaker(consecutive=2)
    given: dict[str, Any] = {"policies": Pipeline(Retry(3, wait=0), breaker, name="svc", clock=manual_clock)}
    if where == "theirs":
        given["transport"] = httpx.HTTPTransport() if mode == "sync" else httpx.AsyncHTTPTransport()
    body: Any = resilient.httpx.made_anew(rows if mode == "sync" else arows)
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock, **given) as caller:
        for _ in range(4):
            exc = caller.fails("PUT", content=body)
            assert exc is error
            assert (report(exc).attempts, report(exc).verdict) == (1, Verdict.IGNORED)
            error.__dict__.clear()  # one object, raised anew each time
        assert breaker.state == "closed"
        assert caller.get().status_code == 200
