"""HTTP/2 connections: who shares which, how long, and what those beside one that goes wrong notice: nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import uvloop

import resilient
from resilient import DeadlineExceeded, OutcomeUnknown, Pipeline, Retry, Timeout
from resilient.core.outcome import Evidence
from resilient.testing import (
    ManualClock,
    Origin,
    answer,
    drip_body,
    goaway,
    hang,
    lose_connection,
    reset_mid_body,
    slow,
    stall_upload,
)
from resilient.testing.behaviours import Stepish, as_behaviour
from resilient.testing.exchange import Exchange, Request
from tests.http.calls import Caller, policies, report, wait_until_left
from tests.http.relays import proxy
from tests.http.sdk import bound, httpx
from tests.http.test_http2 import calling

known_or_agreed = pytest.mark.parametrize("tls", [False, True], ids=["known", "agreed"])


def by_path(origin: Origin, **steps: Stepish) -> None:
    """What is done is told by the path, not by the order; ``/`` is answered by 200."""

    @origin.handle
    def choose(request: Request) -> Stepish:
        return steps.get(request.target.strip("/"), 200)


async def together(caller: Caller, *urls: str) -> list[Any]:
    return await asyncio.gather(*(caller.client.get(url) for url in urls), return_exceptions=True)


# ------------------------------------------------------------------------------------------------------- who shares
@known_or_agreed
def test_a_burst_on_a_cold_client_shares_one(tls: bool, manual_clock: ManualClock) -> None:
    with calling(manual_clock, tls=tls) as (origin, caller):
        found = caller.run(together(caller, *["/"] * 50))
        assert [(each.status_code, each.http_version) for each in found] == [(200, "HTTP/2")] * 50
        assert origin.connections == caller.pool.opened == 1
        assert (caller.pool.idle, caller.pool.in_use) == (1, 0)


def test_no_more_than_the_server_takes(manual_clock: ManualClock) -> None:
    with calling(manual_clock, streams=3) as (origin, caller):
        by_path(origin, slow=slow(1.0))
        caller.get()
        # The origin ends a connection on which there are more.
        found = caller.run(together(caller, *["/slow"] * 7))
        assert [each.status_code for each in found] == [200] * 7
        assert origin.connections == 3
        assert manual_clock.monotonic() == 1.0
        # The oldest is filled first, so that the others come to an end.
        caller.run(together(caller, "/", "/", "/"))
        assert {each.connection for each in origin.requests[-3:]} == {1}


def test_where_one_is_taken_at_a_time_nobody_waits_for_another(manual_clock: ManualClock) -> None:
    with calling(manual_clock, streams=1) as (origin, caller):
        by_path(origin, slow=slow(1.0))
        caller.get()
        assert [each.status_code for each in caller.run(together(caller, *["/slow"] * 5))] == [200] * 5
        assert manual_clock.monotonic() == 1.0
        assert origin.connections == 5


def test_a_server_that_agrees_on_http_1_1(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock, tls=True) as origin:
        by_path(origin, slow=slow(1.0), large=answer(200, b"x" * 100_000))
        with Caller("async", origin.url, manual_clock, http2=True, verify=origin.client_context) as caller:
            for _ in range(2):
                found = caller.run(together(caller, *["/slow"] * 5))
                assert [(each.status_code, each.http_version) for each in found] == [(200, "HTTP/1.1")] * 5
            assert manual_clock.monotonic() == 2.0
            assert origin.connections == 5
            assert caller.get("/large").status_code == 200
            assert caller.pool.idle == 5
            # The same rules as ever.
            origin.script("reset_after_effect")
            exc = caller.fails("POST")
            assert isinstance(exc, OutcomeUnknown)
            assert caller.pool.in_use == 0


def test_plain_http_without_knowledge_is_http_1_1(manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock, http2=True) as origin,
        Caller("async", origin.url, manual_clock, http2=True) as caller,
    ):
        assert [caller.get().http_version for _ in range(2)] == ["HTTP/1.1"] * 2
        assert origin.connections == 1


@pytest.mark.parametrize("cancelled", [False, True])
def test_nobody_waits_for_ever_for_one_that_is_being_opened(
    cancelled: bool, manual_clock: ManualClock
) -> None:
    # Connected, and the server says nothing.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ten = policies(manual_clock, attempts=1, total=10.0)
        with Caller(
            "async", url, manual_clock, http2=True, http1=False, timeout=None, policies=ten
        ) as caller:

            async def main() -> list[Any]:
                tasks = [asyncio.create_task(caller.client.post("/", timeout=2.0)) for _ in range(3)]
                await asyncio.sleep(1.0)
                assert (caller.pool.opened, caller.pool.in_use) == (1, 1)
                if cancelled:
                    tasks[0].cancel()
                    await asyncio.sleep(0.0)
                    await asyncio.sleep(0.1)
                    assert (caller.pool.opened, caller.pool.in_use) == (3, 2)
                return await asyncio.gather(*tasks, return_exceptions=True)

            ended = caller.run(main())
            assert caller.pool.opened == 3
            assert caller.pool.in_use == caller.pool.idle == 0
            if cancelled:
                assert isinstance(ended.pop(0), asyncio.CancelledError)
            assert [report(each).evidence for each in ended] == [Evidence.UNKNOWN] * len(ended)
            assert all(isinstance(each, httpx.ReadTimeout) for each in ended)


def test_who_has_no_time_to_wait_did_not_send(manual_clock: ManualClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Caller("async", url, manual_clock, http2=True, http1=False, timeout=None) as caller:

            async def main() -> None:
                first = asyncio.create_task(caller.client.get("/"))
                await asyncio.sleep(0.1)
                with pytest.raises(DeadlineExceeded) as caught, resilient.deadline(0.5, clock=caller.clock):
                    await caller.client.post("/")
                assert report(caught.value).evidence is Evidence.NOT_SENT
                assert not isinstance(caught.value, OutcomeUnknown)
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)

            caller.run(main())
            assert manual_clock.monotonic() == pytest.approx(0.6)
            assert (caller.pool.opened, caller.pool.in_use) == (1, 0)


def test_a_server_that_refuses(manual_clock: ManualClock) -> None:
    with calling(manual_clock, policies=policies(manual_clock, attempts=1)) as (origin, caller):
        origin.refuse()
        found = caller.run(together(caller, *["/"] * 4))
        assert [type(each) for each in found] == [httpx.ConnectError] * 4
        assert {report(each).evidence for each in found} == {Evidence.NOT_SENT}
        assert caller.pool.in_use == caller.pool.idle == 0
        origin.reopen()
        assert caller.get().status_code == 200


# ------------------------------------------------------------------------------------------------- how long it is kept
@pytest.mark.parametrize(("idle", "kept"), [(3.9, True), (4.1, False)])
def test_idle_connections_expire(idle: float, kept: bool, manual_clock: ManualClock) -> None:
    with calling(manual_clock) as (origin, caller):
        caller.get()
        manual_clock.advance(idle)
        caller.get()
        assert origin.connections == (1 if kept else 2)


def test_an_old_connection_takes_no_more_and_ends_with_its_last_request(manual_clock: ManualClock) -> None:
    patient = policies(manual_clock, total=2000.0)
    with calling(manual_clock, policies=patient, timeout=None) as (origin, caller):
        by_path(origin, slow=slow(1000.0))

        async def main() -> None:
            long = asyncio.create_task(caller.client.get("/slow"))
            await asyncio.sleep(200.0)
            assert (await caller.client.get("/")).status_code == 200
            assert origin.connections == 1
            await asyncio.sleep(200.0)  # 5 minutes, and up to a fifth more
            for _ in range(3):
                assert (await caller.client.get("/")).status_code == 200
            assert origin.connections == 2
            assert (await long).status_code == 200

        caller.run(main())
        origin.wait_until(lambda origin: origin.open_connections <= 1)


def test_so_many_idle_ones_are_kept(manual_clock: ManualClock) -> None:
    limits = httpx.Limits(max_keepalive_connections=2)
    with calling(manual_clock, streams=1, limits=limits) as (origin, caller):
        by_path(origin, slow=slow(1.0))
        caller.get()
        caller.run(together(caller, *["/slow"] * 5))
        assert caller.pool.idle == 2
        origin.wait_until(lambda origin: origin.open_connections == 2)


def test_closing_a_client_ends_what_is_idle(manual_clock: ManualClock) -> None:
    with calling(manual_clock) as (origin, caller):
        by_path(origin, slow=slow(1.0))

        async def main() -> int:
            task = asyncio.create_task(caller.client.get("/slow"))
            await asyncio.sleep(0.1)
            caller.pool.close()
            assert origin.open_connections == 1
            return int((await task).status_code)

        assert caller.run(main()) == 200
        assert caller.pool.idle == 0
        wait_until_left(origin)


def test_an_endpoint_that_went_lets_go_of_its_connections(manual_clock: ManualClock) -> None:
    with calling(manual_clock) as (origin, caller):
        caller.get()
        (endpoint,) = caller.transport.endpoints

        async def main() -> None:
            endpoint.exchange.retire()
            await asyncio.sleep(0.1)

        caller.run(main())
        wait_until_left(origin)


# ------------------------------------------------------------------------------------- what those beside it notice
async def cancelled(caller: Caller, origin: Origin) -> None:
    task = asyncio.create_task(caller.client.get("/hang"))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cut_by_a_deadline(caller: Caller, origin: Origin) -> None:
    with pytest.raises(DeadlineExceeded), resilient.deadline(0.5, clock=caller.clock):
        await caller.client.get("/hang")


async def cut_by_the_sdks_timeout(caller: Caller, origin: Origin) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await caller.client.post("/hang", timeout=0.5)


async def stalled(caller: Caller, origin: Origin) -> None:
    origin.script(stall_upload())
    with pytest.raises(httpx.WriteTimeout):
        await caller.client.post("/stall", content=b"x" * 200_000, timeout=0.5)


async def left_early(caller: Caller, origin: Origin, url: str = "/drip") -> None:
    async with caller.client.stream("GET", url) as response:
        async for _ in response.aiter_raw(1):
            break


async def body_cut_by_a_deadline(caller: Caller, origin: Origin) -> None:
    with pytest.raises(resilient.TimedOut), resilient.deadline(0.5, clock=caller.clock):
        async with caller.client.stream("GET", "/drip") as response:
            await response.aread()


async def was_reset(caller: Caller, origin: Origin) -> None:
    with pytest.raises(OutcomeUnknown):
        await caller.client.post("/broken")


NEIGHBOURS: dict[str, tuple[Callable[[Caller, Origin], Awaitable[None]], bool, str | None]] = {
    "cancelled": (cancelled, True, "/hang"),
    "cut by a deadline": (cut_by_a_deadline, True, "/hang"),
    "cut by the SDK's time-out": (cut_by_the_sdks_timeout, True, "/hang"),
    "stalled": (stalled, True, "/stall"),
    "left early": (left_early, True, "/drip"),
    "body cut by a deadline": (body_cut_by_a_deadline, True, "/drip"),
    "reset": (was_reset, False, None),
}


@known_or_agreed
@pytest.mark.parametrize("what", NEIGHBOURS)
def test_those_beside_it_notice_nothing(what: str, tls: bool, manual_clock: ManualClock) -> None:
    neighbour, drains, gone = NEIGHBOURS[what]
    with calling(manual_clock, tls=tls, profile="none") as (origin, caller):
        by_path(
            origin,
            slow=slow(2.0, answer(200, b"y" * 50_000)),
            dripping=drip_body(0.5, answer(200, b"abcdef")),
            hang=hang(),
            drip=drip_body(0.2, answer(200, b"x" * 1000, chunked=True)),
            broken=reset_mid_body(),
        )

        async def main() -> None:
            assert (await caller.client.get("/")).status_code == 200
            siblings = [asyncio.create_task(caller.client.get(url)) for url in ("/slow", "/dripping") * 4]
            await asyncio.sleep(0.1)
            await neighbour(caller, origin)
            if gone is not None:  # the server is told, and need not go on
                await asyncio.sleep(0.01)
                assert all(each.cancelled for each in origin.requests if each.target == gone)
            for each in siblings:
                response = await each
                assert response.content == (b"y" * 50_000 if response.url.path == "/slow" else b"abcdef")
                assert report(response).attempts == 1
            assert origin.connections == 1
            # On what the core cannot clean up after nothing new is begun.
            assert (await caller.client.get("/")).status_code == 200
            assert origin.connections == (2 if drains else 1)

        caller.run(main())
        assert manual_clock.monotonic() == pytest.approx(3.0, abs=0.2)
        assert caller.pool.in_use == 0
        origin.wait_until(lambda origin: origin.open_connections == 1)


@known_or_agreed
def test_an_answer_is_there_when_it_comes(tls: bool, manual_clock: ManualClock) -> None:
    # It comes to whoever reads; the core lets those read on who wait longer, and whose it is waits for them.
    with calling(manual_clock, tls=tls) as (origin, caller):
        by_path(origin, slow=slow(2.0), large=answer(200, b"x" * 300_000))

        async def main() -> None:
            await caller.client.get("/")
            siblings = [asyncio.create_task(caller.client.get("/slow")) for _ in range(10)]
            await asyncio.sleep(0.1)
            for url in ("/", "/large", "/") * 3:
                assert (await caller.client.get(url)).status_code == 200
            assert manual_clock.monotonic() == 0.1
            assert [(await each).status_code for each in siblings] == [200] * 10
            assert manual_clock.monotonic() == 2.0

        caller.run(main())
        assert origin.connections == 1


@known_or_agreed
def test_an_upload_goes_on_while_others_read(tls: bool, manual_clock: ManualClock) -> None:
    # Room for more comes to whoever reads; the core lets the upload wait for the next bytes then, however long.
    with calling(manual_clock, tls=tls) as (origin, caller):
        by_path(origin, slow=slow(3.0))

        async def main() -> None:
            await caller.client.get("/")
            siblings = [asyncio.create_task(caller.client.get("/slow")) for _ in range(5)]
            await asyncio.sleep(0.1)
            uploads = [caller.client.put("/", content=bytes([number]) * 1_000_000) for number in range(4)]
            assert [each.status_code for each in await asyncio.gather(*uploads)] == [200] * 4
            assert manual_clock.monotonic() == 0.1
            assert [(await each).status_code for each in siblings] == [200] * 5

        caller.run(main())
        bodies = {each.body for each in origin.requests if each.method == "PUT"}
        assert bodies == {bytes([number]) * 1_000_000 for number in range(4)}
        assert origin.connections == 1


@pytest.mark.parametrize("neighbours", [2, 10])
def test_downloads_that_are_left_take_nothing_from_those_beside_them(
    neighbours: int, manual_clock: ManualClock
) -> None:
    # What comes before the server heard of it would use up the window of the connection: 16 MiB.
    large = answer(200, b"x" * 15_000_000)
    patient = policies(manual_clock, total=100.0)
    with calling(manual_clock, policies=patient) as (origin, caller):
        by_path(origin, large=large, slow=slow(1.0, large))

        async def main() -> None:
            await caller.client.get("/")
            sibling = asyncio.create_task(caller.client.get("/slow"))
            await asyncio.sleep(0.1)
            leaving = [asyncio.create_task(left_early(caller, origin, "/large")) for _ in range(neighbours)]
            await asyncio.gather(*leaving)
            assert len((await sibling).content) == 15_000_000

        caller.run(main())
        assert {each.connection for each in origin.requests if each.target == "/slow"} == {1}


# ------------------------------------------------------------------------------------------------------------ goodbyes
def test_a_goodbye_loses_nothing_that_is_on_its_way(manual_clock: ManualClock) -> None:
    with calling(manual_clock, profile="none") as (origin, caller):
        by_path(origin, slow=slow(2.0), bye=goaway("all"))

        async def main() -> None:
            await caller.client.get("/")
            siblings = [asyncio.create_task(caller.client.post("/slow")) for _ in range(5)]
            await asyncio.sleep(0.1)
            assert (await caller.client.post("/bye")).status_code == 200
            # New requests go elsewhere at once, and the old ones are answered where they are.
            assert (await caller.client.post("/")).status_code == 200
            assert origin.connections == 2
            assert [report(await each).attempts for each in siblings] == [1] * 5

        caller.run(main())
        assert len(origin.effects) == len(origin.requests) == 8
        origin.wait_until(lambda origin: origin.open_connections == 1)


@known_or_agreed
def test_a_goodbye_that_leaves_some_out(tls: bool, manual_clock: ManualClock) -> None:
    with calling(manual_clock, tls=tls, profile="none") as (origin, caller):
        by_path(origin, slow=slow(1.0), bye=slow(0.2, goaway("this")))

        async def main() -> None:
            await caller.client.get("/")
            before = [asyncio.create_task(caller.client.post("/slow")) for _ in range(3)]
            await asyncio.sleep(0.05)
            bye = asyncio.create_task(caller.client.post("/bye"))
            await asyncio.sleep(0.05)
            after = [asyncio.create_task(caller.client.post("/slow")) for _ in range(3)]
            assert [report(await each).attempts for each in [*before, bye]] == [1] * 4
            # They were not processed: POSTs without a key are sent again, at once, together on a new connection.
            assert [report(await each).attempts for each in after] == [2] * 3
            assert origin.connections == 2

        caller.run(main())
        assert len(origin.requests) == 11
        assert len(origin.effects) == 8


def test_a_connection_that_is_lost_is_lost_for_all(manual_clock: ManualClock) -> None:
    with calling(manual_clock, policies=policies(manual_clock, attempts=1)) as (origin, caller):
        by_path(origin, slow=slow(2.0), lost=lose_connection())

        async def main() -> None:
            await caller.client.get("/")
            found = await asyncio.gather(
                *(caller.client.post(url) for url in ("/slow", "/slow", "/lost")), return_exceptions=True
            )
            assert [type(each).__name__ for each in found] == ["OutcomeUnknown"] * 3

        caller.run(main())
        assert caller.get().status_code == 200
        assert caller.pool.in_use == 0


def test_a_goodbye_while_idle_is_heard(manual_clock: ManualClock) -> None:
    with calling(manual_clock, profile="none", policies=policies(manual_clock, attempts=1)) as (
        origin,
        caller,
    ):
        origin.script(goaway("all"))
        caller.get()
        for _ in range(3):
            assert report(caller.post()).attempts == 1
        assert origin.connections == 2

        def say_it_later(exchange: Exchange) -> None:
            as_behaviour(200)(exchange)
            exchange.wait(1.0)
            exchange.goaway(0)  # type: ignore[attr-defined]  # ours is inside

        origin.script(say_it_later)
        caller.get()
        caller.run(asyncio.sleep(2.0))
        assert report(caller.post()).attempts == 1
        assert origin.connections == 3


# ------------------------------------------------------------------------------------------------------------ time-outs
@pytest.mark.parametrize(
    ("step", "within"),
    [
        (slow(0.9), True),
        (slow(1.1), False),
        (drip_body(0.9, answer(200, b"abc")), True),
        (drip_body(0.9, answer(200, b"abc", chunked=True)), True),
        (drip_body(1.1, answer(200, b"abc")), False),
        (drip_body(1.1, answer(200, b"abc", chunked=True)), False),
    ],
)
def test_the_sdks_timeout_is_one_without_progress(
    step: Stepish, within: bool, manual_clock: ManualClock
) -> None:
    with calling(manual_clock, timeout=1.0, policies=policies(manual_clock, attempts=1)) as (origin, caller):
        caller.get()
        origin.script(step)
        if within:
            assert caller.get().status_code == 200
        else:
            exc = caller.fails("GET")
            assert type(exc) is httpx.ReadTimeout
            assert manual_clock.monotonic() == pytest.approx(1.0)


def test_what_comes_for_others_is_no_progress(manual_clock: ManualClock) -> None:
    # It is this request that reads for all of them.
    with calling(manual_clock, policies=policies(manual_clock, attempts=1, total=60.0)) as (origin, caller):
        by_path(origin, hang=hang(), drip=drip_body(0.3, answer(200, b"x" * 20)))

        async def main() -> None:
            await caller.client.get("/")
            hanging = asyncio.create_task(caller.client.get("/hang", timeout=1.0))
            await asyncio.sleep(0.0)
            dripping = [asyncio.create_task(caller.client.get("/drip")) for _ in range(3)]
            with pytest.raises(httpx.ReadTimeout):
                await hanging
            assert manual_clock.monotonic() == pytest.approx(1.0)
            assert [(await each).status_code for each in dripping] == [200] * 3

        caller.run(main())


@pytest.mark.parametrize("step", [hang(), drip_body(0.3, answer(200, b"x" * 1000))])
@pytest.mark.parametrize("timeout", [None, 5.0])
def test_the_deadline_holds(step: Stepish, timeout: float | None, manual_clock: ManualClock) -> None:
    with calling(manual_clock, timeout=timeout, policies=policies(manual_clock, total=2.0)) as (
        origin,
        caller,
    ):
        origin.always(step)
        exc = caller.fails("GET")
        assert isinstance(exc, DeadlineExceeded)
        assert isinstance(exc, httpx.TimeoutException)
        assert manual_clock.monotonic() == pytest.approx(2.0)
        assert caller.pool.in_use == 0


def test_the_deadline_holds_over_a_streamed_body(manual_clock: ManualClock) -> None:
    with calling(manual_clock, policies=policies(manual_clock, total=2.0)) as (origin, caller):
        origin.always(drip_body(0.3, answer(200, b"x" * 1000, chunked=True)))

        async def main() -> None:
            async with caller.client.stream("GET", "/") as response:
                with pytest.raises(httpx.TimeoutException) as caught:
                    await response.aread()
                assert isinstance(caught.value, resilient.TimedOut)

        caller.run(main())
        assert manual_clock.monotonic() == pytest.approx(2.0)
        assert caller.pool.in_use == 0


# -------------------------------------------------------------------------------------------------- loops and processes
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@known_or_agreed
def test_all_loops(loop: str, tls: bool) -> None:
    five = Pipeline(Timeout(5.0), Retry(3, wait=0.0), name=loop)
    with Origin(http2=True, tls=tls) as origin:
        by_path(origin, large=answer(200, b"x" * 500_000), hang=hang())
        agreed: dict[str, Any] = {"verify": origin.client_context} if tls else {"http1": False}

        async def main() -> None:
            async with bound.async_client(
                loop, base_url=origin.url, policies=five, http2=True, **agreed
            ) as client:
                assert (await client.get("/")).http_version == "HTTP/2"
                assert len((await client.post("/large", content=b"y" * 500_000)).content) == 500_000
                assert origin.connections == 1
                for step in ("refused_stream", "goaway", "enhance_your_calm", "reset_after_effect"):
                    origin.script(step)
                    assert report(await client.get("/")).attempts == 2
                with resilient.deadline(0.05), pytest.raises(DeadlineExceeded):
                    await client.get("/hang")
                assert (await client.get("/")).status_code == 200
                pool = next(iter(client._transport.endpoints)).exchange.pool  # type: ignore[attr-defined]  # ours is inside
                assert pool.in_use == 0

        if loop == "trio":
            trio.run(main)
        elif loop == "uvloop":
            uvloop.run(main())
        else:
            asyncio.run(main())
        wait_until_left(origin)


def test_under_trio_those_beside_it_notice_nothing_either() -> None:
    with Origin(http2=True) as origin:
        by_path(origin, slow=slow(0.3), hang=hang())
        five = Pipeline(Timeout(5.0), name="beside")

        async def main() -> None:
            async with bound.async_client(
                "beside", base_url=origin.url, policies=five, http2=True, http1=False
            ) as client:
                await client.get("/")
                found: list[int] = []

                async def one() -> None:
                    found.append((await client.get("/slow")).status_code)

                async with trio.open_nursery() as nursery:
                    for _ in range(5):
                        nursery.start_soon(one)
                    with trio.move_on_after(0.05):
                        await client.get("/hang")
                    with resilient.deadline(0.05), pytest.raises(DeadlineExceeded):
                        await client.get("/hang")
                assert found == [200] * 5
                assert {each.connection for each in origin.requests if each.target == "/slow"} == {1}

        trio.run(main)
        wait_until_left(origin)


def test_each_loop_has_connections_of_its_own() -> None:
    with Origin(http2=True) as origin:
        client = bound.async_client("loops", base_url=origin.url, http2=True, http1=False)

        async def twice() -> None:
            for _ in range(2):
                assert (await client.get("/")).status_code == 200

        with asyncio.Runner() as first, asyncio.Runner() as second:
            first.run(twice())
            second.run(twice())
            first.run(twice())
            second.run(client.aclose())
        assert len(origin.requests) == 6
        assert origin.connections == 2
        wait_until_left(origin)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_child_lets_go_of_its_parents_connections(manual_clock: ManualClock) -> None:
    with calling(manual_clock) as (origin, caller):
        caller.get()
        pool = caller.pool
        (parents,) = pool._open
        pool.after_fork()  # as in a child
        assert (pool.idle, pool.in_use) == (0, 0)
        parents.kill()
        assert caller.get().status_code == 200
        assert origin.connections == 2


# --------------------------------------------------------------------------------------------------------- ways around
def test_through_a_tunnel() -> None:
    clock = ManualClock(io_grace=2.0)
    with Origin(tls=True, http2=True) as origin, proxy() as way:
        with Caller(
            "async", origin.url, clock, proxy=way.url, verify=origin.client_context, http2=True
        ) as caller:
            found = caller.run(together(caller, *["/x"] * 5))
            assert [(each.status_code, each.http_version) for each in found] == [(200, "HTTP/2")] * 5
            assert origin.connections == 1
            origin.script("refused_stream")
            assert report(caller.post("/x")).attempts == 2
        assert way.heads[0].startswith(f"CONNECT 127.0.0.1:{origin.port} ")


def test_through_a_tunnel_that_is_refused() -> None:
    clock = ManualClock(io_grace=2.0)
    with Origin(tls=True, http2=True) as origin, proxy() as way:
        way.refuses = 1
        with Caller(
            "async", origin.url, clock, proxy=way.url, verify=origin.client_context, http2=True
        ) as caller:
            assert report(caller.post("/x")).attempts == 2
            assert len(origin.requests) == 1


def test_a_redirect_leads_to_another_authority(manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock, http2=True) as there,
        calling(manual_clock, follow_redirects=True) as (origin, caller),
    ):
        origin.script(answer(307, headers={"Location": f"{there.url}/there"}))
        response = caller.get()
        assert (response.status_code, response.http_version) == (200, "HTTP/2")
        assert [each.target for each in there.requests] == ["/there"]


def test_the_callers_own_trace_is_heard_too(manual_clock: ManualClock) -> None:
    heard: list[str] = []

    async def trace(name: str, info: dict[str, Any]) -> None:
        heard.append(name)

    with calling(manual_clock) as (_, caller):
        assert caller.get(extensions={"trace": trace}).status_code == 200
    assert "http2.send_request_headers.started" in heard
