"""tenacity, stamina and backoff."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
import tenacity

from resilient import Budget, Pipeline, Retry, report_of
from resilient.testing import ManualClock
from tests.peers.peer import defect, in_threads, peer


# ------------------------------------------------- threads that share a decorated function, and its retries
@pytest.mark.peers
def test_the_peer_raises_from_its_own_machinery_under_threads() -> None:
    @tenacity.retry(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_none(),
        reraise=True,
        sleep=lambda seconds: None,
    )
    def work() -> None:
        raise ConnectionError

    odd: list[BaseException] = []

    def caller() -> None:
        for _ in range(300):
            try:
                work()
            except ConnectionError:
                pass
            except Exception as exc:
                odd.append(exc)

    for _ in range(10):  # a race: it shows in most rounds
        in_threads(8, caller)
        if odd:
            break
    defect(
        any(isinstance(exc, KeyError) for exc in odd),
        "tenacity",
        "KeyError: 'idle_for' from shared statistics",
    )


def test_we_raise_what_the_function_raised_under_threads() -> None:
    odd: list[BaseException] = []

    @Retry(attempts=3, wait=0, budget=Budget(stock=10**6, floor=1_000))
    def work() -> None:
        raise ConnectionError

    def caller() -> None:
        for _ in range(300):
            try:
                work()
            except ConnectionError:
                pass
            except Exception as exc:
                odd.append(exc)

    in_threads(8, caller)
    assert odd == []


# ------------------------------------------------------------------------------------- whose exception it is
@pytest.mark.peers
def test_the_peer_hides_the_users_exception() -> None:
    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    def work() -> None:
        raise ConnectionError("the cause")

    with pytest.raises(Exception) as caught:
        work()
    defect(
        type(caught.value) is tenacity.RetryError, "tenacity", "RetryError in place of the user's exception"
    )


def test_we_raise_the_users_exception_itself_and_tell_the_story() -> None:
    original = ConnectionError("the cause")

    @Pipeline(Retry(attempts=2), clock=ManualClock())
    def work() -> None:
        raise original

    with pytest.raises(ConnectionError) as caught:
        work()
    assert caught.value is original
    report = report_of(original)
    assert report is not None
    assert (report.attempts, report.why_not_retried) == (2, "attempts")
    assert "2 attempts" in original.__notes__[0]


# ------------------------------------------------------------------------------------------ what is the default
@pytest.mark.peers
def test_the_peer_retries_for_ever_and_any_bug_by_default() -> None:
    calls = itertools.count()

    @tenacity.retry
    def work() -> None:
        if next(calls) < 1_000:
            raise TypeError("a bug")

    work()
    defect(next(calls) > 1_000, "tenacity", "a TypeError is retried, without end and without wait")


def test_by_default_we_stop_and_leave_bugs_alone() -> None:
    calls = itertools.count(1)

    @Pipeline(Retry(), clock=ManualClock())
    def work(error: Exception) -> None:
        next(calls)
        raise error

    with pytest.raises(TypeError):
        work(TypeError("a bug"))
    assert next(calls) == 2
    with pytest.raises(ConnectionError):
        work(ConnectionError())
    assert next(calls) == 6


# --------------------------------------------------------------------------------------------- a zero wait
@pytest.mark.peers
@pytest.mark.parametrize("name", ["tenacity", "stamina", "backoff"])
def test_the_peer_sleeps_for_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    if name == "tenacity":
        monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
        decorate = tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
    elif name == "stamina":
        decorate = peer("stamina").retry(
            on=ConnectionError, attempts=3, wait_initial=0, wait_max=0, wait_jitter=0
        )
    else:
        backoff = peer("backoff")
        decorate = backoff.on_exception(
            backoff.constant, ConnectionError, max_tries=3, interval=0, jitter=None
        )

    @decorate
    def work() -> None:
        raise ConnectionError

    with pytest.raises(Exception):
        work()
    defect(len(slept) >= 2, name, "time.sleep(0) is called for a wait of nothing: 79 us each")


def test_a_wait_of_nothing_sleeps_not_at_all() -> None:
    clock = ManualClock()

    @Pipeline(Retry(attempts=3, wait=0), clock=clock)
    def work() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        work()
    assert clock.sleeps == []


# -------------------------------------------------------------------------------------- an outage, and a budget
@pytest.mark.peers
@pytest.mark.parametrize("name", ["tenacity", "stamina", "backoff"])
def test_the_peer_multiplies_the_load_of_an_outage(name: str) -> None:
    calls = itertools.count()
    if name == "tenacity":
        decorate = tenacity.retry(stop=tenacity.stop_after_attempt(3), sleep=lambda seconds: None)
    elif name == "stamina":
        decorate = peer("stamina").retry(
            on=ConnectionError, attempts=3, wait_initial=0, wait_max=0, wait_jitter=0
        )
    else:
        backoff = peer("backoff")
        decorate = backoff.on_exception(
            backoff.constant, ConnectionError, max_tries=3, interval=0, jitter=None
        )

    @decorate
    def work() -> None:
        next(calls)
        raise ConnectionError

    for _ in range(200):
        with pytest.raises(Exception):
            work()
    made = next(calls)
    defect(made == 600, name, f"{made} attempts of 200 calls: no budget")


def test_our_budget_ends_retries_in_an_outage() -> None:
    clock, calls = ManualClock(), itertools.count()

    @Pipeline(Retry(attempts=3), clock=clock)
    def work() -> None:
        next(calls)
        raise ConnectionError

    for _ in range(200):
        clock.advance(0.2)
        with pytest.raises(ConnectionError):
            work()
    assert next(calls) <= 200 * 1.05


# ------------------------------------------------------------------------------------- what a time-out bounds
@pytest.mark.peers
def test_the_peers_time_limit_bounds_no_call() -> None:
    """`backoff`'s max_time and stamina's timeout are looked at between attempts only."""
    backoff, stamina = peer("backoff"), peer("stamina")
    ended: list[str] = []

    @backoff.on_exception(backoff.constant, ConnectionError, max_time=0.01, interval=0)
    @stamina.retry(on=ConnectionError, timeout=0.01)
    async def work() -> None:
        await asyncio.sleep(0.05)
        ended.append("long after")

    asyncio.run(work())
    defect(ended == ["long after"], "stamina", "a call of 50 ms passes a time limit of 10 ms")


def test_our_deadline_bounds_calls_and_waits_together() -> None:
    from resilient import DeadlineExceeded, Timeout

    clock = ManualClock()

    @Pipeline(Timeout(1.0), Retry(attempts=9, wait=0.4), clock=clock)
    async def work() -> None:
        await asyncio.sleep(0.3)
        raise ConnectionError

    async def main() -> None:
        with pytest.raises((DeadlineExceeded, ConnectionError)):
            await work()

    clock.run(main())
    assert clock.monotonic() <= 1.0
