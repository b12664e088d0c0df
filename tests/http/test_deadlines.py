"""The deadline holds for all of a call: connecting, handshakes, every byte, every attempt, every redirect."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import resilient
from resilient import DeadlineExceeded, OutcomeUnknown, Pipeline, TimedOut, Timeout
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import Evidence
from resilient.testing import (
    ManualClock,
    Origin,
    answer,
    drip_body,
    drip_head,
    hang,
    slow,
    stall_upload,
)
from resilient.testing.behaviours import Stepish
from tests.http.calls import Caller, both, policies, report
from tests.http.sdk import httpx

QUICK = 0.25
"""Seconds that sync code waits in real time."""
VIRTUAL = 2.0


def clock_of(mode: str, clock: ManualClock) -> Any:
    return clock if mode == "async" else SYSTEM_CLOCK


def limit(mode: str) -> float:
    return VIRTUAL if mode == "async" else QUICK


@contextmanager
def nobody_accepts() -> Iterator[str]:
    """A server whose queue is full: connects hang."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            waiting.append(sock)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for sock in waiting:
            sock.close()


SLOW: dict[str, Stepish] = {
    "never answers": hang(),
    "slow to answer": slow(60.0),
    "slow head": drip_head(0.02, answer(200, b"x", {"X-Long": "y" * 1000})),
    "slow body": drip_body(0.02, answer(200, b"x" * 1000)),
    "slow body of no length": drip_body(0.02, answer(200, b"x" * 1000, chunked=True)),
}


@both
@pytest.mark.parametrize("what", SLOW)
def test_the_whole_call(what: str, mode: str, manual_clock: ManualClock) -> None:
    clock = clock_of(mode, manual_clock)
    with (
        Origin(SLOW[what], clock=manual_clock if mode == "async" else None) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(clock, total=limit(mode))) as caller,
    ):
        exc = caller.fails("GET")
        assert isinstance(exc, DeadlineExceeded)
        assert isinstance(exc, httpx.TimeoutException)
        if what != "slow body of no length":  # its head had been handed over: the call was answered
            assert report(exc).evidence is Evidence.UNKNOWN
        if mode == "async":
            assert manual_clock.monotonic() == pytest.approx(VIRTUAL)
        assert caller.pool.in_use == 0
        assert caller.pool.idle == 0


@both
def test_a_post_whose_time_is_over_may_have_happened(mode: str, manual_clock: ManualClock) -> None:
    clock = clock_of(mode, manual_clock)
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(clock, total=limit(mode))) as caller,
    ):
        exc = caller.fails("POST")
        assert isinstance(exc, OutcomeUnknown)
        assert isinstance(exc, httpx.TimeoutException)
        assert not isinstance(exc, DeadlineExceeded)  # that it may have happened matters more
        assert isinstance(exc.__cause__, DeadlineExceeded)


@pytest.mark.filterwarnings("ignore:3 attempts of:resilient.core.pipeline.PolicyWarning")
@both
def test_attempts_share_the_deadline(mode: str, manual_clock: ManualClock) -> None:
    # Two attempts fit into the whole, the third is cut; with room for the pauses of a busy machine.
    clock = clock_of(mode, manual_clock)
    total = VIRTUAL if mode == "async" else 1.0
    three = policies(clock, total=total, attempt=0.4 * total)
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=three) as caller,
    ):
        exc = caller.fails("GET")
        assert isinstance(exc, DeadlineExceeded)
        assert report(exc).attempts == 3
        if mode == "async":
            assert manual_clock.monotonic() == pytest.approx(VIRTUAL)


@both
def test_one_attempt(mode: str, manual_clock: ManualClock) -> None:
    clock = clock_of(mode, manual_clock)
    only = Pipeline(Timeout(limit(mode)), name="svc", clock=clock)
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=only) as caller,
    ):
        exc = caller.fails("GET")
    assert isinstance(exc, TimedOut)
    assert isinstance(exc, httpx.TimeoutException)
    assert not isinstance(exc, DeadlineExceeded)


@both
def test_redirects_share_the_deadline(mode: str, manual_clock: ManualClock) -> None:
    # Each hop is quick enough; together they are not.
    clock = clock_of(mode, manual_clock)
    hop = slow(0.3 * limit(mode), answer(302, headers={"Location": "/on"}))
    with (
        Origin(hop, clock=manual_clock if mode == "async" else None) as origin,
        Caller(
            mode, origin.url, manual_clock, policies=policies(clock, total=limit(mode)), follow_redirects=True
        ) as caller,
    ):
        exc = caller.fails("GET")
        assert isinstance(exc, DeadlineExceeded)
        assert 1 < len(origin.requests) <= 4
        if mode == "async":
            assert manual_clock.monotonic() == pytest.approx(VIRTUAL)


@both
def test_a_redirect_elsewhere_is_cut_too(mode: str, manual_clock: ManualClock) -> None:
    clock = clock_of(mode, manual_clock)
    with (
        Origin(clock=manual_clock) as origin,
        Origin("hang", clock=manual_clock) as elsewhere,
        Caller(
            mode, origin.url, manual_clock, policies=policies(clock, total=limit(mode)), follow_redirects=True
        ) as caller,
    ):
        origin.always(answer(302, headers={"Location": elsewhere.url}))
        exc = caller.fails("GET")
        assert isinstance(exc, DeadlineExceeded)
        assert isinstance(exc, httpx.TimeoutException)
        assert str(exc).startswith("svc.GET: ")


@both
def test_connecting(mode: str) -> None:
    with nobody_accepts() as url:
        clock = ManualClock(io_grace=0.0)
        quick = policies(clock_of(mode, clock), total=QUICK)
        with Caller(mode, url, clock, policies=quick) as caller:
            exc = caller.fails("POST")
    assert isinstance(exc, DeadlineExceeded)
    assert isinstance(exc, httpx.TimeoutException)
    assert report(exc).evidence is Evidence.NOT_SENT  # so it is not an OutcomeUnknown


@both
def test_connect_timeout(mode: str) -> None:
    with nobody_accepts() as url:
        clock = ManualClock(io_grace=0.0)
        pipeline = resilient.standard("svc", connect_timeout=QUICK, clock=clock_of(mode, clock), attempts=1)
        with Caller(mode, url, clock, policies=pipeline) as caller:
            exc = caller.fails("POST")
            assert isinstance(exc, httpx.ConnectTimeout)
            assert report(exc).evidence is Evidence.NOT_SENT
            assert report(exc).why_not_retried == "attempts"


@both
def test_the_tls_handshake(mode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        clock = ManualClock(io_grace=0.0)
        quick = policies(clock_of(mode, clock), total=QUICK)
        with Caller(mode, f"https://127.0.0.1:{silent.getsockname()[1]}", clock, policies=quick) as caller:
            exc = caller.fails("POST")
            assert caller.pool.in_use == 0
    assert isinstance(exc, DeadlineExceeded)
    assert report(exc).evidence is Evidence.NOT_SENT


@both
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_reader_that_stalls(tls: bool, mode: str, manual_clock: ManualClock) -> None:
    clock = clock_of(mode, manual_clock)
    with (
        Origin(stall_upload(), clock=manual_clock, tls=tls, max_body=100_000_000) as origin,
        Caller(
            mode,
            origin.url,
            manual_clock,
            policies=policies(clock, total=limit(mode)),
            verify=origin.client_context if tls else False,
        ) as caller,
    ):
        exc = caller.fails("PUT", content=b"x" * 30_000_000)
        assert isinstance(exc, DeadlineExceeded)
        assert report(exc).evidence is Evidence.UNKNOWN
        assert caller.pool.in_use == 0


# -------------------------------------------------------------------------------------- the caller's own deadline
@both
def test_the_callers_deadline_comes_first(mode: str, manual_clock: ManualClock) -> None:
    clock = clock_of(mode, manual_clock)
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(clock, attempt=3.0)) as caller,
    ):
        if mode == "sync":
            with resilient.deadline(QUICK):
                exc: Exception = caller.fails("GET")
        else:

            async def call() -> Exception:
                with resilient.deadline(VIRTUAL, clock=manual_clock):
                    with pytest.raises(Exception) as caught:  # noqa: PT011
                        await caller.client.get("/")
                    return caught.value

            exc = caller.run(call())
            assert manual_clock.monotonic() == pytest.approx(VIRTUAL)
        assert isinstance(exc, DeadlineExceeded)
        assert isinstance(exc, httpx.TimeoutException)
        assert report(exc).attempts == 1


@both
def test_nothing_is_sent_after_the_deadline(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        if mode == "sync":
            with resilient.deadline(1.0, clock=manual_clock):
                manual_clock.advance(1.0)
                exc: Exception = caller.fails("POST")
        else:

            async def call() -> Exception:
                with resilient.deadline(1.0, clock=manual_clock):
                    manual_clock.advance(1.0)
                    with pytest.raises(Exception) as caught:  # noqa: PT011
                        await caller.client.post("/")
                    return caught.value

            exc = caller.run(call())
        assert isinstance(exc, DeadlineExceeded)
        assert isinstance(exc, httpx.TimeoutException)
        assert not isinstance(exc, OutcomeUnknown)
        assert origin.connections == 0


@both
def test_the_sdks_own_timeouts_still_hold(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin("hang", clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, timeout=httpx.Timeout(5.0, read=QUICK)) as caller,
    ):
        exc = caller.fails("GET")
        assert type(exc) is httpx.ReadTimeout
        assert report(exc).attempts == 3
        exc = caller.fails("POST", timeout=httpx.Timeout(QUICK))
        assert isinstance(exc, httpx.ReadTimeout)
        assert isinstance(exc, OutcomeUnknown)


@both
def test_a_stream_is_cut_too(mode: str, manual_clock: ManualClock) -> None:
    clock = clock_of(mode, manual_clock)
    with (
        Origin(
            drip_body(0.02, answer(200, b"x" * 1000, chunked=True)),
            clock=manual_clock if mode == "async" else None,
        ) as origin,
        Caller(mode, origin.url, manual_clock, policies=policies(clock, total=limit(mode))) as caller,
    ):
        if mode == "sync":
            with (
                caller.client.stream("GET", "/") as response,
                pytest.raises(httpx.TimeoutException) as caught,
            ):
                response.read()
        else:

            async def read() -> None:
                async with caller.client.stream("GET", "/") as response:
                    await response.aread()

            with pytest.raises(httpx.TimeoutException) as caught:
                caller.run(read())
            assert manual_clock.monotonic() == pytest.approx(VIRTUAL)
        assert isinstance(caught.value, TimedOut)
        assert caller.pool.in_use == 0


# ---------------------------------------------------------------------------------------------- told to our own
@both
def test_what_is_left_is_told(mode: str, manual_clock: ManualClock) -> None:
    fixed = policies(manual_clock, wait=2.0)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, policies=fixed) as caller,
    ):
        origin.script(503, 503)
        caller.get()
        left = [int(str(each.header("resilient-timeout-ms"))) for each in origin.requests]
        assert left == [9995, 7995, 5995]
        assert [each.header("resilient-attempt") for each in origin.requests] == [None, "2/3", "3/3"]
