"""A thread hung for ever: it waited for a lock that it held itself.

While it held the lock of a policy or a pool, the garbage collector ran a finalizer in it (or the interpreter a signal
handler) that wanted the same lock: that of a response that nobody had closed, or one of the user's that makes a call.
The locks are re-entrant now."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import resilient.httpx
from resilient import Budget, Bulkhead, CircuitBreaker, Gate, RateLimit, Verdict
from resilient.http.pool import Connection
from resilient.testing import Origin, answer


def ends(work: Callable[[], object]) -> bool:
    """Whether it comes to its end; in a thread of its own, so that one that hangs does not hang the tests."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10.0)
    return not thread.is_alive()


def one_call(gate: Gate[Any]) -> None:
    gate.record(gate.admit(1.0), Verdict.FAILURE, 0.0, 1.0)


def in_a_budget() -> None:
    budget = Budget()
    with budget._lock:
        budget.failed(1.0)
        budget.withdraw(1.0)


def in_a_breaker() -> None:
    breaker = CircuitBreaker(consecutive=9)
    with breaker._state._lock:
        one_call(breaker)


def in_a_limit() -> None:
    limit = RateLimit("9/second")
    with limit._bucket._lock:
        one_call(limit)


def in_a_limit_with_keys() -> None:
    limit = RateLimit("9/second", key=lambda key: key)
    with limit._buckets._lock:  # type: ignore[union-attr]
        limit.select(("a",), {}).admit(1.0)


def in_a_bulkhead() -> None:
    bulkhead = Bulkhead(1, queue=1, max_wait=1.0)
    permit = bulkhead.admit(1.0)
    wait: Any = bulkhead.admit(1.0)
    with bulkhead._seats._lock:
        bulkhead.record(permit, Verdict.SUCCESS, 0.0, 1.0)  # type: ignore[arg-type]
        bulkhead.record(bulkhead.settle(wait, 1.0), Verdict.SUCCESS, 0.0, 1.0)


@pytest.mark.parametrize("work", [in_a_budget, in_a_breaker, in_a_limit, in_a_limit_with_keys, in_a_bulkhead])
def test_a_call_of_the_thread_that_holds_the_lock(work: Callable[[], None]) -> None:
    assert ends(work)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # rightly: nobody closed the response
def test_a_response_that_is_collected_while_its_pool_looks_for_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usable = Connection.usable

    def look(self: Connection, *args: Any) -> bool:
        gc.collect()  # here, while the pool's lock is held
        return usable(self, *args)

    monkeypatch.setattr(Connection, "usable", look)

    def work() -> None:
        with (
            Origin() as origin,
            resilient.httpx.client("regression-collected", base_url=origin.url) as client,
        ):
            origin.always(answer(200, "x" * 100_000))
            dropped: list[Any] = [client.send(client.build_request("GET", "/"), stream=True)]
            client.get("/")
            dropped.append(dropped)  # a cycle, as a traceback makes one
            del dropped
            assert client.get("/").status_code == 200

    gc.disable()
    try:
        assert ends(work)
    finally:
        gc.enable()
