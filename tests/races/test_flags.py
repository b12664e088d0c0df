"""Flags are published while threads read them: each read sees one document, whole."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from resilient import degradable, features
from resilient.flags.document import parse_flags
from resilient.flags.state import MOST_COMPLAINTS, NOTHING, STATE, publish
from resilient.testing import capture_events, feature_flags
from tests.flags.documents import document, flag, switch
from tests.races.racing import Tally, dawdle, race
from tests.races.stepping import Step, cancel_everywhere
from tests.races.test_forks import run

CALM = parse_flags(document(0, page=flag("a0", "a2", degrade="2:a2"), shop=switch(degrade="2:off")))
STORM = parse_flags(document(2, page=flag("b0", "b2", degrade="2:b2"), shop=switch(degrade="2:off")))


@pytest.fixture(autouse=True)
def _nothing_stays() -> object:
    yield
    publish(NOTHING)


def test_no_read_mixes_two_documents() -> None:
    publish(CALM)
    over = threading.Event()
    tally = Tally()

    def publisher() -> None:
        try:
            for n in range(2_000):
                publish(STORM if n % 2 else CALM)
                dawdle()
        finally:
            over.set()

    def reader() -> None:
        while not over.is_set():
            details = features.details("page", "none")
            assert (details.value, details.level) in (("a0", None), ("b2", 2)), (
                "of one document, at its level"
            )
            tally.add(details.value)
            dawdle()

    race(publisher, *[reader] * 4)
    assert tally["a0"] > 0
    assert tally["b2"] > 0


def test_a_call_is_degraded_or_not_and_never_both() -> None:
    publish(CALM)
    over = threading.Event()

    @degradable("shop", fallback="degraded")
    def work() -> str:
        dawdle()
        return "normal"

    def publisher() -> None:
        try:
            for n in range(500):
                publish(STORM if n % 2 else CALM)
                dawdle()
        finally:
            over.set()

    def caller() -> None:
        while not over.is_set():
            with features.collecting() as degraded:
                got = work()
            assert degraded == ({"shop": "off"} if got == "degraded" else {})

    with capture_events() as seen:
        race(publisher, *[caller] * 4)
    paths = {event.fields()["path"] for event in seen.named("resilient.degradation.executed")}
    assert paths == {"normal", "degraded"}


def test_many_threads_that_ask_for_unknown_features_are_logged_within_the_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(CALM)
    caplog.clear()
    race(*[lambda at=at: [features.enabled(f"{at}-{n}") for n in range(200)] for at in range(8)])  # type: ignore[misc]
    assert len(caplog.records) == MOST_COMPLAINTS + 1
    assert len(STATE._strangers) == MOST_COMPLAINTS + 1


def test_a_lock_that_another_thread_held_is_free_in_the_child() -> None:
    run("""
from resilient import features
from resilient.flags.document import parse_flags
from resilient.flags.state import STATE, publish

holding(STATE._lock)

def child():
    publish(parse_flags({"degradation": {"levels": ["normal", "storm"], "level": 1}}))
    assert features.level() == 1
    assert features.enabled("unknown", default=True)

fork(child)
""")


@pytest.mark.parametrize(("level", "ran"), [(0, "function"), (1, "variant"), (2, "fallback")])
def test_cancelled_at_every_suspension_it_tells_of_what_ended_and_of_nothing_else(
    level: int, ran: str
) -> None:
    raw = document(level, page=flag("full", "cached", "off", degrade="1:cached,2:off"))

    def stepping(what: str) -> Callable[[], Awaitable[str]]:
        async def steps() -> str:
            await Step()
            await Step()
            ended.append(what)
            return what

        return steps

    work = degradable("page", variants={"cached": stepping("variant")}, fallback=stepping("fallback"))(
        stepping("function")
    )
    ended: list[str] = []

    def make() -> tuple[Callable[[], Awaitable[object]], Callable[[], None]]:
        ended.clear()
        seen.clear()

        def check() -> None:
            paths = [event.fields()["path"] for event in seen.named("resilient.degradation.executed")]
            assert ended == [] or ended == [ran]
            assert paths == (["normal"] if level == 0 else ["degraded"] * len(ended))
            assert features.degraded() == {}

        return work, check

    with feature_flags(raw), capture_events() as seen:
        assert asyncio.run(cancel_everywhere(make)) == 2
