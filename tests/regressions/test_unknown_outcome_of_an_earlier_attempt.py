"""A call that may have happened ended as if it had not.

The report took the evidence of the last attempt alone: hanging after its effect and then refused, a charge came back as
`httpx.ConnectError` with NOT_SENT, or as `CircuitOpen`, which stands for "nothing was sent". And a key made a POST
repeatable, so that its unknown end was a plain `TimedOut` and the key was lost. Who ordered again with a new key paid
twice."""

from __future__ import annotations

import asyncio

import httpx
import pytest

import resilient.httpx
from resilient import CircuitBreaker, Evidence, OutcomeUnknown, Pipeline, Retry, Timeout
from resilient.testing import ManualClock, Origin, hang


def policies(clock: ManualClock, attempts: int, consecutive: int = 100) -> Pipeline:
    return Pipeline(
        Timeout(2.0),
        Retry(attempts),
        CircuitBreaker(consecutive=consecutive),
        Timeout(0.2),
        name="bank",
        clock=clock,
    )


def test_refused_after_an_attempt_that_may_have_happened() -> None:
    clock = ManualClock()

    async def main() -> None:
        with Origin(clock=clock) as origin:
            origin.script(hang(effect=True))
            pipeline = policies(clock, 2)
            async with resilient.httpx.async_client(
                "bank", base_url=origin.url, policies=pipeline, profile="required"
            ) as client:
                charge = asyncio.ensure_future(client.post("/charges", json={"cents": 995}))
                await asyncio.sleep(0.1)  # of the 0.2 that the attempt has
                assert len(origin.requests) == 1
                origin.refuse()
                with pytest.raises(OutcomeUnknown) as caught:
                    await charge
            assert isinstance(caught.value, httpx.ConnectError), "of the class of the last failure"
            assert caught.value.resilient.evidence is Evidence.UNKNOWN
            assert caught.value.idempotency_key == origin.requests[0].header("Idempotency-Key")
            assert len(origin.effects) == 1

    clock.run(main())


@pytest.mark.parametrize(("consecutive", "sent"), [(1, 1), (100, 3)])
def test_a_keyed_post_that_ends_unknown_says_so_also_behind_an_open_breaker(
    consecutive: int, sent: int
) -> None:
    clock = ManualClock()

    async def main() -> None:
        with Origin(clock=clock) as origin:
            origin.always(hang(effect=True))
            async with resilient.httpx.async_client(
                "bank", base_url=origin.url, policies=policies(clock, 3, consecutive), profile="required"
            ) as client:
                with pytest.raises(OutcomeUnknown) as caught:
                    await client.post("/charges", json={"cents": 995})
            assert isinstance(caught.value, httpx.TransportError)
            assert caught.value.attempts == sent == len(origin.requests)
            assert caught.value.idempotency_key == origin.requests[0].header("Idempotency-Key")

    clock.run(main())
