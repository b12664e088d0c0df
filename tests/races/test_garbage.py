"""What a failed call got is free again as soon as its exception is, without the collector: no reference cycles."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pybreaker
import pytest
import tenacity
import tenacity.asyncio

from resilient import (
    Budget,
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Pipeline,
    Policy,
    RateLimit,
    Retry,
    Timeout,
    Verdict,
    subscribe,
)
from resilient.testing import ManualClock


class Big:
    """An argument that one does not want to keep."""


class Listening(pybreaker.CircuitBreakerListener):
    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        pass


def full(bulkhead: Bulkhead) -> Bulkhead:
    bulkhead.admit(0.0)
    return bulkhead


def open_breaker() -> CircuitBreaker:
    breaker = CircuitBreaker(consecutive=1, open_for=1_000.0, max_open=1_000.0)
    breaker.record(breaker.admit(0.0), Verdict.FAILURE, 0.0, 0.0)
    return breaker


def empty_limit(**options: Any) -> RateLimit:
    limit = RateLimit("1/hour", **options)
    limit.admit(0.0)
    return limit


def asks(exc: BaseException) -> bool:
    return True


async def asks_later(exc: BaseException) -> bool:
    await asyncio.sleep(0)
    return True


def stand_in_fails(*args: Any, error: Exception) -> None:
    raise LookupError from error


def predicate_fails(exc: BaseException) -> bool:
    raise LookupError("the predicate")


BOTH: dict[str, Callable[[], list[Policy]]] = {
    "gate": lambda: [CircuitBreaker()],
    "row": lambda: [CircuitBreaker(), RateLimit("9/second"), Bulkhead(9)],
    "general row": lambda: [RateLimit("9/second", key=lambda big: id(big)), Bulkhead(9)],
    "per-call listener": lambda: [CircuitBreaker(listeners=[Listening()])],
    "rejected by a bulkhead": lambda: [CircuitBreaker(), full(Bulkhead(1))],
    "rejected after a wait in the queue": lambda: [full(Bulkhead(1, queue=1, max_wait=1.0))],
    "rejected by a breaker": lambda: [open_breaker()],
    "rejected by a limit": lambda: [empty_limit()],
    "retry": lambda: [Retry(on=Exception, wait=0.1)],
    "retry of what is not transient": lambda: [Retry()],
    "retry without budget": lambda: [Retry(on=Exception, budget=Budget(stock=0))],
    "retry with a predicate": lambda: [Retry(on=asks)],
    "retry with a predicate that fails": lambda: [Retry(on=predicate_fails)],
    "retry with tenacity's strategies": lambda: [
        Retry(
            on=tenacity.retry_if_exception(asks), wait=tenacity.wait_fixed(0.1), stop=tenacity.stop_after_attempt(2)
        )
    ],
    "retry that tenacity's strategy does not want": lambda: [Retry(on=tenacity.retry_never)],
    "retry with a key": lambda: [Retry(on=Exception, idempotency_key=lambda big: "key")],
    "fallback for others": lambda: [Fallback(None, on=OSError)],
    "fallback that fails": lambda: [Fallback(stand_in_fails)],
    "total and attempt timeouts": lambda: [Timeout(9.0), Retry(on=Exception), Timeout(1.0)],
    "everything": lambda: [
        Timeout(9.0), Retry(on=Exception), CircuitBreaker(), RateLimit("9/second"), Bulkhead(9), Timeout(1.0)
    ],
}  # fmt: skip
SYNC = BOTH | {"walked away from": lambda: [Timeout(9.0, walk_away=True)]}
ASYNC = BOTH | {
    "retry with an async strategy": lambda: [Retry(on=tenacity.asyncio.retry_if_exception(asks_later))]
}


@pytest.fixture(autouse=True)
def _without_the_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def attempt(call: Callable[[Big], object]) -> weakref.ref[Big]:
    big = Big()
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call(big)
    del caught
    return weakref.ref(big)


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("scenario", SYNC)
def test_sync(scenario: str, watched: bool) -> None:
    @Pipeline(*SYNC[scenario](), clock=ManualClock(autojump=True))
    def work(big: Big) -> None:
        raise ValueError(big)

    stop = subscribe(lambda event: None) if watched else lambda: None
    try:
        assert attempt(work)() is None
    finally:
        stop()


async def aattempt(call: Callable[[Big], Any]) -> weakref.ref[Big]:
    big = Big()
    try:
        await call(big)
    except Exception:
        pass
    else:
        raise AssertionError("it fails")
    return weakref.ref(big)


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("scenario", ASYNC)
def test_async(scenario: str, watched: bool) -> None:
    clock = ManualClock()

    async def main() -> None:
        @Pipeline(*ASYNC[scenario](), clock=clock)
        async def work(big: Big) -> None:
            await asyncio.sleep(0)
            raise ValueError(big)

        stop = subscribe(lambda event: None) if watched else lambda: None
        try:
            assert (await aattempt(work))() is None
        finally:
            stop()

    clock.run(main())


@pytest.mark.parametrize("scenario", ["attempt", "total", "inherited"])
def test_async_time_out(scenario: str) -> None:
    clock = ManualClock()
    policies = {
        "attempt": [Timeout(1.0)],
        "total": [Timeout(1.0), Retry()],
        "inherited": [Timeout(1.0), Retry(attempts=1), Timeout(0.999)],
    }[scenario]

    async def main() -> None:
        @Pipeline(*policies, clock=clock)
        async def work(big: Big) -> None:
            await asyncio.sleep(60.0)

        ref = await aattempt(work)
        await asyncio.sleep(0)  # until then the loop itself holds the cancellation that it threw
        assert ref() is None

    clock.run(main())


def test_a_call_that_is_retried_and_then_succeeds() -> None:
    @Pipeline(Retry(on=tenacity.retry_if_exception(asks), wait=0.1), clock=ManualClock())
    def work(big: Big, fail: list[bool]) -> str:
        if fail.pop():
            raise ValueError(big)
        return "done"

    big = Big()
    assert work(big, [False, True, True]) == "done"
    ref = weakref.ref(big)
    del big
    assert ref() is None


def test_block_forms() -> None:
    def fails(big: Big) -> None:
        clock = ManualClock()
        for attempt in Retry(on=Exception).attempts(clock=clock):
            with attempt, Bulkhead(1).guard(clock=clock):
                raise ValueError(big)

    assert attempt(fails)() is None
