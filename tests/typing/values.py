"""The types of what the library gives: blocks, calls, reports, errors, events."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from resilient import (
    Backoff,
    Budget,
    Bulkhead,
    Call,
    CircuitBreaker,
    CircuitOpen,
    Criticality,
    DeadlineExceeded,
    Event,
    Evidence,
    Gate,
    OutcomeUnknown,
    Pipeline,
    RateLimited,
    Rejected,
    Report,
    Retry,
    TimedOut,
    Verdict,
    Wait,
    backoff,
    criticality,
    current_call,
    deadline,
    report_of,
    set_active,
    subscribe,
)

assert_type(backoff(0.1, cap=5.0), Backoff)
assert_type(current_call(), Call)
assert_type(current_call().deadline, float | None)
assert_type(current_call().idempotency_key, str | None)
assert_type(current_call().child_key("op"), str | None)
assert_type(current_call().criticality, Criticality)
assert_type(Budget().withdraw(0.0), bool)
assert_type(CircuitBreaker().state, str)
assert_type(Bulkhead().in_flight, int)

with deadline(1.5) as inside:
    assert_type(inside, Call)
    assert_type(inside.remaining(), float | None)
with criticality("sheddable") as inside:
    assert_type(inside, Call)

seen: list[Event] = []
stop = subscribe(seen.append)
assert_type(stop, Callable[[], None])
stop()
set_active(True)


async def check_all() -> None:
    number = 0
    for attempt in Retry(1).attempts(name="block"):
        with attempt:
            number = assert_type(attempt.number, int)
    async for attempt in Retry(1).attempts(name="block"):
        with attempt as same:
            number = assert_type(same.number, int)
    assert number == 1
    with CircuitBreaker().guard():
        pass
    async with Bulkhead().guard():
        pass


class Mine(Gate[int]):
    kind = "mine"

    def admit(self, now: float, /) -> int | Wait[int]:
        return 1

    def record(self, permit: int, verdict: Verdict, latency: float, now: float, /) -> None: ...


with Mine().guard() as permit:
    assert_type(permit, int)


def looked_at() -> None:
    raise ConnectionError


try:
    Pipeline(Retry(1), Mine())(looked_at)()
except (RateLimited, CircuitOpen) as error:
    assert_type(error.retry_after, float | None)
    assert_type(error.reason, str)
except (DeadlineExceeded, TimedOut) as late:
    assert_type(late.timeout, float | None)
except OutcomeUnknown as unknown:
    assert_type(unknown.idempotency_key, str | None)
    assert_type(unknown.attempts, int)
except Rejected as no:
    assert_type(no.dependency, str | None)
except ConnectionError as failure:
    report = report_of(failure)
    assert_type(report, Report | None)
    assert report is not None
    assert_type(report.evidence, Evidence)
    assert_type(report.why_not_retried, str | None)
