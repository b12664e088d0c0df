"""A degradable function keeps its signature; a fallback adds its own type to the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

from resilient import degradable, features
from resilient.flags.snapshot import FlagDetails


def bestsellers(user: str, *, error: Exception) -> list[str]:
    return [user, str(error)]


async def bestsellers_later(user: str) -> list[str]:
    return [user]


def cached(user: str, limit: int = 10) -> list[str]:
    return [user] * limit


@degradable("recommendations", variants={"cached": cached}, fallback=bestsellers)
def recommendations(user: str, limit: int = 10) -> list[str]:
    return [user] * limit


@degradable("recommendations", fallback=bestsellers_later)
async def recommendations_later(user: str) -> list[str]:
    return [user]


@degradable("price", fallback=None)
def price(sku: str) -> float:
    return float(len(sku))


@degradable("stock")
def stock(sku: str) -> int:
    return len(sku)


@degradable("stock")
async def stock_later(sku: str) -> int:
    return len(sku)


class Shop:
    @degradable("shelf", fallback="empty")
    def shelf(self, sku: str) -> str:
        return sku


def takes(fn: Callable[[str], list[str]]) -> None:
    fn("ann")


async def check_all() -> None:
    assert_type(recommendations("ann", limit=3), list[str])
    assert_type(await recommendations_later("ann"), list[str])
    assert_type(price("a"), float | None)
    assert_type(stock("a"), int)
    assert_type(await stock_later("a"), int)
    assert_type(Shop().shelf("a"), str)
    takes(recommendations)

    assert_type(features.enabled("search"), bool)
    assert_type(features.variant("search", "full"), str)
    assert_type(features.details("page-size", 48), FlagDetails[int])
    assert_type(features.details("page-size", 48).value, int)
    assert_type(features.details("page-size"), FlagDetails[Any])
    assert_type(features.level(), int)
    with features.collecting() as degraded:
        assert_type(degraded, dict[str, str])


def wrong() -> None:
    stock(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    price("a") + 1  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]
    features.variant("search")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
