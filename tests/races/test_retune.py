"""Numbers change while threads and tasks call: nobody sees anything but old or new ones, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from typing import Any

import pytest

from resilient import Bulkhead, CircuitBreaker, Pipeline, RateLimit, Rejected, Retry, Timeout, backoff
from resilient.config.decode import decode
from resilient.config.document import parse
from resilient.config.live import Live
from resilient.config.snapshot import Noted, Snapshot
from resilient.config.source import Files
from resilient.core.registry import Registry
from tests.races.racing import Room, Tally, dawdle, race


def snapshot(n: int) -> Snapshot:
    """Numbers by chance; what is not said goes back to what the code says."""
    chance = random.Random(n)
    kinds: dict[str, Any] = {
        "timeout": {"total": f"{chance.randint(20, 40)}s", "attempt": f"{chance.randint(5, 15)}s"},
        "retry": {
            "attempts": chance.randint(1, 4),
            "budget": {"stock": chance.choice([0, 10, 60]), "window": "3s"},
        },
        "breaker": {
            "window": f"{chance.randint(1, 30)}s",
            "consecutive": chance.randint(5, 20),
            "state": chance.choice([None, None, None, "disabled", "observe", "forced_open"]),
        },
        "ratelimit": {
            "rate": f"{chance.choice([100, 1_000, 100_000])}/second",
            "burst": chance.randint(1, 500),
        },
        "bulkhead": {"limit": chance.randint(1, 6), **chance.choice([{}, {"queue": 4, "max_wait": "50ms"}])},
    }
    said = {kind: kinds[kind] for kind in kinds if chance.random() < 0.7}
    text = json.dumps({"resiliency": {"targets": {"payments": said}}}).encode()
    document = parse(Files({"a.json": text}, str(n)))
    return Snapshot(n, document.digest, Noted(), document.sources, decode(document).targets)


class Kit:
    def __init__(self) -> None:
        self.registry = Registry()
        self.live = Live(self.registry)
        self.pipeline = Pipeline(
            Timeout(30.0),
            Retry(3, wait=backoff(0.0)),
            CircuitBreaker(open_for=0.001, max_open=0.001),
            RateLimit("1000/second"),
            Bulkhead(3),
            Timeout(10.0),
            name="payments",
        )
        self.registry.add(self.pipeline)
        self.over = threading.Event()

    def steer(self) -> None:
        n = 0
        while not self.over.is_set():
            n += 1
            each = snapshot(n)
            self.live.check(each)
            self.live.apply(each)

    def at_rest(self) -> None:
        """As it was made, and nothing is held."""
        self.live.release()
        pipeline = self.pipeline
        assert pipeline["bulkhead"].in_flight == pipeline["bulkhead"].waiting == 0
        assert "Bulkhead(3)" in str(pipeline)
        pipeline["breaker"].reset()
        free = [pipeline["bulkhead"].admit(0.0) for _ in range(3)]
        assert len(free) == 3
        with pytest.raises(Rejected):
            pipeline["bulkhead"].admit(0.0)


def outcome(n: int) -> str:
    if n % 5 == 0:
        raise ConnectionError("down")
    return "done"


def test_threads_call_while_numbers_change() -> None:
    kit, room, tally = Kit(), Room(), Tally()

    @kit.pipeline
    def work(n: int) -> str:
        with room:
            return outcome(n)

    def calls() -> None:
        for n in range(200):
            while True:  # a rejection is quick: until the numbers let it in
                try:
                    tally.add(work(n))
                except Rejected:
                    dawdle()
                    continue
                except ConnectionError:
                    tally.add("down")
                break

    steering = threading.Thread(target=kit.steer)
    steering.start()
    try:
        race(calls, threads=6)
    finally:
        kit.over.set()
        steering.join()
    assert (tally["done"], tally["down"]) == (6 * 160, 6 * 40)
    assert room.peak <= 6
    kit.at_rest()


def test_tasks_call_while_numbers_change() -> None:
    kit, tally = Kit(), Tally()

    @kit.pipeline
    async def work(n: int) -> str:
        await asyncio.sleep(0)
        return outcome(n)

    async def calls() -> None:
        for n in range(50):
            while True:
                try:
                    tally.add(await work(n))
                except Rejected:
                    await asyncio.sleep(0)
                    continue
                except ConnectionError:
                    tally.add("down")
                break

    async def everybody() -> None:
        await asyncio.gather(*(calls() for _ in range(20)))

    steering = threading.Thread(target=kit.steer)
    steering.start()
    try:
        asyncio.run(everybody())
    finally:
        kit.over.set()
        steering.join()
    assert (tally["done"], tally["down"]) == (20 * 40, 20 * 10)
    kit.at_rest()
