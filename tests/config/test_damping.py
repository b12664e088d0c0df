"""A document that keeps changing is applied now and then; one that only takes load off at once.

The rows are numbered as in the table of what can go wrong between a ConfigMap and a process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.config.control import only_degrades
from resilient.config.damper import EVERY, MOST, WINDOW, Damper
from resilient.config.section import Section
from resilient.config.sections import SECTIONS
from resilient.config.snapshot import Snapshot, snapshot_of
from resilient.config.source import Files
from resilient.flags.state import NOTHING, STATE, publish
from resilient.testing import capture_events

from ..flags.documents import LEVELS, flag, switch
from .test_history import Told, attempts
from .test_rollback import back


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Told]:
    yield Told(tmp_path / "mount")
    publish(NOTHING)


def flap(kit: Told, n: int = MOST + 1) -> None:
    """So many documents, two seconds after each other; the last one is number ``n``."""
    for i in range(1, n + 1):
        kit.say(attempts(i))


def test_row_22_after_six_in_a_minute_one_in_ten_seconds_is_applied(
    kit: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "resilient")
    with capture_events() as seen:
        flap(kit, MOST)
        assert (kit.attempts, kit.loader.status.flapping) == (MOST, False)
        for n in range(MOST + 1, 21):  # twenty in forty seconds
            kit.say(attempts(n))
            assert kit.loader.status.flapping
            assert kit.loader.status.state == "ready"
    applied = [event.generation for event in seen.named("resilient.config.applied")]  # type: ignore[attr-defined]
    assert len(applied) == MOST + 2, "one in ten seconds: what was the latest then"
    (entry,) = seen.named("resilient.config.flapping")
    assert entry.on  # type: ignore[attr-defined]
    assert "changes too often: from now on the latest is applied every ten seconds" in caplog.text
    held = kit.attempts
    assert held < 20
    kit.clock.advance(EVERY)
    kit.look()
    assert kit.attempts == 20, "the latest wins"
    with capture_events() as seen:
        kit.clock.advance(WINDOW)
        kit.look()
    (exit_,) = seen.named("resilient.config.flapping")
    assert not exit_.on  # type: ignore[attr-defined]
    assert "is calm again" in caplog.text
    kit.say(attempts(3))
    assert (kit.attempts, kit.loader.status.flapping) == (3, False)


def test_row_22_what_only_degrades_is_applied_at_once(kit: Told) -> None:
    def say(level: int, n: int, forced: bool = False) -> None:
        targets: dict[str, Any] = {"payments": {"retry": {"attempts": n}}}
        if forced:
            targets["search"] = {"breaker": {"state": "forced_open"}}
        kit.say(
            {
                "flags": {"search": flag("full", "cached", "off", degrade="1:cached,2:off")},
                "degradation": {"levels": LEVELS, "level": level},
                "resiliency": {"targets": targets},
            }
        )

    for n in range(1, MOST + 2):
        say(1, n)
    assert kit.loader.status.flapping
    held = kit.attempts
    assert held == MOST
    say(2, held)
    assert STATE.flags.level == 2
    say(1, held)
    assert STATE.flags.level == 2, "giving back has to wait"
    say(2, held, forced=True)
    snapshot = kit.loader.snapshot
    assert snapshot is not None
    assert "search" in snapshot.targets
    say(2, held)
    assert kit.loader.snapshot is snapshot, "closing a breaker has to wait"
    kit.clock.advance(EVERY)
    kit.look()
    assert "search" not in kit.loader.snapshot.targets


def test_what_waited_is_let_go_where_something_else_is_there(kit: Told) -> None:
    flap(kit)
    in_force = kit.attempts
    assert in_force == MOST
    assert kit.say(attempts(in_force)) == "ready", "what is in force is there again"
    kit.clock.advance(EVERY)
    kit.look()
    assert kit.attempts == in_force
    kit.say(attempts(50))
    assert kit.say(attempts(0)) == "structure"
    kit.clock.advance(EVERY)
    kit.look()
    assert (kit.attempts, kit.loader.status.state) == (50, "stale"), "it was applied in time"


def test_a_bad_document_takes_the_place_of_one_that_waits(kit: Told) -> None:
    flap(kit)
    assert kit.say(attempts(0)) == "structure"
    kit.clock.advance(EVERY)
    kit.look()
    assert (kit.attempts, kit.loader.status.state) == (MOST, "stale")


def test_somebody_who_asks_does_not_wait(kit: Told) -> None:
    flap(kit)
    assert kit.attempts == MOST
    kit.loader.look_here()  # as load() has it
    assert kit.attempts == MOST + 1


def test_a_rollback_does_not_wait_and_leaves_behind_what_does(kit: Told) -> None:
    flap(kit)
    assert back(kit).pinned is not None
    assert kit.attempts == MOST - 1
    kit.clock.advance(EVERY)
    kit.look()
    assert kit.attempts == MOST - 1, "what was waiting is no answer to the rollback"


def test_a_process_whose_document_flaps_says_so(kit: Told) -> None:
    flap(kit)
    assert kit.loader.status.flapping
    from resilient.telemetry.gauges import CONFIG

    assert "resilient.config.flapping" in [name for name, *_ in CONFIG]


@given(st.lists(st.floats(0.1, 30.0), max_size=60))
def test_never_more_than_allowed(gaps: list[float]) -> None:
    """Against a plain reference: whatever comes when, at most six at once and then one in ten seconds."""
    damper, now = Damper(), 0.0
    arrivals: list[float] = []
    applied: list[float] = []
    for gap in gaps:
        now += gap
        arrivals.append(now)
        damper.arrived(now)
        flaps = len([each for each in arrivals if now - each < WINDOW]) > MOST
        assert damper.flapping is flaps
        allowed = not flaps or not applied or now - applied[-1] >= EVERY
        assert (damper.wait(now) == 0) is allowed
        if allowed:
            applied.append(now)
            damper.applied(now)


def made(tree: dict[str, Any], sections: tuple[Section, ...] = SECTIONS) -> Snapshot:
    text = json.dumps(tree).encode()
    return snapshot_of(Files({"a.json": text}, str(hash(text))), sections)


BASE: dict[str, Any] = {
    "flags": {"search": flag("full", "off", degrade="1:off"), "recs": switch(degrade="2:off")},
    "degradation": {"levels": LEVELS, "level": 1},
    "resiliency": {"targets": {"payments": {"retry": {"attempts": 2}}}},
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**BASE, **parts}


@pytest.mark.parametrize(
    ("tree", "only"),
    [
        (BASE, True),
        (changed(metadata={"version": "2"}), True),
        (changed(degradation={"levels": LEVELS, "level": 3}), True),
        (changed(degradation={"levels": LEVELS, "level": 0}), False),
        (changed(flags={**BASE["flags"], "recs": {**switch(), "defaultVariant": "off"}}), True),
        (changed(flags={**BASE["flags"], "search": flag("full", "off")}), False),
        (changed(flags={"search": BASE["flags"]["search"]}), False),
        (changed(flags={**BASE["flags"], "new": switch()}), False),
        (changed(resiliency={"targets": {"payments": {"retry": {"attempts": 1}}}}), False),
        (changed(resiliency={"targets": {}}), False),
        (
            changed(
                resiliency={
                    "targets": {"payments": {"retry": {"attempts": 2}, "breaker": {"state": "forced_open"}}}
                }
            ),
            True,
        ),
        (
            changed(
                resiliency={
                    "targets": {"payments": {"retry": {"attempts": 2}, "breaker": {"state": "disabled"}}}
                }
            ),
            False,
        ),
    ],
)
def test_what_only_degrades(tree: dict[str, Any], only: bool) -> None:
    assert only_degrades(made(BASE), made(tree)) is only
