"""Who gets how much: over many calls in virtual time, with the random numbers of a seed."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.balance.endpoint import DECAY, NOISE, PENALTY, Endpoint
from resilient.balance.p2c import FEW, among, choose
from resilient.core.outcome import FAILURE, IGNORED, SUCCESS, Verdict
from resilient.discovery.address import Address
from tests.balance.calls import Call

Outcome = tuple[float, Verdict]


def endpoints(n: int) -> list[Endpoint[None]]:
    return [Endpoint(Address(f"10.0.{i // 256}.{i % 256}", 80), None) for i in range(n)]


def shares(
    n: int, outcome: Callable[[int], Outcome], *, rate: float = 100.0, seconds: float = 60.0, seed: int = 1
) -> list[float]:
    """The share of each endpoint when calls arrive at random, each taking as long as ``outcome`` says."""
    random.seed(seed)
    them = endpoints(n)
    hits: Counter[int] = Counter()
    ends: list[tuple[float, int, Call, float, Verdict]] = []
    now, count = 0.0, 0
    while now < seconds:
        now += random.expovariate(rate)
        while ends and ends[0][0] <= now:
            at, _, call, latency, verdict = heapq.heappop(ends)
            call.endpoint.heard(None, verdict, latency, at)
            call.endpoint.leave(call)
        chosen = choose(them, now)
        assert chosen is not None
        number = them.index(chosen)
        hits[number] += 1
        chosen.enter_anyway(call := Call())
        latency, verdict = outcome(number)
        count += 1
        heapq.heappush(ends, (now + latency, count, call, latency, verdict))
    return [hits[i] / hits.total() for i in range(n)]


def usual() -> Outcome:
    return random.uniform(0.02, 0.04), SUCCESS


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10])
def test_equal_ones_get_equal_shares(n: int, fault_seed: int) -> None:
    assert shares(n, lambda i: usual()) == pytest.approx([1 / n] * n, rel=0.15)


def test_equal_ones_whose_latency_varies_a_lot(fault_seed: int) -> None:
    """Whoever always takes the least loaded sends nearly all of it to one of them for a while."""
    found = shares(3, lambda i: (random.lognormvariate(-6.9, 1.0), SUCCESS))
    assert found == pytest.approx([1 / 3] * 3, rel=0.25)


def test_a_pause_of_the_interpreter_is_not_held_against_anybody(fault_seed: int) -> None:
    found = shares(3, lambda i: (0.004 if random.random() < 0.02 else 0.0005, SUCCESS), seconds=5.0)
    assert found == pytest.approx([1 / 3] * 3, rel=0.25)


@pytest.mark.parametrize("n", [3, 10])
def test_one_that_fails_fast_does_not_look_fast(n: int, fault_seed: int) -> None:
    assert shares(n, lambda i: (0.001, FAILURE) if i == 0 else usual())[0] < 0.01


@pytest.mark.parametrize(("n", "most"), [(3, 0.03), (10, 0.01)])
def test_a_slow_one_gets_little(n: int, most: float, fault_seed: int) -> None:
    assert shares(n, lambda i: (0.5, SUCCESS) if i == 0 else usual())[0] < most


def test_one_that_hangs_gets_what_is_found_out_with(fault_seed: int) -> None:
    assert shares(5, lambda i: (1e6, SUCCESS) if i == 0 else usual())[0] < 0.001


def test_all_that_fail_share_alike(fault_seed: int) -> None:
    assert shares(4, lambda i: (0.001, FAILURE)) == pytest.approx([0.25] * 4, rel=0.15)


# ------------------------------------------------------------------------------------------------------ the rules
@given(st.integers(1, 12), st.sets(st.integers(0, 11)), st.integers(0, 2**32))
def test_none_that_was_tried_while_there_is_another(n: int, tried: set[int], seed: int) -> None:
    them = endpoints(n)
    rand = random.Random(seed).random
    excluded = [them[i] for i in tried if i < n]
    for endpoint in them:
        endpoint.heard(None, SUCCESS, rand(), 0.0)
    chosen = choose(them, 1.0, excluded, rand)
    if len(excluded) == n:
        assert chosen is None
    else:
        assert chosen in them
        assert chosen not in excluded


@given(st.integers(FEW + 1, 40), st.integers(0, 2**32))
def test_two_different_ones_are_drawn(n: int, seed: int) -> None:
    """With every endpoint but one out of reach, that one comes up as soon as it is one of the two."""
    them = endpoints(n)
    rand = random.Random(seed).random
    for endpoint in them[1:]:
        endpoint.heard(None, SUCCESS, 1e9, 0.0)
    them[0].heard(None, SUCCESS, NOISE, 0.0)
    share = sum(choose(them, 0.0, (), rand) is them[0] for _ in range(2_000)) / 2_000
    assert share == pytest.approx(2 / n, abs=0.05)


@pytest.mark.parametrize("n", [2, 10])
@pytest.mark.parametrize("idle", [600.0, 7_000.0, 1e6])
def test_one_that_was_measured_long_ago_is_as_one_that_never_was(n: int, idle: float) -> None:
    them = endpoints(n)
    for endpoint in them:
        endpoint.heard(None, SUCCESS, 0.03, 0.0)
    for _ in range(100):
        assert choose(them, idle) in them
    for endpoint in them[1:]:
        endpoint.heard(None, SUCCESS, 0.03, idle)
    assert {choose(them, idle) for _ in range(500)} >= {them[0]}


def test_nobody() -> None:
    assert choose([], 0.0) is None
    assert among([], 0.0) is None


@pytest.mark.parametrize("n", [2, 10])
def test_of_a_new_one_a_single_call_finds_out(n: int) -> None:
    them = endpoints(n)
    for endpoint in them[1:]:
        endpoint.heard(None, SUCCESS, 0.03, 0.0)
    calls = 0
    for _ in range(200):
        chosen = choose(them, 0.0)
        assert chosen is not None
        if chosen is them[0]:
            calls += 1
            chosen.enter_anyway(Call())
    assert calls == 1, "it is not flooded before its first answer"


# ------------------------------------------------------------------------------------------------------- its load
def test_a_latency_is_remembered_at_its_peak_and_fades() -> None:
    (one,) = endpoints(1)
    assert one.load(0.0) == 0.0
    one.heard(None, SUCCESS, 0.5, 100.0)
    assert one.load(100.0) == pytest.approx(0.5)
    assert one.load(100.0 + DECAY) == pytest.approx(0.5 / 2.71828, rel=1e-4)
    one.heard(None, SUCCESS, 0.1, 100.0 + DECAY)  # below what is left of the peak: slowly down
    assert 0.1 < one.load(100.0 + DECAY) < 0.5
    one.heard(None, SUCCESS, 2.0, 100.0 + DECAY)
    assert one.load(100.0 + DECAY) == pytest.approx(2.0), "up at once"


def test_load_grows_with_what_is_in_flight() -> None:
    (one,) = endpoints(1)
    one.heard(None, SUCCESS, 0.1, 0.0)
    calls = [Call() for _ in range(3)]
    for n, call in enumerate(calls):
        assert one.load(0.0) == pytest.approx(0.1 * (n + 1))
        one.enter_anyway(call)
        assert call.endpoint is one
    for call in calls:
        one.leave(call)
        one.leave(call)  # once too often, as after a fork, or to make sure
    assert one.load(0.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("verdict", "latency", "penalty", "cost"),
    [
        (FAILURE, 0.001, 0.0, PENALTY),
        (FAILURE, 9.0, 0.0, PENALTY),
        (IGNORED, 0.001, 5.0, PENALTY),  # it asks for less
        (IGNORED, 0.001, 20.0, 20.0),
        (IGNORED, 0.001, 1e9, 300.0),
        (IGNORED, 2.0, 0.0, 2.0),  # given up: it would have taken at least that
        (SUCCESS, 0.0, 0.0, NOISE),
    ],
)
def test_what_an_outcome_costs(verdict: Verdict, latency: float, penalty: float, cost: float) -> None:
    (one,) = endpoints(1)
    one.heard(None, verdict, latency, 0.0, penalty)
    assert one.load(0.0) == pytest.approx(cost)


def test_what_is_fit_again_begins_anew() -> None:
    (one,) = endpoints(1)
    one.heard(None, FAILURE, 0.1, 0.0)
    one.forgive()
    assert one.load(0.0) == 0.0


def test_a_child_has_no_calls_in_flight() -> None:
    (one,) = endpoints(1)
    one.enter_anyway(Call())
    one._lock.acquire()
    one.after_fork()
    assert one.load(0.0) == 0.0
    one.heard(None, SUCCESS, 0.1, 0.0)
