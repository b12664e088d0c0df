"""Celery tasks: one effect each, delivered again by a broker or tried again by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import resilient.httpx
from examples.bank import Bank
from examples.celery_task import tasks
from examples.celery_task.naive import made_up
from examples.celery_task.tasks import LATER, LONGEST, app, charge, tip
from resilient import CircuitBreaker, CircuitOpen, KeyReused, OutcomeUnknown, Pipeline
from resilient.testing import Origin
from tests.examples.programs import run


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def origin(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    with (
        Origin(bank.serve()) as origin,
        resilient.httpx.client("bank", base_url=origin.url, profile="supported") as client,
    ):
        monkeypatch.setattr(tasks, "bank", client)
        yield origin


def keys(origin: Origin) -> list[str | None]:
    return [request.header("idempotency-key") for request in origin.requests]


def test_the_program_keeps_its_promises() -> None:
    """It fails without `task_acks_late`, and without `task_reject_on_worker_lost`."""
    told = run("celery_task")
    assert len(told) == 6
    assert all(line.startswith("  kept") for line in told[1:])
    assert any("a key that is made up charges again" in line for line in told)


# --------------------------------------------------------------------- in one process: `apply` runs retries at once
def test_two_messages_for_one_order_are_one_charge(bank: Bank, origin: Origin) -> None:
    assert charge.apply(("order-1", 995)).get() == charge.apply(("order-1", 995)).get() == "order-1/1"
    assert bank.charged_once("order-1")


def test_a_message_that_comes_again_is_one_tip_and_two_messages_are_two(bank: Bank, origin: Origin) -> None:
    for message in ("a", "a", "b"):
        tip.apply(("order-1", 100), task_id=message)
    assert keys(origin) == ["tip:a", "tip:a", "tip:b"]
    assert bank.charges == {"order-1": 2}


def test_a_key_that_is_made_up_is_another_one_each_time(bank: Bank, origin: Origin) -> None:
    for _ in range(2):
        made_up.apply(("order-1", 995), task_id="a")
    assert bank.charges == {"order-1": 2}


@pytest.mark.parametrize("task", [charge, tip])
def test_a_task_that_is_tried_again_sends_the_same(bank: Bank, origin: Origin, task: Any) -> None:
    origin.script(*[bank.then("reset_before_effect")] * 4, 503)  # two tries of the task, and more
    assert task.apply(("order-1", 995)).get() == "order-1/1"
    assert bank.charged_once("order-1")
    assert len(origin.requests) == 6
    assert len({request.body for request in origin.requests}) == 1


def test_a_made_up_key_charges_again_with_each_try(bank: Bank, origin: Origin) -> None:
    origin.script(*[bank.then("reset_before_effect")] * 3)
    made_up.apply(("order-1", 995))
    assert bank.charges == {"order-1": 2}


def test_a_refusal_is_an_answer(origin: Origin) -> None:
    origin.script(402)
    assert charge.apply(("order-1", 995)).get() == "refused"
    assert len(origin.requests) == 1


def test_another_amount_under_the_same_key_is_a_mistake_and_not_tried_again(
    bank: Bank, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = resilient.httpx.Profile(honours=True, reused=resilient.httpx.Signal(422))
    with resilient.httpx.client("bank", base_url=origin.url, profile=profile) as client:
        monkeypatch.setattr(tasks, "bank", client)
        charge.apply(("order-1", 995))
        with pytest.raises(KeyReused):
            charge.apply(("order-1", 996)).get()
    assert len(origin.requests) == 2
    assert bank.charges == {"order-1": 1}


class Retried(Exception):
    """What stands in for Celery's."""


def countdowns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BaseException, float]]:
    seen = []

    def retry(exc: BaseException, countdown: float) -> Exception:
        seen.append((exc, countdown))
        return Retried()

    monkeypatch.setattr(charge, "retry", retry)
    return seen


def test_the_next_try_is_minutes_away_and_sooner_than_the_broker_loses_patience(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = countdowns(monkeypatch)
    origin.script(*["reset_after_effect"] * 3)
    charge.apply(("order-1", 995))
    ((error, countdown),) = seen
    assert isinstance(error, OutcomeUnknown)
    assert 2.5 <= countdown <= 5.0
    assert LATER.cap < LONGEST < app.conf.broker_transport_options["visibility_timeout"]


@pytest.mark.parametrize(("open_for", "least", "most"), [(100.0, 60.0, 140.0), (10_000.0, LONGEST, LONGEST)])
def test_an_open_breaker_says_when(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, open_for: float, least: float, most: float
) -> None:
    seen = countdowns(monkeypatch)
    breaker = CircuitBreaker(consecutive=1, open_for=open_for, max_open=open_for)
    policies = Pipeline(breaker, name="bank")
    origin.script(500)
    with resilient.httpx.client("bank", base_url=origin.url, policies=policies) as client:
        monkeypatch.setattr(tasks, "bank", client)
        charge.apply(("order-1", 995))
        charge.apply(("order-1", 995))
    assert len(origin.requests) == 1
    error, countdown = seen[-1]
    assert isinstance(error, CircuitOpen)
    assert least <= countdown <= most
