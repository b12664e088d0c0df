"""Which failures a policy reacts to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from resilient import (
    ANY_ERROR,
    TRANSIENT,
    BulkheadFull,
    DeadlineExceeded,
    OutcomeUnknown,
    PolicyError,
    Rejected,
    TimedOut,
    When,
)
from resilient.core.outcome import attach
from resilient.core.when import reported_transient

YES = [
    ConnectionError, ConnectionRefusedError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError,
    TimeoutError, asyncio.TimeoutError, socket.gaierror, socket.herror, TimedOut,
]  # fmt: skip
NO = [
    TypeError, ValueError, LookupError, KeyError, AttributeError, AssertionError, ArithmeticError, OSError,
    FileNotFoundError, PermissionError, ssl.SSLError, RuntimeError, StopIteration, UnicodeError,
    Rejected, BulkheadFull, DeadlineExceeded, OutcomeUnknown, PolicyError,
]  # fmt: skip
NEVER = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, BaseException]


@pytest.mark.parametrize("error", YES + NO + NEVER)
def test_transient(error: type[BaseException]) -> None:
    assert TRANSIENT.covers(error("x")) is (error in YES)


@pytest.mark.parametrize("error", YES + NO + NEVER)
def test_any_error(error: type[BaseException]) -> None:
    assert ANY_ERROR.covers(error("x")) is (error not in NEVER)


@pytest.mark.parametrize("error", [ConnectionError, ValueError])
@pytest.mark.parametrize("transient", [True, False])
def test_what_a_client_has_classified(error: type[Exception], transient: bool) -> None:
    exc = error()
    attach(exc, transient=transient)
    assert TRANSIENT.covers(exc) is transient
    assert reported_transient(exc) is transient


@pytest.mark.parametrize("error", [Rejected, DeadlineExceeded, PolicyError])
def test_our_own_are_not_even_if_they_are_reported_so(error: Any) -> None:
    exc = error("x")
    attach(exc, transient=True)
    assert not TRANSIENT.covers(exc)


def test_classes_predicates_and_exceptions_to_them() -> None:
    when = When(OSError, lambda exc: exc.args == (1,), unless=[ConnectionError, lambda exc: exc.args == (2,)])
    assert when.covers(OSError())
    assert when.covers(ValueError(1))
    assert not when.covers(ValueError(3))
    assert not when.covers(ConnectionResetError())
    assert not when.covers(OSError(2))
    assert When().covers(OSError()) is False


def test_results() -> None:
    assert When(result=bool).judges_result is bool
    assert When(OSError).judges_result is None
    assert not When(result=bool).covers(OSError())


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (When(OSError), When(ConnectionError), True),
        (When(ConnectionError), When(OSError), True),
        (When(KeyError, OSError), When(ValueError, OSError), True),
        (When(KeyError), When(ValueError), False),
        (When(lambda exc: True), When(Exception), False),
        (When(), ANY_ERROR, False),
        (TRANSIENT, ANY_ERROR, True),
    ],
)
def test_overlaps(one: When, other: When, overlap: bool) -> None:
    assert one.overlaps(other) is overlap


def mine(exc: Exception) -> bool:
    return True


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (When(OSError, mine), "When(OSError, mine)"),
        (When(OSError, result=bool), "When(OSError, result=...)"),
        (When(OSError, unless=(ConnectionError, mine)), "When(OSError, unless ConnectionError, mine)"),
        (When(), "When()"),
    ],
)
def test_how_it_prints(when: When, text: str) -> None:
    assert repr(when) == text


@pytest.mark.parametrize("value", [OSError, (OSError,), [OSError], {OSError}, frozenset({OSError})])
def test_what_a_user_may_write(value: Any) -> None:
    when = When.of(value, policy="Retry", field="on")
    assert repr(when) == "When(OSError)"
    assert When.of(when, policy="Retry", field="on") is when
    assert When.of(mine, policy="Retry", field="on").covers(KeyError())
    assert not When.of((), policy="Retry", field="on").covers(KeyError())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (KeyboardInterrupt, "KeyboardInterrupt is not a subclass of Exception"),
        (int, "int is not a subclass of Exception"),
        (5, "5 is neither an exception class nor a plain function"),
        (OSError("an object"), "is neither an exception class nor a plain function"),
    ],
)
def test_what_is_no_failure_is_refused(value: Any, says: str) -> None:
    for build in (lambda: When(value), lambda: When(OSError, unless=[value])):
        with pytest.raises(PolicyError) as caught:
            build()
        assert str(caught.value).startswith("When: ")
        assert says in str(caught.value)
    with pytest.raises(PolicyError) as caught:
        When.of([OSError, value], policy="Retry", field="on")
    assert str(caught.value).startswith(
        f"Retry: on={[OSError, value]!r} must be exception classes or predicates"
    )
    assert "write on=(ConnectionError, TimeoutError) or on=TRANSIENT" in str(caught.value)
