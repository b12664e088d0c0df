"""What a good document must not do by mistake: take most of what is in force away. And what would crash is kept out.

The rows are numbered as in the table of what can go wrong between a ConfigMap and a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import DocumentError, Pipeline, Retry
from resilient.config.guard import FEW, MOST_ITEMS, refuse_too_many
from resilient.config.live import Live
from resilient.config.loader import Loader
from resilient.config.section import Section
from resilient.config.sections import SECTIONS
from resilient.config.selftest import try_out
from resilient.config.snapshot import Snapshot
from resilient.core.registry import Registry
from resilient.flags.state import NOTHING, STATE, publish
from resilient.policies.retry import RetryOptions
from resilient.testing import KubeletVolume, ManualClock, capture_events

from ..flags.documents import LEVELS, flag, switch
from .samples import document


class Kit:
    """A loader that reads policies and features, turned by hand."""

    def __init__(self, directory: Path, **where: Any) -> None:
        self.volume = KubeletVolume(directory)
        self.clock = ManualClock()
        self.registry = Registry()
        self.pipeline = Pipeline(Retry(3), name="payments", clock=self.clock)
        self.registry.add(self.pipeline)
        self.live = Live(self.registry)
        self.loader = Loader(directory, lambda: (self.live, self.sections), self.clock, **where)
        self.sections: tuple[Section, ...] = SECTIONS

    def say(self, tree: Any, **metadata: Any) -> str:
        """Write it and look; the reason why it is refused, or the state."""
        if isinstance(tree, dict) and metadata:
            tree = {**tree, "metadata": metadata}
        self.volume.write({"a.json": tree if isinstance(tree, (str, bytes)) else json.dumps(tree)})
        return self.look()

    def look(self) -> str:
        assert list(self.loader.begin()) == []
        self.loader.finish(None)
        self.clock.advance(2.0)
        problem = self.loader.status.problem
        return problem.reason if isinstance(problem, DocumentError) else self.loader.status.state

    @property
    def problem(self) -> str:
        return str(self.loader.status.problem)

    @property
    def attempts(self) -> int:
        return int(self.pipeline["retry"].options.attempts)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    yield Kit(tmp_path / "mount")
    publish(NOTHING)


def numbers(n: int, first: int = 0, attempts: int = 2) -> dict[str, Any]:
    """A document of so many numbers, one for each target."""
    targets = {f"t{i}": {"retry": {"attempts": attempts}} for i in range(first, first + n)}
    return {"resiliency": {"targets": targets}}


def features(n: int, first: int = 0, level: int = 0, **metadata: Any) -> dict[str, Any]:
    named = {f"f{i}": flag("full", "off", **metadata) for i in range(first, first + n)}
    return {"flags": named, "degradation": {"levels": LEVELS, "level": level}}


WHOLE: dict[str, Any] = {
    "flags": {"search": flag("full", "off", degrade="2:off"), "payment": switch(protected=True)},
    "degradation": {"levels": LEVELS, "level": 2},
    "resiliency": {"targets": {"payments": {"retry": {"attempts": 5}}}},
}


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        ("{}", "guard", "payment"),
        ('{"flags": {}}', "guard", "payment"),
        ("", "syntax", "Expecting value"),
        ("null", "structure", "must be a mapping"),
        ("[]", "structure", "must be a mapping"),
        ('{"resiliency": null}', "structure", "null must be a mapping"),
        ({**WHOLE, "resiliency": {}}, "guard", "all of resiliency.targets"),
        ({**WHOLE, "resiliency": {"targets": {}}}, "guard", "all of resiliency.targets"),
        ({**WHOLE, "resiliency": {"targets": {"payments": {}}}}, "guard", "all of resiliency.targets"),
        (
            {**WHOLE, "resiliency": {"targets": {"payments": {"retry": {}}}}},
            "guard",
            "all of resiliency.targets",
        ),
    ],
)
def test_row_08_a_document_that_would_clear_what_is_in_force_does_not(
    kit: Kit, content: Any, reason: str, said: str
) -> None:
    assert kit.say(WHOLE) == "ready"
    assert kit.say(content) == reason
    assert said in kit.problem
    assert kit.loader.status.state == "stale"
    assert (kit.attempts, STATE.flags.table["search"].variant, STATE.flags.level) == (5, "off", 2)


def test_row_08_an_empty_document_over_features_clears_none(kit: Kit) -> None:
    assert kit.say({"flags": {"search": flag("full", "off")}}) == "ready"
    for empty in ("{}", '{"flags": {}}'):
        assert kit.say(empty) == "guard"
        assert (
            "it would take away all of flags; if that is meant, write metadata: {allowMassChange:"
            in kit.problem
        )
    assert "search" in STATE.flags.table
    assert kit.say({}, allowMassChange="CHG-1") == "ready"
    assert not STATE.flags.table


def test_row_08_an_empty_document_is_fine_where_there_was_none(kit: Kit) -> None:
    assert [kit.say("{}"), kit.say({"metadata": {"version": "2"}}), kit.say("{}")] == ["ready"] * 3


def test_row_09_a_typing_error_is_told_with_place_line_and_word(kit: Kit) -> None:
    text = '{"resiliency": {\n"targets": {"payments": {\n"retry": {"atempts": 2}}}}}'
    assert kit.say(text) == "structure"
    assert kit.problem == "a.json:3: resiliency.targets.payments.retry.atempts: no such key; write attempts"


def test_row_10_an_unknown_key_at_the_top_is_refused() -> None:
    """Other readers let it pass with a warning; ours has `metadata` for what is yours, and `resilency` would switch all
    targets off."""
    from resilient.config.snapshot import snapshot_of
    from resilient.config.source import Files

    with pytest.raises(DocumentError, match="no such key; write resiliency") as caught:
        snapshot_of(Files({"a.json": b'{"resilency": {}}'}, ""), SECTIONS)
    assert caught.value.reason == "structure"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({**flag("full", "off"), "defaultVariant": "ful"}, "reference"),
        ({**switch(), "variants": {"on": True, "off": "no"}}, "semantic"),
        ({**switch(), "targeting": {"if": [{"$ref": "vip"}, "on", "off"]}}, "structure"),
        ({**switch(), "targeting": {"if": [{"iff": [1]}, "on", "off"]}}, "structure"),
        (flag("full", "off", degrade="9:off"), "reference"),
        (flag("full", "cached", "off", degrade="2:cached,1:off"), "semantic"),
    ],
)
def test_row_11_what_a_feature_cannot_be_is_found_before_it_is_in_force(
    kit: Kit, wrong: Any, reason: str
) -> None:
    good = {"flags": {"search": switch()}, "degradation": {"levels": LEVELS}}
    assert kit.say(good) == "ready"
    assert kit.say({**good, "flags": {"search": wrong}}) == reason
    assert STATE.flags.table["search"].variant == "on"


@pytest.mark.parametrize("make", [numbers, features])
def test_row_23_most_of_a_document_does_not_vanish_without_a_ticket(kit: Kit, make: Any) -> None:
    assert kit.say(make(30)) == "ready"
    assert kit.say(make(24)) == "ready", "a fifth may"
    assert kit.say(make(30)) == "ready"
    assert kit.say(make(23)) == "guard"
    assert "it would take away 7 of 30 items (" in kit.problem
    assert "and 4 more), more than 20%; if that is meant, write metadata: {allowMassChange:" in kit.problem
    assert kit.say(make(23), allowMassChange="CHG-1") == "ready"
    assert kit.say(make(15), allowMassChange="CHG-1") == "guard", "one ticket allows one change"
    assert "with another ticket: 'CHG-1' allowed the change that is in force" in kit.problem
    assert kit.say(make(15), allowMassChange="CHG-2") == "ready"


def test_row_23_most_of_a_document_does_not_change_without_a_ticket(kit: Kit) -> None:
    assert kit.say(numbers(FEW)) == "ready"
    half = numbers(FEW)
    half["resiliency"]["targets"] |= numbers(FEW // 2, attempts=5)["resiliency"]["targets"]
    assert kit.say(half) == "ready", "half of it may"
    assert kit.say(numbers(FEW, attempts=7)) == "guard"
    assert "it would change 20 of 20 items" in kit.problem
    assert kit.say(numbers(FEW, attempts=7), allowMassChange="CHG-1") == "ready"


def test_row_23_a_few_items_may_go_as_they_like(kit: Kit) -> None:
    assert kit.say(numbers(FEW - 1)) == "ready"
    assert kit.say(numbers(1)) == "ready"


def test_row_23_a_protected_feature_does_not_go_whatever_the_ticket_says(kit: Kit) -> None:
    assert kit.say(WHOLE) == "ready"
    without = {**WHOLE, "flags": {"search": WHOLE["flags"]["search"]}}
    assert kit.say(without, allowMassChange="CHG-1") == "guard"
    assert "'payment' is protected, and gone" in kit.problem
    assert "payment" in STATE.flags.table


def test_row_23_what_was_in_force_here_may_come_back(kit: Kit) -> None:
    assert kit.say(numbers(10)) == "ready"
    assert kit.say(numbers(30)) == "ready"
    assert kit.say(numbers(10)) == "ready", "a rollback needs no ticket"


def test_levers_of_an_incident_are_no_mass_change(kit: Kit) -> None:
    assert kit.say(features(30, degrade="1:off")) == "ready"
    assert kit.say(features(30, level=3, degrade="1:off")) == "ready", "the level touches every feature"
    assert kit.say(features(30, level=3, degrade="1:off", owner="growth")) == "ready", "a note is no value"
    forced = {f"t{i}": {"breaker": {"state": "forced_open"}} for i in range(40)}
    down = {**features(30), "resiliency": {"targets": forced}}
    assert kit.say(down) == "ready"
    assert kit.say(features(30)) == "ready", "and all of them end at once"


def test_what_only_stood_in_for_the_document_is_no_measure_for_it(tmp_path: Path) -> None:
    bundled = tmp_path / "bundled.json"
    bundled.write_text(json.dumps(numbers(30)))
    kit = Kit(tmp_path / "mount", bundled=bundled)
    assert (kit.look(), kit.loader.status.source) == ("stale", "bundled")
    assert kit.say("{}") == "ready", "the first document of a rollout"


class Crashing:
    """A part whose test raises, and what it was handed."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.section = Section(frozenset({"flags"}), dict, self.published.append, test=self.test)

    def test(self, part: Any) -> None:
        if part.get("flags"):
            raise KeyError("an operator")


def test_row_24_what_crashes_in_the_self_test_is_refused(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    part = Crashing()
    kit.sections = (part.section,)
    assert kit.say(numbers(1)) == "ready"
    assert kit.say({**numbers(2), "flags": {"a": 1}}) == "selftest"
    assert "crashed in its self-test: KeyError('an operator')" in kit.problem
    assert len(part.published) == 1
    assert "Traceback" in caplog.text
    assert kit.say(numbers(3)) == "ready"


def test_row_24_a_policy_that_cannot_be_made_is_refused(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kit.say(numbers(1)) == "ready"

    def breaks(self: RetryOptions) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(RetryOptions, "__post_init__", breaks)
    assert kit.say(numbers(1, attempts=5)) == "selftest"
    assert kit.loader.status.generation == 1
    monkeypatch.undo()
    assert kit.say(numbers(1, attempts=6)) == "ready", "the process is healthy"


def test_the_self_test_makes_every_policy_of_the_document() -> None:
    from resilient.config.decode import decode
    from resilient.config.snapshot import Noted

    from .samples import JSON

    read = document(a_json=JSON)
    seen: list[Snapshot] = []
    snapshot = Snapshot(1, "", Noted(), read.sources, decode(read).targets)
    try_out(snapshot, seen.append)
    assert seen == [snapshot]


def test_row_25_a_document_beyond_the_cap_of_items_is_refused(kit: Kit) -> None:
    half = numbers(MOST_ITEMS // 2 + 1)
    assert kit.say(half) == "ready"
    with capture_events() as seen:
        assert kit.say(numbers(MOST_ITEMS + 2)) == "size"
    assert "50,002 flags and numbers; at most 50,000" in kit.problem
    assert kit.loader.status.generation == 1
    (event,) = seen.named("resilient.config.rejected")
    assert event.reason == "size", "what the alert counts"  # type: ignore[attr-defined]


def test_row_25_flags_and_numbers_count_together() -> None:
    tree = {"flags": {str(n): {} for n in range(MOST_ITEMS)}, **numbers(1)}
    with pytest.raises(DocumentError, match="50,001 flags and numbers"):
        refuse_too_many(document(a_json=json.dumps(tree)))


@pytest.mark.parametrize(
    "tree",
    [
        {"resiliency": None},
        {"resiliency": {"targets": None}},
        {"resiliency": {"targets": {"payments": None}}},
        {"resiliency": {"targets": {"payments": {"retry": None}}}},
        {"resiliency": {"targets": {"payments": {"retry": {"attempts": None}}}}},
        {"resiliency": {"targets": {"payments": {"ratelimit": {"rate": None}}}}},
        {"resiliency": {"targets": {"payments": {"retry": {"wait": None}}}}},
        {"resiliency": {"policies": {"retry": None}}},
        {"flags": None},
        {"flags": {"a": None}},
        {"flags": {"a": {**switch(), "variants": None}}},
        {"flags": {"a": {**switch(), "state": None}}},
        {"flags": {"a": {**switch(), "metadata": None}}},
        {"degradation": None},
        {"degradation": {"levels": None}},
        {"degradation": {"levels": LEVELS, "level": None}},
        {"metadata": None},
        {"metadata": {"allowMassChange": None}},
        {"metadata": {"allowMassChange": " "}},
    ],
)
def test_row_26_a_blank_where_something_must_stand_is_refused(kit: Kit, tree: Any) -> None:
    assert kit.say(WHOLE) == "ready"
    assert kit.say(tree) == "structure"
    assert (kit.attempts, STATE.flags.level) == (5, 2)


def test_row_44_what_is_refused_a_hundred_times_is_told_once(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    assert kit.say(WHOLE) == "ready"
    with capture_events() as seen:
        for _ in range(100):
            assert kit.say("{}") == "guard"
    assert seen.names == ["resilient.config.rejected"]
    assert sum("is protected, and gone" in each.message for each in caplog.records) == 1
