"""The decision after each failure: again or not, and when."""

from __future__ import annotations

import logging
import pickle
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import (
    ANY_ERROR,
    Backoff,
    Budget,
    CircuitOpen,
    DeadlineExceeded,
    Evidence,
    OutcomeUnknown,
    PolicyError,
    RateLimited,
    Report,
    Retry,
    Site,
    TimedOut,
    backoff,
    report_of,
)
from resilient.core.call import CURRENT, NO_CALL, Call
from resilient.core.outcome import attach
from resilient.policies.retry.state import GaveUp, Story, gave_up_inside, key_of
from resilient.testing import ManualClock, capture_events

PROOF = {Evidence.NOT_SENT, Evidence.REFUSED, Evidence.DECLINED}
AMPLE = {"stock": 1_000, "floor": 1_000}


def work(*args: Any) -> None:
    """What is retried; it is never run here."""


def story(
    retry: Retry | None = None,
    *,
    call: Call = NO_CALL,
    known: bool | None = None,
    budget: Budget | None = None,
    rand: float = 0.0,
    clock: ManualClock | None = None,
    started: float = 0.0,
    **options: Any,
) -> Story:
    retry = retry or Retry(**options)
    token = CURRENT.set(call)
    try:
        repeatable = None if known is None else lambda: known
        site = Site("payments", "charge", clock or ManualClock(), work, repeatable=repeatable)
        return Story(
            retry.options, budget or Budget(**AMPLE), site, started, (), {}, retry, rand=lambda: rand
        )
    finally:
        CURRENT.reset(token)


def decide(the: Story, exc: Exception, now: float = 0.0) -> tuple[float | None, str | None]:
    """The delay, and why there is none."""
    delay = the.failed(exc, now, the.wants(exc))
    report = report_of(exc)
    return delay, None if report is None else report.why_not_retried


def failure(exc: Exception | None = None, /, **report: Any) -> Exception:
    exc = exc or ConnectionError("down")
    attach(exc, **report)
    return exc


# ------------------------------------------------------------------------------------------------ whether again
REPEATABLE = {
    "plain": ({}, None, True),
    "idempotent": ({"idempotent": True}, None, True),
    "not idempotent": ({"idempotent": False}, None, False),
    "keyed": ({"idempotency_key": str}, None, True),
    "plain, the client knows: no": ({}, False, False),
    "idempotent, the client knows: no": ({"idempotent": True}, False, False),
    "keyed, the client knows: no": ({"idempotency_key": str}, False, False),
    "not idempotent, the client knows: yes": ({"idempotent": False}, True, True),
}
ERRORS = [(ConnectionError, True), (TimeoutError, True), (ValueError, False), (LookupError, False)]


@pytest.mark.parametrize("repeatable", REPEATABLE)
@pytest.mark.parametrize("evidence", Evidence)
def test_what_is_retried(evidence: Evidence, repeatable: str) -> None:
    options, known, may_repeat = REPEATABLE[repeatable]
    for (error, by_class), transient in product(ERRORS, (None, True, False)):
        the = story(known=known, **options)
        delay, why = decide(the, failure(error(), evidence=evidence, transient=transient))
        if not (by_class if transient is None else transient):
            assert (delay, why) == (None, "not_transient")
        elif may_repeat or evidence in PROOF:
            assert delay is not None
            assert why is None
        else:
            assert (delay, why) == (None, "not_idempotent")


@pytest.mark.parametrize("repeatable", REPEATABLE)
def test_without_a_report_nothing_is_proven(repeatable: str) -> None:
    options, known, may_repeat = REPEATABLE[repeatable]
    the = story(known=known, **options)
    delay, why = decide(the, ConnectionRefusedError())
    assert (delay is not None) == may_repeat
    assert why == (None if may_repeat else "not_idempotent")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DeadlineExceeded("over"), "deadline"),
        (CircuitOpen("open"), "rejected"),
        (RateLimited("empty"), "rejected"),
        (OutcomeUnknown("who knows"), "final"),
        (PolicyError("wrong"), "final"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("on", ["transient", "any"])
def test_our_own_errors_are_never_retried_whatever_it_names(error: Exception, why: str, on: str) -> None:
    options = {} if on == "transient" else {"on": (type(error), Exception)}
    error = type(error)("fresh")
    attach(error, evidence=Evidence.NOT_SENT, transient=True)
    budget = Budget(stock=5)
    assert decide(story(budget=budget, **options), error) == (None, why)
    assert budget.remaining(0.0) == 1, "and cost nothing"


def test_a_time_out_of_one_attempt_is_retried() -> None:
    assert decide(story(rand=0.5), TimedOut("slow")) == (0.0125, None)


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_so_many_attempts_in_all(attempts: int) -> None:
    the = story(attempts=attempts)
    for number in range(1, attempts):
        assert the.attempts == number
        assert decide(the, ConnectionError())[0] is not None
        the.attempts += 1
    error = ConnectionError()
    assert decide(the, error) == (None, "attempts")
    assert report_of(error) == Report(attempts=attempts, why_not_retried="attempts")


def test_a_client_that_knows_better_is_believed_and_its_word_stays() -> None:
    error = failure(why_not_retried="body", evidence=Evidence.NOT_SENT)
    assert decide(story(), error) == (None, "body")


def test_an_exception_that_an_earlier_call_gave_up_on_is_judged_anew() -> None:
    """A constant, a cached failure: the same object, raised again by a later call."""
    error = ConnectionError("always the same")
    retry = Retry(attempts=1)
    assert decide(story(retry, clock=(clock := ManualClock())), error, now=1.0) == (None, "attempts")
    assert decide(story(started=2.0, clock=clock), error, now=3.0)[0] is not None


def test_in_one_moment_too() -> None:
    """A clock may stand still between two calls; of another retry it would be one that is inside."""
    clock, retry, error = ManualClock(), Retry(attempts=1), ConnectionError("always the same")
    assert decide(story(retry, clock=clock), error) == (None, "attempts")
    assert decide(story(retry, clock=clock), error) == (None, "attempts")
    again = Retry(attempts=1)
    report = report_of(error)
    assert not gave_up_inside(error, 0.0, clock, retry)
    assert gave_up_inside(error, 0.0, clock, again)
    assert report == Report(attempts=1, why_not_retried="attempts")


def test_an_attempt_inside_the_second_attempt_of_another_retry_is_not_repeated() -> None:
    assert decide(story(call=NO_CALL.with_attempt(2)), ConnectionError()) == (None, "nested")
    assert decide(story(call=NO_CALL.with_attempt(1)), ConnectionError())[0] is not None


@pytest.mark.parametrize("chain", ["itself", "cause", "context", "cause of the context"])
def test_what_a_retry_inside_gave_up_on_is_not_started_over(chain: str) -> None:
    clock = ManualClock()
    inner = ConnectionError("inner")
    assert decide(story(attempts=1, clock=clock), inner, now=1.0) == (None, "attempts")
    outer = inner if chain == "itself" else ConnectionError("outer")
    if chain == "cause":
        outer.__cause__ = inner
    elif chain == "context":
        outer.__context__ = inner
    elif chain == "cause of the context":
        outer.__context__ = KeyError()
        outer.__context__.__cause__ = inner
    delay, why = decide(story(clock=clock), outer, now=2.0)
    assert delay is None
    assert why == ("attempts" if chain == "itself" else "nested"), "the inner one's word on it stays"


def test_the_mark_of_a_retry_that_gave_up() -> None:
    clock, other, owner = ManualClock(), ManualClock(), object()
    mark = GaveUp(5.0, clock, owner)
    assert mark.holds(4.0, clock, owner), "made after the outer call began"
    assert not mark.holds(6.0, clock, owner), "an earlier call's"
    assert mark.holds(5.0, clock, object()), "in the very moment, by another retry"
    assert not mark.holds(5.0, clock, owner), "in the very moment, by the same one: the call before"
    assert not mark.holds(4.0, other, owner), "times of another clock say nothing"
    assert pickle.loads(pickle.dumps(mark)).holds(9.9, clock, owner), "from another process it holds"


def test_a_chain_that_bites_its_tail_or_never_ends_is_looked_through_once() -> None:
    clock = ManualClock()
    one, two = ConnectionError(1), ConnectionError(2)
    one.__cause__, two.__cause__ = two, one
    assert not gave_up_inside(one, 0.0, clock, None)
    deep: BaseException = ConnectionError("the first")
    deep.__dict__["_resilient_gave_up"] = GaveUp(5.0, clock)
    for _ in range(100):
        outer = ConnectionError()
        outer.__cause__ = deep
        deep = outer
    assert not gave_up_inside(deep, 0.0, clock, None)


# ----------------------------------------------------------------------------------------------------- when again
waits = st.builds(
    backoff,
    st.floats(0.001, 2),
    cap=st.floats(2, 60),
    factor=st.floats(1, 4),
    jitter=st.sampled_from(["full", "equal", "proportional", "none"]),
)


@given(
    waits,
    st.integers(1, 9),
    st.sampled_from(Evidence),
    st.one_of(st.none(), st.floats(0, 30)),
    st.floats(0, 1, exclude_max=True),
)
def test_the_delay(
    wait: Backoff, attempt: int, evidence: Evidence, retry_after: float | None, rand: float
) -> None:
    the = story(attempts=100, wait=wait, rand=rand)
    the.attempts = attempt
    delay, why = decide(the, failure(evidence=evidence, retry_after=retry_after))
    assert why is None
    if attempt == 1 and evidence in (Evidence.NOT_SENT, Evidence.REFUSED):
        own = 0.0
    else:
        base, cap = wait.base, wait.cap
        if evidence is Evidence.DECLINED:
            base, cap = max(1.0, base), max(1.0, cap)
        top = min(cap, base * wait.factor ** (attempt - 1))
        share = {"full": rand, "equal": (1 + rand) / 2, "proportional": 0.8 + 0.4 * rand, "none": 1.0}
        own = min(cap, top * share[wait.jitter])
    asked = 0.0 if retry_after is None else retry_after + rand * max(retry_after / 10, 0.05)
    assert delay == pytest.approx(max(own, asked))


def test_a_wait_of_nothing_stays_nothing_also_after_a_throttling_answer() -> None:
    assert decide(story(wait=0), failure(evidence=Evidence.DECLINED)) == (0.0, None)


def test_decorrelated_delays_build_on_the_one_before() -> None:
    the = story(attempts=9, wait=backoff(1.0, cap=100.0, jitter="decorrelated"), rand=0.5)
    delays = []
    for error in (ConnectionError(), failure(), ConnectionError()):  # one of them with a report
        delays.append(decide(the, error)[0])
        the.attempts += 1
    assert delays == [2.0, 3.5, 5.75]


@pytest.mark.parametrize(
    ("asks", "why"), [(0.0, None), (30.0, None), (30.001, "retry_after"), (1e9, "retry_after")]
)
def test_who_asks_for_more_than_thirty_seconds_is_not_waited_for(asks: float, why: str | None) -> None:
    error = failure(evidence=Evidence.DECLINED, retry_after=asks)
    budget = Budget(stock=5)
    delay, said = decide(story(budget=budget), error)
    assert said == why
    report = report_of(error)
    assert report is not None
    assert report.retry_after == asks, "the error carries what was asked"
    if why is None:
        assert delay is not None
        assert delay >= asks
    else:
        assert delay is None
        assert budget.remaining(0.0) == 1, "and cost nothing"


@pytest.mark.parametrize(
    ("deadline", "fits"), [(11.0, False), (10.5, False), (10.51, False), (11.0001, True), (9.0, False)]
)
def test_a_delay_that_does_not_fit_the_deadline_fails_now(deadline: float, fits: bool) -> None:
    call = NO_CALL.with_deadline(deadline)
    budget = Budget(stock=5)
    error = ConnectionError("the real one")
    delay, why = decide(story(call=call, budget=budget, wait=1.0), error, now=10.0)
    assert (delay, why) == ((1.0, None) if fits else (None, "deadline"))
    assert budget.remaining(10.0) == (0 if fits else 1), "what is not made is not paid for"


def test_what_a_server_asks_for_is_never_shortened_to_the_deadline() -> None:
    error = failure(retry_after=5.0)
    assert decide(story(call=NO_CALL.with_deadline(4.0)), error) == (None, "deadline")


# --------------------------------------------------------------------------------------------------- what it costs
def test_a_retry_is_paid_for_when_it_is_scheduled_and_given_back_when_it_succeeds() -> None:
    budget = Budget(stock=10)
    the = story(attempts=9, budget=budget)
    assert decide(the, ConnectionError())[0] is not None
    assert budget.remaining(0.0) == 1
    the.attempts += 1
    the.succeeded()
    assert budget.remaining(0.0) == 2


def test_without_budget_the_real_error_comes_at_once() -> None:
    budget = Budget(stock=0)
    assert decide(story(budget=budget), ConnectionError()) == (None, "budget")


def test_only_the_first_failure_of_a_call_is_a_call_to_the_budget() -> None:
    budget = Budget(stock=1_000, floor=0, ratio=1.0)
    the = story(attempts=9, budget=budget)
    for _ in range(2):
        decide(the, ConnectionError())
        the.attempts += 1
    assert budget.remaining(0.0) == 0, "one call, one retry"
    decide(story(budget=budget), CircuitOpen("open"))
    assert budget.remaining(0.0) == 0, "a rejection was no call"


def test_a_result_that_counts_as_a_failure_is_judged_the_same() -> None:
    budget = Budget(stock=10)
    the = story(attempts=3, wait=1.0, budget=budget)
    assert the.returned(0.0, True) == 1.0
    the.attempts += 1
    assert the.returned(0.0, True) == 1.0
    the.attempts += 1
    assert the.returned(0.0, True) is None
    assert the.why == "attempts"
    empty = story(budget=Budget(stock=0))
    assert empty.returned(0.0, True) is None
    assert empty.why == "budget"
    unsafe = story(idempotent=False)
    assert unsafe.returned(0.0, True) is None
    assert unsafe.why == "not_idempotent"
    one_call = Budget(stock=100, floor=0, ratio=1.0)
    assert story(budget=one_call).returned(0.0, True) is not None
    assert one_call.remaining(0.0) == 0


# ------------------------------------------------------------------------------------------------- what it tells
NOTES = [
    ({"attempts": 1}, {}, "1 attempt of charge in 2.000 s; no attempts left"),
    ({"idempotent": False}, {}, "1 attempt of charge in 2.000 s; not retried: it may have happened, and "),
    (
        {},
        {"retry_after": 31.0},
        "1 attempt of charge in 2.000 s; not retried: the server asks for more than 30 s",
    ),
    (
        {},
        {"why_not_retried": "body"},
        "1 attempt of charge in 2.000 s; not retried: the request body cannot ",
    ),
    ({}, {"why_not_retried": "its own reason"}, "1 attempt of charge in 2.000 s; its own reason"),
]


@pytest.mark.parametrize(("options", "report", "text"), NOTES, ids=[row[2][29:] for row in NOTES])
def test_the_note_tells_the_story(options: dict[str, Any], report: dict[str, Any], text: str) -> None:
    error = failure(**report)
    decide(story(**options), error, now=2.0)
    assert len(error.__notes__) == 1
    assert error.__notes__[0].startswith(f"resilient: payments: {text}")


def test_the_note_tells_of_attempts_and_of_waiting() -> None:
    the = story(attempts=3, wait=0.25)
    for _ in range(2):
        decide(the, ConnectionError())
        the.attempts += 1
    error = ConnectionError()
    decide(the, error, now=1.5)
    assert error.__notes__ == [
        "resilient: payments: 3 attempts of charge in 1.500 s, 0.5 s of it waiting; no attempts left"
    ]


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), CircuitOpen("open")], ids=["not transient", "rejected"]
)
def test_where_nothing_was_tried_again_there_is_nothing_to_tell(error: Exception) -> None:
    decide(story(), error)
    assert not hasattr(error, "__notes__")


def test_a_failure_that_is_not_transient_after_some_that_were_has_a_note() -> None:
    the = story()
    decide(the, ConnectionError())
    the.attempts += 1
    error = ValueError("a bug")
    assert decide(the, error) == (None, "not_transient")
    (note,) = error.__notes__
    assert note.startswith("resilient: payments: 2 attempts of charge in 0.000 s; not retried: ")


def test_a_note_is_replaced_and_the_notes_of_others_stay() -> None:
    error = ConnectionError("a constant")
    error.add_note("of the user's")
    clock = ManualClock()
    for n in range(3):
        decide(story(attempts=1, clock=clock, started=2.0 * n), error, now=2.0 * n + 1)
    assert error.__notes__ == [
        "of the user's", "resilient: payments: 1 attempt of charge in 1.000 s; no attempts left"
    ]  # fmt: skip


def test_one_warning_for_each_retry_and_none_for_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "resilient")
    the = story(attempts=3, wait=0.25)
    decide(the, ConnectionError())
    the.attempts += 1
    decide(the, TimeoutError())
    the.attempts += 1
    decide(the, ConnectionError())
    assert [(record.levelno, record.name, record.getMessage()) for record in caplog.records] == [
        (30, "resilient", "payments: attempt 1 of 3 of charge failed with ConnectionError; again in 0.25 s"),
        (30, "resilient", "payments: attempt 2 of 3 of charge failed with TimeoutError; again in 0.25 s"),
    ]


def test_its_record_carries_what_its_event_says(caplog: pytest.LogCaptureFixture) -> None:
    the = story(attempts=3, wait=0.01234567)
    with capture_events() as seen:
        decide(the, ConnectionError())
    (record,), (event,) = caplog.records, seen.events
    assert record.__dict__.items() >= event.attributes().items()
    assert record.getMessage().endswith("again in 12.3 ms"), "for people, it is rounded"
    assert event.delay == 0.01234567  # type: ignore[attr-defined]
    the.attempts = 3
    error = ConnectionError()
    decide(the, error)
    assert ", 12 ms of it waiting; " in error.__notes__[0]


@pytest.mark.parametrize(("level", "records"), [("WARNING", 1), ("ERROR", 0)])
def test_who_does_not_want_to_hear_of_retries_does_not(
    caplog: pytest.LogCaptureFixture, level: str, records: int
) -> None:
    caplog.set_level(level, "resilient")
    decide(story(), ConnectionError())
    assert len(caplog.records) == records


EVENTS = [
    ({"attempts": 1}, ConnectionError, ["resilient.retry.exhausted"]),
    ({"idempotent": False}, ConnectionError, ["resilient.retry.suppressed"]),
    ({"budget": Budget(stock=0)}, ConnectionError, ["resilient.retry.suppressed"]),
    ({}, ConnectionError, ["resilient.retry.scheduled"]),
    ({}, ValueError, []),
    ({}, CircuitOpen, []),
    ({}, PolicyError, []),
    ({}, DeadlineExceeded, ["resilient.retry.suppressed"]),
]


@pytest.mark.parametrize(("options", "error", "names"), EVENTS)
def test_its_events(options: dict[str, Any], error: type[Exception], names: list[str]) -> None:
    the = story(**options)
    with capture_events() as seen:
        decide(the, error("down"))
    assert seen.names == names
    for event in seen.events:
        assert (event.dependency, event.operation) == ("payments", "charge")
        assert event.error_type == error.__name__  # type: ignore[attr-defined]


def test_the_events_of_a_call_that_was_retried_add_up() -> None:
    the = story(attempts=3, wait=0.25)
    with capture_events() as seen:
        for _ in range(2):
            decide(the, ConnectionError())
            the.attempts += 1
        the.succeeded()
    assert [(event.attempt, event.delay) for event in seen.named("resilient.retry.scheduled")] == [  # type: ignore[attr-defined]
        (1, 0.25),
        (2, 0.25),
    ]
    (finished,) = seen.named("resilient.retry.finished")
    assert (finished.retries, finished.delay) == (2, 0.5)  # type: ignore[attr-defined]


def test_a_call_that_was_not_retried_finishes_no_retry() -> None:
    the = story(attempts=1)
    with capture_events() as seen:
        decide(the, ConnectionError())
    assert seen.named("resilient.retry.finished") == []


def test_a_result_that_fails_for_good_is_told_too() -> None:
    the = story(attempts=2, on=ANY_ERROR)
    with capture_events() as seen:
        the.returned(0.0, True)
        the.attempts += 1
        the.returned(0.0, True)
    assert [(event.name, getattr(event, "error_type", None)) for event in seen.events] == [
        ("resilient.retry.scheduled", "result"),
        ("resilient.retry.exhausted", "result"),
        ("resilient.retry.finished", None),
    ]


def test_the_reason_that_was_told_is_the_one_on_the_report() -> None:
    error = ConnectionError()
    with capture_events() as seen:
        _, why = decide(story(idempotent=False), error)
    assert [event.reason for event in seen.events] == [why] == ["not_idempotent"]  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------------- its key
def test_the_key_comes_from_dependency_operation_and_what_names_the_intent() -> None:
    options = Retry(idempotency_key=lambda order, /, **_: f"order-{order}").options
    key = key_of(options, "payments", "charge", (7,), {"currency": "EUR"})
    assert key == key_of(options, "payments", "charge", (7,), {})
    others = {
        key_of(options, "payments", "charge", (8,), {}),
        key_of(options, "refunds", "charge", (7,), {}),
        key_of(options, "payments", "refund", (7,), {}),
    }
    assert len(others | {key}) == 4


@pytest.mark.parametrize("value", [None, "", 7, b"order-7"])
def test_what_names_no_intent_is_refused(value: Any) -> None:
    options = Retry(idempotency_key=lambda: value).options
    with pytest.raises(PolicyError) as caught:
        key_of(options, "payments", "charge", (), {})
    assert str(caught.value).startswith(
        f"Retry: idempotency_key gave {value!r} for charge; it must give a text"
    )
    assert "write idempotency_key=lambda order: order.id" in str(caught.value)
