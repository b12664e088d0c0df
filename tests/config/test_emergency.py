"""The emergency document: above the config document, value by value, and never in its way. Row 30."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from resilient import (
    CircuitBreaker,
    ConfigError,
    DocumentError,
    Pipeline,
    Retry,
    configure,
    features,
    standard,
)
from resilient.config import explain, load, status
from resilient.config.live import Live
from resilient.config.loader import Loader
from resilient.config.section import Section
from resilient.config.sections import SECTIONS
from resilient.core.registry import Registry
from resilient.flags.state import NOTHING, STATE, publish
from resilient.testing import KubeletVolume, ManualClock, capture_events

LEVELS = {"levels": ["normal", "light", "heavy"]}
LADDER = {
    "state": "ENABLED",
    "variants": {"full": "full", "off": "off"},
    "defaultVariant": "full",
    "metadata": {"degrade": "heavy:off"},
}


def numbers(**targets: Any) -> dict[str, Any]:
    return {"resiliency": {"targets": targets}}


def files(tree: Any) -> dict[str, str]:
    return {"a.json": tree if isinstance(tree, str) else json.dumps(tree)}


class Kit:
    """A loader that follows two volumes, turned by hand."""

    def __init__(self, directory: Path, sections: Any = ()) -> None:
        self.main = KubeletVolume(directory / "main")
        self.emergency = KubeletVolume(directory / "emergency")
        clock = ManualClock()
        registry = Registry()
        self.pipeline = Pipeline(Retry(3), CircuitBreaker(), name="payments", clock=clock)
        registry.add(self.pipeline)
        self.live = Live(registry)
        self.loader = Loader(
            self.main.directory,
            lambda: (self.live, sections),
            clock,
            emergency=self.emergency.directory,
        )

    def look(self) -> tuple[str, str]:
        list(self.loader.begin())
        self.loader.finish(None)
        status = self.loader.status
        assert status.emergency is not None
        return status.state, status.emergency.state

    @property
    def attempts(self) -> int:
        return int(self.pipeline["retry"].options.attempts)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


@pytest.fixture
def flags(tmp_path: Path) -> Any:
    """One whose features are those of the process."""
    assert STATE.flags is NOTHING
    yield Kit(tmp_path, SECTIONS)
    publish(NOTHING)


def test_its_numbers_stand_above_the_documents_one_by_one(kit: Kit) -> None:
    kit.main.write(files(numbers(payments={"retry": {"attempts": 5, "wait": {"base": "50ms"}}})))
    kit.emergency.write(
        files(numbers(payments={"retry": {"attempts": 1}, "breaker": {"state": "forced_open"}}))
    )
    assert kit.look() == ("ready", "ready")
    said = [
        str(kit.live.explain(f"payments.{leaf}"))
        for leaf in ("retry.attempts", "retry.wait.base", "breaker.state")
    ]
    assert said == [
        "payments.retry.attempts = 1 (from the emergency document at a.json:1)",
        "payments.retry.wait.base = 0.05 (from the document at a.json:1)",
        "payments.breaker.state = forced_open (from the emergency document at a.json:1)",
    ]
    kit.emergency.write(files("{}"))
    kit.look()
    assert str(kit.live.explain("payments.retry.attempts")).startswith(
        "payments.retry.attempts = 5 (from the document"
    )
    assert kit.live.explain("payments.breaker.state").layer == "code"


def test_it_can_take_back_what_the_document_forces(kit: Kit) -> None:
    kit.main.write(files(numbers(payments={"breaker": {"state": "forced_open"}})))
    kit.emergency.write(files(numbers(payments={"breaker": {"state": None}})))
    kit.look()
    assert kit.pipeline["breaker"].options.state is None


@pytest.mark.parametrize("broken", ["{", '{"resilience": {}}', '{"flags": {"a": {}}}', None])
def test_row_30_a_broken_document_does_not_keep_it_out(flags: Kit, broken: str | None) -> None:
    flags.main.write({} if broken is None else files(broken))
    flags.emergency.write(files(numbers(payments={"breaker": {"state": "forced_open"}})))
    assert flags.look() == ("not_ready", "ready")
    assert flags.pipeline["breaker"].options.state == "forced_open"
    flags.main.write(files(numbers(payments={"retry": {"attempts": 5}})))
    assert flags.look() == ("ready", "ready")
    flags.main.write({} if broken is None else files(broken))
    flags.emergency.write(files(numbers(payments={"breaker": {"state": "disabled"}})))
    assert flags.look() == ("stale", "ready")
    assert flags.pipeline["breaker"].options.state == "disabled"
    assert flags.attempts == 5, "what was in force of the other stays"


@pytest.mark.parametrize("broken", ["{", '{"flags": {}}', '{"degradation": {"level": "heavie"}}', None])
def test_row_30_when_it_is_broken_the_document_goes_on(flags: Kit, broken: str | None) -> None:
    document = numbers(payments={"retry": {"attempts": 5}}) | {"degradation": LEVELS}
    flags.main.write(files(document))
    flags.emergency.write(
        files({"degradation": {"level": "light"}, **numbers(payments={"breaker": {"state": "observe"}})})
    )
    assert flags.look() == ("ready", "ready")
    assert STATE.flags.level == 1
    flags.emergency.write({} if broken is None else files(broken))
    document["resiliency"]["targets"]["payments"]["retry"]["attempts"] = 6
    flags.main.write(files(document))
    assert flags.look() == ("ready", "stale")
    assert (flags.attempts, flags.pipeline["breaker"].options.state, STATE.flags.level) == (6, "observe", 1)


def test_the_level_stands_above_the_documents(flags: Kit) -> None:
    flags.main.write(files({"flags": {"search": LADDER}, "degradation": {**LEVELS, "level": "light"}}))
    flags.look()
    assert (STATE.flags.level, features.variant("search", default="x")) == (1, "full")
    assert (
        str(flags.live.explain("degradation.level"))
        == "degradation.level = 1 (from the document at a.json:1)"
    )
    flags.emergency.write({"e.yaml": "degradation:\n  level: heavy\n...\n"})
    flags.look()
    assert (STATE.flags.level, features.variant("search", default="x")) == (2, "off")
    said = str(flags.live.explain("degradation.level"))
    assert said == "degradation.level = 2 (from the emergency document at e.yaml:2)"
    flags.main.write(files({"flags": {"search": LADDER}, "degradation": LEVELS}))
    assert flags.look() == ("ready", "ready")
    assert STATE.flags.level == 2, "another document under it moves nothing"
    flags.emergency.write({"e.yaml": "metadata: {version: over}\n...\n"})
    flags.look()
    assert STATE.flags.level == 0
    assert flags.loader.status.emergency is not None
    assert flags.loader.status.emergency.version == "over"


def test_without_any_document_the_level_is_the_codes() -> None:
    assert str(Live(Registry()).explain("degradation.level")) == "degradation.level = 0 (from the code)"


def test_a_level_that_the_document_lacks_is_refused_and_told_with_its_place(
    flags: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    flags.main.write(files({"degradation": LEVELS}))
    flags.look()
    flags.emergency.write({"e.yaml": "degradation:\n  level: heavie\n...\n"})
    assert flags.look() == ("ready", "not_ready")
    assert flags.loader.status.emergency is not None
    assert str(flags.loader.status.emergency.problem) == (
        "e.yaml:2: degradation.level: the emergency document does not fit the config document: there is no level "
        "'heavie'; write 0 (normal) or 1 (light) or 2 (heavy)"
    )
    assert "nothing of it holds" in caplog.text


def test_a_document_without_the_level_that_is_in_force_is_refused(flags: Kit) -> None:
    """It would take the emergency's protection away."""
    flags.main.write(files({"degradation": LEVELS}))
    flags.emergency.write(files({"degradation": {"level": "heavy"}}))
    flags.look()
    flags.main.write(files({"degradation": {"levels": ["normal", "light"]}}))
    assert flags.look() == ("stale", "ready")
    problem = flags.loader.status.problem
    assert isinstance(problem, DocumentError)
    assert problem.reason == "emergency"
    assert STATE.flags.level == 2
    flags.emergency.write(files("{}"))
    flags.look()
    assert flags.look() == ("ready", "ready"), "now that the emergency is over, it is tried again"


def test_what_did_not_fit_is_tried_again_with_the_next_document(
    flags: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    flags.main.write(files({"degradation": {"levels": ["normal", "light"]}}))
    flags.look()
    flags.emergency.write(files({"degradation": {"level": "heavy"}}))
    for _ in range(3):
        assert flags.look() == ("ready", "not_ready")
    assert caplog.text.count("does not fit") == 1
    flags.main.write(files({"degradation": LEVELS}))
    assert flags.look() == ("ready", "ready")
    assert STATE.flags.level == 2


def test_a_level_waits_for_a_document_that_has_it(flags: Kit, caplog: pytest.LogCaptureFixture) -> None:
    urgent = {"degradation": {"level": "heavy"}, **numbers(payments={"breaker": {"state": "forced_open"}})}
    flags.emergency.write(files(urgent))
    for _ in range(3):
        assert flags.look() == ("not_ready", "stale")
    assert flags.pipeline["breaker"].options.state == "forced_open"
    flags.main.write(files({"degradation": {"levels": ["normal", "light"]}}))
    for _ in range(3):
        assert flags.look() == ("ready", "stale"), "it never was in force, and holds up nobody"
    assert STATE.flags.level == 0
    assert (
        str(flags.live.explain("degradation.level"))
        == "degradation.level = 0 (from the document at a.json:1)"
    )
    waits = [each.message for each in caplog.records if "the rest of it is in force" in each.message]
    assert len(waits) == 2
    flags.main.write(files({"degradation": LEVELS}))
    assert flags.look() == ("ready", "ready")
    assert STATE.flags.level == 2


def test_what_waits_is_told_again_after_something_else_was_wrong(flags: Kit) -> None:
    flags.emergency.write(files({"degradation": {"level": "heavy"}}))
    flags.look()
    flags.emergency.write(files("{"))
    flags.look()
    flags.emergency.write(files({"degradation": {"level": "heavy"}}))
    assert flags.look() == ("not_ready", "stale")
    assert flags.loader.status.emergency is not None
    assert "the config document has no levels" in str(flags.loader.status.emergency.problem)


def test_a_plans_switch_stands_above_the_documents(tmp_path: Path) -> None:
    published: list[Any] = []
    section = Section(frozenset({"plans"}), lambda tree: tree.get("plans"), published.append)
    kit = Kit(tmp_path, (section,))
    plans = {"sale": {"kind": "emergency", "active": False}, "other": {"active": False}}
    kit.main.write(files({"plans": plans}))
    kit.look()
    kit.emergency.write(files({"plans": {"sale": {"active": True}}}))
    assert kit.look() == ("ready", "ready")
    assert published[-1] == {"sale": {"kind": "emergency", "active": True}, "other": {"active": False}}
    kit.emergency.write(files({"plans": {"sail": {"active": True}}}))
    assert kit.look() == ("ready", "stale")
    assert kit.loader.status.emergency is not None
    assert "the config document has no plan 'sail'" in str(kit.loader.status.emergency.problem)


MUST_NOT = "must not stand in the emergency document"


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"flags": {}}, MUST_NOT),
        ({"$evaluators": {}}, MUST_NOT),
        ({"degradation": {"levels": ["a"]}}, MUST_NOT),
        ({"degradation": {"level": True}}, "True must be a level; write its number or its name"),
        ({"degradation": {"level": 1.5}}, "must be a level"),
        ({"degradation": []}, "must be a mapping"),
        ({"resiliency": {"policies": {}}}, MUST_NOT),
        ({"resiliency": 5}, "must be a mapping"),
        ({"resiliency": {"targets": {"a": None}}}, "must be a mapping"),
        ({"resiliency": {"targets": {"a": {"retry": "careful"}}}}, "names a policy of the config document"),
        (
            {"resiliency": {"targets": {"a": {"retry": {"use": "careful"}}}}},
            "names a policy of the config document",
        ),
        ({"resiliency": {"targets": {"a": {"retry": 5}}}}, "5 must be a mapping"),
        ({"resiliency": {"targets": {"a": {"retry": {"atempts": 5}}}}}, "write attempts"),
        ({"resiliency": {"targets": {"a": {"breaker": {"state": "open"}}}}}, "forced_open"),
        ({"metadata": {"version": [1]}}, "must be a printable text"),
        ({"plans": {"sale": {"window": {}}}}, MUST_NOT),
        ({"plans": {"sale": {"active": "yes"}}}, "must be true or false"),
        ({"plans": {"sale": None}}, "must be a mapping"),
        ({"flags": {}, "degradation": {"levels": []}}, "2 things are wrong"),
    ],
)
def test_it_says_what_an_emergency_needs_and_nothing_else(tmp_path: Path, tree: Any, said: str) -> None:
    kit = Kit(tmp_path, (Section(frozenset({"plans", "flags"}), lambda tree: None, lambda part: None),))
    kit.emergency.write({"e.json": json.dumps(tree)})
    kit.look()
    assert kit.loader.status.emergency is not None
    problem = kit.loader.status.emergency.problem
    assert isinstance(problem, DocumentError)
    assert said in str(problem)
    assert "e.json:1" in str(problem)


def test_a_plan_that_is_not_there_cannot_be_switched(kit: Kit) -> None:
    kit.emergency.write(files({"plans": {"sale": {"active": True}}}))
    kit.look()
    assert kit.loader.status.emergency is not None
    problem = str(kit.loader.status.emergency.problem)
    assert "plans.sale.active: " in problem
    assert "the config document has no plan 'sale'; write it there first" in problem


def test_a_pipeline_that_cannot_take_both_names_both(kit: Kit) -> None:
    kit.main.write(files(numbers(payments={"breaker": {"open_for": "10s"}})))
    kit.look()
    kit.emergency.write(files(numbers(payments={"breaker": {"max_open": "5s"}})))
    assert kit.look() == ("ready", "not_ready")
    assert kit.loader.status.emergency is not None
    assert "cannot take the two documents together" in str(kit.loader.status.emergency.problem)


def test_each_has_generations_and_events_of_its_own(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kit.main.write(files(numbers(payments={"retry": {"attempts": 5}})))
    with capture_events() as seen:
        kit.look()
        for n in (1, 2):
            kit.emergency.write(
                files(numbers(payments={"retry": {"attempts": n}}) | {"metadata": {"version": f"v{n}"}})
            )
            kit.look()
    applied: list[Any] = seen.named("resilient.config.applied")
    assert [(each.operation, each.generation, each.version) for each in applied] == [
        (str(kit.main.directory), 1, None),
        (str(kit.emergency.directory), 1, "v1"),
        (str(kit.emergency.directory), 2, "v2"),
    ]
    assert kit.loader.status.generation == 1
    assert "payments: retry.attempts 5 -> 1 (emergency a.json:1)" in caplog.text


@pytest.mark.usefixtures("center")
class TestProcess:
    def test_it_is_followed_beside_the_document(self, volume: KubeletVolume, tmp_path: Path) -> None:
        emergency = KubeletVolume(tmp_path / "emergency")
        pipeline = standard("payments")
        configure(volume.directory, emergency=emergency.directory)
        volume.write(files(numbers(payments={"retry": {"attempts": 5}})))
        assert load().emergency is not None
        emergency.write(files(numbers(payments={"retry": {"attempts": 2}})))
        load()
        assert pipeline["retry"].options.attempts == 2
        assert explain("payments.retry.attempts").layer == "emergency"
        emergency.write(files("{"))
        found = load()
        assert found.emergency is not None
        assert (found.state, found.emergency.state) == ("ready", "stale"), "who waits for the document has it"
        configure(volume.directory)
        load()
        assert pipeline["retry"].options.attempts == 5
        assert status().emergency is None

    def test_it_is_followed_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        emergency = KubeletVolume(tmp_path / "emergency")
        monkeypatch.setenv("RESILIENT_EMERGENCY_DIR", str(emergency.directory))
        pipeline = standard("payments")
        emergency.write(files(numbers(payments={"breaker": {"state": "forced_open"}})))
        assert load().state == "not_ready"
        assert pipeline["breaker"].options.state == "forced_open"
        monkeypatch.delenv("RESILIENT_EMERGENCY_DIR")
        configure()
        assert pipeline["breaker"].options.state is None

    def test_its_state_is_a_metric_of_its_own(self, volume: KubeletVolume, tmp_path: Path) -> None:
        from tests.telemetry.collected import collecting

        with collecting() as seen:
            configure(volume.directory)
            assert seen.points("resilient.config.emergency.state") == []
            emergency = KubeletVolume(tmp_path / "emergency")
            configure(volume.directory, emergency=emergency.directory)
            volume.write(files('{"degradation": {"levels": ["normal"]}}'))
            emergency.write(files("{}"))
            load()
            assert seen.one("resilient.config.emergency.state", state="ready") == 1
            assert seen.one("resilient.config.emergency.values") == 0
            emergency.write(
                files(
                    '{"degradation": {"level": 0}, "resiliency": {"targets": {"payments":'
                    ' {"retry": {"attempts": 1, "wait": {"base": "1s"}}, "breaker": {"state": null}}}}}'
                )
            )
            load()
            assert seen.one("resilient.config.emergency.values") == 4
            emergency.write(files("["))
            load()
            assert seen.one("resilient.config.emergency.state", state="stale") == 1
            assert seen.one("resilient.config.emergency.values") == 4, "they stay in force"
            assert seen.one("resilient.config.state", state="ready") == 1
            emergency.write(files('{"degradation": {"level": 0}}'))
            configure(tmp_path / "nowhere", emergency=emergency.directory)
            with pytest.raises(ConfigError):
                load()
            assert seen.one("resilient.config.emergency.values") == 0, "the level waits for a document"

    @pytest.mark.parametrize("field", ["emergency", "bundled", "cache"])
    @pytest.mark.parametrize("path", ["", 7, b"/etc", "a\0b"])
    def test_what_is_no_path_is_refused(self, field: str, path: Any) -> None:
        with pytest.raises(
            ConfigError, match=rf"configure: {field}=.* must be a path; write configure\({field}='/"
        ):
            configure(**{field: path})
