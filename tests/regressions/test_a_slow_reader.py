"""Who read an answer slowly, until the attempt's time was over, opened the breaker of a server that had sent all of
it."""

from __future__ import annotations

import asyncio

import pytest

import resilient.httpx
from resilient import CircuitBreaker, Pipeline, TimedOut, Timeout, Verdict
from resilient.core.policy import verdict_on
from resilient.testing import ManualClock, Origin, answer, drip_body


@pytest.mark.parametrize(("dripping", "blamed"), [(False, 0), (True, 1)])
def test_the_server_is_blamed_only_where_it_was_slow(
    dripping: bool, blamed: int, manual_clock: ManualClock
) -> None:
    breaker = CircuitBreaker()
    pipeline = Pipeline(breaker, Timeout(1.0), name="svc", clock=manual_clock)

    async def main() -> None:
        whole = answer(200, b"x" * 3_000_000)
        with Origin(clock=manual_clock) as origin:
            origin.script(drip_body(0.3, whole) if dripping else whole)
            async with (
                resilient.httpx.async_client("svc", base_url=origin.url, policies=pipeline) as client,
                client.stream("GET", "/") as response,
            ):
                with pytest.raises(TimedOut) as caught:
                    async for _ in response.aiter_raw():
                        if not dripping:
                            await asyncio.sleep(0.3)
        assert verdict_on(caught.value) is (Verdict.FAILURE if dripping else Verdict.IGNORED)

    manual_clock.run(main())
    assert breaker.totals() == (blamed, blamed, 0)
