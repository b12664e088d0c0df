"""Listeners come and go while calls run in other threads: who stays hears everything once, who went hears nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from resilient import Bulkhead, Event, Pipeline, is_active, set_active, subscribe
from resilient.core.events import RUNTIME, CallFinished
from tests.races.racing import Room, Tally, dawdle, race


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = RUNTIME.listeners
    yield
    assert RUNTIME.listeners == before
    assert is_active()
    assert bool(before) == RUNTIME.attention


def test_who_stays_hears_every_call_once_while_others_come_and_go() -> None:
    tally, over = Tally(), threading.Event()

    @Pipeline(Bulkhead(1_000), name="heard")
    def work() -> None:
        tally.add("calls")

    def stays(event: Event) -> None:
        if isinstance(event, CallFinished):
            tally.add("heard")

    def caller() -> None:
        for _ in range(1_000):
            work()
        over.set()

    def comes_and_goes() -> None:
        while not over.is_set():
            heard: list[Event] = []
            stop = subscribe(heard.append)
            dawdle()
            stop()
            assert not any(each == heard.append for each in RUNTIME.listeners)

    stop = subscribe(stays)
    try:
        race(*[caller] * 4, *[comes_and_goes] * 4)
    finally:
        stop()
    assert tally["heard"] == tally["calls"] == 4_000
    work()
    assert tally["heard"] == 4_000


def test_subscribing_from_many_threads_loses_no_listener() -> None:
    tally = Tally()
    stops: list[object] = []

    def joins() -> None:
        stops.extend(subscribe(lambda event: tally.add("heard")) for _ in range(50))

    race(joins, threads=8)
    try:
        Pipeline(Bulkhead(1))(lambda: None)()
        assert tally["heard"] == 8 * 50
    finally:
        race(*[lambda mine=stops[i::8]: [stop() for stop in mine] for i in range(8)])  # type: ignore[misc, operator]


def test_policies_switched_off_and_on_under_load_lose_no_permit() -> None:
    bulkhead, room, over = Bulkhead(4, queue=50, max_wait=20.0), Room(), threading.Event()

    @bulkhead
    def work() -> None:
        with room:
            dawdle()

    def caller() -> None:
        while not over.is_set():
            work()

    def switch() -> None:
        try:
            for n in range(500):
                set_active(n % 2 == 0)
                dawdle()
        finally:
            set_active(True)
            over.set()

    race(switch, *[caller] * 8)
    assert bulkhead.in_flight == 0
    assert bulkhead.waiting == 0


def test_a_listener_that_fails_is_complained_of_once_and_hurts_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @Pipeline(Bulkhead(100), name="unhurt")
    def work() -> str:
        return "fine"

    def fails(event: Event) -> None:
        raise RuntimeError("listener")

    def caller() -> None:
        for _ in range(100):
            assert work() == "fine"

    stop = subscribe(fails)
    try:
        race(caller, threads=8)
    finally:
        stop()
    complaints = [record for record in caplog.records if "listener failed" in record.message]
    assert 1 <= len(complaints) <= 8, "one, or one per thread that met its first failure at the same moment"
