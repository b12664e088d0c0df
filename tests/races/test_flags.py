"""Flags are published while threads read them: each read sees one document, whole."""

from __future__ import annotations

import threading

import pytest

from resilient import degradable, features
from resilient.flags.document import parse_flags
from resilient.flags.state import MOST_COMPLAINTS, NOTHING, STATE, publish
from resilient.testing import capture_events
from tests.flags.documents import document, flag, switch
from tests.races.racing import Tally, dawdle, race
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
    assert len(STATE._complaints) == MOST_COMPLAINTS + 1


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
