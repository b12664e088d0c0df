"""50 callers at the moment when an open breaker may be tried again: we let one through, most peers all of them."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import pytest

from resilient import CircuitBreaker, Pipeline
from resilient.testing import ManualClock
from tests.peers.peer import defect, peer

SHORT = 0.02  # the peers read the real clock
CALLERS = 50


class Callee:
    """Fails until it is healthy; then counts who is inside."""

    def __init__(self) -> None:
        self.healthy = False
        self.entered = 0

    async def __call__(self) -> None:
        if not self.healthy:
            raise ConnectionError
        self.entered += 1
        for _ in range(5):
            await asyncio.sleep(0)


def circuitbreaker(work: Any) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await work()

    return peer("circuitbreaker").CircuitBreaker(failure_threshold=1, recovery_timeout=SHORT)(call)  # type: ignore[no-any-return]


def aiobreaker(work: Any) -> Callable[[], Awaitable[None]]:
    breaker = peer("aiobreaker").CircuitBreaker(
        fail_max=1, timeout_duration=datetime.timedelta(seconds=SHORT)
    )
    return lambda: breaker.call_async(work)


def asyncbreaker(work: Any) -> Callable[[], Awaitable[None]]:
    breaker = peer("asyncbreaker").CircuitBreaker(
        fail_max=1, timeout_duration=datetime.timedelta(seconds=SHORT)
    )

    async def call() -> None:
        await work()

    return breaker(call)  # type: ignore[no-any-return]


def purgatory(work: Any) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await work()

    return peer("purgatory").AsyncCircuitBreakerFactory(default_threshold=1, default_ttl=SHORT)("x")(call)  # type: ignore[no-any-return]


def hyx(work: Any) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await work()

    breaker = peer("hyx.circuitbreaker").consecutive_breaker(failure_threshold=1, recovery_time_secs=SHORT)
    return breaker(call)  # type: ignore[no-any-return]


def pyresilience(work: Any) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await work()

    module = peer("pyresilience")
    config = module.CircuitBreakerConfig(failure_threshold=1, recovery_timeout=SHORT)
    return module.resilient(circuit_breaker=config)(call)  # type: ignore[no-any-return]


def resilient_circuit(work: Any) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await work()

    policy = peer("resilient_circuit").CircuitProtectorPolicy(
        cooldown=datetime.timedelta(seconds=SHORT), failure_limit=Fraction(1, 1)
    )
    return policy(call)  # type: ignore[no-any-return]


THEIRS = {
    "circuitbreaker": circuitbreaker,
    "aiobreaker": aiobreaker,
    "asyncbreaker": asyncbreaker,
    "purgatory": purgatory,
    "hyx": hyx,
    "pyresilience": pyresilience,
    "resilient-circuit": resilient_circuit,
}


async def let_through(callee: Callee, call: Callable[[], Awaitable[None]], wait: Callable[[], None]) -> int:
    with pytest.raises(Exception):
        await call()
    callee.healthy = True
    wait()
    await asyncio.gather(*(call() for _ in range(CALLERS)), return_exceptions=True)
    return callee.entered


@pytest.mark.peers
@pytest.mark.parametrize("name", THEIRS)
def test_the_peer_lets_all_of_them_through(name: str) -> None:
    callee = Callee()
    call = THEIRS[name](callee)
    entered = asyncio.run(let_through(callee, call, lambda: time.sleep(2.5 * SHORT)))
    defect(entered > CALLERS / 2, name, f"{entered} of {CALLERS} callers at once in half-open")


def test_we_let_one_through() -> None:
    clock, callee = ManualClock(), Callee()
    call = Pipeline(CircuitBreaker(consecutive=1, probes=10), clock=clock)(callee)
    assert clock.run(let_through(callee, call, lambda: clock.advance(5.0))) == 1
