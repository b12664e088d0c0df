"""`Origin` and a virtual-time loop on one clock: the client's time-outs race the origin's delays, exactly."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import httpx
import pytest

from resilient.testing import (
    DeadlockError,
    Exchange,
    ManualClock,
    Origin,
    answer,
    drip_body,
    hang,
    reset_on_accept,
    slow,
    stale,
)

T = TypeVar("T")


@pytest.fixture
def clock() -> ManualClock:
    # A grace that no test would survive: none of them is to need it.
    return ManualClock(io_grace=60.0)


@pytest.fixture
def origin(clock: ManualClock) -> Iterator[Origin]:
    with Origin(clock=clock) as running:
        yield running


@pytest.fixture(autouse=True)
def often_switched() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def with_client(
    clock: ManualClock, origin: Origin, main: Callable[[httpx.AsyncClient], Awaitable[T]], **options: object
) -> T:
    async def run() -> T:
        async with httpx.AsyncClient(base_url=origin.url, verify=False, **options) as client:  # type: ignore[arg-type]
            return await main(client)

    return clock.run(run())


def test_answers_take_no_time(clock: ManualClock, origin: Origin) -> None:
    async def main(client: httpx.AsyncClient) -> list[int]:
        return [(await client.post("/", content=b"x" * 100_000)).status_code for _ in range(50)]

    assert with_client(clock, origin, main) == [200] * 50
    assert clock.monotonic() == 0.0


def test_the_earlier_of_delay_and_timeout_wins(clock: ManualClock, origin: Origin) -> None:
    async def main(client: httpx.AsyncClient) -> None:
        origin.script(slow(0.99))
        assert (await client.get("/", timeout=1.0)).status_code == 200
        assert clock.monotonic() == 0.99
        origin.script(slow(1.01))
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/", timeout=1.0)
        assert clock.monotonic() == 1.99

    with_client(clock, origin, main)


def test_a_hang_for_an_hour(clock: ManualClock, origin: Origin) -> None:
    origin.always(hang(effect=True))

    async def main(client: httpx.AsyncClient) -> None:
        for _ in range(20):
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/", timeout=180.0)

    with_client(clock, origin, main)
    assert clock.monotonic() == 3600.0
    assert len(origin.effects) == 20


def test_dripping_never_trips_a_read_timeout_but_a_total_one(clock: ManualClock, origin: Origin) -> None:
    origin.script(drip_body(0.9, answer(200, "hello")), drip_body(0.9, answer(200, "hello")))

    async def main(client: httpx.AsyncClient) -> None:
        assert (await client.get("/", timeout=1.0)).text == "hello"
        assert clock.monotonic() == pytest.approx(4.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await client.get("/", timeout=1.0)

    with_client(clock, origin, main)
    assert clock.monotonic() == pytest.approx(6.5)


def test_calls_at_once_end_at_their_own_times(clock: ManualClock, origin: Origin) -> None:
    ended: dict[float, float] = {}
    origin.handle(lambda request: slow(float(request.target[1:])))

    async def main(client: httpx.AsyncClient) -> None:
        async def one(delay: float) -> None:
            await client.get(f"/{delay}", timeout=None)
            ended[delay] = clock.monotonic()

        await asyncio.gather(*[one(delay) for delay in (3.0, 1.0, 2.0, 60.0, 0.5, 1.0)])

    with_client(clock, origin, main)
    assert ended == {delay: delay for delay in (0.5, 1.0, 2.0, 3.0, 60.0)}


def test_backoff_sleeps_between_idle_connections(clock: ManualClock, origin: Origin) -> None:
    origin.script(stale(5.0), 201, "stale", reset_on_accept())

    async def main(client: httpx.AsyncClient) -> None:
        assert (await client.get("/")).status_code == 200
        await asyncio.sleep(4.0)
        assert origin.open_connections == 1
        await asyncio.sleep(2.0)
        assert (await client.get("/")).status_code == 201
        assert origin.connections == 2
        assert (await client.get("/")).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")
        with pytest.raises((httpx.ReadError, httpx.WriteError, httpx.ConnectError)):
            await client.get("/")

    with_client(clock, origin, main)
    assert clock.monotonic() == 6.0


def test_comes_back_at_its_time(clock: ManualClock, origin: Origin) -> None:
    origin.refuse()
    clock.call_at(10.0, origin.reopen)

    async def main(client: httpx.AsyncClient) -> int:
        for attempt in range(100):
            try:
                await client.get("/")
            except httpx.ConnectError:
                await asyncio.sleep(1.0)
            else:
                return attempt
        return -1

    assert with_client(clock, origin, main) == 10


def test_tls(clock: ManualClock) -> None:
    with Origin(clock=clock, tls=True) as origin:
        origin.script(200, slow(30.0), "hang")

        async def main(client: httpx.AsyncClient) -> None:
            assert (await client.post("/", content=b"x" * 200_000)).status_code == 200
            assert (await client.get("/", timeout=31.0)).status_code == 200
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/", timeout=30.0)

        with_client(clock, origin, main)
    assert clock.monotonic() == 60.0


def test_a_client_that_does_not_read_on(clock: ManualClock, origin: Origin) -> None:
    body = b"x" * 20_000_000
    origin.always(answer(200, body))

    async def main(client: httpx.AsyncClient) -> int:
        size = 0
        async with client.stream("GET", "/") as response:
            await asyncio.sleep(60.0)  # the origin is stuck in sending, and that holds nobody
            async for part in response.aiter_raw():
                size += len(part)
        return size

    assert with_client(clock, origin, main) == len(body)
    assert clock.monotonic() == 60.0


def test_a_stalled_upload_ends_in_a_write_timeout(clock: ManualClock, origin: Origin) -> None:
    origin.script("stall_upload")

    async def main(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.WriteTimeout):
            await client.post("/", content=b"x" * 10_000_000, timeout=30.0)
        assert clock.monotonic() == 30.0

    with_client(clock, origin, main)


def test_waiting_for_ever_for_an_origin_that_hangs_is_a_deadlock(clock: ManualClock, origin: Origin) -> None:
    origin.script("hang")

    async def main(client: httpx.AsyncClient) -> None:
        await client.get("/", timeout=None)

    with pytest.raises(DeadlockError):
        with_client(clock, origin, main)


def test_names_are_resolved_in_real_time(clock: ManualClock, origin: Origin) -> None:
    async def main() -> int:
        reader, writer = await asyncio.wait_for(asyncio.open_connection("localhost", origin.port), 1.0)
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        data = await asyncio.wait_for(reader.read(), 1.0)
        writer.close()
        await writer.wait_closed()
        return int(data.split()[1])

    assert clock.run(main()) == 200
    assert clock.monotonic() == 0.0


def test_jobs_that_wait_for_a_delay() -> None:
    clock = ManualClock(io_grace=0.01)
    with Origin(slow(5.0), clock=clock) as origin:

        def fetch() -> int:
            return httpx.get(origin.url, timeout=60.0).status_code

        async def main() -> int:
            async with asyncio.timeout(10.0):
                return await asyncio.to_thread(fetch)

        assert clock.run(main()) == 200
    assert clock.monotonic() == 5.0


def test_an_origin_at_work_holds_time(clock: ManualClock, origin: Origin) -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def work(exchange: Exchange) -> None:
        exchange.read()
        at_work.set()
        go_on.wait()
        exchange.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    origin.script(work)

    def let_go() -> None:
        at_work.wait()
        go_on.set()

    thread = threading.Thread(target=let_go)
    thread.start()

    async def main(client: httpx.AsyncClient) -> int:
        return (await client.get("/", timeout=1.0)).status_code

    assert with_client(clock, origin, main) == 201
    assert clock.monotonic() == 0.0
    thread.join()


def test_without_autojump_delays_wait_for_advance() -> None:
    clock = ManualClock(autojump=False)
    with Origin(slow(2.0), clock=clock) as origin:
        status: list[int] = []

        async def main(client: httpx.AsyncClient) -> None:
            status.append((await client.get("/", timeout=5.0)).status_code)

        thread = threading.Thread(target=lambda: with_client(clock, origin, main))
        thread.start()
        clock.wait_until_blocked(2)
        clock.advance(2.0)
        thread.join()
        assert status == [200]
