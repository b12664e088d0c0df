"""The scorecard's arithmetic on made-up orders, and that each judged rule can fail."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from examples.demo.books import Audit
from examples.demo.orders import FAILED, OK, REJECTED, UNFINISHED, Order
from examples.demo.schedule import Fault, Plan
from examples.demo.score import JUDGED, Card, judge, percentile, recovery, score, touched

# One outage, from second 10 to second 12, and a slow stretch; ten orders a second.
PLAN = Plan(
    seed=1,
    fast=False,
    faults=(Fault("kill", 10.0, 12.0), Fault("slow", 20.0, 22.0)),
    arrivals=tuple(i / 10 for i in range(300)),
    total=30.0,
    share=0.1,
    patience=4.0,
)


def order(number: int, **different: Any) -> Order:
    """Order number `number`, served in 20 ms but for what is said."""
    made = Order(f"order-{number}", number / 10, 0.02, OK, requests=1, receipt=f"receipt-{number}")
    return made._replace(**different)


def refused(number: int) -> Order:
    return order(number, outcome=REJECTED, took=0.001, requests=0, receipt="", error="CircuitOpen")


def failed(number: int) -> Order:
    return order(number, outcome=FAILED, took=0.5, requests=3, receipt="", error="ConnectError")


def orders(**different: Order) -> list[Order]:
    """All orders of the plan: refused in the outage, served else, but for those given as ``_17=...``."""
    made = [refused(i) if 10.0 <= i / 10 < 12.0 else order(i) for i in range(300)]
    for place, each in different.items():
        made[int(place[1:])] = each
    return made


def books(of: list[Order], **more: list[str]) -> Audit:
    charges = {each.id: [each.receipt] for each in of if each.receipt}
    return Audit({**charges, **more}, replays=4, faults={"slow": 20})


def card(of: list[Order], audit: Audit | None = None) -> Card:
    return score(JUDGED, PLAN, of, books(of) if audit is None else audit, {"lag_p99": 0.002})


def failing(made: Card, *, fast: bool = False) -> list[str]:
    return [verdict.rule for verdict in judge(made, fast=fast) if not verdict.passed]


# ----------------------------------------------------------------------------------------------- the arithmetic
def test_a_good_run() -> None:
    made = card(orders())
    assert (made.orders, made.served, made.rejected, made.late) == (300, 280, 20, 0)
    assert (made.charged_twice, made.uncharged, made.replays) == (0, 0, 4)
    assert (made.outside, made.outside_served) == (250, 250)  # without those of seconds 10 to 15
    assert (made.p50, made.p99, made.told_p50, made.told_p99) == (0.02, 0.02, 0.001, 0.001)
    assert made.requests_per_order == pytest.approx(280 / 300, abs=1e-4)
    assert made.outage_requests_per_order == 0
    assert [(each.kind, each.seconds) for each in made.recoveries] == [("kill", 1.0), ("slow", 1.0)]
    assert made.lag_p99 == 0.002
    assert failing(made) == []


def test_a_charge_that_comes_too_late_is_not_served() -> None:
    made = card(orders(_5=order(5, took=2.5, requests=2), _6=order(6, requests=2)))
    assert (made.served, made.late, made.saved) == (279, 1, 1)
    assert made.p99 == 0.02
    assert made.requests_per_order == pytest.approx(282 / 300, abs=1e-4)


def test_a_charge_that_checkout_does_not_know_of_is_told() -> None:
    of = orders(_5=failed(5))
    assert card(of, books(of)).unknown == 0
    found = card(of, books(of, **{"order-5": ["receipt-5"]}))
    assert (found.unknown, found.warned, found.uncharged, found.charged_twice) == (1, 0, 0, 0)


def test_an_error_that_says_that_it_may_have_happened_counts_as_a_warning() -> None:
    of = orders(_5=failed(5)._replace(error="OutcomeUnknown"))
    assert card(of, books(of)).warned == 0, "it was not charged"
    assert card(of, books(of, **{"order-5": ["receipt-5"]})).warned == 1


def test_only_the_judged_column_shows_what_its_policies_did() -> None:
    of = orders()
    tally = {"counts": {"retries": 3}}
    assert score("baseline", PLAN, of, books(of), tally).tally == {}
    assert score(JUDGED, PLAN, of, books(of), tally).tally == tally


def test_a_card_is_json() -> None:
    made = json.loads(json.dumps(card(orders()).as_dict()))
    assert made["recoveries"] == [{"kind": "kill", "seconds": 1.0}, {"kind": "slow", "seconds": 1.0}]
    assert set(made) == {field.name for field in dataclasses.fields(Card)}


@pytest.mark.parametrize(
    ("q", "values", "expected"),
    [
        (0.5, [], None),
        (0.5, [3.0], 3.0),
        (0.5, [1.0, 2.0, 3.0, 4.0], 2.0),
        (0.99, [float(i) for i in range(1, 101)], 99.0),
        (0.99, [5.0, 1.0], 5.0),
        (0.0, [2.0, 1.0], 1.0),
    ],
)
def test_percentiles_are_the_nearest_rank(q: float, values: list[float], expected: float | None) -> None:
    assert percentile(values, q) == expected


@pytest.mark.parametrize(
    ("arrived", "took", "expected"),
    [
        (9.0, 0.5, False),  # answered before it began
        (9.9, 0.2, True),  # waiting when it began
        (9.0, 3.0, True),
        (7.9, 30.0, False),  # its deadline was over when the outage began: no excuse
        (10.0, 0.1, True),
        (11.9, 0.1, True),
        (14.9, 0.1, True),  # within 3 s after it
        (15.0, 0.1, False),
    ],
)
def test_orders_that_an_outage_touches(arrived: float, took: float, expected: bool) -> None:
    assert touched(order(1, arrived=arrived, took=took), PLAN) is expected


def test_a_recovery_is_over_with_the_first_good_second() -> None:
    def after(*numbers: int) -> float | None:
        return recovery(12.0, PLAN, orders(**{f"_{i}": failed(i) for i in numbers}))

    assert after() == 1.0
    assert after(122) == 1.0  # one failure is allowed
    assert after(122, 125) == 1.2  # the second that begins after the first of them
    assert after(120, 121, 122, 140) == 1.1  # after the first: one in it is allowed
    assert after(*range(120, 137)) == 2.5
    assert after(*range(120, 140)) == 2.8
    assert after(*range(120, 300)) is None


def test_nobody_recovers_where_no_order_arrives() -> None:
    assert recovery(12.0, PLAN, [each for each in orders() if each.arrived < 12.0]) is None


# ------------------------------------------------------------------------------------------- each rule can fail
def test_a_double_charge_fails() -> None:
    made = card(orders(), books(orders(), **{"order-7": ["receipt-7", "another"]}))
    assert made.charged_twice == 1
    assert failing(made) == failing(made, fast=True) == ["no double charge"]


@pytest.mark.parametrize("found", [[], ["of another attempt"]])
def test_a_confirmed_order_without_its_charge_fails(found: list[str]) -> None:
    made = card(orders(), books(orders(), **{"order-7": found}))
    assert made.uncharged == 1
    assert "no confirmed order without its charge" in failing(made)
    assert "no confirmed order without its charge" in failing(made, fast=True)


def test_a_charge_is_counted_once_however_late_its_order() -> None:
    late = orders(_7=order(7, took=9.0))
    assert card(late, books(late, **{"order-7": []})).uncharged == 1


def test_too_many_requests_fail() -> None:
    allowed = card([order(i, requests=2 if i % 5 == 0 else 1) for i in range(300)])
    assert allowed.requests_per_order == 1.2
    assert failing(allowed) == []
    many = card([order(i, requests=2 if i % 4 == 0 else 1) for i in range(300)])
    assert failing(many) == failing(many, fast=True) == ["requests per order within the budget of 1.2"]


def test_a_run_that_sent_nothing_fails() -> None:
    assert "requests per order within the budget of 1.2" in failing(card([refused(i) for i in range(300)]))


@pytest.mark.parametrize(
    "bad",
    [
        failed(50),
        refused(50),
        order(50, took=2.01),
        order(50, outcome=UNFINISHED, took=9.0, receipt=""),
    ],
    ids=lambda each: f"{each.outcome} after {each.took}",
)
def test_an_order_lost_outside_outages_fails(bad: Order) -> None:
    made = card(orders(_50=bad))
    assert (made.outside, made.outside_served) == (250, 249)
    assert failing(made) == ["outside outages 99.9% of orders served in time"]
    assert failing(made, fast=True) == []


def test_one_in_a_thousand_may_be_lost() -> None:
    def losing(number: int) -> Card:
        of = [order(i, arrived=i * 0.0025) for i in range(12_000)]
        for i in range(0, number * 100, 100):
            of[i] = failed(i)._replace(arrived=of[i].arrived)
        return card(of)

    assert losing(0).outside == 9_992  # 2,000 in the outage and after it, 8 that waited when it began
    assert failing(losing(9)) == []
    assert failing(losing(10)) == ["outside outages 99.9% of orders served in time"]


def test_an_order_lost_in_an_outage_does_not_fail() -> None:
    assert failing(card(orders(_99=failed(99), _110=failed(110), _140=failed(140)))) == []


def test_a_slow_recovery_fails() -> None:
    in_time = orders(**{f"_{i}": refused(i) for i in range(120, 141)})
    assert [each.seconds for each in card(in_time).recoveries] == [2.9, 1.0]
    assert failing(card(in_time)) == []
    slow = orders(**{f"_{i}": refused(i) for i in range(120, 143)})
    assert failing(card(slow)) == ["recovered within 3 s of every fault"]
    assert failing(card(slow), fast=True) == []


def test_no_recovery_fails() -> None:
    never = card(orders(**{f"_{i}": failed(i) for i in range(220, 300)}))
    assert never.recoveries[1].seconds is None
    assert "recovered within 3 s of every fault" in failing(never)
