"""What the pipeline's breaker was told to ignore ejected endpoints, whose breakers have the same options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from resilient import CircuitBreaker, Pipeline
from resilient.testing import ManualClock, Origin, reset_after_effect
from tests.http.calls import Caller, both


@contextmanager
def pods(answer: Any, clock: ManualClock) -> Iterator[list[str]]:
    """Two that do the same."""
    with Origin(answer, clock=clock) as one, Origin(answer, clock=clock) as two:
        yield [f"127.0.0.1:{origin.port}" for origin in (one, two)]


@both
@pytest.mark.parametrize(
    ("ignore", "ejected"),
    [
        ((), True),
        ((httpx.TransportError,), False),
        ((lambda exc: True,), False),
    ],
)
def test_errors(mode: str, ignore: Any, ejected: bool, manual_clock: ManualClock) -> None:
    with pods(reset_after_effect(), manual_clock) as places:
        breaker = CircuitBreaker(consecutive=2, ignore=ignore)
        breaker.observe()  # all calls are to go through: of interest are those of the endpoints
        policies = Pipeline(breaker, name="svc", clock=manual_clock)
        with Caller(mode, "http://payments", manual_clock, endpoints=places, policies=policies) as caller:
            for _ in range(8):
                caller.fails("POST")
            states = {each.state for each in caller.transport.endpoints}
            costs = [each.load(manual_clock.monotonic()) for each in caller.transport.endpoints]
    assert ("open" in states) is ejected
    assert (max(costs) > 1.0) is ejected


@both
def test_answers(mode: str, manual_clock: ManualClock) -> None:
    with pods(500, manual_clock) as places:
        breaker = CircuitBreaker(consecutive=2, ignore=(lambda exc: str(exc) == "500",))
        policies = Pipeline(breaker, name="svc", clock=manual_clock)
        with Caller(mode, "http://payments", manual_clock, endpoints=places, policies=policies) as caller:
            assert {caller.post().status_code for _ in range(8)} == {500}
            assert {each.state for each in caller.transport.endpoints} == {"closed"}


@both
def test_a_predicate_that_raises_is_the_callers_to_see(mode: str, manual_clock: ManualClock) -> None:
    def asks(exc: Exception) -> bool:
        raise LookupError("a bug of the user's")

    with pods(reset_after_effect(), manual_clock) as places:
        policies = Pipeline(CircuitBreaker(ignore=(asks,)), name="svc", clock=manual_clock)
        with Caller(mode, "http://payments", manual_clock, endpoints=places, policies=policies) as caller:
            exc = caller.fails("POST")
            assert isinstance(exc, LookupError)
            assert not any(each.calls for each in caller.transport.endpoints)
