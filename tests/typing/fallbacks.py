"""A fallback adds its own type to the result: `R | S`."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from resilient import Fallback, Pipeline, Retry


def price(sku: str) -> float:
    return float(len(sku))


async def stock(sku: str) -> int:
    return len(sku)


def cached(sku: str, *, error: Exception) -> str:
    return f"{sku}: {error}"


async def cached_later(sku: str) -> str:
    return f"cached {sku}"


nothing = Fallback(None)
text = Fallback("unknown")
function = Fallback(cached)
asynchronous = Fallback(cached_later)
wide: Fallback[list[str]] = Fallback([])

assert_type(nothing, Fallback[None])
assert_type(text, Fallback[str])
assert_type(function, Fallback[str])
assert_type(asynchronous, Fallback[str])


def takes(fn: Callable[[str], float | str]) -> None:
    fn("a")


async def check_all() -> None:
    assert_type(nothing(price)("a"), float | None)
    assert_type(text(price)("a"), float | str)
    assert_type(function(price)("a"), float | str)
    assert_type(wide(price)("a"), float | list[str])
    takes(text(price))

    assert_type(await nothing(stock)("a"), int | None)
    assert_type(await text(stock)("a"), int | str)
    assert_type(await asynchronous(stock)("a"), int | str)

    # A pipeline does not look into its policies: its functions keep the type that they had.
    pipeline = Pipeline(Fallback(0.0), Retry())
    assert_type(pipeline(price)("a"), float)


@nothing
def decorated(sku: str) -> int:
    return len(sku)


def wrong() -> None:
    decorated("a") + 1  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]
