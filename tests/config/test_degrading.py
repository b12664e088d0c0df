"""Plans, the automatic level, what persons set, and what is given back slowly, over a document in a volume.

The rows are numbered as in the table of what can go wrong between a ConfigMap and a process."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import CircuitBreaker, ConfigError, Pipeline, RateLimit, Retry, configure, features, standard
from resilient.config import explain, history, load, override, status
from resilient.config.degrading import Degrading
from resilient.config.live import Live
from resilient.config.loader import Loader
from resilient.config.overrides import Overrides
from resilient.config.records import History
from resilient.config.sections import SECTIONS
from resilient.config.signals import Signals
from resilient.core.registry import Registry
from resilient.discovery.refresher import Refresher
from resilient.flags.state import NOTHING, STATE, publish
from resilient.testing import KubeletVolume, ManualClock, capture_events

LEVELS = ["normal", "light", "heavy", "survival"]
FLAGS = {
    "search": {
        "state": "ENABLED",
        "variants": {"full": "full", "cached": "cached", "off": "off"},
        "defaultVariant": "full",
        "metadata": {"degrade": "1:cached,3:off"},
    },
    "page": {"state": "ENABLED", "variants": {"big": 48, "small": 12}, "defaultVariant": "big"},
    "pay": {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "on",
        "metadata": {"protected": True},
    },
}


class WallClock(ManualClock):
    """A clock whose wall time somebody may set."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Kit:
    """A loader over two volumes, with all that moves the flags, turned by hand."""

    def __init__(self, directory: Path) -> None:
        self.main = KubeletVolume(directory / "main")
        self.emergency = KubeletVolume(directory / "emergency")
        self.emergency.write({"e.json": "{}"})
        self.clock = WallClock()
        self.history = History()
        registry = Registry()
        self.pipeline = Pipeline(
            Retry(3), CircuitBreaker(), RateLimit("50/second"), name="payments", clock=self.clock
        )
        registry.add(self.pipeline)
        self.live = Live(registry)
        self.readings: dict[str, float] = {}
        signals = Signals(self.clock, directory / "none")
        signals.add("queue", lambda: self.readings.get("queue"))
        self.degrading = Degrading(self.clock, signals, lambda feature: 0.5)
        self.degrading.follow(self.live.use_plans, self.history)
        section = SECTIONS[0]._replace(publish=self.degrading.take, look=self.degrading.look)
        self.loader = Loader(
            self.main.directory,
            lambda: (self.live, [section]),
            self.clock,
            emergency=self.emergency.directory,
            history=self.history,
        )
        self.refresher = Refresher(self.clock)
        self.refresher._start = lambda: None  # type: ignore[method-assign]  # it is turned by hand
        self.overrides = Overrides(
            self.live, self.history, self.refresher, self.clock, degrading=self.degrading
        )

    def say(self, level: int | str = 0, plans: Any = None, **degradation: Any) -> str:
        tree = {"flags": FLAGS, "degradation": {"levels": LEVELS, "level": level, **degradation}}
        if plans is not None:
            tree["plans"] = plans
        self.main.write({"a.json": json.dumps(tree)})
        return self.look()

    def look(self) -> str:
        list(self.loader.begin())
        self.loader.finish(None)
        return self.loader.status.state

    def after(self, seconds: float) -> None:
        """So much later, a look every second."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.look()
        self.clock.advance(seconds - int(seconds))
        self.look()

    def window(self, start: float, end: float) -> dict[str, str]:
        """One that begins and ends so many seconds from now."""
        now = self.clock.time()
        moments = (datetime.datetime.fromtimestamp(now + at, datetime.UTC).isoformat() for at in (start, end))
        return dict(zip(("start", "end"), moments, strict=True))

    def why(self, key: str) -> str:
        return str(self.live.explain(key))

    @property
    def attempts(self) -> int:
        return int(self.pipeline["retry"].options.attempts)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    publish(NOTHING)
    yield Kit(tmp_path)
    publish(NOTHING)


def search() -> str:
    return features.variant("search", "none")


# ---------------------------------------------------------------------------------------------------------------- plans
def sale(kit: Kit, start: float = 10.0, end: float = 20.0, **more: Any) -> dict[str, Any]:
    sets = {"level": "light", "flags": {"page": "small"}, "targets": {"payments": {"retry": {"attempts": 1}}}}
    return {"kind": "scheduled", "owner": "sre", "window": kit.window(start, end), "set": sets, **more}


def test_row_33_a_plan_holds_in_its_window_to_a_tick(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert kit.say(plans={"sale": sale(kit)}, restoreRamp="0s") == "ready"
    with capture_events() as events:
        kit.after(9.9)
        assert (features.level(), search(), kit.attempts) == (0, "full", 3)
        kit.clock.advance(0.1)
        kit.look()
        assert (features.level(), search(), features.details("page").value, kit.attempts) == (
            1,
            "cached",
            12,
            1,
        )
        assert features.details("page").cause == "plan:sale"
        assert kit.degrading.plans == ("sale",)
        kit.after(9.9)
        assert (features.level(), kit.attempts) == (1, 1)
        kit.clock.advance(0.2)
        kit.look()
        assert (features.level(), search(), features.details("page").value, kit.attempts) == (
            0,
            "full",
            48,
            3,
        )
    told = [
        (e.dependency, e.active, e.kind, e.owner) for e in events.named("resilient.degradation.plan_changed")
    ]
    assert told == [("sale", True, "scheduled", "sre"), ("sale", False, "scheduled", "sre")]
    kinds = [each.result for each in kit.history.changes()]
    assert kinds == ["applied", "applied", "plan", "plan_ended"]
    begun = kit.history.changes()[2]
    assert begun.source == "plans.sale"
    assert {str(each) for each in begun.differences} == {
        "degradation.level: 0 -> 1",
        "flags.search: full -> cached",
        "flags.page: big -> small",
        "payments.retry.attempts: 3 -> 1",
    }
    assert "plan sale holds from now on, owner sre (degradation.level: 0 -> 1" in caplog.text
    assert "degradation: level 0 (normal) -> 1 (light) by plan:sale" in caplog.text
    assert "plan sale does not hold any more" in caplog.text


def test_row_18_the_wall_clock_is_set(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    kit.say(plans={"sale": sale(kit, 3_600.0, 7_200.0)}, restoreRamp="0s")
    kit.after(5.0)
    assert features.level() == 0
    kit.clock.ahead = 3_600.0
    kit.after(5.0)
    assert features.level() == 1, "windows go by the wall clock"
    kit.clock.ahead = -3_600.0
    kit.after(5.0)
    assert features.level() == 0
    assert caplog.text.count("the clock of this machine jumped by") == 2, "once for each jump"
    assert "jumped by +3600.0 s" in caplog.text


def test_an_emergency_plan_is_switched_by_the_document_or_by_the_emergency_document(kit: Kit) -> None:
    plan = {"kind": "emergency", "set": {"level": "survival"}}
    kit.say(plans={"meltdown": plan}, restoreRamp="0s")
    assert features.level() == 0
    kit.emergency.write({"e.json": '{"plans": {"meltdown": {"active": true}}}'})
    kit.look()
    assert (features.level(), search(), features.enabled("pay")) == (3, "off", True)
    assert kit.why("plans.meltdown.active").startswith(
        "plans.meltdown.active = True (from the emergency document at"
    )
    kit.emergency.write({"e.json": '{"plans": {"meltdown": {"active": false}}}'})
    kit.look()
    assert features.level() == 0
    kit.say(plans={"meltdown": plan | {"active": True}}, restoreRamp="0s")
    assert features.level() == 0, "the emergency document stands above"
    kit.emergency.write({"e.json": "{}"})
    kit.look()
    assert features.level() == 3


def test_a_plan_of_a_group_cannot_be_switched_on_beside_another(kit: Kit) -> None:
    plans = {
        name: {"kind": "emergency", "exclusiveGroup": "big", "active": name == "a", "set": {"level": level}}
        for name, level in (("a", 1), ("b", 2))
    }
    kit.say(plans=plans)
    assert features.level() == 1
    kit.emergency.write({"e.json": '{"plans": {"b": {"active": true}}}'})
    kit.look()
    assert features.level() == 1
    assert kit.loader.status.emergency is not None
    assert "'a' and 'b' are both active, and of the group 'big' only one may hold" in str(
        kit.loader.status.emergency.problem
    )
    kit.emergency.write({"e.json": '{"plans": {"a": {"active": false}, "b": {"active": true}}}'})
    kit.look()
    assert features.level() == 2


def test_the_numbers_of_a_plan_stand_above_the_document_and_below_the_emergency(kit: Kit) -> None:
    plan = {
        "kind": "emergency",
        "set": {"targets": {"payments": {"retry": {"attempts": 2}, "ratelimit": {"rate": "20/second"}}}},
    }
    tree = {
        "flags": FLAGS,
        "degradation": {"levels": LEVELS},
        "resiliency": {"targets": {"payments": {"retry": {"attempts": 5}}}},
        "plans": {"calm": plan},
    }
    kit.main.write({"a.json": json.dumps(tree)})
    kit.look()
    assert kit.attempts == 5
    kit.emergency.write({"e.json": '{"plans": {"calm": {"active": true}}}'})
    kit.look()
    assert (kit.attempts, kit.pipeline["ratelimit"].options.rate.text) == (2, "20/second")
    found = kit.live.explain("payments.retry.attempts")
    assert (found.layer, found.value) == ("plan", 2)
    assert str(found) == "payments.retry.attempts = 2 (from the plan at a.json:1)"
    kit.emergency.write(
        {
            "e.json": json.dumps(
                {
                    "plans": {"calm": {"active": True}},
                    "resiliency": {"targets": {"payments": {"retry": {"attempts": 1}}}},
                }
            )
        }
    )
    kit.look()
    assert (kit.attempts, kit.live.explain("payments.retry.attempts").layer) == (1, "emergency")
    kit.emergency.write({"e.json": "{}"})
    kit.look()
    assert (kit.attempts, kit.pipeline["ratelimit"].options.rate.text) == (5, "50/second")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"payments": {"retry": {"attemps": 2}}}, "plans.p.set.targets.payments.retry.attemps: no such key; write"),
        ({"payments": {"retry": {"attempts": 0}}}, "plans.p.set.targets.payments.retry.attempts: 0 must be"),
        ({"payments": {"retry": "careful"}}, "plans.p.set.targets.payments.retry: \"careful\" is no name in"),
        ({"payments": {"retries": {}}}, "plans.p.set.targets.payments.retries: no such key; write retry"),
        (
            {"payments": {"breaker": {"open_for": "90s"}}},
            "plans.p.set.targets.payments: a pipeline of this process cannot take plan p: ",
        ),
    ],
)  # fmt: skip
def test_numbers_that_no_policy_could_take_are_refused_before_they_are_wanted(
    kit: Kit, targets: Any, said: str
) -> None:
    kit.say()
    assert kit.say(plans={"p": {"kind": "emergency", "set": {"targets": targets}}}) == "stale"
    assert said in str(kit.loader.status.problem)
    assert kit.degrading.plans == ()


def test_a_plan_that_leaves_the_document_ends(kit: Kit) -> None:
    plan = {"kind": "emergency", "active": True, "set": {"level": 2}}
    kit.say(plans={"meltdown": plan}, restoreRamp="0s")
    assert features.level() == 2
    kit.say(restoreRamp="0s")
    assert (features.level(), kit.degrading.plans) == (0, ())
    assert [each.result for each in kit.history.changes()][-2:] == ["plan_ended", "applied"]


def test_a_pinned_level_is_what_the_document_says(kit: Kit) -> None:
    plan = {"kind": "emergency", "active": True, "set": {"level": 3, "flags": {"page": "small"}}}
    auto = {"mode": "on", "maxLevel": 2, "enterFor": "0s", "signals": {"queue": {"enter": 10, "exit": 1}}}
    kit.readings["queue"] = 50.0
    kit.say(1, plans={"p": plan}, auto=auto, pin=True)
    kit.after(10)
    assert features.level() == 1
    assert features.variant("page", "none") == "small", "of plans only the level is not heeded"


# ------------------------------------------------------------------------------------------------------------ protected
def test_row_32_what_is_protected_is_switched_by_nothing(kit: Kit) -> None:
    plan = {"kind": "emergency", "active": True, "set": {"level": 3}}
    auto = {"mode": "on", "maxLevel": 3, "enterFor": "0s", "signals": {"queue": {"enter": 10, "exit": 1}}}
    kit.readings["queue"] = 50.0
    kit.say(3, plans={"p": plan}, auto=auto)
    kit.after(10)
    assert (features.level(), features.enabled("pay")) == (3, True)
    assert features.details("pay").cause == "protected"
    with pytest.raises(ConfigError, match=r"override: flags\.pay is protected, and stays what it is"):
        kit.overrides.put("flags.pay", "off", 60.0, "INC-12")
    assert kit.say(3, plans={"p": {"kind": "emergency", "set": {"flags": {"pay": "off"}}}}) == "stale"
    assert features.enabled("pay")


# ------------------------------------------------------------------------------------------------------------ overrides
def test_row_31_a_feature_for_a_time(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    kit.say(1)
    with capture_events() as events:
        kit.overrides.put("flags.search", "off", 60.0, "INC-12")
        assert (search(), features.details("search").cause) == ("off", "override")
        assert kit.why("flags.search").startswith("flags.search = off (from the override: INC-12, until ")
        second = kit.overrides.put("flags.search", "full", 30.0, "INC-13")
        assert search() == "full", "of two the last holds"
        second.end()
        assert search() == "off"
        kit.clock.advance(59.9)
        kit.refresher.run_due()
        assert search() == "off"
        kit.clock.advance(0.2)
        kit.refresher.run_due()
        assert search() == "cached", "at once: the person said for how long"
    assert [each.result for each in kit.history.changes()[-4:]] == [
        "override",
        "override",
        "override_ended",
        "override_ended",
    ]
    assert [str(each) for each in kit.history.changes()[-1].differences] == ["flags.search: off -> cached"]
    told = events.named("resilient.config.overridden")
    assert (told[0].dependency, told[0].operation, told[0].value) == ("flags", "search", "off")
    assert "config: the override flags.search='off' (INC-12) is in force for 60 s" in caplog.text


def test_row_31_the_level_for_a_time(kit: Kit) -> None:
    kit.say(0, restoreRamp="0s")
    with kit.overrides.put("degradation.level", "heavy", 60.0, "INC-12") as made:
        assert (made.value, features.level(), search()) == (2, 2, "cached")
        assert kit.why("degradation.level").startswith(
            "degradation.level = 2 (from the override: INC-12, until "
        )
        kit.say(3, restoreRamp="0s")
        assert features.level() == 2, "above all else"
    assert features.level() == 3


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "flags.serach",
            "off",
            r"flags\.serach is no feature of the flags in force; did you mean flags\.search\?",
        ),
        ("flags.search", "of", r"flags\.search: 'of' is no variant of it; write one of full, cached, off"),
        ("flags.search", True, r"flags\.search: True is no variant"),
        ("degradation.level", 4, r"there is no level 4; write 0 \(normal\) or 1 \(light\)"),
        ("degradation.level", True, r"there is no level True"),
        ("degradation.level", "hevy", r"there is no level 'hevy'"),
        ("degradation.levels", 1, r"names no number"),
        ("flags.", "off", r"flags\. is no feature"),
    ],
)
def test_what_a_person_cannot_set(kit: Kit, key: str, value: Any, said: str) -> None:
    kit.say()
    with pytest.raises(ConfigError, match=said):
        kit.overrides.put(key, value, 60.0, "INC-12")
    assert kit.overrides.all == ()


def test_before_there_are_flags_nothing_is_set(kit: Kit) -> None:
    with pytest.raises(ConfigError, match=r"flags\.search: no flags are in force in this process"):
        kit.overrides.put("flags.search", "off", 60.0, "INC-12")


def test_an_override_of_a_feature_that_has_gone_waits_for_it(kit: Kit) -> None:
    kit.say()
    kit.overrides.put("flags.page", "small", 60.0, "INC-12")
    assert features.details("page").value == 12
    fewer = {key: FLAGS[key] for key in ("search", "pay")}
    kit.main.write({"a.json": json.dumps({"flags": fewer, "degradation": {"levels": LEVELS}})})
    assert kit.look() == "ready"
    assert features.details("page", 1).value == 1
    kit.say()
    assert features.details("page").value == 12


# ----------------------------------------------------------------------------------------------------- automatic level
AUTO = {
    "maxLevel": "heavy",
    "enterFor": "5s",
    "exitFor": "60s",
    "signals": {"queue": {"enter": 10, "exit": 1}},
}


def test_row_35_signals_move_the_level(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kit.say(auto={"mode": "on", **AUTO}, restoreRamp="0s")
    kit.readings["queue"] = 20.0
    with capture_events() as events:
        kit.after(5)
        assert features.level() == 0
        kit.after(2)
        assert (features.level(), search()) == (1, "cached")
        assert kit.why("degradation.level") == "degradation.level = 1 (from the auto)"
        kit.after(60)
        assert features.level() == 2, "never above maxLevel"
        kit.readings["queue"] = 0.0
        kit.after(59)
        assert features.level() == 2
        kit.after(65)
        assert (features.level(), search()) == (0, "full")
    moves = [(e.old, e.new, e.shadow) for e in events.named("resilient.degradation.auto_level_moved")]
    assert moves == [(0, 1, False), (1, 2, False), (2, 1, False), (1, 0, False)]
    assert "degradation: the automatic level 0 (normal) -> 1 (light): queue 20" in caplog.text
    assert [each.result for each in kit.history.changes()] == ["applied", "applied", *["auto_level"] * 4]


def test_row_35_in_the_shadow_it_only_tells(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    kit.say(auto={"mode": "shadow", **AUTO})
    kit.readings["queue"] = 20.0
    with capture_events() as events:
        kit.after(20)
    assert (features.level(), search()) == (0, "full")
    assert [(e.old, e.new, e.shadow) for e in events.named("resilient.degradation.auto_level_moved")] == [
        (0, 1, True),
        (1, 2, True),
    ]
    assert "degradation: the automatic level would be 0 (normal) -> 1 (light): queue 20" in caplog.text
    kit.say(auto={"mode": "on", **AUTO})
    kit.look()
    assert features.level() == 2, "switched on it is where it would have been"
    kit.say(auto={"mode": "off", **AUTO}, restoreRamp="0s")
    kit.look()
    assert features.level() == 0


def test_the_highest_of_all_holds(kit: Kit) -> None:
    plan = {"kind": "emergency", "active": True, "set": {"level": 2}}
    kit.readings["queue"] = 20.0
    kit.say(1, plans={"p": plan}, auto={"mode": "on", **AUTO}, restoreRamp="0s")
    kit.after(12)
    assert features.level() == 2
    found = kit.live.explain("degradation.level")
    assert (found.layer, found.cause) == ("plan", "plan:p")
    kit.say(3, plans={"p": plan}, auto={"mode": "on", **AUTO}, restoreRamp="0s")
    assert (features.level(), kit.live.explain("degradation.level").layer) == (3, "document")


# -------------------------------------------------------------------------------------------------------- giving back
def test_what_is_taken_at_once_is_given_back_slowly(kit: Kit) -> None:
    kit.say(0)
    kit.say(3)
    assert search() == "off"
    kit.say(0)
    assert (features.level(), search()) == (0, "off")
    assert features.details("search").cause == "restoring"
    assert 88 < kit.degrading.restoring["search"] <= 90
    assert kit.why("flags.search").endswith(", by restoring)")
    kit.after(85)
    assert search() == "off"
    kit.after(10)
    assert (search(), kit.degrading.restoring) == ("full", {})
    kit.say(1)
    assert search() == "cached", "at once"


def test_another_document_meanwhile_does_not_begin_it_anew(kit: Kit) -> None:
    kit.say(0)
    kit.say(3)
    kit.say(0)
    kit.after(80)
    kit.say(0, plans={"p": {"kind": "emergency", "set": {"level": 1}}})
    assert search() == "off"
    kit.after(12)
    assert search() == "full"


# ------------------------------------------------------------------------------------------------------ in a process
def test_all_of_it_in_a_process(
    center: None, volume: KubeletVolume, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = standard("payments", attempts=3)
    plan = {
        "kind": "emergency",
        "active": True,
        "set": {"level": 1, "flags": {"page": "small"}, "targets": {"payments": {"retry": {"attempts": 1}}}},
    }
    tree = {"flags": FLAGS, "degradation": {"levels": LEVELS, "restoreRamp": "0s"}, "plans": {"sale": plan}}
    volume.write({"a.json": json.dumps(tree)})
    configure(directory=volume.directory)
    found = load()
    assert (found.state, status().plans) == ("ready", ("sale",))
    assert (features.level(), search(), pipeline["retry"].options.attempts) == (1, "cached", 1)
    assert str(explain("flags.page")).startswith(
        "flags.page = small (from the plan at a.json:1, by plan:sale)"
    )
    assert str(explain("flags.search")) == "flags.search = cached (from the document at a.json:1, by level:1)"
    assert str(explain("flags.pay")) == "flags.pay = on (from the document at a.json:1, by protected)"
    with pytest.raises(ConfigError, match="'serach' is no feature"):
        explain("flags.serach")
    with override("flags.search", "off", ttl=60.0, reason="drill"):
        assert search() == "off"
        assert status().overrides[0].key == "flags.search"
    assert search() == "cached"
    assert [each.result for each in history()][-3:] == ["applied", "override", "override_ended"]
    configure()
    assert not STATE.ready
    assert pipeline["retry"].options.attempts == 3
