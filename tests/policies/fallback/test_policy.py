"""The fallback around calls, sync and async."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import (
    TRANSIENT,
    Bulkhead,
    CircuitBreaker,
    DeadlineExceeded,
    Fallback,
    Pipeline,
    PolicyError,
    Rejected,
    Retry,
    When,
)
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, raised


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def failing(*args: Any, **kwargs: Any) -> Any:
    raise ConnectionError("down")


@both
def test_the_result_where_there_is_one(mode: str, clock: ManualClock) -> None:
    assert call(mode, Fallback("stand-in"), Script("real"), clock) == "real"
    assert call(mode, Fallback("stand-in"), Script(None), clock) is None


@both
def test_a_value(mode: str, clock: ManualClock) -> None:
    value: list[str] = []
    assert call(mode, Fallback(value), failing, clock) is value


@both
def test_a_function_is_given_the_arguments_and_the_error_if_it_asks_for_it(
    mode: str, clock: ManualClock
) -> None:
    seen = []

    def stand_in(*args: Any, error: Exception, **kwargs: Any) -> str:
        seen.append((args, kwargs, str(error)))
        return "stand-in"

    assert call(mode, Fallback(stand_in), failing, clock, 1, b=2) == "stand-in"
    assert seen == [((1,), {"b": 2}, "down")]


def test_an_async_function_is_awaited(clock: ManualClock) -> None:
    async def stand_in() -> str:
        return "stand-in"

    assert call("async", Fallback(stand_in), failing, clock) == "stand-in"
    with pytest.raises(
        PolicyError, match=r"^Fallback: failing is sync and its fallback is async; write a sync"
    ):
        Fallback(stand_in)(failing)


@both
@pytest.mark.parametrize(
    ("on", "error", "stands_in"),
    [
        (Exception, ValueError, True),
        (ConnectionError, ConnectionRefusedError, True),
        (ConnectionError, ValueError, False),
        ((KeyError, ValueError), ValueError, True),
        (lambda exc: "1" in str(exc), ValueError, True),
        (lambda exc: "2" in str(exc), ValueError, False),
        (TRANSIENT, TimeoutError, True),
        (TRANSIENT, ValueError, False),
        (When(Exception, unless=[KeyError]), KeyError, False),
        (Exception, DeadlineExceeded, True),
        (Rejected, ConnectionError, False),
    ],
)
def test_for_what_it_stands_in(
    mode: str, clock: ManualClock, on: Any, error: type[Exception], stands_in: bool
) -> None:
    policy = Fallback("stand-in", on=on)
    if stands_in:
        assert call(mode, policy, Script(error), clock) == "stand-in"
    else:
        assert type(raised(mode, policy, Script(error), clock)) is error


@both
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_wants_to_end_the_program_does(mode: str, clock: ManualClock, end: type[BaseException]) -> None:
    with pytest.raises(end):
        call(mode, Fallback("stand-in"), Script(end), clock)


@both
def test_a_rejection_is_told_from_a_failure(mode: str, clock: ManualClock) -> None:
    bulkhead = Bulkhead(1)
    policy = Pipeline(Fallback("stand-in", on=Rejected), bulkhead, name="shop", clock=clock)
    any_error = Pipeline(Fallback("stand-in"), Bulkhead(1), name="shop", clock=clock)
    with capture_events() as seen:
        with bulkhead.guard():
            assert call(mode, policy, Script("never"), clock) == "stand-in"
        raised(mode, policy, failing, clock)
        assert call(mode, any_error, failing, clock) == "stand-in"
    used = seen.named("resilient.fallback.used")
    assert [(event.error_type, event.rejected) for event in used] == [  # type: ignore[attr-defined]
        ("BulkheadFull", True),
        ("ConnectionError", False),
    ]
    finished = seen.named("resilient.call.finished")
    assert [event.outcome for event in finished] == ["fallback", "error", "fallback"]  # type: ignore[attr-defined]


@both
def test_a_fallback_that_fails_raises_from_the_first_failure(mode: str, clock: ManualClock) -> None:
    def stand_in() -> Any:
        raise KeyError("no cache either")

    with capture_events() as seen:
        error = raised(mode, Fallback(stand_in), failing, clock)
    assert type(error) is KeyError
    assert isinstance(error.__context__, ConnectionError)
    assert [event.outcome for event in seen.named("resilient.call.finished")] == ["error"]  # type: ignore[attr-defined]


@both
def test_outside_a_retry_it_comes_after_the_last_attempt(mode: str, clock: ManualClock) -> None:
    fn = Script(ConnectionError)
    policy = Pipeline(Fallback("stand-in"), Retry(3, wait=1.0), clock=clock)
    assert call(mode, policy, fn, clock) == "stand-in"
    assert fn.calls == 3


@both
def test_what_it_stands_in_for_is_still_a_failure_to_the_breaker_inside(
    mode: str, clock: ManualClock
) -> None:
    breaker = CircuitBreaker(consecutive=1)
    policy = Pipeline(Fallback("stand-in"), breaker, clock=clock)
    assert call(mode, policy, failing, clock) == "stand-in"
    assert breaker.state == "open"
    assert call(mode, policy, Script("never"), clock) == "stand-in"


def test_a_function_built_wrongly_is_not_papered_over(clock: ManualClock) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(PolicyError, match="plain `def` that returned a coroutine"):
        Fallback("stand-in").call(lambda: coroutine())


def test_how_it_prints() -> None:
    assert str(Fallback("secret")) == "Fallback(a value)", "never the value itself"
    assert str(Fallback(failing)) == "Fallback(failing)"
    assert str(Fallback(failing, on=OSError)) == "Fallback(failing on When(OSError))"
