"""Pipelines follow the document by their name: which numbers, where from, and what cannot be."""

from __future__ import annotations

import gc
import json
import logging
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    ConfigError,
    DocumentError,
    Pipeline,
    RateLimit,
    Retry,
    Timeout,
    backoff,
    standard,
)
from resilient.config.decode import decode
from resilient.config.leaves import leaves
from resilient.config.live import Live
from resilient.config.numbers import find_leaf
from resilient.config.snapshot import Noted, Snapshot
from resilient.core.registry import Registry
from resilient.testing import ManualClock, capture_events

from .samples import document

GENERATIONS = iter(range(1, 10**9))


def snapshot(**targets: Any) -> Snapshot:
    text = document(a_json=json.dumps({"resiliency": {"targets": targets}}, indent=1))
    return Snapshot(next(GENERATIONS), text.digest, Noted(), text.sources, decode(text).targets)


class Kit:
    """A registry of its own that follows."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.live = Live(self.registry)
        self.registry.follow(self.live.follow)
        self.clock = ManualClock()
        self.kept: list[Pipeline] = []  # the registry holds them weakly

    def add(self, *policies: Any, name: str = "payments") -> Pipeline:
        pipeline = Pipeline(*policies, name=name, clock=self.clock)
        self.kept.append(pipeline)
        self.registry.add(pipeline)
        return pipeline

    def standard(self, **given_: Any) -> Pipeline:
        pipeline = standard("payments", clock=self.clock, **given_)
        self.kept.append(pipeline)
        self.registry.add(pipeline)
        return pipeline

    def say(self, **kinds: Any) -> int:
        return len(self.live.apply(snapshot(payments=kinds)))


@pytest.fixture
def kit() -> Kit:
    return Kit()


FULL = {
    "timeout": {"total": "8s", "attempt": "700ms"},
    "retry": {"attempts": 5, "wait": {"base": "10ms", "cap": "3s", "factor": 3.0, "jitter": "equal"}},
    "breaker": {"failure_ratio": 0.3, "window": "30s", "slow_after": "2s", "probes": 1},
    "ratelimit": {"rate": "50/second", "burst": 7, "max_wait": "20ms"},
    "bulkhead": {"limit": 9, "queue": 3, "max_wait": "40ms"},
}


def test_every_number_of_a_pipeline_follows_and_goes_back(kit: Kit) -> None:
    pipeline = kit.add(
        Timeout(20.0),
        Retry(2, wait=backoff(1.0)),
        CircuitBreaker(minimum_calls=5),
        RateLimit("9/second"),
        Bulkhead(4),
        Timeout(1.0),
    )
    before = str(pipeline)
    assert kit.say(**FULL) == 17
    assert str(pipeline) == (
        "Timeout(total 8 s) -> Retry(5 attempts, on transient, backoff 10 ms..3 s x3 equal jitter) -> "
        "CircuitBreaker(30% in 30 s from 5 calls, 10 in a row, 50% slower than 2 s, open 5 s..60 s, 1 probes) -> "
        "RateLimit(50/second, burst 7, waits 20 ms) -> Bulkhead(9, queue 3 for 40 ms) -> Timeout(attempt 0.7 s)"
    )
    assert kit.say(**FULL) == 0, "nothing changed"
    assert kit.say(retry={"attempts": 5}) == 16
    assert "Retry(5 attempts, on transient, backoff 1 s" in str(pipeline)
    kit.live.release()
    assert str(pipeline) == before


def test_what_says_what_the_call_is_stays(kit: Kit) -> None:
    on, key, ignore = (KeyError,), lambda order: "k", (ValueError,)
    pipeline = kit.add(
        Retry(2, on=on, idempotency_key=key), CircuitBreaker(ignore=ignore), RateLimit("9/hour", cost=3)
    )
    old = [policy.options for policy in pipeline]  # type: ignore[attr-defined]
    kit.say(**{k: v for k, v in FULL.items() if k not in ("timeout", "bulkhead")})
    retry, breaker, limit = (policy.options for policy in pipeline)  # type: ignore[attr-defined]
    assert (retry.on, retry.idempotency_key) == (old[0].on, key)
    assert breaker.ignore == old[1].ignore
    assert limit.cost == 3


def test_a_new_pipeline_is_brought_to_what_is_in_force_at_once(kit: Kit) -> None:
    kit.say(retry={"attempts": 5})
    assert "5 attempts" in str(kit.add(Retry(2)))
    assert "2 attempts" in str(kit.add(Retry(2), name="search"))


def test_a_burst_that_the_code_did_not_say_follows_the_rate(kit: Kit) -> None:
    free, fixed = RateLimit("9/second"), RateLimit("9/second", burst=5)
    kit.add(free)
    kit.add(fixed)
    kit.say(ratelimit={"rate": "50/second"})
    assert (free.options.burst, fixed.options.burst) == (50, 5)
    kit.say(ratelimit={"rate": "50/second", "burst": None})
    assert fixed.options.burst == 50


def test_the_budget_of_the_name_follows(kit: Kit) -> None:
    retry = Retry(3)
    kit.add(retry, name="payments-of-this-test")
    kit.live.apply(snapshot(**{"payments-of-this-test": {"retry": {"budget": {"ratio": 0.5, "stock": 100}}}}))
    budget = retry.budget_for("payments-of-this-test")
    assert (budget.options.ratio, budget.options.stock, budget.options.floor) == (0.5, 100, 1.0)
    kit.live.release()
    assert budget.options.ratio == 0.2


# ------------------------------------------------------------------------------------------- what follows from others
def test_the_attempts_time_follows_from_the_deadline_where_nobody_said_it(kit: Kit) -> None:
    pipeline = kit.standard()
    kit.say(timeout={"total": "1.6s"}, retry={"attempts": 2, "wait": {"base": "0s"}})
    assert "CircuitBreaker(50% in 10 s from 20 calls, 10 in a row, 50% slower than 0.8 s" in str(pipeline)
    assert str(pipeline).endswith("Timeout(attempt 0.8 s)")
    kit.say(timeout={"total": "1.6s", "attempt": "300ms"})
    assert "slower than 0.3 s" in str(pipeline)
    kit.say(timeout={"total": "1.6s", "attempt": "300ms"}, breaker={"slow_after": None})
    assert "slower" not in str(pipeline)
    kit.live.release()
    assert str(pipeline) == str(standard("payments"))


def test_an_attempts_time_of_the_code_stays(kit: Kit) -> None:
    pipeline = kit.standard(attempt_timeout=1.25)
    kit.say(timeout={"total": "5s"})
    assert str(pipeline).endswith("Timeout(attempt 1.25 s)")
    with pytest.raises(DocumentError, match=r"timeout.attempt of 1.25 s is not below timeout.total of 1 s"):
        kit.live.check(snapshot(payments={"timeout": {"total": "1s"}}))


# --------------------------------------------------------------------------------------------------- forced states
def test_a_breaker_is_forced_by_the_document_and_let_go_by_it(kit: Kit) -> None:
    breaker = CircuitBreaker(consecutive=1)
    pipeline = kit.add(breaker)
    with capture_events() as seen:
        for state, shown in [
            ("forced_open", "forced_open"),
            ("disabled", "disabled"),
            ("observe", "closed"),
            (None, "closed"),
            ("disabled", "disabled"),
            ("forced_open", "forced_open"),
        ]:
            kit.say(breaker={"state": state})
            assert (breaker.state, breaker.observing) == (shown, state == "observe")
        with pytest.raises(CircuitOpen, match="forced open"):
            pipeline.call(int)
        kit.say()
        assert breaker.state == "closed"
    moves: list[Any] = seen.named("resilient.breaker.transition")
    assert [(each.dependency, each.trigger) for each in moves] == [("payments", "manual")] * 6
    assert moves[0].reason == "forced by the config document"


def test_what_was_forced_by_hand_is_left_alone(kit: Kit) -> None:
    breaker = CircuitBreaker()
    kit.add(breaker)
    breaker.force_open()
    kit.say(breaker={"open_for": "2s"})
    assert breaker.state == "forced_open"


def test_a_breaker_that_is_open_stays_open(kit: Kit) -> None:
    breaker = CircuitBreaker(consecutive=1, open_for=30.0)
    pipeline = kit.add(breaker)
    with pytest.raises(ConnectionError):
        pipeline.call(lambda: (_ for _ in ()).throw(ConnectionError()))
    kit.say(breaker={"consecutive": 5, "failure_ratio": 0.9})
    assert breaker.state == "open"


# ------------------------------------------------------------------------------------------------- what cannot be
@pytest.mark.parametrize(
    ("policies", "kinds", "said"),
    [
        (
            [Retry(3, wait=backoff(0.5))],
            {"retry": {"wait": {"cap": "100ms"}}},
            "cap=0.1 must be at least the base",
        ),
        ([Bulkhead(3)], {"bulkhead": {"queue": 5}}, "a queue needs a length and a time"),
        (
            [CircuitBreaker()],
            {"breaker": {"open_for": "2m"}},
            "max_open=60.0 must be at least open_for, 120 s",
        ),
        (
            [CircuitBreaker()],
            {"breaker": {"count": 10}},
            "can never be reached in a window of the last 10 calls",
        ),
        ([RateLimit("9/second", cost=5)], {"ratelimit": {"burst": 4}}, "no call could ever pass"),
        (
            [Timeout(9.0), Retry(2), Timeout(1.0)],
            {"timeout": {"total": "1s"}},
            "is not below timeout.total of 1 s",
        ),
    ],
)
def test_numbers_that_do_not_go_together_are_refused_before_anything_changes(
    kit: Kit, policies: list[Any], kinds: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = kit.add(*policies)
    before, bad = str(pipeline), snapshot(payments=kinds)
    with pytest.raises(DocumentError) as caught:
        kit.live.check(bad)
    assert said in str(caught.value)
    assert (caught.value.reason, caught.value.pointer) == ("policies", ("resiliency", "targets", "payments"))
    assert (caught.value.file, caught.value.line) == ("a.json", 4)
    kit.live.apply(bad)  # as for a pipeline that is made later
    assert str(pipeline) == before
    assert "payments: the configuration is not applied to it" in caplog.text


def test_a_policy_that_is_not_there_is_told(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    twin = [kit.add(Retry(3)), kit.add(Retry(3))]
    assert kit.say(ratelimit={"rate": "9/second"}, retry={"attempts": 2}) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "payments: ratelimit.rate at a.json:6 is without effect: it has no such policy"
    ]
    assert all("2 attempts" in str(each) for each in twin)


def test_a_wait_of_the_users_own_cannot_be_told_otherwise(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    import tenacity

    kit.add(Retry(3, wait=tenacity.wait_fixed(0)))
    assert kit.say(retry={"wait": {"base": "1s"}, "attempts": 4}) == 1
    assert "retry.wait.base at a.json:7 is without effect" in caplog.text


def test_what_had_to_be_forgotten_is_told(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    kit.add(CircuitBreaker())
    kit.say(breaker={"count": 50})
    assert "payments: breaker forgets the outcomes so far" in caplog.text


def test_a_policy_in_pipelines_of_two_names_follows_one_of_them(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Bulkhead(4)
    kit.add(shared, name="a")
    kit.add(Retry(2), shared, name="b")
    kit.live.apply(
        snapshot(a={"bulkhead": {"limit": 5}}, b={"bulkhead": {"limit": 6}, "retry": {"attempts": 3}})
    )
    assert shared.options.limit == 5
    assert "b: bulkhead.limit at a.json:11 is without effect" in caplog.text


def test_a_standard_pipeline_inside_another_one_keeps_to_its_name(kit: Kit) -> None:
    inner = kit.standard()
    kit.add(inner, name="a")
    kit.live.apply(snapshot(payments={"timeout": {"total": "1s"}}, a={"timeout": {"total": "5s"}}))
    assert "total 1 s" in str(inner), "the name of the one that was made first"


def test_a_policy_of_the_users_own_is_left_alone(kit: Kit) -> None:
    from resilient import Gate

    class Own(Gate[int]):
        kind = "own"

        def admit(self, now: float, /) -> int:
            return 1

    pipeline = kit.add(Own(), Retry(2))
    assert kit.say(retry={"attempts": 4}) == 1
    assert pipeline.call(lambda: "done") == "done"


def test_a_policy_of_the_users_own_with_a_name_of_ours_is_left_alone(kit: Kit) -> None:
    from resilient import Gate

    class Own(Gate[int]):
        kind = "bulkhead"

        def admit(self, now: float, /) -> int:
            return 1

    kit.add(Own(), Retry(2))
    bad = snapshot(payments={"bulkhead": {"limit": 7}, "retry": {"attempts": 4}})
    kit.live.check(bad)
    assert len(kit.live.apply(bad)) == 1


def test_of_two_of_a_kind_the_outermost_follows(kit: Kit) -> None:
    outer, inner = RateLimit("9/second"), RateLimit("9000/hour")
    kit.add(outer, inner)
    kit.say(ratelimit={"rate": "5/second"})
    assert (outer.options.rate.text, inner.options.rate.text) == ("5/second", "9000/hour")
    assert kit.live.explain("payments.ratelimit.rate").value == "5/second"


def test_who_makes_pipelines_again_and_again_is_told_once(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resilient")
    kit.say(retry={"attempts": 4}, bulkhead={"limit": 7})
    for _ in range(50):
        assert "4 attempts" in str(kit.add(Retry(2)))
    assert [record.getMessage() for record in caplog.records] == [
        "payments: bulkhead.limit at the document is without effect: it has no such policy",
        "payments: retry.attempts 2 -> 4 (the document)",
    ]
    kit.say(retry={"attempts": 5})
    kit.add(Retry(2))
    assert caplog.records[-1].getMessage() == "payments: retry.attempts 2 -> 5 (the document)"


def test_a_filter_that_raises_hurts_nobody(kit: Kit) -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise KeyError("of the filter")

    broken = Broken()
    logger = logging.getLogger("resilient")
    logger.addFilter(broken)
    try:
        pipeline = kit.add(Retry(2), CircuitBreaker())
        assert kit.say(retry={"attempts": 4}) == 1
        assert "4 attempts" in str(kit.add(Retry(2)))
        assert "4 attempts" in str(pipeline)
    finally:
        logger.removeFilter(broken)


def test_a_fault_of_ours_is_told_and_stops_nobody(
    kit: Kit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, fine = Bulkhead(4), Bulkhead(4)
    kit.add(broken)
    kit.add(fine)

    def fails(options: Any, now: float) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(broken, "retune", fails)
    kit.say(bulkhead={"limit": 7})
    assert fine.options.limit == 7
    assert "payments: the configuration could not be applied to it" in caplog.text
    assert 'raise KeyError("a bug")' in caplog.text, "with the traceback"


# ------------------------------------------------------------------------------------------------------ telling why
def test_every_number_is_explained(kit: Kit) -> None:
    kit.standard()
    assert str(kit.live.explain("payments.retry.attempts")) == "payments.retry.attempts = 3 (from the code)"
    kit.say(timeout={"total": "2s"}, retry={"wait": {"base": "5ms"}})
    found = kit.live.explain("payments.timeout.total")
    assert (found.value, found.layer, found.place, found.lives) == (2.0, "document", "a.json:6", True)
    assert kit.live.explain("payments.retry.wait.base").place == "a.json:10"
    found = kit.live.explain("payments.timeout.attempt")
    assert (found.layer, found.place) == ("preset", None)
    assert kit.live.explain("payments.breaker.probes").layer == "code"
    for kind, known in leaves().items():
        if kind != "ratelimit":
            for name, leaf in known.items():
                for key in [name] if not isinstance(leaf, dict) else [f"{name}.{each}" for each in leaf]:
                    assert kit.live.explain(f"payments.{kind}.{key}").lives


def test_what_lives_elsewhere_is_explained_by_the_document(kit: Kit) -> None:
    kit.live.apply(snapshot(**{"search.index": {"retry": {"attempts": 4}}}))
    assert str(kit.live.explain("search.index.retry.attempts")) == (
        "search.index.retry.attempts = 4 (from the document at a.json:6; "
        "nothing of that name lives in this process)"
    )
    with pytest.raises(ConfigError, match="no pipeline named 'search"):
        kit.live.explain("search.index.retry.budget.cost")


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("payments.retry.atempts", "payments.retry.attempts"),
        ("payments", "payments.retry.attempts"),
        ("", "payments.retry.attempts"),
        (7, "payments.retry.attempts"),
        ("a.b.c.zzz", "payments.retry.attempts"),
    ],
)
def test_a_key_that_names_no_number_is_refused(key: Any, instead: str) -> None:
    with pytest.raises(ConfigError, match="names no number") as caught:
        find_leaf(key)
    assert instead in str(caught.value)


def test_changes_are_told_a_line_each_with_their_place(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resilient")
    kit.add(Retry(3), Bulkhead(5))
    kit.say(retry={"attempts": 4, "wait": {"base": "100ms"}})
    kit.say(bulkhead={"limit": 9})
    assert [record.getMessage() for record in caplog.records] == [
        "payments: retry.attempts 3 -> 4 (a.json:6)",
        "payments: retry.wait.base 25ms -> 0.1s (a.json:8)",
        "payments: retry.attempts 4 -> 3 (not set any more)",
        "payments: retry.wait.base 0.1s -> 25ms (not set any more)",
        "payments: bulkhead.limit 5 -> 9 (a.json:6)",
    ]


# ---------------------------------------------------------------------------------------------------------- by chance
numbers = st.fixed_dictionaries(
    {},
    optional={
        "retry": st.fixed_dictionaries({}, optional={"attempts": st.integers(1, 9)}),
        "bulkhead": st.fixed_dictionaries({}, optional={"limit": st.integers(1, 9)}),
        "breaker": st.fixed_dictionaries(
            {},
            optional={"probes": st.integers(1, 9), "state": st.sampled_from([None, "disabled", "observe"])},
        ),
    },
)


@settings(max_examples=60)
@given(st.lists(numbers, max_size=6))
def test_what_is_in_force_depends_on_the_last_document_alone(documents: list[dict[str, Any]]) -> None:
    kit, fresh = Kit(), Kit()
    pipeline = kit.add(Retry(2), CircuitBreaker(), Bulkhead(3))
    for each in documents:
        kit.say(**each)
    if documents:
        fresh.say(**documents[-1])
    other = fresh.add(Retry(2), CircuitBreaker(), Bulkhead(3))
    assert str(pipeline) == str(other)
    assert pipeline["breaker"].state == other["breaker"].state
    kit.live.release()
    assert str(pipeline) == str(Pipeline(Retry(2), CircuitBreaker(), Bulkhead(3)))


def test_pipelines_that_are_made_while_documents_come_end_up_the_same(kit: Kit) -> None:
    made = kit.kept
    over = threading.Event()

    def make() -> None:
        while not over.is_set():
            kit.add(Bulkhead(1))
            del made[:-20]

    thread = threading.Thread(target=make)
    thread.start()
    try:
        for n in range(2, 120):
            kit.say(bulkhead={"limit": n})
    finally:
        over.set()
        thread.join()
    assert {pipeline["bulkhead"].options.limit for pipeline in made} == {119}


def test_nothing_is_kept_of_pipelines_that_are_gone(kit: Kit) -> None:
    kit.say(bulkhead={"limit": 7})
    for _ in range(50):
        kit.add(Bulkhead(1), Retry(2))
    kit.kept.clear()
    gc.collect()
    assert len(kit.live._given) <= 1, "but the budget of the name, which others may hold"
    assert len(kit.live._values) == 0
