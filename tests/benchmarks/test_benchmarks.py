"""The benchmarks: their arithmetic, their list of rows, the simulation. Nothing here looks at a real clock."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import budget_table, report, rows, server
from benchmarks.__main__ import main
from benchmarks.designs import Aws, Design, Envoy, Finagle, Grpc, Sre
from benchmarks.measure import (
    QUICK,
    THOROUGH,
    Contender,
    Outcome,
    Race,
    Series,
    Settings,
    Spread,
    race,
    spread,
)
from resilient import Budget, Pipeline, Retry
from resilient.testing import ManualClock

ROOT = Path(__file__).parents[2]


# ----------------------------------------------------------------------------------------------------- arithmetic
def costing(per_call: float, seen: list[int] | None = None) -> Callable[[int], float]:
    """Batches that say how long they took, without taking any time."""

    def run(calls: int) -> float:
        if seen is not None:
            seen.append(calls)
        return calls * per_call

    return run


def test_median_and_quartiles() -> None:
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(median=3.0, low=2.0, high=4.0)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_a_ratio_is_taken_within_each_round_and_over_the_bare_call() -> None:
    # The second round ran on a machine half as fast; the ratio of the medians would be another.
    result = Race(
        {
            "bare": Series("bare", "", (1.0, 2.0, 1.0)),
            "floor": Series("floor", "", (3.0, 6.0, 2.0)),
            "ours": Series("ours", "", (5.0, 10.0, 5.0)),
        },
        bare="bare",
    )
    assert result.overheads("ours") == (4.0, 8.0, 4.0)
    assert result.ratio("ours", "floor") == Spread(median=2.0, low=2.0, high=3.0)
    assert result.seconds("floor").median == 2.0


def test_without_a_bare_call_nothing_is_subtracted() -> None:
    result = Race({"a": Series("a", "", (1.0,)), "b": Series("b", "", (4.0,))})
    assert result.ratio("b", "a").median == 4.0


def test_a_batch_has_as_many_calls_as_fill_its_time() -> None:
    cheap: list[int] = []
    dear: list[int] = []
    settings = Settings(rounds=3, batch=0.02)
    result = race(
        [Contender("cheap", "", costing(1e-5, cheap)), Contender("dear", "", costing(1.0, dear))], settings
    )
    assert cheap[-3:] == [pytest.approx(2000, abs=1)] * 3
    assert dear == [1, 1, 1, 1]  # one to find out, and one a round
    assert result.series["cheap"].seconds == pytest.approx((1e-5,) * 3)


def test_every_contender_runs_in_every_round_in_a_changing_order() -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[int], float]:
        def run(calls: int) -> float:
            order.append(name)
            return 1.0

        return run

    names = ["a", "b", "c", "d"]
    race([Contender(name, "", noting(name)) for name in names], Settings(rounds=20), calls=5)
    rounds = [order[i : i + 4] for i in range(0, len(order), 4)]
    assert len(rounds) == 20
    assert all(sorted(each) == names for each in rounds)
    assert len({tuple(each) for each in rounds}) > 5


def test_two_contenders_of_one_name_are_refused() -> None:
    with pytest.raises(AssertionError, match="two contenders of one name"):
        race([Contender("a", "", costing(1.0))] * 2, QUICK)


# ----------------------------------------------------------------------------------------------------------- rows
BUDGETS = {
    "sync.floor": "<= 1.5x",
    "sync.standard": "<= 3x",
    "sync.pyresilience": ">= 2.5x",
    "sync.tenacity_pybreaker_limits": ">= 14x",
    "async.floor": "<= 2.25x",
    "async.standard": "<= 0.8x",
    "async.tenacity_purgatory_aiolimiter": ">= 18x",
    "refusal.breaker": "<= 2.5x",
    "refusal.bucket": "<= 2.5x",
    "retry.three": "<= 10 us",
    "http.sync": "<= 1x",
    "http.async": "<= 1x",
    "http.sync_httpx2": "<= 1x",
    "http.async_httpx2": "<= 1x",
    "http.connections": "<= 1",
    "hop.p50": "<= 10 %",
    "hop.p99": "<= 10 %",
    "keys.bytes": "<= 100 B",
    "keys.threads": "<= 0",
    "flags.read": "<= 0.5 us",
    "flags.rule": "<= 1 us",
    "flags.fractional": "<= 1 us",
    "config.stall": "<= 60 ms",
    "pick.time": "<= 0.8 us",
    "pick.flat": "<= 1.2x",
    "pick.diff": "<= 5 ms",
    "threads.share": ">= 98 %",
    "import.package": "<= 5 ms",
    "import.policies": "<= 40 ms",
    "import.foreign": "<= 0",
    "budget.outage": "<= 1.05x",
    "budget.errors": ">= 99.8 %",
}


def test_every_budget_stands_in_a_row_with_its_limit() -> None:
    assert {row.name: report.limit(row) for row in rows.ROWS if row.side is not None} == BUDGETS


def test_the_page_shows_every_budget_as_it_is() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    shown = re.findall(r"^\| (.+?) \| .+? \| ([<>]= .+?) \| (?:PASS|FAIL) \|$", page, re.MULTILINE)
    assert shown == [(row.what, report.limit(row)) for row in rows.ROWS if row.side is not None]


def test_every_row_has_one_name_and_a_group_that_is_measured() -> None:
    names = [row.name for row in rows.ROWS]
    assert len(set(names)) == len(names)
    assert {row.group for row in rows.ROWS} == set(rows.GROUPS)
    assert all(importlib.util.find_spec(module) for module in rows.GROUPS.values())


def test_a_group_that_forgets_a_row_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        budget_table, "measure", lambda settings: Outcome({"budget.outage": rows.exactly(1.0)})
    )
    with pytest.raises(AssertionError, match=r"budget\.errors"):
        rows.measure("budget", QUICK)


@pytest.mark.parametrize(
    ("side", "value", "verdict"),
    [
        ("at most", 2.0, "PASS"),
        ("at most", 2.01, "FAIL"),
        ("at least", 2.0, "PASS"),
        ("at least", 1.99, "FAIL"),
        (None, 99.0, ""),
    ],
)
def test_a_verdict(side: Any, value: float, verdict: str) -> None:
    row = rows.Budgeted("group.row", "what it is", side, 2.0)
    assert row.verdict(value) == verdict
    assert report.row_line(row, rows.exactly(value)).startswith(verdict)


@pytest.mark.parametrize(("value", "unit", "text"), [
    (1.1744, "x", "1.174x"),
        (2.174, "x", "2.17x"), (23.94, "x", "23.9x"), (9.4, "us", "9.40 us"), (123.4, "B", "123 B"), (1.0, "", "1"),
])  # fmt: skip
def test_a_figure_with_its_unit(value: float, unit: str, text: str) -> None:
    assert report.number(value, unit) == text


def test_the_rows_that_fail_are_named() -> None:
    good = Outcome({"budget.outage": rows.exactly(1.0), "budget.errors": rows.exactly(99.9)})
    bad = Outcome({"budget.outage": rows.exactly(1.3), "budget.errors": rows.exactly(99.9)})
    assert report.failed({"budget": good}) == []
    assert report.failed({"budget": bad}) == ["budget.outage"]


def test_a_run_that_is_quick_measures_the_same_with_less() -> None:
    assert QUICK.rounds < THOROUGH.rounds
    assert QUICK.keys < THOROUGH.keys
    assert QUICK.requests < THOROUGH.requests


# -------------------------------------------------------------------------------------------------- the simulation
def test_in_a_total_outage_load_stays_where_it_was() -> None:
    cell = budget_table.simulate(budget_table.of_ours, rate=5.0, failing=1.0)
    assert cell.load == pytest.approx(157 / 150)  # 35 tokens pay for 7 retries
    assert cell.success == 0.0


def test_one_error_in_ten_is_hidden_from_callers() -> None:
    cell = budget_table.simulate(budget_table.of_ours, rate=1000.0, failing=0.1)
    assert cell.success >= 0.998
    assert cell.load == pytest.approx(1.11, abs=0.01)


def test_the_simulation_is_the_same_every_time() -> None:
    runs = [budget_table.simulate(budget_table.of_ours, rate=100.0, failing=0.2) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("failing", [0.3, 0.6, 1.0])
def test_our_client_in_the_simulation_does_what_the_retry_itself_does(failing: float) -> None:
    clock, fate = ManualClock(), random.Random(5)
    attempts = successes = 0

    @Pipeline(Retry(budget_table.ATTEMPTS, budget=Budget()), clock=clock)
    def call() -> None:
        nonlocal attempts
        attempts += 1
        clock.advance(budget_table.LATENCY)
        if fate.random() < failing:
            raise ConnectionError

    calls = round(budget_table.SECONDS)  # one a second: none overlaps with the next
    for number in range(calls):
        clock.advance(number - clock.monotonic())
        try:
            call()
        except ConnectionError:
            continue
        successes += 1
    expected = budget_table.Cell(attempts / calls, successes / calls)
    assert budget_table.simulate(budget_table.of_ours, rate=1.0, failing=failing) == expected


def asked(design: Design, rate: int, seconds: int) -> int:
    """Retries that a design allows where every call fails once a second so often."""
    allowed = 0
    for number in range(rate * seconds):
        now = number / rate
        design.began(now)
        design.ended(now, False, 1)
        if design.allows(now):
            allowed += 1
            design.ended(now, False, 2)
    return allowed


def test_what_the_designs_allow_when_everything_fails() -> None:
    assert asked(Grpc(), 100, 10) == 2  # a call whose retry fails too takes two of the five
    assert asked(Aws(), 100, 10) == 100
    assert asked(Aws(cost=14), 100, 10) == 35
    assert asked(Finagle(), 100, 10) == 300  # a fifth of 1,000 calls, and 10 a second
    assert asked(Sre(), 100, 10) == 100
    assert asked(Envoy(), 100, 10) == 1000  # none is in flight with another


def test_envoy_counts_retries_that_wait() -> None:
    design = Envoy()
    for _ in range(20):
        design.began(0.0)
    assert [design.allows(0.0) for _ in range(6)] == [True, True, True, True, True, False]


def test_the_table_has_a_row_for_each_client_and_prints() -> None:
    cells = budget_table.table(("resilient", "no retry"))
    assert list(cells) == ["resilient", "no retry"]
    assert cells["no retry"]["100 %, 5 calls/s"] == budget_table.Cell(1.0, 0.0)
    assert all(cell.load == 1.0 for cell in cells["no retry"].values())
    head, *lines = budget_table.lines(cells)
    assert len(lines) == 2
    assert head.split()[:3] == ["load", "/", "success"]


# -------------------------------------------------------------------------------------------------- the whole thing
def test_a_quick_run_prints_and_writes_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results" / "run.json"
    assert main(["--quick", "--only", "budget", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "PASS budget.outage" in printed
    assert "every budget is kept" in printed
    written = json.loads(path.read_text())
    assert [row["name"] for row in written["rows"]] == ["budget.outage", "budget.errors"]
    assert {row["verdict"] for row in written["rows"]} == {"PASS"}
    assert written["machine"]["quick"] is True
    assert "resilient-client" in written["versions"]


def test_a_budget_that_is_missed_is_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"budget.outage": rows.exactly(1.2), "budget.errors": rows.exactly(99.9)}
    monkeypatch.setattr(budget_table, "measure", lambda settings: Outcome(values))
    assert main(["--quick", "--only", "budget", "--json", str(tmp_path / "run.json")]) == 1
    assert "FAILED: budget.outage" in capsys.readouterr().out


def test_a_group_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--only", "nothing"])
    assert caught.value.code == 2
    assert "nothing" in capsys.readouterr().err


def test_the_server_answers_and_counts_connections() -> None:
    with server.running() as url, httpx.Client(base_url=url) as client:
        assert client.get("/item").content == server.ITEM
        assert [client.get("/flaky").status_code for _ in range(3)] == [503, 503, 200]
        assert client.get("/connections").text == "1"
        assert client.get("/connections").text == "0"


@pytest.mark.peers
@pytest.mark.skipif(sys.platform == "darwin", reason="Envoy has no wheel for macOS")
def test_a_hop_is_measured_through_a_real_envoy(tmp_path: Path) -> None:
    from benchmarks import hop

    with server.running() as url:
        with hop.envoy(url) as (through, pid), httpx.Client(base_url=through) as client:
            assert client.get("/item").content == server.ITEM
            assert [client.get("/flaky").status_code for _ in range(3)] == [200] * 3, "it retries"
            assert hop._cpu_of(pid) > 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(through)
    path = tmp_path / "run.json"
    main(["--quick", "--only", "hop", "--json", str(path)])  # what it costs is not for a test
    assert {row["name"] for row in json.loads(path.read_text())["rows"]} == {
        row.name for row in rows.rows_of("hop")
    }


def test_the_program_tells_how_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--quick" in done.stdout
    assert all(group in done.stdout for group in rows.GROUPS)
