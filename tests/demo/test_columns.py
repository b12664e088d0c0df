"""The three ways to call payments: what each is, and that they are comparable."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from examples.demo import baseline, columns, guarded, schedule, score
from resilient import Budget
from resilient.testing import Origin, answer

BASELINE = Path(baseline.__file__)


def test_the_baseline_is_under_40_lines_of_httpx_and_tenacity() -> None:
    text = BASELINE.read_text()
    assert len(text.splitlines()) < 40
    imported = {
        name
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported == {"__future__", "httpx", "tenacity"}


def test_the_deadline_of_orders_is_that_of_the_policies() -> None:
    assert schedule.plan(1).deadline == guarded.POLICIES.policies[0].options.seconds


def test_the_breaker_reopens_as_the_schedule_has_time_for() -> None:
    options = guarded.POLICIES["breaker"].options
    assert (options.open_for, options.max_open) == (0.5, 1.0)


def test_the_judge_allows_what_the_retry_budget_does() -> None:
    assert guarded.POLICIES["retry"].options.budget is None  # the budget's own defaults
    assert Budget().options.ratio == score.RETRY_BUDGET


async def keys_sent(
    name: str, origin: Origin, monkeypatch: pytest.MonkeyPatch, **options: bool
) -> list[str | None]:
    """Charge one order through a column; payments fails once. The keys of both requests."""

    async def at_once(seconds: float) -> None:
        """tenacity's waits are no subject here."""

    monkeypatch.setattr(baseline.charge.retry, "sleep", at_once)
    origin.script(503, answer(201, '{"receipt": "r-1"}'))
    column = columns.make(name, origin.url, **options)
    async with column.client:
        assert await column.charge("order-1", 995) == "r-1"
    first, second = origin.requests
    assert json.loads(first.body) == {"order": "order-1", "cents": 995}
    assert (first.target, first.body) == (second.target, second.body)
    return [request.header("Idempotency-Key") for request in (first, second)]


async def test_the_baseline_sends_no_key(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await keys_sent("baseline", origin, monkeypatch) == [None, None]


async def test_a_key_made_by_hand_is_that_of_the_order(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await keys_sent("keyed", origin, monkeypatch) == ["charge-order-1"] * 2


async def test_resilient_sends_one_key_of_its_own(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await keys_sent("resilient", origin, monkeypatch)
    assert first is not None
    assert first == second


async def test_a_broken_key_does_not_reach_payments(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await keys_sent("resilient", origin, monkeypatch, break_key=True) == [None, None]
    assert all(request.header(columns.UNKNOWN_TO_PAYMENTS) for request in origin.requests)
