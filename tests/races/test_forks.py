"""A child that is forked while other threads are inside works, and starts with every permit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")

ROOT = Path(__file__).parents[2]

# What every scenario begins with: `fork` runs a function in a child, which a hang ends after 10 s.
HEAD = """
import os, signal, sys, threading, traceback, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: forking with threads may deadlock; so be it
from resilient import (
    Bulkhead, BulkheadFull, CircuitBreaker, CircuitOpen, Fallback, Pipeline, RateLimit, Retry, TimedOut, Timeout,
    Verdict, backoff, subscribe,
)
from resilient.core.events import RUNTIME
from resilient.core.registry import REGISTRY

def fork(child):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            signal.alarm(10)
            child()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}: " + ("it hangs" if status == signal.SIGALRM else "see above")

def holding(*locks):
    '''Another thread holds these locks from now on.'''
    held, done = threading.Event(), threading.Event()
    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        done.wait(60)
    threading.Thread(target=hold, daemon=True).start()
    assert held.wait(10)
"""


def run(scenario: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + scenario],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_locks_that_another_thread_held_are_free_in_the_child() -> None:
    run("""
breaker, bulkhead = CircuitBreaker(consecutive=2), Bulkhead(2, queue=5, max_wait=0.01)
limit, keyed = RateLimit("100/second"), RateLimit("100/second", key=lambda fails: fails)
retry, walking = Retry(wait=0), Timeout(5.0, walk_away=True)
pipeline = Pipeline(Fallback("instead", on=LookupError), retry, breaker, limit, keyed, bulkhead, walking, name="forked")

@pipeline
def work(fails):
    if fails:
        raise ConnectionError
    return "done"

assert work(False) == "done"
budget = retry.budget_for("forked")
holding(breaker._state._lock, bulkhead._seats._lock, limit._bucket._lock, keyed._buckets._lock, budget._lock,
        walking._lock, RUNTIME._lock, REGISTRY._lock)

def child():
    assert work(False) == "done"
    heard = []
    stop = subscribe(heard.append)
    for _ in range(3):
        try: work(True)
        except (ConnectionError, CircuitOpen): pass
    stop()
    assert heard
    assert breaker.state == "open"
    assert limit.available() > 0 and keyed.keys > 0
    assert Pipeline(Retry(), name="forked-again")(lambda: 1)() == 1

fork(child)
""")


def test_calls_in_flight_in_the_parent_are_not_in_flight_in_the_child() -> None:
    run("""
bulkhead, inside, leave = Bulkhead(3, queue=2, max_wait=30.0), threading.Semaphore(0), threading.Event()

@bulkhead
def work():
    inside.release()
    assert leave.wait(30)

threads = [threading.Thread(target=work) for _ in range(5)]
for each in threads: each.start()
for _ in range(3): assert inside.acquire(timeout=10)
while bulkhead.waiting < 2: pass

def child():
    assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
    permits = [bulkhead.admit(0.0) for _ in range(3)]
    assert bulkhead.in_flight == 3 and permits == [permits[0]] * 3

fork(child)
assert (bulkhead.in_flight, bulkhead.waiting) == (3, 2), "the parent's are as they were"
leave.set()
for each in threads: each.join(10)
assert (bulkhead.in_flight, bulkhead.waiting) == (0, 0)
""")


def test_a_call_that_forks_returns_in_both() -> None:
    """The child comes back out of the call that the parent made: it is not in flight twice."""
    run("""
bulkhead, breaker = Bulkhead(2), CircuitBreaker(consecutive=1)

@Pipeline(breaker, bulkhead)
def work():
    return os.fork()

pid = work()
if not pid:
    code = 1
    try:
        assert bulkhead.in_flight == 0, bulkhead.in_flight
        assert [bulkhead.admit(0.0) is not None for _ in range(2)]
        try: bulkhead.admit(0.0)
        except BulkheadFull: code = 0
    except BaseException:
        traceback.print_exc(); sys.stderr.flush()
    os._exit(code)
assert os.waitpid(pid, 0)[1] == 0
assert bulkhead.in_flight == 0
""")


def test_a_probe_of_the_parent_does_not_keep_the_child_waiting() -> None:
    run("""
breaker = CircuitBreaker(consecutive=1, open_for=1.0, probes=1, probe_lease=1000.0)
breaker.record(breaker.admit(0.0), Verdict.FAILURE, 0.0, 0.0)
probe = breaker.admit(5.0)

def child():
    mine = breaker.admit(6.0)
    breaker.record(probe, Verdict.FAILURE, 0.0, 6.0)   # the parent's: nothing to do with us
    breaker.record(mine, Verdict.SUCCESS, 0.0, 6.0)
    assert breaker.state == "closed"

fork(child)
try: breaker.admit(6.0)
except CircuitOpen: pass
else: raise AssertionError("the parent's probe is still in flight")
""")


def test_three_children_draw_three_jitters() -> None:
    run("""
reads, writes = os.pipe()
delay = backoff(1.0).delay
for _ in range(3):
    fork(lambda: os.write(writes, f"{delay(1)}\\n".encode()))
os.close(writes)
drawn = os.read(reads, 10_000).decode().split()
assert len(set(drawn)) == 3, drawn
""")


def test_functions_left_behind_in_the_parent_are_not_counted_in_the_child() -> None:
    run("""
leave, policy = threading.Event(), Timeout(0.01, walk_away=True)
try: policy(leave.wait)(30)
except TimedOut: pass
assert policy.leaked == 1

def child():
    assert policy.leaked == 0

fork(child)
leave.set()
""")
