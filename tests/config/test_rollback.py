"""A person goes back to an older document, in one process, for a time."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import ConfigError, DocumentError, Pipeline, configure, standard
from resilient.config import explain, history, load, rollback, status, unpin
from resilient.config.center import CENTER
from resilient.config.control import MOST_GOOD, Order
from resilient.config.feed import Status
from resilient.flags.state import NOTHING, publish
from resilient.policies.breaker import CircuitBreaker
from resilient.testing import KubeletVolume, capture_events

from ..flags.documents import switch
from .test_guard import Kit
from .test_history import Told, attempts


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Told]:
    yield Told(tmp_path / "mount")
    publish(NOTHING)


def back(kit: Kit, n: int = 1, ttl: float = 600.0, reason: str = "INC-12") -> Status:
    return done(kit, lambda: kit.loader.rollback(n, ttl, reason))


def done(kit: Kit, action: Callable[[], None]) -> Status:
    """An order, and the look at which it is obeyed."""
    order = kit.loader.order(action)
    assert kit.loader.due == float("-inf")
    kit.look()
    assert order.done.is_set()
    if order.error is not None:
        raise order.error
    return kit.loader.status


def test_it_goes_back_and_stays_whatever_the_directory_says(kit: Told) -> None:
    for n in (4, 5):
        kit.say(attempts(n), ticket=f"CHG-{n}")
    with capture_events() as seen:
        status = back(kit)
    assert (kit.attempts, status.state, status.generation) == (4, "ready", 3)
    pin = status.pinned
    assert pin is not None
    assert (pin.generation, pin.reason) == (1, "INC-12")
    assert 590 < pin.until - kit.clock.time() <= 600
    change = kit.last
    assert (change.result, change.reason, change.rollback_of, change.ticket) == (
        "rolled_back",
        "INC-12",
        1,
        "CHG-4",
    )
    (event,) = seen.named("resilient.config.applied")
    assert (event.pinned, event.rollback_of) == ("INC-12", 1)  # type: ignore[attr-defined]
    for _ in range(5):
        kit.look()
    kit.loader.look_here()
    assert (kit.attempts, kit.loader.status.state, kit.loader.status.generation) == (4, "ready", 3)


def test_another_document_ends_it(kit: Told) -> None:
    for n in (4, 5):
        kit.say(attempts(n))
    back(kit)
    assert kit.say(attempts(6)) == "ready"
    assert (kit.attempts, kit.loader.status.pinned) == (6, None)
    assert back(kit).pinned is not None
    assert kit.attempts == 4, "what was left behind is not among those that one goes back to"


def test_a_bad_document_does_not_end_it(kit: Told) -> None:
    for n in (4, 5):
        kit.say(attempts(n))
    back(kit)
    assert kit.say(attempts(0)) == "structure"
    assert (kit.attempts, kit.loader.status.state) == (4, "stale")
    assert kit.loader.status.pinned is not None
    assert kit.say(attempts(5)) == "ready", (
        "what was left behind is there again, and nothing is wrong with it"
    )
    assert kit.attempts == 4
    assert kit.loader.status.pinned is not None


def test_the_same_content_in_the_directory_ends_it(kit: Told) -> None:
    for n in (4, 5):
        kit.say(attempts(n))
    back(kit)
    assert kit.say(attempts(4)) == "ready"
    assert (kit.attempts, kit.loader.status.pinned) == (4, None)
    assert kit.say(attempts(5)) == "ready"
    assert kit.attempts == 5, "it is a change like any other now"


def test_it_ends_by_the_clock(kit: Told, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resilient")
    for n in (4, 5):
        kit.say(attempts(n))
    back(kit, ttl=60.0)
    kit.clock.advance(57.0)
    kit.look()
    assert kit.attempts == 4
    kit.look()
    assert (kit.attempts, kit.loader.status.pinned) == (5, None)
    assert "what was pinned is not any more" in caplog.text
    assert (kit.last.result, kit.last.rollback_of) == ("applied", 2)


def test_it_is_ended_by_hand(kit: Told) -> None:
    for n in (4, 5):
        kit.say(attempts(n))
    back(kit)
    status = done(kit, kit.loader.unpin)
    assert (kit.attempts, status.pinned) == (5, None)
    assert done(kit, kit.loader.unpin) == status, "again it does nothing"


def test_one_goes_further_back_step_by_step_or_at_once(kit: Told) -> None:
    for n in (4, 5, 6):
        kit.say(attempts(n))
    back(kit)
    assert kit.attempts == 5
    back(kit)
    assert kit.attempts == 4
    assert kit.say(attempts(5)) == "ready"
    assert kit.attempts == 4, "that one was left behind, too"
    with pytest.raises(
        ConfigError, match="rollback: n=1, and of older documents of this process there is none"
    ):
        back(kit)
    assert kit.attempts == 4
    for n in (7, 8, 9):
        kit.say(attempts(n))
    back(kit, 3)
    assert kit.attempts == 4


def test_a_process_holds_five_documents(kit: Told) -> None:
    for n in range(1, 7):
        kit.say(attempts(n))
    with pytest.raises(ConfigError, match=f"of older documents of this process there are {MOST_GOOD - 1}"):
        back(kit, MOST_GOOD)
    back(kit, MOST_GOOD - 1)
    assert kit.attempts == 7 - MOST_GOOD


def test_while_the_directory_is_broken_it_stays_so_told(kit: Told) -> None:
    for n in (4, 5):
        kit.say(attempts(n))
    kit.say(attempts(0))
    status = back(kit)
    assert (kit.attempts, status.state) == (4, "stale")
    assert status.problem is not None
    assert kit.say(attempts(5)) == "ready"
    assert kit.attempts == 4


def test_a_protected_feature_is_not_taken_away_by_it(kit: Told) -> None:
    kit.say({"flags": {"search": switch()}})
    kit.say({"flags": {"search": switch(), "payment": switch(protected=True)}})
    with pytest.raises(DocumentError, match="'payment' is protected, and gone") as caught:
        back(kit)
    assert caught.value.reason == "guard"
    assert (kit.loader.status.generation, kit.loader.status.pinned) == (2, None)


def test_the_emergency_document_stays_above_it(tmp_path: Path) -> None:
    volume = KubeletVolume(tmp_path / "emergency")
    kit = Told(tmp_path / "mount", emergency=tmp_path / "emergency")
    for n in (4, 5):
        kit.say(attempts(n))
    volume.write({"e.json": json.dumps(attempts(1))})
    kit.look()
    back(kit)
    assert kit.attempts == 1
    volume.write({"e.json": "{}"})
    kit.look()
    assert kit.attempts == 4
    assert kit.loader.status.pinned is not None


def test_the_cache_keeps_what_the_directory_said(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    kit = Told(tmp_path / "mount", cache=cache)
    for n in (4, 5):
        kit.say(attempts(n))
    back(kit)
    kept = kit.loader._cache
    assert kept is not None
    while (thread := kept._thread) is not None:
        thread.join()
    files = kept.read()
    assert files is not None
    assert b'"attempts": 5' in files.content["a.json"], "a restart ends what a person pinned in a process"


def test_what_policies_have_learnt_stays(tmp_path: Path) -> None:
    """Row 28, of a rollback."""
    kit = Told(tmp_path / "mount")
    breaker = CircuitBreaker(open_for=30.0)
    kit.registry.add(pipeline := Pipeline(breaker, name="stock", clock=kit.clock))
    for n in (10, 20):
        kit.say({"resiliency": {"targets": {"stock": {"breaker": {"open_for": f"{n}s"}}}}})
    breaker.force_open()
    back(kit)
    assert (breaker.options.open_for, pipeline["breaker"].state) == (10.0, "forced_open")


def test_an_order_is_told_that_nobody_follows_any_more(kit: Told) -> None:
    kit.say(attempts(4))
    order = kit.loader.order(lambda: None)
    kit.loader.drop()
    assert order.done.is_set()
    assert isinstance(order.error, ConfigError)
    late = kit.loader.order(lambda: None)
    assert late.done.is_set()


def test_an_order_that_is_withdrawn_does_nothing() -> None:
    seen: list[int] = []
    order = Order(lambda: seen.append(1))
    order.withdraw()
    order.obey()
    assert seen == []


def test_an_order_during_a_look_is_obeyed_at_the_next(kit: Told) -> None:
    kit.say(attempts(4))
    assert list(kit.loader.begin()) == []
    order = kit.loader.order(lambda: None)
    kit.loader.finish(None)
    assert kit.loader.due == float("-inf")
    kit.look()
    assert order.done.is_set()


@pytest.mark.usefixtures("center")
class TestProcess:
    """By the public functions, with the real thread."""

    def test_back_and_forth(self, volume: KubeletVolume) -> None:
        pipeline = standard("payments")
        configure(volume.directory)
        for n in (4, 5):
            volume.write({"a.json": json.dumps(attempts(n))})
            load()
        now = rollback(reason="INC-12")
        assert now == status()
        assert now.pinned is not None
        assert pipeline["retry"].options.attempts == 4
        assert load().pinned is not None, "a look does not end it"
        told = explain("payments.retry.attempts")
        assert told.pinned == "INC-12"
        assert str(told) == "payments.retry.attempts = 4 (from the document at a.json:1, pinned: INC-12)"
        assert history()[-1].result == "rolled_back"
        assert unpin().pinned is None
        assert pipeline["retry"].options.attempts == 5
        assert explain("payments.retry.attempts").pinned is None

    def test_it_is_a_metric(self, volume: KubeletVolume) -> None:
        from tests.telemetry.collected import collecting

        with collecting() as seen:
            assert seen.points("resilient.config.pinned") == []
            configure(volume.directory)
            for n in (4, 5):
                volume.write({"a.json": json.dumps(attempts(n))})
                load()
            assert seen.one("resilient.config.pinned") == 0
            rollback(reason="INC-12")
            assert seen.one("resilient.config.pinned") == 1

    def test_there_is_nothing_to_go_back_to(self, volume: KubeletVolume) -> None:
        for function in (lambda: rollback(reason="INC-12"), unpin):
            with pytest.raises(ConfigError, match="no config document is in force in this process"):
                function()
        volume.write({"a.json": json.dumps(attempts(4))})
        configure(volume.directory)
        load()
        with pytest.raises(ConfigError, match="there is none"):
            rollback(reason="INC-12")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"n": 0}, "n=0 must be"),
            ({"n": 5}, "n=5 must be"),
            ({"n": True}, "n=True must be"),
            ({"ttl": 0}, "ttl=0 must be"),
            ({"ttl": 90_000}, "ttl=90000 must be"),
            ({"reason": " "}, "reason=' ' must say why"),
            ({"reason": "a\nb"}, "must say why"),
            ({"reason": None}, "must say why"),
        ],
    )
    def test_arguments_that_are_none(self, arguments: Any, said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            rollback(**{"reason": "INC-12", **arguments})

    def test_where_no_thread_can_be_started(
        self, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any) -> None:
            raise RuntimeError("can't start new thread")

        pipeline = standard("payments")
        configure(volume.directory)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            for n in (4, 5):
                volume.write({"a.json": json.dumps(attempts(n))})
                load()
            assert rollback(reason="INC-12").pinned is not None
        assert pipeline["retry"].options.attempts == 4

    def test_a_thread_that_hangs_is_not_waited_for(
        self, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        volume.write({"a.json": json.dumps(attempts(4))})
        configure(volume.directory)
        load()
        monkeypatch.setattr("resilient.config.center._STEERING", 0.0)
        loader = CENTER.start()
        assert loader is not None
        monkeypatch.setattr(loader, "order", Order)  # it is never obeyed
        with pytest.raises(ConfigError, match=r"unpin: .* could not be looked at within 0 s"):
            unpin()
