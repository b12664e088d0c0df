"""What code had forced on a breaker was lost once the config document had forced something, and let go of it.

A service that rolled its breaker out by ``observe()`` had one that rejected as soon as the document's ``observe`` was
taken out again; one that was disabled by hand began to work. And pybreaker's object went on showing ``open`` for a
breaker that the document observed, which let every call through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resilient import CircuitBreaker, CircuitOpen, Pipeline
from resilient.config.live import Live
from resilient.config.snapshot import snapshot_of
from resilient.config.source import Files
from resilient.core.registry import Registry


class Kit:
    def __init__(self) -> None:
        self.registry = Registry()
        self.live = Live(self.registry)
        self.breaker = CircuitBreaker(consecutive=1)
        self.pipeline = Pipeline(self.breaker, name="payments")
        self.registry.add(self.pipeline)

    def say(self, state: str | None) -> None:
        text = json.dumps({"resiliency": {"targets": {"payments": {"breaker": {"state": state}}}}})
        self.live.apply(snapshot_of(Files({"a.json": text.encode()}, text), ()))

    @property
    def shown(self) -> tuple[str, bool]:
        return self.breaker.state, self.breaker.observing


@pytest.fixture
def kit() -> Kit:
    return Kit()


@pytest.mark.parametrize("said", ["forced_open", "disabled", "observe"])
@pytest.mark.parametrize("by_hand", ["force_open", "disable", "observe", "reset"])
def test_it_holds_again(kit: Kit, by_hand: str, said: str) -> None:
    getattr(kit.breaker, by_hand)()
    before = kit.shown
    kit.say(said)
    kit.say(None)
    assert kit.shown == before


def test_what_code_forces_meanwhile_holds_at_once_and_stays(kit: Kit) -> None:
    kit.say("disabled")
    kit.breaker.force_open()
    assert kit.shown == ("forced_open", False)
    kit.say(None)
    assert kit.shown == ("forced_open", False)
    kit.breaker.reset()
    assert kit.shown == ("closed", False)


def test_what_code_took_back_meanwhile_is_not_forced_again(kit: Kit) -> None:
    kit.breaker.observe()
    kit.say("observe")
    kit.breaker.observe(False)
    kit.say(None)
    assert kit.shown == ("closed", False)


def test_pybreakers_object_shows_what_the_document_observes(kit: Kit) -> None:
    shown = kit.breaker.as_pybreaker()

    def fail() -> Any:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        kit.pipeline.call(fail)
    assert shown.current_state == "open"
    kit.say("observe")
    assert kit.shown == ("open", True)
    assert shown.current_state == "closed"
    kit.say(None)
    assert shown.current_state == "open"
    with pytest.raises(CircuitOpen):
        kit.pipeline.call(int)
