"""Two calls with effects inside one keyed call were given one key: the second was answered with the first one's
receipt.

A retry counted the children of each attempt from nothing, so that the second attempt of the second charge sent the
key of the first. The server took it for a repetition, the caller saw two receipts, and the books had one charge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

import resilient.httpx
from resilient import Pipeline, Retry, current_call
from resilient.testing import ManualClock


class Books:
    """A bank that honours keys, behind a proxy that answers some requests itself."""

    def __init__(self, *lost: int) -> None:
        self.lost = {*lost}
        self.asked = 0
        self.charged: dict[str, str] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.asked in self.lost:
            return httpx.Response(200, text="<html>the proxy's own page</html>")
        key = request.headers["idempotency-key"]
        return httpx.Response(201, text=self.charged.setdefault(key, request.content.decode()))


def receipt(response: httpx.Response) -> str:
    if response.status_code != 201:
        raise ConnectionError("not from the bank")
    return response.text


@pytest.mark.parametrize("lost", [(1,), (2,), (1, 3), (2, 3), (1, 2)])
def test_each_of_two_charges_is_made(lost: tuple[int, ...]) -> None:
    books = Books(*lost)
    transport = httpx.MockTransport(books)
    with resilient.httpx.client(
        "bank", base_url="http://bank.svc", profile="supported", transport=transport
    ) as client:

        @Retry(wait=0)
        def charge(what: str) -> str:
            return receipt(client.post("/charges", content=what))

        @Retry(wait=0, idempotency_key=lambda order: order)
        def checkout(order: str) -> tuple[str, str]:
            return charge(f"{order} goods"), charge(f"{order} freight")

        assert checkout("7") == ("7 goods", "7 freight")
        assert sorted(books.charged.values()) == ["7 freight", "7 goods"]
        assert checkout("7") == ("7 goods", "7 freight"), "the same order again sends the same keys"
        assert len(books.charged) == 2
        checkout("8")
        assert len(books.charged) == 4


def test_an_attempt_that_makes_more_calls_takes_no_key_of_the_next() -> None:
    keys: list[str | None] = []

    def notify() -> None:
        keys.append(current_call().child_key("notify"))

    @Retry(wait=0)
    def first(fails: list[int]) -> None:
        notify()
        if fails:
            fails.pop()
            raise ConnectionError
        notify()
        notify()

    @Retry(wait=0, idempotency_key=str)
    def both(order: int) -> None:
        first([1])
        first([])
        notify()

    both(7)
    assert keys[0] == keys[1], "another attempt makes the same ones"
    assert len(set(keys)) == len(keys) - 1, "and nobody else does"


def test_in_blocks() -> None:
    keys: list[list[str | None]] = []

    @Retry(wait=0, idempotency_key=str)
    def checkout(order: int) -> None:
        for _ in range(2):
            made: list[str | None] = []
            for attempt in Retry(wait=0).attempts(name="charge"):
                with attempt:
                    made.append(current_call().child_key("charge"))
                    if attempt.number < 3:
                        raise ConnectionError
            keys.append(made)

    checkout(7)
    first, second = keys
    assert len(first) == len(second) == 3
    assert len({*first}) == len({*second}) == 1
    assert {*first} != {*second}


@pytest.mark.parametrize("order", [(0.0, 1.0), (1.0, 0.0)])
def test_side_by_side(order: tuple[float, float], manual_clock: ManualClock) -> None:
    """Whichever of two charges is made first, neither is made under the other's key."""
    keys: dict[str, set[str | None]] = {"goods": set(), "freight": set()}
    policies = Pipeline(Retry(wait=0.25), clock=manual_clock)

    @policies
    async def charge(what: str, pause: float) -> None:
        await asyncio.sleep(pause)
        keys[what].add(current_call().child_key("charge"))
        await asyncio.sleep(0.1)
        if current_call().attempt < 3:
            raise ConnectionError

    async def checkout(_: str) -> None:
        await asyncio.gather(charge("goods", order[0]), charge("freight", order[1]))

    keyed: Callable[[str], Awaitable[Any]] = Pipeline(Retry(idempotency_key=str), clock=manual_clock)(
        checkout
    )
    manual_clock.run(keyed("o-1"))
    assert len(keys["goods"]) == len(keys["freight"]) == 1
    assert keys["goods"] != keys["freight"]


def test_a_label_is_no_count() -> None:
    """The first of the calls that are counted had the key of the one that is labelled "1"."""
    keys: list[str | None] = []

    @Retry(wait=0, idempotency_key=str)
    def both(order: int) -> None:
        call = current_call()
        keys.extend(call.child_key("charge", label) for label in ("1", "2", "line 1/1"))
        keys.extend(call.child_key("charge") for _ in range(3))

    both(7)
    assert len({*keys}) == 6
