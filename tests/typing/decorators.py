"""Decorated functions keep their types. Checked by mypy and pyright, and run by `test_runs.py`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from resilient import (
    Bulkhead,
    CircuitBreaker,
    Pipeline,
    Policy,
    RateLimit,
    Retry,
    Timeout,
    outbound,
    standard,
)

retry, breaker, limit, bulkhead, timeout = (
    Retry(3),
    CircuitBreaker(),
    RateLimit("200/second"),
    Bulkhead(10),
    Timeout(2.0),
)
pipeline = Pipeline(Retry(3), CircuitBreaker(), name="typed")
preset = standard("typed")
dependency = outbound("typed", idempotent=True)
assert_type(pipeline, Pipeline)


def plain(sku: str, *, copies: int = 1) -> list[str]:
    return [sku] * copies


async def later(sku: str, *, copies: int = 1) -> list[str]:
    return [sku] * copies


async def check_all() -> None:
    policies: list[Policy] = [retry, breaker, limit, bulkhead, timeout, pipeline, preset, dependency]
    for policy in policies:
        assert_type(policy(plain)("a", copies=2), list[str])
        assert_type(await policy(later)("a", copies=2), list[str])
        assert_type(policy.call(plain, "a", copies=2), list[str])
        assert_type(await policy.acall(later, "a", copies=2), list[str])

    assert_type(retry(plain)("a"), list[str])
    assert_type(breaker(plain)("a"), list[str])
    assert_type(limit(plain)("a"), list[str])
    assert_type(bulkhead(plain)("a"), list[str])
    assert_type(timeout(plain)("a"), list[str])
    assert_type(pipeline(plain)("a"), list[str])
    assert_type(preset(plain)("a"), list[str])
    assert_type(dependency(plain)("a", copies=2), list[str])
    assert_type(await dependency(later)("a", copies=2), list[str])
    assert_type(await retry(later)("a"), list[str])
    assert_type(await pipeline(later)("a"), list[str])
    takes_async(retry(later))

    shop = Shop()
    assert_type(shop.price("a"), float)
    assert_type(await shop.stock("a"), int)
    assert_type(Shop.currency(), str)
    assert_type(Shop.of("a"), Shop)


class Shop:
    @pipeline
    def price(self, sku: str) -> float:
        return float(len(sku))

    @retry
    async def stock(self, sku: str) -> int:
        return len(sku)

    @staticmethod
    @breaker
    def currency() -> str:
        return "EUR"

    @classmethod
    @breaker
    def of(cls, sku: str) -> Shop:
        return cls()


def takes(fn: Callable[[str], list[str]]) -> None:
    fn("a")


def takes_async(fn: Callable[[str], Coroutine[Any, Any, list[str]]]) -> None:
    fn("a").close()


takes(retry(plain))


# What a checker must refuse: an ignore that is not needed is an error.
def wrong() -> None:
    retry(plain)(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pipeline(plain)("a", copy=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pipeline.call(plain, "a", "b")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    Retry("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    CircuitBreaker(0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Timeout(2.0, walkaway=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
