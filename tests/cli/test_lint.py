"""What `resilient check` doubts in a document that a service would take."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from resilient.cli import documents
from tests.cli.commands import run

TODAY = datetime.date(2026, 11, 25)

FLAGS = """\
flags:
  search:
    state: ENABLED
    variants: {"full": full, "off": "off"}
    defaultVariant: full
    metadata: {degrade: "1:off", owner: search%s}
degradation: {levels: [normal, sale%s]}
...
"""
TARGET = """\
resiliency:
  targets:
    payments: {%s}
...
"""
PLANS = """\
plans:
  sale:
    {kind: scheduled, owner: growth%s, set: {level: 0}, window: {start: "2026-11-10T00:00Z", end: "%sT23:00Z"}}
  calm: {kind: emergency, owner: "sre"%s, set: {targets: {payments: {retry: {attempts: 1}}}}}
...
"""


def doubts(tmp_path: Path, text: str, **utilisation: float) -> list[tuple[str, str]]:
    file = tmp_path / "resilience.yaml"
    file.write_text(text)
    checked = documents.check(file, utilisation, TODAY)
    assert checked.good, checked.problems
    return [(each.pointer, each.said) for each in checked.problems]


@pytest.mark.parametrize(
    ("text", "pointer", "said"),
    [
        (FLAGS.replace(", owner: search", "") % ("", ""), "/flags/search", "nobody is named"),
        (FLAGS % (', expires: "2026-11-24"', ""), "/flags/search/metadata/expires", "is over"),
        (FLAGS % (", expires: soon", ""), "/flags/search/metadata/expires", "is no day"),
        (FLAGS % ("", ", crash"), "/degradation/levels/2", "no feature changes at level 2 (crash)"),
        (
            TARGET % "timeout: {total: 2s, attempt: 1s}, retry: {attempts: 3, wait: {base: 100ms}}",
            "/resiliency/targets/payments/timeout",
            "3 attempts of 1 s and their waits take up to 3.3 s, and the call has 2 s",
        ),
        (
            TARGET % "ratelimit: {rate: 60/minute}",
            "/resiliency/targets/payments/ratelimit/rate",
            "60/minute is 10 calls in the breaker's window of 10 s",
        ),
        (
            TARGET % "breaker: {state: forced_open}",
            "/resiliency/targets/payments/breaker/state",
            "every call is turned away",
        ),
        (
            TARGET % "retry: {state: disabled}",
            "/resiliency/targets/payments/retry/state",
            "disabled: nothing is retried; is that still meant?",
        ),
        (
            TARGET % "bulkhead: {state: disabled}",
            "/resiliency/targets/payments/bulkhead/state",
            "disabled: nothing protects the callee; is that still meant?",
        ),
        (
            TARGET % "ratelimit: {rate: 80/second, state: observe}",
            "/resiliency/targets/payments/ratelimit/state",
            "observe: it only watches; is that still meant?",
        ),
        (PLANS % ("", "2026-11-24", ""), "/plans/sale/window/end", "its window is over since 2026-11-24"),
        (
            PLANS % (", active: false", "2026-11-26", ""),
            "/plans/sale/active",
            "it will not hold in its window",
        ),
        (
            PLANS % ("", "2026-11-26", ", active: true"),
            "/plans/calm/active",
            "until somebody switches it off",
        ),
        (
            PLANS.replace("sre", "") % ("", "2026-11-26", ""),
            "/plans/calm",
            "nobody is named whom to ask while it holds",
        ),
        (
            TARGET.replace("  targets", "  policies: {retry: {mild: {attempts: 2}}}\n  targets") % "",
            "/resiliency/policies/retry/mild",
            "no target refers to it",
        ),
    ],
)
def test_a_doubt(tmp_path: Path, text: str, pointer: str, said: str) -> None:
    (found,) = doubts(tmp_path, text)
    assert found[0] == pointer
    assert said in found[1]


@pytest.mark.parametrize(
    "text",
    [
        FLAGS % (', expires: "2026-11-25"', ""),
        TARGET % "timeout: {total: 4s, attempt: 1s}, retry: {attempts: 3, wait: {base: 100ms}}",
        TARGET % "ratelimit: {rate: 2/second}",
        PLANS % ("", "2026-11-25", ""),
        TARGET % "ratelimit: {rate: 60/minute}, breaker: {count: 50}",
        TARGET.replace("  targets", "  policies: {retry: {mild: {attempts: 2}}}\n  targets")
        % "retry: {use: mild}",
    ],
)
def test_no_doubt(tmp_path: Path, text: str) -> None:
    assert doubts(tmp_path, text) == []


@pytest.mark.parametrize(
    ("budget", "utilisation", "instead"),
    [
        ("0.2", {"payments": 0.8}, "write budget: {ratio: 0.12}"),
        ("0.2", {"*": 0.8}, "write budget: {ratio: 0.12}"),
        ("0.2", {"*": 0.8, "payments": 0.5}, None),
        ("0.12", {"payments": 0.8}, None),
        ("0.1", {"payments": 0.9}, "write attempts: 1"),
    ],
)
def test_a_budget_is_judged_by_how_busy_the_callee_is(
    tmp_path: Path, budget: str, utilisation: dict[str, float], instead: str | None
) -> None:
    found = doubts(tmp_path, TARGET % f"retry: {{budget: {{ratio: {budget}}}}}", **utilisation)
    assert len(found) == (instead is not None)
    assert instead is None or found[0][1].endswith(instead)


def test_what_a_call_may_cost(tmp_path: Path) -> None:
    file = tmp_path / "resilience.yaml"
    file.write_text(TARGET % "timeout: {attempt: 1s}, retry: {attempts: 2, budget: {ratio: 3}}")
    (worst,) = documents.check(file, {}, TODAY).worst
    assert (worst.latency, worst.attempts, worst.amplification) == (2.025, 2, 2)


def test_in_a_pipeline(tmp_path: Path) -> None:
    file = tmp_path / "resilience.yaml"
    file.write_text(TARGET % "breaker: {state: observe}")
    done = run("check", str(file), "--utilisation", "0.8")
    assert (done.status, done.err) == (0, "")
    assert "observe: it only watches; is that still meant?" in done.out
    assert run("check", str(file), "--strict").status == 1
    assert run("check", str(file), "--utilisation", "payments=8").status == 2
