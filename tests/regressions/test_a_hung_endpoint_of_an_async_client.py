"""In async code a pod that hung was never blamed: our own time-out ends an attempt by cancelling it, and that was
taken for the caller's cancellation. One hung pod of three took nearly all calls, until the breaker of the whole
Service opened."""

from __future__ import annotations

import asyncio
import socket

import pytest

from resilient import CircuitBreaker, Pipeline, Retry, Timeout
from resilient.testing import ManualClock, Origin
from tests.http.calls import Caller


@pytest.mark.parametrize("retries", [0, 1])
def test_it_is_left_alone(retries: int, manual_clock: ManualClock) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=500) as hung,
        Origin(clock=manual_clock) as one,
        Origin(clock=manual_clock) as two,
    ):
        places = [f"127.0.0.1:{port}" for port in (one.port, two.port, hung.getsockname()[1])]
        outer = [Retry(1 + retries, wait=0)] if retries else []
        pipeline = Pipeline(*outer, CircuitBreaker(), Timeout(0.1), name="svc", clock=manual_clock)
        with Caller("async", "http://svc", manual_clock, policies=pipeline, endpoints=places) as caller:

            async def main() -> int:
                served = 0
                for _ in range(60):
                    try:
                        served += (await caller.client.get("/")).status_code == 200
                    except Exception:
                        pass
                    await asyncio.sleep(0.01)
                return served

            assert caller.run(main()) >= 55
            sick = next(each for each in caller.transport.endpoints if each.text == places[2])
            assert sick.ejected or sick.level > 1.0
