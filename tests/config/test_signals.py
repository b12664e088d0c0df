"""Signs of overload in this process."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilient import Bulkhead, ConfigError, FeatureDisabled, Pipeline, Rejected, degradable
from resilient.config.signals import (
    CPU_THROTTLED,
    EVENT_LOOP_LAG,
    REJECTION_RATIO,
    SIGNALS,
    Signals,
    signal,
    watch_loop,
)
from resilient.core.events import RUNTIME
from resilient.testing import ManualClock, feature_flags


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signals(clock: ManualClock, tmp_path: Path) -> Iterator[Signals]:
    found = Signals(clock, tmp_path / "cpu.stat")
    yield found
    found.readings(())


def test_a_loop_that_hangs_is_seen_while_it_hangs(clock: ManualClock, signals: Signals) -> None:
    assert signals.readings([EVENT_LOOP_LAG]) == {}, "no loop is watched"
    turn, hang, free = threading.Barrier(2), threading.Event(), threading.Event()

    async def service() -> None:
        signals.lag.watch(asyncio.get_running_loop())
        turn.wait(10)
        hang.wait(10)
        await asyncio.sleep(0)
        free.set()
        await asyncio.to_thread(turn.wait, 10)

    thread = threading.Thread(target=asyncio.run, args=(service(),))
    thread.start()
    turn.wait(10)
    assert signals.readings([EVENT_LOOP_LAG]) == {}, "the first callback is on its way"
    clock.advance(3.0)
    assert signals.readings([EVENT_LOOP_LAG]) == {EVENT_LOOP_LAG: 3.0}
    clock.advance(1.0)
    assert signals.readings([EVENT_LOOP_LAG]) == {EVENT_LOOP_LAG: 4.0}
    hang.set()
    assert free.wait(10)
    assert signals.readings([EVENT_LOOP_LAG]) == {EVENT_LOOP_LAG: 4.0}, "it took so long"
    turn.wait(10)
    thread.join()
    signals.readings([EVENT_LOOP_LAG])
    gc.collect()
    assert signals.readings([EVENT_LOOP_LAG]) == {}, "a loop that is closed is none"


def test_a_share_of_calls_was_turned_away(clock: ManualClock, signals: Signals) -> None:
    assert signals.readings([REJECTION_RATIO]) == {REJECTION_RATIO: 0.0}
    full = Bulkhead(1)
    call = Pipeline(full, name="payments", clock=clock)(lambda: None)

    def calls(n: int) -> None:
        for _ in range(n):
            call()

    def refused(n: int) -> None:
        with full.guard():
            for _ in range(n):
                with pytest.raises(Rejected):
                    call()

    refused(5)
    calls(5)
    assert signals.readings([REJECTION_RATIO]) == {REJECTION_RATIO: 0.0}, "ten calls mean nothing"
    calls(15)
    assert signals.readings([REJECTION_RATIO]) == {REJECTION_RATIO: 5 / 25}
    clock.advance(9.0)
    calls(75)
    assert signals.readings([REJECTION_RATIO]) == {REJECTION_RATIO: 5 / 100}
    clock.advance(2.0)
    assert signals.readings([REJECTION_RATIO]) == {REJECTION_RATIO: 0.0}, "of the last ten seconds"

    @degradable("search")
    def search() -> str:
        return "found"

    off = {"state": "ENABLED", "variants": {"off": False}, "defaultVariant": "off"}
    with feature_flags({"flags": {"search": off}}):
        for _ in range(30):
            with pytest.raises(FeatureDisabled):
                search()
    calls(30)
    assert signals.readings([REJECTION_RATIO]) == {REJECTION_RATIO: 0.0}, (
        "what is degraded is not turned away"
    )
    assert RUNTIME.listeners
    signals.readings(())
    assert not RUNTIME.listeners, "nobody asks any more"


def test_the_quota_of_the_container(clock: ManualClock, signals: Signals, tmp_path: Path) -> None:
    stat = tmp_path / "cpu.stat"
    assert signals.readings([CPU_THROTTLED]) == {}, "no cgroup v2 here"

    def say(periods: int, throttled: int) -> None:
        stat.write_text(f"usage_usec 1\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 7\n")

    say(1_000, 500)
    assert signals.readings([CPU_THROTTLED]) == {CPU_THROTTLED: 0.0}, "what was before is not known"
    clock.advance(1.0)
    say(1_010, 502)
    assert signals.readings([CPU_THROTTLED]) == {CPU_THROTTLED: 0.2}
    clock.advance(8.0)
    say(1_090, 502)
    assert signals.readings([CPU_THROTTLED]) == {CPU_THROTTLED: 2 / 90}
    for broken in ("", "nr_periods x\nnr_throttled 1", "nr_periods 5", "\x00\xff" * 100):
        stat.write_text(broken, encoding="latin-1")
        assert signals.readings([CPU_THROTTLED]) == {}


def test_one_of_your_own(signals: Signals, caplog: pytest.LogCaptureFixture) -> None:
    said: list[float | None] = [3.0, None]
    signals.add("queue", lambda: said[0])
    assert signals.readings(["queue", "not here"]) == {"queue": 3.0}
    said.pop(0)
    assert signals.readings(["queue"]) == {}
    said.clear()
    with caplog.at_level(logging.ERROR):
        assert signals.readings(["queue"]) == signals.readings(["queue"]) == {}
    assert caplog.text.count("the signal queue failed, and counts as not known") == 1
    said.append(1.0)
    assert signals.readings(["queue"]) == {"queue": 1.0}


def test_what_is_no_signal(signals: Signals) -> None:
    with pytest.raises(ConfigError, match="'eventLoopLag' is measured already"):
        signals.add(EVENT_LOOP_LAG, lambda: 1.0)
    with pytest.raises(ConfigError, match=r"must be a name and a function; write signal\('queue', read\)"):
        signal("", lambda: 1.0)
    with pytest.raises(ConfigError, match="must be a name and a function"):
        signal("queue", 3)  # type: ignore[arg-type]  # what is tried
    with pytest.raises(ConfigError, match="no event loop runs here"):
        watch_loop()


def test_a_loop_is_watched_in_the_process() -> None:
    async def service() -> None:
        watch_loop()
        assert asyncio.get_running_loop() in SIGNALS.lag._loops

    asyncio.run(service())
