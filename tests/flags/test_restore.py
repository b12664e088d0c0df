"""Features are taken at once and given back slowly.

The rows are numbered as in the table of what can go wrong between a ConfigMap and a process."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resilient.flags.document import parse_flags
from resilient.flags.restore import Restoring, share_of
from resilient.flags.snapshot import Flags, Overlay

from .documents import document, flag, switch


def flags_of(n: int = 1, **degradation: Any) -> Flags:
    tree = document(0, **{f"f{i}": flag("full", "cached", "off", degrade="1:cached,3:off") for i in range(n)})
    tree["flags"]["pay"] = switch(protected=True)
    tree["degradation"] |= degradation
    return parse_flags(tree)


class Process:
    """One that follows the level, in virtual time."""

    def __init__(self, flags: Flags, share: float | None = 0.5, pod: str = "a") -> None:
        self.flags = flags
        self.now = 0.0
        self.restoring = Restoring((lambda key: share_of(pod, key)) if share is None else (lambda key: share))
        self.in_force = flags.under(Overlay(0))

    def at(self, level: int, now: float, **more: Any) -> str | None:
        """What the first feature is."""
        overlay = Overlay(level, **more)
        after = self.flags.under(overlay)
        held = self.restoring.look(self.in_force, after, now)
        self.in_force = self.flags.under(overlay._replace(held=held)) if held else after
        return self.in_force.table["f0"].variant


def test_it_is_taken_at_once_and_given_back_after_a_while() -> None:
    process = Process(flags_of())
    assert process.at(1, 100.0) == "cached"
    # 30 s after it was taken, and then half of 120 s.
    assert process.at(0, 110.0) == "cached"
    details = process.in_force.table["f0"]
    assert (details.cause, details.degraded, details.level) == ("restoring", True, 1)
    assert process.restoring.until == {"f0": 190.0}
    assert process.at(0, 189.9) == "cached"
    assert process.at(0, 190.0) == "full"
    assert process.restoring.until == {}
    assert process.in_force.table["pay"].cause == "protected"


def test_after_a_long_incident_the_ramp_begins_at_once() -> None:
    process = Process(flags_of())
    process.at(1, 0.0)
    assert process.at(0, 1_000.0) == "cached"
    assert process.at(0, 1_059.9) == "cached"
    assert process.at(0, 1_060.0) == "full"


def test_it_may_be_given_back_in_part() -> None:
    process = Process(flags_of())
    assert process.at(3, 0.0) == "off"
    assert process.at(1, 1_000.0) == "off"
    assert process.at(1, 1_060.0) == "cached"
    assert process.in_force.table["f0"].cause == "level:1"


def test_what_is_taken_meanwhile_begins_the_time_anew() -> None:
    process = Process(flags_of())
    process.at(1, 0.0)
    process.at(0, 1_000.0)
    assert process.at(3, 1_010.0) == "off", "at once"
    assert process.at(0, 1_020.0) == "off"
    assert process.at(0, 1_099.9) == "off"
    assert process.at(0, 1_100.0) == "full", "30 s after it was taken, and half of 120 s"


def test_without_a_ramp_it_is_given_back_at_once() -> None:
    process = Process(flags_of(restoreRamp="0s"))
    process.at(3, 0.0)
    assert process.at(0, 1.0) == "full"


def test_what_a_person_set_ends_as_that_person_says() -> None:
    process = Process(flags_of())
    assert process.at(0, 0.0, overrides={"f0": ("off", "INC-12")}) == "off"
    assert process.at(0, 1.0) == "full"
    process.at(3, 2.0)
    assert process.at(0, 3.0) == "off"
    assert process.at(0, 4.0, overrides={"f0": ("full", "INC-12")}) == "full", "stands above what is held"


def test_a_plan_that_ends_gives_back_slowly() -> None:
    process = Process(flags_of())
    assert process.at(0, 0.0, sets={"f0": ("off", "sale")}) == "off"
    assert process.at(0, 1_000.0) == "off"
    assert process.at(0, 1_060.0) == "full"


def test_what_the_document_changed_itself_is_not_held() -> None:
    process = Process(flags_of())
    process.at(3, 0.0)
    tree = document(0, f0=flag("full", "off", state="DISABLED", degrade="3:off"))
    process.flags = parse_flags(tree)
    assert process.at(0, 1.0) is None, "the document leaves it to the code"


def test_a_feature_is_given_back_at_the_same_time_in_all_workers_of_a_pod() -> None:
    assert share_of("shop-7f", "search") == share_of("shop-7f", "search")
    assert share_of("shop-7f", "search") != share_of("shop-7f", "page")
    assert share_of("shop-7f", "search") != share_of("shop-8a", "search")
    assert share_of("shop", "pagé\ud800") < 1, "any name"


def test_row_36_a_fleet_comes_back_without_a_step() -> None:
    pods, features = 100, 100
    flags = flags_of(features)
    fleet = [Process(flags, None, f"shop-{i}") for i in range(pods)]
    for process in fleet:
        process.at(3, 0.0)
    back: Counter[int] = Counter()
    degraded = pods * features
    for second in range(1_000, 1_130):
        for process in fleet:
            if process.restoring.until or second == 1_000:
                process.at(0, second)
        left = sum(len(process.restoring.until) for process in fleet)
        back[second] = degraded - left
        degraded = left
    assert degraded == 0, "all is back after the ramp"
    for second in range(1_000, 1_120):
        step = sum(back[second + i] for i in range(10))
        assert step <= 0.1 * pods * features, f"{step} of {pods * features} features within 10 s at {second}"


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.5, 1.0, 20.0, 200.0])), max_size=40),
    st.floats(0, 1, exclude_max=True),
)
def test_never_less_is_taken_than_the_level_says_and_in_the_end_no_more(
    walk: list[tuple[int, float]], share: float
) -> None:
    process = Process(flags_of(), share)
    order = ["full", "cached", "off"]
    now, level = 0.0, 0
    for level, later in walk:
        now += later
        before = process.in_force.table["f0"].variant
        found = process.at(level, now)
        at_least = order[{0: 0, 1: 1, 2: 1, 3: 2}[level]]
        assert order.index(str(found)) >= order.index(at_least)
        assert found in (before, at_least), "held, or as the level says"
    now += 151.0
    process.at(level, now)
    assert process.at(level, now + 151.0) == order[{0: 0, 1: 1, 2: 1, 3: 2}[level]]
