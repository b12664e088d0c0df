"""What tenacity's users write works here as it does there: every exported strategy, driven by a real `Retry`, beside
tenacity's own loop on the same script."""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import tenacity
import tenacity.asyncio
from tenacity import RetryCallState

from resilient import ANY_ERROR, Budget, Pipeline, PolicyError, Retry, When
from resilient.testing import ManualClock
from tests.contracts.side_by_side import (
    AMPLE,
    Script,
    Seen,
    assert_same,
    ours,
    ours_async,
    theirs,
    theirs_async,
)

STATES = 1_000


def exported(prefix: str) -> set[str]:
    return {name for name in tenacity.__all__ if name.startswith(prefix)}


# ------------------------------------------------------------------------------------------------------- waits
def some(low: float, high: float) -> float:
    return round(random.uniform(low, high), 3)


WAITS: dict[str, Callable[[], Any]] = {
    "wait_fixed": lambda: tenacity.wait_fixed(some(0, 9)),
    "wait_none": lambda: tenacity.wait_none(),
    "wait_random": lambda: tenacity.wait_random(some(0, 2), some(2, 9)),
    "wait_incrementing": lambda: tenacity.wait_incrementing(some(0, 9), some(-2, 5), some(1, 30)),
    "wait_exponential": lambda: tenacity.wait_exponential(
        some(0.1, 2), some(1, 60), some(1.1, 4), some(0, 1)
    ),
    "wait_random_exponential": lambda: tenacity.wait_random_exponential(
        some(0.1, 2), some(1, 60), some(1.1, 4)
    ),
    "wait_full_jitter": lambda: tenacity.wait_full_jitter(some(0.1, 2), some(1, 60)),
    "wait_exponential_jitter": lambda: tenacity.wait_exponential_jitter(
        max=some(1, 60), exp_base=some(1.1, 4), jitter=some(0, 3), multiplier=some(0.1, 3)
    ),
    "wait_combine": lambda: tenacity.wait_fixed(some(0, 2)) + tenacity.wait_random(0, some(0, 3)),
    "wait_chain": lambda: tenacity.wait_chain(
        tenacity.wait_fixed(some(0, 2)),
        tenacity.wait_random(0, 1),
        tenacity.wait_random_exponential(max=some(1, 9)),
    ),
    "wait_exception": lambda: tenacity.wait_exception(lambda exc: float(str(exc))),
}


def test_every_exported_wait_is_compared() -> None:
    assert set(WAITS) == exported("wait_")


@pytest.mark.parametrize("name", WAITS)
def test_the_delay_is_tenacitys(name: str) -> None:
    """1,000 states: attempt numbers 1 to 20 of 50 seeds, each with parameters of its own."""
    compared = 0
    for seed in range(STATES // 20):
        random.seed(seed)
        wait = WAITS[name]()
        outcomes = [*(ConnectionError(some(0, 9)) for _ in range(20)), "done"]
        mine, reference = ours(Script(outcomes, seed), wait=wait), theirs(Script(outcomes, seed), wait=wait)
        assert_same(mine, reference)
        compared += len(mine.delays)
    assert compared == STATES


@pytest.mark.parametrize("name", WAITS)
def test_the_delay_is_tenacitys_in_async_code(name: str) -> None:
    random.seed(7)
    wait = WAITS[name]()
    outcomes = [*(ConnectionError(some(0, 9)) for _ in range(20)), "done"]
    assert_same(ours_async(Script(outcomes, 7), wait=wait), theirs_async(Script(outcomes, 7), wait=wait))


def test_any_callable_of_the_state_is_a_wait() -> None:
    def wait(state: RetryCallState) -> float:
        assert state.outcome is not None
        return state.attempt_number + state.idle_for / 10 + len(state.args)

    outcomes = [*[ConnectionError()] * 5, "done"]
    assert_same(ours(Script(outcomes), wait=wait), theirs(Script(outcomes), wait=wait))


# ------------------------------------------------------------------------------------------------------- stops
def set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


STOPS: dict[str, Callable[[], list[Any]]] = {
    "stop_after_attempt": lambda: [tenacity.stop_after_attempt(n) for n in range(1, 9)],
    "stop_after_delay": lambda: [tenacity.stop_after_delay(s) for s in (0.1, 1.0, 3.3, 7.0, 60.0)],
    "stop_before_delay": lambda: [tenacity.stop_before_delay(s) for s in (0.1, 1.0, 3.3, 7.0, 60.0)],
    "stop_never": lambda: [tenacity.stop_never],
    "stop_when_event_set": lambda: [
        tenacity.stop_when_event_set(threading.Event()), tenacity.stop_when_event_set(set_event())
    ],
    "stop_any": lambda: [tenacity.stop_after_attempt(n) | tenacity.stop_after_delay(3.3) for n in range(2, 9)],
    "stop_all": lambda: [tenacity.stop_after_attempt(n) & tenacity.stop_after_delay(3.3) for n in range(2, 9)],
}  # fmt: skip


def test_every_exported_stop_is_compared() -> None:
    assert set(STOPS) == exported("stop_")


@pytest.mark.parametrize(
    "wait", [tenacity.wait_fixed(0.7), tenacity.wait_exponential(0.3), tenacity.wait_none()]
)
@pytest.mark.parametrize("name", STOPS)
def test_it_stops_where_tenacity_stops(name: str, wait: Any) -> None:
    """Attempts take time and so do waits: a strategy of elapsed time sees both."""
    for stop in STOPS[name]():
        outcomes = [*[ConnectionError(n) for n in range(12)], "done"]
        assert_same(
            ours(Script(outcomes, takes=0.2), wait=wait, stop=stop),
            theirs(Script(outcomes, takes=0.2), wait=wait, stop=stop),
        )
        assert_same(
            ours_async(Script(outcomes, takes=0.2), wait=wait, stop=stop),
            theirs_async(Script(outcomes, takes=0.2), wait=wait, stop=stop),
        )


def test_a_stop_never_gives_more_attempts_than_ours() -> None:
    assert ours(Script([ConnectionError()]), attempts=4, wait=0, stop=tenacity.stop_never).attempts == 4


# ----------------------------------------------------------------------------------------------------- retries
def caused(exc: Exception, cause: Exception) -> Exception:
    exc.__cause__ = cause
    return exc


RETRIES: dict[str, Callable[[], list[Any]]] = {
    "retry_always": lambda: [tenacity.retry_always],
    "retry_never": lambda: [tenacity.retry_never],
    "retry_if_exception": lambda: [tenacity.retry_if_exception(lambda exc: "again" in str(exc))],
    "retry_if_exception_type": lambda: [
        tenacity.retry_if_exception_type(ValueError), tenacity.retry_if_exception_type((ValueError, LookupError))
    ],
    "retry_if_not_exception_type": lambda: [tenacity.retry_if_not_exception_type(ValueError)],
    "retry_unless_exception_type": lambda: [tenacity.retry_unless_exception_type(LookupError)],
    "retry_if_exception_cause_type": lambda: [tenacity.retry_if_exception_cause_type(LookupError)],
    "retry_if_exception_message": lambda: [
        tenacity.retry_if_exception_message(message="again"), tenacity.retry_if_exception_message(match="aga.*")
    ],
    "retry_if_not_exception_message": lambda: [tenacity.retry_if_not_exception_message(match="no.*")],
    "retry_if_result": lambda: [tenacity.retry_if_result(lambda result: result is None)],
    "retry_if_not_result": lambda: [tenacity.retry_if_not_result(lambda result: isinstance(result, int))],
    "retry_any": lambda: [
        tenacity.retry_if_exception_type(ValueError) | tenacity.retry_if_result(lambda result: result is None)
    ],
    "retry_all": lambda: [
        tenacity.retry_if_exception_type(ValueError) & tenacity.retry_if_exception_message(match="aga.*"),
        tenacity.retry_all(tenacity.retry_if_not_result(lambda result: result == 1), tenacity.retry_if_result(bool)),
    ],
}  # fmt: skip


def outcome() -> Any:
    return random.choice(
        [
            ValueError("again"), ValueError("no more"), LookupError("again"), KeyError("no"), OSError("again"),
            caused(ValueError("again"), LookupError()), tenacity.TryAgain(), None, None, 1, 0, "text",
        ]
    )  # fmt: skip


def test_every_exported_retry_is_compared() -> None:
    assert set(RETRIES) == exported("retry_") - {"retry_base"}


@pytest.mark.parametrize("name", RETRIES)
def test_it_retries_what_tenacity_retries(name: str) -> None:
    for seed in range(100):
        for on in RETRIES[name]():
            random.seed(seed)
            outcomes = [outcome() for _ in range(8)]
            stop = tenacity.stop_after_attempt(8)
            mine = ours(Script(outcomes), on=on, wait=tenacity.wait_fixed(0.1), stop=stop)
            reference = theirs(Script(outcomes), retry=on, wait=tenacity.wait_fixed(0.1), stop=stop)
            assert_same(mine, reference)


@pytest.mark.parametrize("name", RETRIES)
def test_it_retries_what_tenacity_retries_in_async_code(name: str) -> None:
    for seed in range(10):
        for on in RETRIES[name]():
            random.seed(seed)
            outcomes = [outcome() for _ in range(8)]
            stop = tenacity.stop_after_attempt(8)
            mine = ours_async(Script(outcomes), on=on, wait=tenacity.wait_fixed(0.1), stop=stop)
            reference = theirs_async(Script(outcomes), retry=on, wait=tenacity.wait_fixed(0.1), stop=stop)
            assert_same(mine, reference)


async def says_again(exc: BaseException) -> bool:
    return "again" in str(exc)


async def is_none(result: Any) -> bool:
    return result is None


ASYNC_RETRIES = {
    "retry_if_exception": tenacity.asyncio.retry_if_exception(says_again),
    "retry_if_result": tenacity.asyncio.retry_if_result(is_none),
    "retry_any": tenacity.asyncio.retry_any(
        tenacity.asyncio.retry_if_exception(says_again), tenacity.asyncio.retry_if_result(is_none)
    ),
    "retry_all": tenacity.asyncio.retry_all(
        tenacity.asyncio.retry_if_exception(says_again), tenacity.retry_if_exception_type(ValueError)
    ),
    "either way": tenacity.retry_if_exception_type(KeyError) | tenacity.asyncio.retry_if_result(is_none),
}


@pytest.mark.parametrize("name", ASYNC_RETRIES)
def test_strategies_of_tenacity_asyncio_are_awaited(name: str) -> None:
    on = ASYNC_RETRIES[name]
    for seed in range(50):
        random.seed(seed)
        outcomes = [outcome() for _ in range(8)]
        stop = tenacity.stop_after_attempt(8)
        mine = ours_async(Script(outcomes), on=on, wait=tenacity.wait_fixed(0.1), stop=stop)
        assert_same(mine, theirs_async(Script(outcomes), retry=on, wait=tenacity.wait_fixed(0.1), stop=stop))


def test_an_async_strategy_on_a_sync_function_is_refused_with_what_to_write() -> None:
    seen = ours(Script([ValueError("again")]), on=ASYNC_RETRIES["retry_if_exception"])
    assert isinstance(seen.end, PolicyError)
    assert "write one of tenacity's" in str(seen.end)


@pytest.mark.parametrize(
    "options", [{}, {"on": ANY_ERROR}, {"wait": tenacity.wait_none()}, {"on": When(OSError)}]
)
def test_try_again_is_retried_whatever_the_retry_names(options: dict[str, Any]) -> None:
    seen = ours(Script([tenacity.TryAgain(), tenacity.TryAgain(), "done"]), **{"wait": 0, **options})
    assert (seen.attempts, seen.end) == (3, "done")


# ------------------------------------------------------------------------------------ the order, and the state
class Log:
    """Strategies that note when they are asked, and what the state says then."""

    def __init__(self, clock: ManualClock) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self._clock = clock
        log = self

        class Retrying(tenacity.retry_base):
            def __call__(self, retry_state: RetryCallState) -> bool:
                log.note("retry", retry_state)
                assert retry_state.outcome is not None
                return retry_state.outcome.failed or retry_state.outcome.result() is None

        self.retry = Retrying()

    def wait(self, state: RetryCallState) -> float:
        self.note("wait", state)
        return 0.5 * state.attempt_number

    def stop(self, state: RetryCallState) -> bool:
        self.note("stop", state)
        return state.attempt_number >= 4

    def note(self, who: str, state: RetryCallState) -> None:
        assert state.outcome is not None
        outcome = repr(state.outcome.exception()) if state.outcome.failed else state.outcome.result()
        self.lines.append(
            (
                who,
                state.attempt_number,
                outcome,
                round(state.idle_for, 6),
                state.upcoming_sleep if who == "stop" else None,
                None if who == "retry" else round(state.seconds_since_start or 0.0, 6),
                state.fn is not None and state.get_fn_name() if hasattr(state, "get_fn_name") else None,
                state.args,
                state.kwargs,
            )
        )


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    "outcomes",
    [
        [ValueError(1), None, tenacity.TryAgain(), "done"],
        [ValueError(1)],
        ["done"],
        [None],
        [None, ValueError(2), 7],
    ],
    ids=str,
)
def test_strategies_are_asked_in_tenacitys_order_and_see_its_state(mode: str, outcomes: list[Any]) -> None:
    mine, reference = Script(outcomes, takes=0.25), Script(outcomes, takes=0.25)
    log, their_log = Log(mine.clock), Log(reference.clock)
    us, them = (ours, theirs) if mode == "sync" else (ours_async, theirs_async)
    seen = us(mine, on=log.retry, wait=log.wait, stop=log.stop)
    reference_seen = them(reference, retry=their_log.retry, wait=their_log.wait, stop=their_log.stop)
    assert_same(seen, reference_seen)
    without_names = [line[:6] + line[7:] for line in log.lines]
    assert without_names == [line[:6] + line[7:] for line in their_log.lines]


def test_the_state_knows_the_function_and_its_arguments() -> None:
    states: list[RetryCallState] = []

    def wait(state: RetryCallState) -> float:
        states.append(state)
        return 0.0

    def work(a: int, *, b: int) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        Pipeline(Retry(attempts=2, wait=wait))(work)(1, b=2)
    (state,) = states
    assert (state.fn, state.args, state.kwargs) == (work, (1,), {"b": 2})
    assert isinstance(state, RetryCallState)
    assert isinstance(state.retry_object, tenacity.BaseRetrying)


# ------------------------------------------------------------------------------------------ nothing on success
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_call_that_succeeds_touches_nothing_of_tenacity(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("tenacity was touched")

    options: dict[str, Any] = {
        "on": tenacity.retry_if_exception_type(ValueError) | tenacity.retry_if_exception(touched),
        "wait": touched,
        "stop": touched,
        "budget": Budget(**AMPLE),
    }
    script = Script(["done"])
    policy = Pipeline(Retry(**options), clock=script.clock)
    call: Any = policy(script) if mode == "sync" else policy(script.acall)
    for name in ("RetryCallState", "Retrying", "AsyncRetrying", "Future"):
        monkeypatch.setattr(tenacity, name, touched)
    result = call() if mode == "sync" else script.clock.run(call())
    assert result == "done"


def test_a_strategy_that_may_look_at_results_is_asked_on_success() -> None:
    asked: list[Any] = []
    on = tenacity.retry_if_exception_type(ValueError) | tenacity.retry_if_result(
        lambda r: asked.append(r) or False
    )
    assert ours(Script(["done"]), on=on).end == "done"
    assert asked == ["done"]


def test_every_exported_name_is_known_to_this_test() -> None:
    """A new release of tenacity with a new kind of strategy must be looked at."""
    strategies = {
        name
        for name in tenacity.__all__
        if name.split("_")[0] in ("wait", "stop", "retry") and name not in ("retry", "retry_base")
    }
    assert strategies == {*WAITS, *STOPS, *RETRIES}
    exported_async = {
        name
        for name, value in vars(tenacity.asyncio).items()
        if name.startswith("retry_") and inspect.isclass(value)
    }
    assert exported_async <= set(ASYNC_RETRIES)


def test_seen_is_compared_field_by_field() -> None:
    with pytest.raises(AssertionError):
        assert_same(Seen([1.0], 2, "done"), Seen([1.5], 2, "done"))
