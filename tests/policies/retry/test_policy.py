"""Retry around calls, sync and async."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import tenacity

from resilient import (
    ANY_ERROR,
    Backoff,
    Budget,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Evidence,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    When,
    current_call,
    deadline,
    report_of,
)
from resilient.core.call import NO_CALL
from resilient.core.outcome import Discarded, Unfinished, attach
from resilient.core.registry import REGISTRY
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, notes, raised

pytestmark = both


def pipeline(clock: ManualClock, *outer: Any, name: str | None = None, **options: Any) -> Pipeline:
    options = {"budget": Budget(stock=1_000, floor=1_000), "wait": 1.0, **options}
    return Pipeline(*outer, Retry(**options), name=name, clock=clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_it_tries_until_it_works(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError, TimeoutError, "ok", clock=clock, takes=0.5)
    assert call(mode, pipeline(clock), fn, clock) == "ok"
    assert fn.at == [0.0, 1.5, 3.0]


def test_after_the_last_attempt_its_own_exception_is_raised(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError, clock=clock)
    error = raised(mode, pipeline(clock), fn, clock)
    assert type(error) is ConnectionError
    assert str(error) == "call 3"
    assert fn.calls == 3
    report = report_of(error)
    assert report is not None
    assert (report.attempts, report.why_not_retried, report.evidence) == (3, "attempts", Evidence.UNKNOWN)
    (note,) = notes(error)
    assert note.endswith("in 2.000 s, 2 s of it waiting; no attempts left")


def test_one_attempt_is_one(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError)
    raised(mode, pipeline(clock, attempts=1), fn, clock)
    assert fn.calls == 1


@pytest.mark.parametrize("error", [TypeError, ValueError, LookupError, KeyError, OSError, PermissionError])
def test_bugs_and_answers_are_raised_at_once(mode: str, clock: ManualClock, error: type[Exception]) -> None:
    fn = Script(error)
    assert type(raised(mode, pipeline(clock), fn, clock)) is error
    assert fn.calls == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_who_wants_to_end_the_program_does(mode: str, clock: ManualClock, error: type[BaseException]) -> None:
    fn = Script(error)
    with pytest.raises(error):
        call(mode, pipeline(clock, on=ANY_ERROR), fn, clock)
    assert fn.calls == 1


def test_what_it_names_is_retried_and_nothing_else(mode: str, clock: ManualClock) -> None:
    fn = Script(KeyError, ConnectionError)
    assert type(raised(mode, pipeline(clock, on=KeyError), fn, clock)) is ConnectionError
    assert fn.calls == 2
    fn = Script(KeyError("a"), KeyError("b"))
    raised(mode, pipeline(clock, on=lambda exc: exc.args == ("a",)), fn, clock)
    assert fn.calls == 2


def test_results_can_be_failures(mode: str, clock: ManualClock) -> None:
    policy = pipeline(clock, on=When(result=lambda value: value is None))
    fn = Script(None, None, "ok", clock=clock)
    assert call(mode, policy, fn, clock) == "ok"
    assert fn.at == [0.0, 1.0, 2.0]
    fn = Script(None)
    assert call(mode, policy, fn, clock) is None, "the last one is returned as it is"
    assert fn.calls == 3
    fn = Script("ok")
    assert call(mode, policy, fn, clock) == "ok"
    assert fn.calls == 1


def test_of_a_result_that_is_still_arriving_it_sees_what_it_is(mode: str, clock: ManualClock) -> None:
    seen: list[Any] = []
    policy = pipeline(clock, on=When(result=lambda value: bool(seen.append(value)) or len(seen) < 2))
    streams = [Unfinished("first"), Unfinished("second")]
    assert call(mode, policy, Script(*streams), clock) is streams[1]
    assert seen == ["first", "second"]


@pytest.mark.parametrize("inside", [False, True])
def test_no_deadline_is_ever_retried(mode: str, clock: ManualClock, inside: bool) -> None:
    fn = Script(DeadlineExceeded, clock=clock)
    policy = Pipeline(pipeline(clock, on=(Exception, DeadlineExceeded)), Timeout(9.0), clock=clock)
    error = raised(mode, policy if inside else pipeline(clock, on=DeadlineExceeded), fn, clock)
    assert type(error) is DeadlineExceeded
    assert fn.calls == 1


def test_a_delay_that_the_deadline_cannot_pay_fails_now_with_the_real_error(
    mode: str, clock: ManualClock
) -> None:
    fn = Script(ConnectionError, clock=clock)
    error = raised(mode, pipeline(clock, Timeout(1.5), attempts=9), fn, clock)
    assert type(error) is ConnectionError
    assert fn.at == [0.0, 1.0]
    assert clock.monotonic() == 1.0, "it did not wait for the end"
    assert report_of(error).why_not_retried == "deadline"  # type: ignore[union-attr]


def test_the_callers_deadline_counts_too(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError, clock=clock)
    with deadline(0.5, clock=clock):
        raised(mode, pipeline(clock), fn, clock)
    assert fn.calls == 1


def test_retry_after_is_kept_with_jitter_on_top(mode: str, clock: ManualClock) -> None:
    waited = []
    for _ in range(40):
        error = ConnectionError()
        attach(error, evidence=Evidence.DECLINED, retry_after=4.0)
        fn = Script(error, "ok", clock=clock)
        call(mode, pipeline(clock, wait=0), fn, clock)
        waited.append(fn.at[1] - fn.at[0])
    assert all(4.0 <= each <= 4.4 for each in waited)
    assert len(set(waited)) > 20


def test_a_zero_delay_does_not_sleep(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError, "ok", clock=clock)
    call(mode, pipeline(clock, wait=0), fn, clock)
    assert clock.sleeps == []
    assert clock.monotonic() == 0.0


def test_the_default_wait_is_spread_from_nothing_to_its_ceiling(mode: str, clock: ManualClock) -> None:
    seen: list[list[float]] = [[], []]
    for _ in range(100):
        fn = Script(ConnectionError, ConnectionError, "ok", clock=clock)
        call(mode, pipeline(clock, wait=Backoff()), fn, clock)
        seen[0].append(fn.at[1] - fn.at[0])
        seen[1].append(fn.at[2] - fn.at[1])
    for ceiling, delays in zip((0.025, 0.05), seen, strict=True):
        assert all(-1e-9 <= each <= ceiling + 1e-9 for each in delays)
        assert min(delays) < ceiling / 4 < 3 * ceiling / 4 < max(delays)


# -------------------------------------------------------------------------------------------------------- budget
def test_an_outage_uses_up_the_budget_and_the_calls_go_on_without_retries(
    mode: str, clock: ManualClock
) -> None:
    policy, fn = pipeline(clock, wait=0, budget=Budget()), Script(ConnectionError)
    whys = [report_of(raised(mode, policy, fn, clock)).why_not_retried for _ in range(6)]  # type: ignore[union-attr]
    assert whys == ["attempts"] * 3 + ["budget"] * 3
    assert fn.calls == 6 + 7


def test_success_at_once_earns_one_and_a_retry_that_succeeds_its_cost(mode: str, clock: ManualClock) -> None:
    budget = Budget(stock=10, floor=10)
    policy = pipeline(clock, wait=0, budget=budget)
    call(mode, policy, Script(ConnectionError, "ok"), clock)
    assert budget.remaining(0.0) == 2
    raised(mode, policy, Script(ConnectionError), clock)
    assert budget.remaining(0.0) == 0
    for _ in range(4):
        call(mode, policy, Script("ok"), clock)
    assert budget.remaining(0.0) == 0
    call(mode, policy, Script("ok"), clock)
    assert budget.remaining(0.0) == 1
    looks = pipeline(clock, wait=0, budget=budget, on=When(OSError, result=lambda value: value is None))
    for _ in range(5):
        call(mode, looks, Script("ok"), clock)
    assert budget.remaining(0.0) == 2


def test_a_rejection_is_raised_at_once_and_costs_nothing(mode: str, clock: ManualClock) -> None:
    budget = Budget(stock=5)
    breaker = CircuitBreaker()
    breaker.force_open()
    fn = Script("never")
    error = raised(mode, Pipeline(pipeline(clock, budget=budget), breaker, clock=clock), fn, clock)
    assert type(error) is CircuitOpen
    assert fn.calls == 0
    assert budget.remaining(0.0) == 1
    assert report_of(error).why_not_retried == "rejected"  # type: ignore[union-attr]


def test_pipelines_of_one_name_share_a_budget_and_others_have_their_own(
    mode: str, clock: ManualClock
) -> None:
    budget = Budget(stock=5)
    REGISTRY.set_budget("shared", budget)
    first, second = (pipeline(clock, wait=0, budget=None, name="shared") for _ in range(2))
    alone = pipeline(clock, wait=0, budget=None)
    fn = Script(ConnectionError, "ok")
    raised(mode, first, Script(ConnectionError), clock)
    assert report_of(raised(mode, second, fn, clock)).why_not_retried == "budget"  # type: ignore[union-attr]
    assert call(mode, alone, Script(ConnectionError, "ok"), clock) == "ok"


# -------------------------------------------------------------------------------------------------------- nesting
def test_retries_inside_retries_do_not_multiply(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError)
    inner, outer = pipeline(clock), pipeline(clock, attempts=4)

    def middle() -> Any:
        try:
            return inner.call(fn)
        except ConnectionError as error:
            raise ConnectionError("of the middle") from error

    async def amiddle() -> Any:
        async def work() -> Any:
            return fn()

        try:
            return await inner.acall(work)
        except ConnectionError as error:
            raise ConnectionError("of the middle") from error

    with pytest.raises(ConnectionError) as caught:
        if mode == "sync":
            outer.call(middle)
        else:
            clock.run(outer.acall(amiddle))
    assert fn.calls == 3, "not 12"
    assert report_of(caught.value).why_not_retried == "nested"  # type: ignore[union-attr]


def test_an_inner_retry_learns_that_it_runs_in_a_second_attempt(mode: str, clock: ManualClock) -> None:
    seen = []
    inner = Script(ConnectionError, "ok")
    nested = pipeline(clock)

    def fn() -> Any:
        seen.append(current_call().attempt)
        if len(seen) == 1:
            raise TimeoutError
        return nested.call(inner)

    error = raised(mode, pipeline(clock, attempts=2), fn, clock)
    assert type(error) is ConnectionError
    assert seen == [1, 2]
    assert inner.calls == 1


# ----------------------------------------------------------------------------------------------------- the call
def test_attempt_and_key_go_down_and_nothing_stays(mode: str, clock: ManualClock) -> None:
    seen = []

    def fn(order: str) -> None:
        the_call = current_call()
        seen.append((the_call.attempt, the_call.idempotency_key, the_call.child_key("notify")))
        raise ConnectionError

    policy = pipeline(clock, name="payments", idempotency_key=lambda order: order)
    raised(mode, policy, fn, clock, "order-7")
    assert [each[0] for each in seen] == [1, 2, 3]
    assert len({each[1] for each in seen}) == len({each[2] for each in seen}) == 1
    assert seen[0][1] is not None
    raised(mode, policy, fn, clock, "order-8")
    assert seen[3][1] not in (None, seen[0][1])
    assert current_call() is NO_CALL


def test_only_what_provably_did_not_happen(mode: str, clock: ManualClock) -> None:
    def declined() -> Exception:
        error = ConnectionError()
        attach(error, evidence=Evidence.DECLINED)
        return error

    fn = Script(declined, ConnectionError)
    error = raised(mode, pipeline(clock, idempotent=False), fn, clock)
    assert fn.calls == 2
    (note,) = notes(error)
    assert "it may have happened, and repeating it is not known to be safe" in note


# ------------------------------------------------------------------------------------------------------ tenacity
@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"wait": tenacity.wait_fixed(2)}, [0.0, 2.0, 4.0]),
        ({"wait": tenacity.wait_incrementing(1, 1)}, [0.0, 1.0, 3.0]),
        ({"wait": lambda state: state.attempt_number * 10}, [0.0, 10.0, 30.0]),
        ({"stop": tenacity.stop_after_attempt(2)}, [0.0, 1.0]),
        ({"stop": tenacity.stop_after_attempt(9)}, [0.0, 1.0, 2.0]),
        ({"stop": tenacity.stop_after_delay(1)}, [0.0, 1.0]),
        ({"on": tenacity.retry_if_exception_type(OSError)}, [0.0, 1.0, 2.0]),
        ({"on": tenacity.retry_if_exception_type(KeyError)}, [0.0]),
        ({"on": tenacity.retry_if_not_exception_type(OSError)}, [0.0]),
    ],
)
def test_tenacitys_strategies(
    mode: str, clock: ManualClock, options: dict[str, Any], at: list[float]
) -> None:
    fn = Script(ConnectionError, clock=clock)
    error = raised(mode, pipeline(clock, **options), fn, clock)
    assert fn.at == at
    if "stop" in options and len(at) == 2:
        assert report_of(error).why_not_retried == "stop"  # type: ignore[union-attr]
        assert notes(error)[0].endswith("the stop strategy ended it")


def test_tenacitys_strategies_for_results(mode: str, clock: ManualClock) -> None:
    fn = Script(None, "ok")
    assert call(mode, pipeline(clock, on=tenacity.retry_if_result(lambda r: r is None)), fn, clock) == "ok"
    assert fn.calls == 2


# --------------------------------------------------------------------------------------------- what it tells
def test_one_warning_and_one_event_for_each_retry(
    mode: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_events() as seen:
        call(
            mode,
            pipeline(clock, name="payments"),
            Script(ConnectionError, "ok", clock=clock, takes=0.5),
            clock,
        )
    assert len(caplog.records) == 1
    assert "payments: attempt 1 of 3 of " in caplog.text
    assert "failed with ConnectionError; again in 1 s" in caplog.text
    assert seen.names == [
        "resilient.attempt.finished",
        "resilient.retry.scheduled",
        "resilient.attempt.finished",
        "resilient.retry.finished",
        "resilient.call.finished",
    ]
    first, second = seen.named("resilient.attempt.finished")
    assert first.fields().items() >= {
        "attempt": 1, "outcome": "error", "duration": 0.5, "error_type": "ConnectionError"
    }.items()  # fmt: skip
    assert second.fields().items() >= {
        "attempt": 2, "outcome": "success", "duration": 0.5, "error_type": None
    }.items()  # fmt: skip


def test_success_at_once_logs_nothing(
    mode: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    call(mode, pipeline(clock), Script("ok"), clock)
    assert [record for record in caplog.records if record.name == "resilient"] == []


class Held(Discarded):
    """A failure that holds an unread answer."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__("503")
        self.clock = clock
        self.given: list[float] = []

    def discard(self, seconds: float, /) -> None:
        self.given.append(seconds)
        self.clock.advance(0.03)

    async def adiscard(self, seconds: float, /) -> None:
        self.discard(seconds)


def test_an_unread_answer_is_let_go_within_the_wait(mode: str, clock: ManualClock) -> None:
    held = [Held(clock) for _ in range(3)]
    fn = Script(*held, clock=clock)
    assert raised(mode, pipeline(clock, on=ANY_ERROR), fn, clock) is held[2]
    assert fn.at == pytest.approx([0.0, 1.0, 2.0])
    assert [each.given for each in held] == [[0.05], [0.05], []], "the one that is raised is kept"
    fn = Script(Held(clock), Held(clock), "ok", clock=clock)
    assert call(mode, pipeline(clock, on=ANY_ERROR, wait=0.01), fn, clock) == "ok"
    assert fn.at[2] - fn.at[0] == pytest.approx(0.06), "a wait that is over is no wait"


# --------------------------------------------------------------------------------------------------- block form
def block(mode: str, retry: Retry, fn: Script, clock: ManualClock, name: str = "fetch") -> Any:
    """The same as `call`, as a block."""
    if mode == "sync":
        for attempt in retry.attempts(name=name, clock=clock):
            with attempt:
                return fn()
        return None

    async def main() -> Any:
        async for attempt in retry.attempts(name=name, clock=clock):
            with attempt:
                return fn()
        return None

    return clock.run(main())


def test_a_block_is_repeated(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError, TimeoutError, "ok", clock=clock)
    budget = Budget(stock=10, floor=10)
    assert block(mode, Retry(wait=1.0, budget=budget), fn, clock) == "ok"
    assert fn.at == [0.0, 1.0, 2.0]
    assert budget.remaining(2.0) == 1, "two were paid for, and the one that succeeded came back"


def test_a_block_that_fails_for_good_raises_the_last(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError, clock=clock)
    with pytest.raises(ConnectionError, match="call 3") as caught:
        block(mode, Retry(wait=1.0), fn, clock)
    assert caught.value.__notes__ == [
        "resilient: fetch: 3 attempts of fetch in 2.000 s, 2 s of it waiting; no attempts left"
    ]
    fn = Script(KeyError)
    with pytest.raises(KeyError):
        block(mode, Retry(), fn, clock)
    assert fn.calls == 1


def test_attempts_of_a_block_have_their_number(mode: str, clock: ManualClock) -> None:
    seen = []

    async def main() -> None:
        async for attempt in Retry(wait=1.0).attempts(clock=clock):
            with attempt as same:
                seen.append((attempt.number, same is attempt, current_call().attempt))
                raise ConnectionError

    with pytest.raises(ConnectionError):
        if mode == "async":
            clock.run(main())
        else:
            for attempt in Retry(wait=1.0).attempts(clock=clock):
                with attempt as same:
                    seen.append((attempt.number, same is attempt, current_call().attempt))
                    raise ConnectionError
    assert seen == [(1, True, 1), (2, True, 2), (3, True, 3)]
    assert current_call() is NO_CALL


def test_a_block_that_succeeds_is_left_and_earns(mode: str, clock: ManualClock) -> None:
    budget = Budget(stock=5)
    assert budget.withdraw(0.0)
    for _ in range(5):
        assert block(mode, Retry(budget=budget), Script("ok"), clock) == "ok"
    assert budget.remaining(0.0) == 1


def test_a_block_tells_its_attempts(mode: str, clock: ManualClock) -> None:
    with capture_events() as seen:
        block(mode, Retry(wait=1.0), Script(ConnectionError, "ok"), clock, name="fetch")
    assert seen.names == [
        "resilient.attempt.finished",
        "resilient.retry.scheduled",
        "resilient.attempt.finished",
        "resilient.retry.finished",
    ]
    assert {(event.dependency, event.operation) for event in seen.events} == {("fetch", "fetch")}


def test_who_wants_to_end_the_program_ends_the_block(mode: str, clock: ManualClock) -> None:
    fn = Script(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        block(mode, Retry(on=ANY_ERROR), fn, clock)
    assert fn.calls == 1


def test_a_loop_whose_body_enters_no_block_ends(mode: str, clock: ManualClock) -> None:
    async def main() -> int:
        return len([attempt async for attempt in Retry().attempts(clock=clock)])

    count = clock.run(main()) if mode == "async" else len(list(Retry().attempts(clock=clock)))
    assert count == 1


# --------------------------------------------------------------------------------------------------- its place
@pytest.mark.parametrize("kind", ["TimedOut", "TimeoutError"])
def test_a_time_out_of_an_attempt_is_retried(mode: str, clock: ManualClock, kind: str) -> None:
    error = TimedOut if kind == "TimedOut" else TimeoutError
    fn = Script(error, "ok")
    assert call(mode, pipeline(clock), fn, clock) == "ok"
    assert fn.calls == 2


def test_how_it_prints(mode: str, clock: ManualClock) -> None:
    del mode, clock
    assert str(Retry()) == "Retry(3 attempts, on transient, backoff 25 ms..1 s x2 full jitter)"
    assert str(Retry(2, on=KeyError, wait=0.5, idempotent=False)) == (
        "Retry(2 attempts, on When(KeyError), wait 0.5 s, only what did not happen)"
    )
    assert str(
        Retry(wait=tenacity.wait_fixed(1), stop=tenacity.stop_after_delay(5), idempotency_key=str)
    ) == ("Retry(3 attempts, on transient, wait_fixed, stop stop_after_delay, keyed)")


def test_an_empty_budget_given_is_not_replaced(mode: str, clock: ManualClock) -> None:
    budget = Budget(stock=0)
    retry = Retry(budget=budget)
    assert retry.budget_for("any") is retry.budget_for(None) is budget
    own = Retry()
    assert own.budget_for(None) is own.budget_for(None)
    assert own.budget_for("named") is REGISTRY.budget("named")
    assert report_of(raised(mode, retry, Script(ConnectionError), clock)).why_not_retried == "budget"  # type: ignore[union-attr]
