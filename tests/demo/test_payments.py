"""The payments process, run in this one: what it does to a request under each fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.demo import payments
from examples.demo.books import Audit, Books, audit
from examples.demo.runner import free_port
from examples.demo.schedule import Fault, Plan

BOUND = 30.0
BROKEN = (httpx.ReadError, httpx.RemoteProtocolError)


class Running:
    """A payments service under test and a client without any policy."""

    def __init__(self, service: payments.Payments, client: httpx.AsyncClient, path: Path) -> None:
        self.service = service
        self.client = client
        self.path = path

    async def charge(self, order: str = "order-1", key: str | None = None, **how: Any) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        posted = {"order": order, "cents": 995}
        return await self.client.post("/charges", json=posted, headers=headers, **how)

    def audit(self) -> Audit:
        return audit(self.path)


@asynccontextmanager
async def running(path: Path, kind: str | None = None) -> AsyncIterator[Running]:
    """Payments, under one fault that lasts and strikes every request."""
    faults = [Fault("refuse", 8_000.0, 8_001.0), Fault("kill", 9_000.0, 9_001.0)]
    if kind is not None:
        faults.insert(0, Fault(kind, 0.0, 7_000.0))
    plan = Plan(1, False, tuple(faults), (), 10_000.0, share=1.0, patience=1.0)
    port = free_port()
    with closing(Books(path)) as books:
        service = payments.Payments(books, plan, time.monotonic() - 1.0)
        serving = asyncio.create_task(service.serve(port))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=BOUND) as client:
            await listening(port)
            try:
                yield Running(service, client, path)
            finally:
                await client.aclose()
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                await service.close()


async def listening(port: int) -> None:
    bound = time.monotonic() + BOUND
    while time.monotonic() < bound:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise TimeoutError("payments does not listen")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "books.sqlite"


async def test_it_charges_once_per_key(path: Path) -> None:
    async with running(path) as made:
        first, again = await made.charge(key="k"), await made.charge(key="k")
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (await made.charge("order-2", key="k")).status_code == 422
        assert made.audit().charges == {"order-1": [first.json()["receipt"]]}


async def test_it_charges_again_without_a_key(path: Path) -> None:
    async with running(path) as made:
        first, again = await made.charge(), await made.charge()
        assert made.audit().charges == {"order-1": [first.json()["receipt"], again.json()["receipt"]]}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"order": "order-1"}', b'{"order": "x", "cents": "y"}'])
async def test_it_refuses_what_is_no_order(path: Path, body: bytes) -> None:
    async with running(path) as made:
        assert (await made.client.post("/charges", content=body)).status_code == 400
        assert made.audit().charges == {}


async def test_a_reset_before_the_charge_charges_nothing(path: Path) -> None:
    async with running(path, "reset-before") as made:
        with pytest.raises(BROKEN):
            await made.charge()
        assert (made.audit().charges, made.audit().faults) == ({}, {"reset-before": 1})


async def test_a_reset_after_the_charge_leaves_it(path: Path) -> None:
    async with running(path, "reset-after") as made:
        with pytest.raises(BROKEN):
            await made.charge()
        assert len(made.audit().charges["order-1"]) == 1
        assert made.audit().faults == {"reset-after": 1}


@pytest.mark.parametrize(("kind", "status"), [("overloaded", 503), ("throttled", 429)])
async def test_who_waits_as_asked_is_served(path: Path, kind: str, status: int) -> None:
    async with running(path, kind) as made:
        asked = await made.charge()
        assert (asked.status_code, asked.headers["Retry-After"]) == (status, "1")
        early = await made.charge()
        assert (early.status_code, early.headers["Retry-After"]) == (429, "1")
        made.service.start -= payments.RETRY_AFTER  # that much time passes
        assert (await made.charge()).status_code == 201
        assert made.audit().faults == {kind: 1}


async def test_while_unavailable_it_charges_nothing(path: Path) -> None:
    async with running(path, "unavailable") as made:
        for _ in range(3):
            answer = await made.charge()
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert made.audit().charges == {}


async def test_a_kept_connection_goes_stale(path: Path) -> None:
    async with running(path, "stale") as made:
        assert (await made.charge("order-1")).status_code == 201
        with pytest.raises(BROKEN):
            await made.charge("order-2")
        assert (await made.charge("order-3")).status_code == 201  # on a new connection
        assert sorted(made.audit().charges) == ["order-1", "order-3"]


async def test_a_dripping_answer_is_charged_at_once(path: Path) -> None:
    async with running(path, "drip") as made:
        posted = {"order": "order-1", "cents": 995}
        async with made.client.stream("POST", "/charges", json=posted) as answer:
            assert answer.status_code == 201
            assert await anext(answer.aiter_raw()) == b"{"
            assert len(made.audit().charges["order-1"]) == 1


async def test_while_it_hangs_no_answer_comes_and_half_is_charged(path: Path) -> None:
    async with running(path, "hang") as made:
        calls = [asyncio.create_task(made.charge(f"order-{i}")) for i in range(20)]
        bound = time.monotonic() + BOUND
        while made.audit().faults.get("hang", 0) < len(calls):
            assert time.monotonic() < bound
            done, _ = await asyncio.wait(calls, timeout=0.01)
            assert not done
        assert 3 <= len(made.audit().charges) <= 17
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_more_than_the_quota_is_refused(path: Path) -> None:
    async with running(path) as made:
        made.service.now = lambda: 5.0  # type: ignore[method-assign]  # no time passes: nothing is refilled
        statuses = [(await made.charge(f"order-{i}")).status_code for i in range(25)]
        assert statuses == [201] * int(payments.QUOTA_DEPTH) + [429] * 5
        assert made.audit().faults == {"quota": 5}
