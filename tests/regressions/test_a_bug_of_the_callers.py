"""An exception out of the caller's own code, such as a body that is made while it is sent, was retried, counted as the
callee's failure, and opened the breaker for everybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

import resilient.httpx
from resilient import CircuitBreaker, Evidence, Pipeline, Retry, Verdict
from resilient.testing import ManualClock, Origin
from tests.http.calls import Caller, both, report


def rows() -> Iterator[bytes]:
    yield b"a,1\n"
    raise TypeError("a bug")


async def arows() -> AsyncIterator[bytes]:
    yield b"a,1\n"
    raise TypeError("a bug")


def pipeline(clock: ManualClock) -> Pipeline:
    return Pipeline(Retry(3, wait=0), CircuitBreaker(consecutive=2), name="svc", clock=clock)


@both
def test_in_a_body(mode: str, manual_clock: ManualClock) -> None:
    policies = pipeline(manual_clock)
    body: Any = resilient.httpx.made_anew(rows if mode == "sync" else arows)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies) as caller,
    ):
        for _ in range(5):
            exc = caller.fails("PUT", content=body)
            assert type(exc) is TypeError
            told = report(exc)
            assert (told.attempts, told.evidence, told.verdict) == (1, Evidence.UNKNOWN, Verdict.IGNORED)
        assert policies["breaker"].state == "closed"
        assert caller.get().status_code == 200


@pytest.mark.parametrize("error", [TypeError, KeyError, RuntimeError])
def test_out_of_a_transport_of_the_users_it_is_not_retried(error: type[Exception]) -> None:
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise error("a bug")

    policies = pipeline(ManualClock())
    transport = httpx.MockTransport(handler)
    with resilient.httpx.client(
        "svc", base_url="http://svc", transport=transport, policies=policies
    ) as client:
        with pytest.raises(error) as caught:
            client.get("/")
        assert len(calls) == report(caught.value).attempts == 1
        assert policies["breaker"].totals().failures == 1
