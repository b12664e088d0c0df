"""The fault schedule: the same for everybody who has the seed, and fair to whoever is judged by it."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from examples.demo.schedule import FAST, FULL, GRACE, KINDS, RUSH_RATE, Fault, Plan, plan

ROOT = Path(__file__).parents[2]
SEEDS = range(50)


@pytest.mark.parametrize("fast", [False, True])
def test_a_seed_repeats_the_faults_and_the_arrivals(fast: bool) -> None:
    assert plan(7, fast=fast) == plan(7, fast=fast)


def test_another_seed_gives_another_schedule() -> None:
    plans = [plan(seed) for seed in SEEDS]
    assert len({each.faults for each in plans}) == len({each.arrivals for each in plans}) == len(SEEDS)


def test_every_process_makes_the_same_schedule() -> None:
    program = (
        "from examples.demo.schedule import plan\n"
        "made = plan(7)\n"
        "print(made.faults, made.arrivals[-1], made.fate('order-1', 2))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    made = plan(7)
    assert told == [f"{made.faults} {made.arrivals[-1]} {made.fate('order-1', 2)}\n"] * 2


@pytest.mark.parametrize("fast", [False, True])
def test_every_fault_comes_once_and_none_overlaps_another(fast: bool) -> None:
    for seed in SEEDS:
        made = plan(seed, fast=fast)
        assert sorted(fault.kind for fault in made.faults) == sorted(KINDS)
        assert made.faults[0].start > 0
        assert all(fault.start < fault.end for fault in made.faults)
        assert all(one.end < next_one.start for one, next_one in pairwise(made.faults))
        assert made.faults[-1].end < made.total


def test_after_an_outage_there_is_time_to_recover_before_the_next_fault() -> None:
    for seed in SEEDS:
        made = plan(seed)
        ends = [*(fault.start for fault in made.faults[1:]), made.total]
        for fault, quiet_until in zip(made.faults, ends, strict=True):
            if fault.outage:
                assert quiet_until - fault.end > GRACE


def test_the_fault_in_force_is_told_by_the_time() -> None:
    made = Plan(1, False, (Fault("hang", 1.0, 2.0), Fault("slow", 3.0, 4.0)), (), 5.0, 0.1, 1.0)
    moments = {0.0: None, 1.0: "hang", 1.9: "hang", 2.0: None, 3.5: "slow", 4.0: None}
    found = {moment: fault and fault.kind for moment in moments for fault in [made.at(moment)]}
    assert found == moments


def test_a_fault_strikes_its_share_of_requests() -> None:
    made = plan(3)
    struck = sum(made.strikes(f"order-{i}", 1) for i in range(10_000))
    assert struck == pytest.approx(10_000 * made.share, rel=0.1)


def test_the_second_request_of_an_order_has_its_own_fate() -> None:
    made = plan(3)
    both = sum(made.strikes(f"order-{i}", 1) and made.strikes(f"order-{i}", 2) for i in range(10_000))
    assert both == pytest.approx(10_000 * made.share**2, rel=0.3)


@pytest.mark.parametrize("fast", [False, True])
def test_orders_arrive_at_their_rate_and_faster_in_a_rush(fast: bool) -> None:
    made = plan(5, fast=fast)
    rush = next(fault for fault in made.faults if fault.kind == "rush")
    length = rush.end - rush.start
    rate = (FAST if fast else FULL).rate
    expected = rate * (made.total - length) + RUSH_RATE * length
    assert len(made.arrivals) == pytest.approx(expected, rel=0.15)
    assert list(made.arrivals) == sorted(made.arrivals)
    assert made.arrivals[-1] < made.total
    in_rush = sum(rush.start <= at < rush.end for at in made.arrivals)
    assert in_rush > 1.5 * rate * length
