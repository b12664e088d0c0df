"""hyx, resilient-circuit, pyresilience."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from resilient import Bulkhead, Pipeline, RateLimit, RateLimited, Retry, TimedOut, Timeout, backoff
from resilient.testing import ManualClock
from tests.peers.peer import defect, peer


# ---------------------------------------------------------------------------------------- hyx: needs a running loop
@pytest.mark.peers
def test_hyx_cannot_decorate_at_module_level() -> None:
    with pytest.raises(Exception) as caught:
        peer("hyx.ratelimit").tokenbucket(10, 1)
    defect("no running event loop" in str(caught.value), "hyx", "@tokenbucket needs a running event loop")


def test_ours_are_made_and_put_on_functions_without_any_loop() -> None:
    made: list[object] = []

    def make() -> None:
        policy = Pipeline(Timeout(2.0), Retry(), RateLimit("9/second"), Bulkhead(9, queue=9, max_wait=1.0))

        @policy
        async def work() -> str:
            return "done"

        made.append(work)

    thread = threading.Thread(target=make)  # one that never had a loop
    thread.start()
    thread.join()
    assert asyncio.run(made[0]()) == "done"  # type: ignore[operator]


@pytest.mark.peers
def test_hyx_makes_one_attempt_more_than_it_was_told_and_hides_the_exception() -> None:
    attempts: list[int] = []

    @peer("hyx.retry").retry(attempts=3, backoff=0.0)
    async def work() -> None:
        attempts.append(1)
        raise ConnectionError

    with pytest.raises(Exception) as caught:
        asyncio.run(work())
    seen = len(attempts) == 4 and not isinstance(caught.value, ConnectionError)
    defect(seen, "hyx", f"attempts=3 makes {len(attempts)}, and raises {type(caught.value).__name__}")


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_ours_makes_as_many_attempts_as_it_was_told(attempts: int) -> None:
    clock, made = ManualClock(), []

    @Pipeline(Retry(attempts=attempts), clock=clock)
    def work() -> None:
        made.append(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        work()
    assert len(made) == attempts


@pytest.mark.peers
def test_hyx_shares_its_backoff_between_calls() -> None:
    clock, begun = ManualClock(), []

    @peer("hyx.retry").retry(attempts=2, backoff=peer("hyx.retry.backoffs").expo(min_delay_secs=1))
    async def work() -> None:
        begun.append(clock.monotonic())
        raise ConnectionError

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(3)), return_exceptions=True)

    clock.run(main())
    defect(max(begun) > 3.0, "hyx", f"calls made at once begin their attempts at {begun}")


def test_each_call_of_ours_begins_its_backoff_anew() -> None:
    clock = ManualClock()

    @Pipeline(Retry(attempts=3, wait=backoff(1.0, cap=60.0, jitter="none")), clock=clock)
    def work() -> None:
        raise ConnectionError

    for _ in range(2):
        with pytest.raises(ConnectionError):
            work()
    assert clock.sleeps == [1.0, 2.0] * 2


def test_calls_of_ours_made_at_once_share_no_backoff() -> None:
    clock, begun = ManualClock(), []

    @Pipeline(Retry(attempts=3, wait=backoff(1.0, cap=60.0, jitter="none")), clock=clock)
    async def work() -> None:
        begun.append(clock.monotonic())
        raise ConnectionError

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(3)), return_exceptions=True)

    clock.run(main())
    assert begun == [0.0] * 3 + [1.0] * 3 + [3.0] * 3


def test_a_bucket_of_ours_that_was_idle_holds_no_more_than_its_burst() -> None:
    """hyx admits twice its rate after an idle time."""
    limit = RateLimit("10/second")
    admitted = 0
    for _ in range(40):
        try:
            limit.admit(100.0)
            admitted += 1
        except RateLimited:
            pass
    assert admitted == 10


# ------------------------------------------------------------------------------- resilient-circuit: one sleep too many
@pytest.mark.peers
def test_resilient_circuit_sleeps_once_more_after_the_last_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    module, slept = peer("resilient_circuit"), []
    monkeypatch.setattr("resilient_circuit.retry.sleep", slept.append)

    @module.RetryWithBackoffPolicy(backoff=module.FixedDelay(datetime.timedelta(seconds=0.1)), max_retries=2)
    def work() -> None:
        raise ConnectionError

    with pytest.raises(Exception) as caught:
        work()
    seen = len(slept) == 3 and not isinstance(caught.value, ConnectionError)
    defect(
        seen, "resilient-circuit", f"{len(slept)} sleeps for 3 attempts, then {type(caught.value).__name__}"
    )


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_we_sleep_between_attempts_and_not_after_the_last(mode: str) -> None:
    clock = ManualClock()

    @Pipeline(Retry(attempts=3, wait=0.1), clock=clock)
    def work() -> None:
        raise ConnectionError

    @Pipeline(Retry(attempts=3, wait=0.1), clock=clock)
    async def awork() -> None:
        raise ConnectionError

    async def main() -> None:
        with pytest.raises(ConnectionError):
            await awork()

    if mode == "sync":
        with pytest.raises(ConnectionError):
            work()
    else:
        clock.run(main())
    assert clock.monotonic() == pytest.approx(0.2)


# ------------------------------------------------------------------- pyresilience: the function's own TimeoutError
KILLS = """
    import logging, threading
    import pyresilience
    logging.disable(logging.CRITICAL)
    threading.excepthook = lambda args: None

    @pyresilience.resilient(timeout=pyresilience.TimeoutConfig(seconds=0.3, pool_size=2))
    def work(fails):
        if fails:
            raise TimeoutError("of its own")
        return "done"

    for _ in range(8):
        try: work(True)
        except Exception: pass
    try: print(work(False))
    except Exception as exc: print(type(exc).__name__)
    import os; os._exit(0)
"""


@pytest.mark.peers
def test_pyresilience_loses_its_threads_to_time_outs_of_the_function() -> None:
    """In a process of its own: its dead pool would hold up the end of this one."""
    peer("pyresilience")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout.strip()
    defect(said == "ResilienceTimeoutError", "pyresilience", f"a healthy call after 8 TimeoutErrors: {said}")


@pytest.mark.parametrize("walk_away", [False, True])
def test_a_time_out_of_the_function_is_its_failure_and_harms_nobody(walk_away: bool) -> None:
    @Timeout(5.0, walk_away=walk_away)
    def work(fails: bool) -> str:
        if fails:
            raise TimeoutError("of its own")
        return "done"

    for _ in range(12):
        with pytest.raises(TimeoutError, match="of its own") as caught:
            work(True)
        assert not isinstance(caught.value, TimedOut)
    assert work(False) == "done"


@pytest.mark.peers
def test_pyresilience_loses_the_context_and_changes_the_thread() -> None:
    module, trace = peer("pyresilience"), contextvars.ContextVar("trace", default="none")

    @module.resilient(timeout=module.TimeoutConfig(seconds=5.0))
    def work() -> tuple[str, bool]:
        return trace.get(), threading.current_thread() is threading.main_thread()

    trace.set("of the request")
    seen = work()
    defect(seen[0] == "none", "pyresilience", f"the function runs with {seen}")


@pytest.mark.parametrize("walk_away", [False, True])
def test_ours_keeps_the_context(walk_away: bool) -> None:
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")

    @Timeout(5.0, walk_away=walk_away)
    def work() -> tuple[str, bool]:
        return trace.get(), threading.current_thread() is threading.main_thread()

    trace.set("of the request")
    assert work() == ("of the request", not walk_away)


def test_a_timeout_of_ours_caps_no_concurrency() -> None:
    """pyresilience's pool of 4 threads does: 24 % of the calls that bare threads make."""
    meeting, call = threading.Barrier(12), Timeout(20.0)
    met: list[int] = []
    work = call(lambda: met.append(meeting.wait(10.0)))
    threads = [threading.Thread(target=work) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(met) == 12


def test_the_limit_is_asked_for_every_attempt() -> None:
    """pyresilience asks once per call."""
    limit = RateLimit("1/hour", burst=2)

    @Pipeline(Retry(attempts=3, wait=0), limit, clock=ManualClock())
    def work() -> None:
        raise ConnectionError

    with pytest.raises(RateLimited):
        work()


ROOT = Path(__file__).parents[2]


def test_policies_start_no_thread_and_write_no_file(tmp_path: Path) -> None:
    """limits, pyrate-limiter and baldur start threads; baldur makes a directory where it is run."""
    program = f"""
    import os, sys, threading
    sys.path.insert(0, {str(ROOT)!r})
    from resilient import standard, RateLimit
    call = standard("quiet", rate="100/second")(lambda: 1)
    keyed = RateLimit("10/second", key=lambda key: key)(lambda key: 1)
    call(); [keyed(n) for n in range(1000)]
    assert threading.active_count() == 1, threading.enumerate()
    assert os.listdir() == [], os.listdir()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
