"""Connections: whose they are, how long they are kept, which way they go, and which endpoint they lead to."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import uvloop

import resilient
from resilient import Bulkhead, BulkheadFull, CircuitBreaker, Pipeline, PolicyError, Retry, Timeout
from resilient.core.outcome import Evidence
from resilient.testing import ManualClock, Origin, answer, slow
from resilient.testing.tls import make_contexts
from tests.http.calls import Caller, both, policies, report, wait_until_left
from tests.http.relays import at_path, proxy
from tests.http.sdk import bound, httpx


# ------------------------------------------------------------------------------------------------ how long kept
@both
def test_a_connection_is_used_again(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        for _ in range(5):
            caller.post(content=b"x")
        assert origin.connections == 1
        assert (caller.pool.idle, caller.pool.in_use) == (1, 0)


@both
@pytest.mark.parametrize(("given", "idle", "kept"), [({}, 3.9, True), ({}, 4.1, False)])
@pytest.mark.parametrize("expiry", [None, 1.0])
def test_idle_connections_expire(
    expiry: float | None, given: dict[str, Any], idle: float, kept: bool, mode: str, manual_clock: ManualClock
) -> None:
    if expiry is not None:
        given, idle = {"limits": httpx.Limits(keepalive_expiry=expiry)}, idle - 3.0
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock, **given) as caller:
        caller.get()
        manual_clock.advance(idle)
        caller.get()
        assert origin.connections == (1 if kept else 2)
        assert caller.pool.idle == 1


@both
def test_connections_are_not_used_for_ever(mode: str, manual_clock: ManualClock) -> None:
    # Behind a ClusterIP new pods would never be sent anything: 300 s +-20 %.
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        for _ in range(80):
            caller.get()
            manual_clock.advance(3.0)
        assert origin.connections == 1
        for _ in range(41):
            caller.get()
            manual_clock.advance(3.0)
        assert origin.connections == 2


@both
def test_the_server_says_close(mode: str, manual_clock: ManualClock) -> None:
    with Origin(answer(200, close=True), clock=manual_clock) as origin:
        with Caller(mode, origin.url, manual_clock) as caller:
            assert [report(caller.post()).attempts for _ in range(3)] == [1, 1, 1]
            assert caller.pool.idle == 0
        assert origin.connections == 3


@both
def test_close(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin:
        caller = Caller(mode, origin.url, manual_clock)
        with caller:
            caller.get()
            assert origin.open_connections == 1
        wait_until_left(origin)
        assert caller.pool.idle == 0


# ------------------------------------------------------------------------------------------------------- limits
def test_max_connections_is_held_by_the_bulkhead(manual_clock: ManualClock) -> None:
    with Origin(slow(1.0), clock=manual_clock) as origin:
        client = bound.async_client(
            "limited", base_url=origin.url, limits=httpx.Limits(max_connections=2), clock=manual_clock
        )

        async def main() -> list[Any]:
            async with client:
                return await asyncio.gather(*(client.get("/") for _ in range(5)), return_exceptions=True)

        outcomes = manual_clock.run(main())
        assert [getattr(each, "status_code", None) for each in outcomes] == [200, 200, None, None, None]
        assert all(isinstance(each, BulkheadFull) for each in outcomes[2:])
        assert all(isinstance(each, httpx.TransportError) for each in outcomes[2:])
        assert origin.connections == 2


def test_limits_that_the_policies_do_not_hold() -> None:
    own = Pipeline(Retry(3), name="svc")
    with pytest.raises(PolicyError, match=r"put Bulkhead\(2\) into policies="):
        bound.client("svc", base_url="http://svc", policies=own, limits=httpx.Limits(max_connections=2))
    kept = Pipeline(Retry(3), Bulkhead(2), name="svc")
    bound.client("svc", base_url="http://svc", policies=kept, limits=httpx.Limits(max_connections=2)).close()


def test_how_many_are_kept(manual_clock: ManualClock) -> None:
    with (
        Origin(slow(0.1), clock=manual_clock) as origin,
        Caller("async", origin.url, manual_clock, limits=httpx.Limits(max_keepalive_connections=2)) as caller,
    ):

        async def five() -> None:
            await asyncio.gather(*(caller.client.get("/") for _ in range(5)))

        caller.run(five())
        assert caller.pool.idle == 2
        assert caller.pool.in_use == 0


# -------------------------------------------------------------------------------- processes, loops and threads
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_forked_child_has_connections_of_its_own(tls: bool, manual_clock: ManualClock) -> None:
    with Origin(tls=tls) as origin:
        verify: Any = origin.client_context if tls else False
        with Caller("sync", origin.url, manual_clock, verify=verify) as caller:
            caller.get("/parent")
            child = os.fork()
            if child == 0:
                try:
                    ok = caller.get("/child").status_code == 200 and caller.pool.opened == 2
                except BaseException:
                    ok = False
                os._exit(0 if ok else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            caller.get("/parent")
        assert [(each.target, each.connection) for each in origin.requests] == [
            ("/parent", 1),
            ("/child", 2),
            ("/parent", 1),
        ]


def test_another_loop_has_connections_of_its_own() -> None:
    with Origin() as origin:
        client = bound.async_client("loops", base_url=origin.url, policies=Pipeline(Retry(3), name="loops"))

        async def twice() -> None:
            assert (await client.get("/")).status_code == 200
            assert (await client.get("/")).status_code == 200

        with asyncio.Runner() as first, asyncio.Runner() as second:
            first.run(twice())
            second.run(twice())
            first.run(twice())
            second.run(client.aclose())
        assert len(origin.requests) == 6
        assert origin.connections == 2
        wait_until_left(origin)


@pytest.mark.parametrize("loop", ["uvloop", "trio"])
def test_other_loops(loop: str) -> None:
    five = Pipeline(Timeout(5.0), Retry(3, wait=0.0), name=loop)
    with Origin(503) as origin:
        origin.always(200)
        origin.script(503, "reset_after_effect")

        async def main() -> None:
            async with bound.async_client(loop, base_url=origin.url, policies=five) as client:
                response = await client.get("/")
                assert response.status_code == 200
                assert report(response).attempts == 3
                assert (await client.get("/")).status_code == 200
                origin.script("hang")
                with resilient.deadline(0.05), pytest.raises(httpx.TimeoutException) as caught:
                    await client.get("/")
                assert isinstance(caught.value, resilient.DeadlineExceeded)

        if loop == "trio":
            trio.run(main)
        else:
            uvloop.run(main())
        wait_until_left(origin)


def test_threads_share_a_client(manual_clock: ManualClock) -> None:
    with Origin() as origin, Caller("sync", origin.url, manual_clock) as caller:
        wrong: list[object] = []

        def work(number: int) -> None:
            for i in range(25):
                body = f"{number}/{i}".encode()
                response = caller.client.post("/", content=body)
                if response.status_code != 200:
                    wrong.append(response)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len({each.body for each in origin.requests}) == 200
        assert origin.connections <= 8
        assert caller.pool.in_use == 0


# ------------------------------------------------------------------------------------------------ ways around
@both
def test_a_socket_in_the_file_system(mode: str, tmp_path: Path) -> None:
    clock = ManualClock(io_grace=2.0)
    path = tmp_path / "s"
    with Origin(clock=clock) as origin, at_path(path, origin.port):
        with Caller(mode, "http://sidecar", clock, uds=str(path)) as caller:
            assert caller.post("/x", content=b"body").status_code == 200
        assert origin.requests[0].header("host") == "sidecar"


@both
def test_through_a_proxy(mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    with Origin() as origin, proxy() as way:
        origin.script(503)
        with Caller(mode, origin.url, clock, proxy=way.url) as caller:
            response = caller.get("/x")
            assert response.status_code == 200
            assert report(response).attempts == 2
        assert origin.requests[1].target == f"{origin.url}/x"
        assert way.heads[0].startswith(f"GET {origin.url}/x ")


@both
def test_through_a_tunnel(mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    with Origin(tls=True) as origin, proxy() as way:
        with Caller(mode, origin.url, clock, proxy=way.url, verify=origin.client_context) as caller:
            assert [caller.post("/x").status_code for _ in range(3)] == [200] * 3
            assert origin.connections == 1
        assert way.heads == [way.heads[0]]
        assert way.heads[0].startswith(f"CONNECT 127.0.0.1:{origin.port} ")
        assert origin.requests[0].target == "/x"


@both
def test_a_tunnel_that_is_refused_was_not_sent(mode: str) -> None:
    # The bytes of the tunnel are not the request's.
    clock = ManualClock(io_grace=2.0)
    with Origin(tls=True) as origin, proxy() as way:
        way.refuses = 1
        with Caller(mode, origin.url, clock, proxy=way.url, verify=origin.client_context) as caller:
            response = caller.post("/x")
            assert response.status_code == 200
            assert report(response).attempts == 2
            assert len(origin.requests) == 1


@both
def test_a_bad_certificate_at_the_end_of_a_tunnel(mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    with (
        Origin(tls=True) as origin,
        proxy() as way,
        Caller(mode, origin.url, clock, proxy=way.url, verify=True) as caller,
    ):
        exc = caller.fails("POST", "/x")
        assert type(exc) is httpx.ConnectError
        assert report(exc).evidence is Evidence.NOT_SENT
        assert report(exc).attempts == 1
        assert origin.requests == []


@both
def test_what_went_through_a_tunnel_was_sent(mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    with (
        Origin("reset_after_effect", tls=True) as origin,
        proxy() as way,
        Caller(mode, origin.url, clock, proxy=way.url, verify=origin.client_context) as caller,
    ):
        exc = caller.fails("POST", "/x")
        assert isinstance(exc, resilient.OutcomeUnknown)
        assert report(exc).evidence is Evidence.UNKNOWN
        assert len(origin.effects) == 1


@both
def test_the_environments_proxies(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(io_grace=2.0)
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    with Origin() as origin, proxy() as way:
        monkeypatch.setenv("http_proxy", way.url)
        with Caller(mode, origin.url, clock) as caller:
            assert caller.get("/through").status_code == 200
        with Caller(mode, origin.url, clock, trust_env=False) as caller:
            assert caller.get("/direct").status_code == 200
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with Caller(mode, origin.url, clock) as caller:
            assert caller.get("/direct").status_code == 200
    assert [each.target for each in origin.requests] == [f"{origin.url}/through", "/direct", "/direct"]


# ---------------------------------------------------------------------------------------------------- endpoints
@both
def test_the_name_of_the_service_stays(mode: str, manual_clock: ManualClock) -> None:
    server, client = make_contexts("payments.shop.svc")
    with Origin(tls=server, clock=manual_clock) as origin:
        there = [f"127.0.0.1:{origin.port}"]
        url = "https://payments.shop.svc"
        with Caller(mode, url, manual_clock, endpoints=there, verify=client) as caller:
            response = caller.post("/x")
            assert response.status_code == 200
            assert str(response.request.url) == f"{url}/x"
            assert report(response).endpoint == there[0]
        assert origin.requests[0].header("host") == "payments.shop.svc"
        # The certificate is checked against the name in the URL, whatever address is dialled.
        with Caller(mode, "https://other.shop.svc", manual_clock, endpoints=there, verify=client) as caller:
            exc = caller.fails("POST", "/x")
            assert type(exc) is httpx.ConnectError
            assert "other.shop.svc" in str(exc)
            assert report(exc).attempts == 1
        assert len(origin.requests) == 1


def addresses(*origins: Origin) -> list[str]:
    return [f"127.0.0.1:{origin.port}" for origin in origins]


@both
def test_from_an_endpoint_that_refuses_to_another_at_once(mode: str, manual_clock: ManualClock) -> None:
    only = policies(manual_clock, attempts=1)
    with Origin(clock=manual_clock) as dead, Origin(clock=manual_clock) as alive:
        dead.refuse()
        both_of = addresses(dead, alive)
        with Caller(mode, "http://svc.svc", manual_clock, policies=only, endpoints=both_of) as caller:
            for _ in range(6):
                assert caller.post().status_code == 200
        assert manual_clock.monotonic() == 0.0
        assert len(alive.requests) == 6


@both
def test_all_refuse(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as one, Origin(clock=manual_clock) as other:
        one.refuse()
        other.refuse()
        with Caller(mode, "http://svc.svc", manual_clock, endpoints=addresses(one, other)) as caller:
            exc = caller.fails("POST")
    assert type(exc) is httpx.ConnectError
    assert report(exc).evidence is Evidence.NOT_SENT
    assert report(exc).endpoint in addresses(one, other)


@both
def test_what_may_have_happened_does_not_move_to_another(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin("reset_after_effect", clock=manual_clock) as one,
        Origin("reset_after_effect", clock=manual_clock) as two,
        Caller(mode, "http://svc.svc", manual_clock, endpoints=addresses(one, two)) as caller,
    ):
        exc = caller.fails("POST")
        assert isinstance(exc, resilient.OutcomeUnknown)
        assert len(one.effects) + len(two.effects) == 1
        # A GET is tried at the other one next.
        caller.fails("GET")
        assert {len(each.requests) for each in (one, two)} == {2}


@both
def test_a_failing_endpoint_is_passed_over_and_tried_again_later(
    mode: str, manual_clock: ManualClock, fault_seed: int
) -> None:
    breaker = CircuitBreaker(consecutive=1, minimum_calls=1000, open_for=5.0, max_open=5.0)
    breaker.observe()  # it counts the dependency, which is not what this is about
    pipeline = Pipeline(Retry(2, wait=0.0), breaker, name="svc", clock=manual_clock)
    with Origin(503, clock=manual_clock) as bad, Origin(clock=manual_clock) as good:
        where = addresses(bad, good)
        with Caller(mode, "http://svc.svc", manual_clock, policies=pipeline, endpoints=where) as caller:
            while not bad.requests:
                assert caller.get().status_code == 200
            (sick,) = (each for each in caller.transport.endpoints if each.state == "open")
            assert [caller.get().status_code for _ in range(30)] == [200] * 30
            assert len(bad.requests) == 1
            # When its time is over, single calls find out whether it is well.
            bad.always(200)
            manual_clock.advance(5.0)
            for _ in range(40):
                assert caller.get().status_code == 200
            assert sick.state == "closed"
            assert len(bad.requests) > 10
            assert [len(each.calls) for each in caller.transport.endpoints] == [0, 0]


@both
def test_the_last_endpoint_is_not_ejected(mode: str, manual_clock: ManualClock) -> None:
    pipeline = Pipeline(CircuitBreaker(consecutive=100, minimum_calls=1000), name="svc", clock=manual_clock)
    with Origin(503, clock=manual_clock) as one, Origin(503, clock=manual_clock) as two:
        where = addresses(one, two)
        with Caller(mode, "http://svc.svc", manual_clock, policies=pipeline, endpoints=where) as caller:
            assert [caller.get().status_code for _ in range(60)] == [503] * 60
