"""Verdict, evidence, and the report on an exception."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient import Evidence, Report, Verdict, report_of
from resilient.core.outcome import Discarded, Unfinished, attach, error_type


def test_three_kinds_of_evidence_prove_that_nothing_happened() -> None:
    proof = {each for each in Evidence if each.proves_nothing_happened}
    assert proof == {Evidence.NOT_SENT, Evidence.REFUSED, Evidence.DECLINED}
    assert {each.value for each in Evidence} == {"not_sent", "refused", "declined", "unknown", "answered"}
    assert {each.value for each in Verdict} == {"success", "failure", "ignored"}


class Stubborn(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


@pytest.mark.parametrize("make", [ValueError, Stubborn, asyncio.CancelledError])
def test_any_exception_carries_a_report(make: type[BaseException]) -> None:
    exc = make()
    assert report_of(exc) is None
    assert attach(exc) == Report() == report_of(exc)
    attach(exc, evidence=Evidence.DECLINED, retry_after=2.0)
    attach(exc, attempts=3)
    assert report_of(exc) == Report(Evidence.DECLINED, 3, None, 2.0)
    assert exc.resilient is report_of(exc)  # type: ignore[attr-defined]


def test_what_is_no_report_is_not_taken_for_one() -> None:
    exc = ValueError()
    exc.resilient = "a word of the user's"  # type: ignore[attr-defined]
    assert report_of(exc) is None
    assert attach(exc, attempts=2) == Report(attempts=2)


def test_a_report_without_a_word_says_nothing_that_is_not_known() -> None:
    report = Report()
    assert (report.evidence, report.attempts, report.verdict) == (Evidence.UNKNOWN, 1, Verdict.FAILURE)
    assert (report.endpoint, report.retry_after, report.why_not_retried, report.transient) == (None,) * 4
    with pytest.raises(AttributeError):
        report.attempts = 2  # type: ignore[misc]


def test_a_stream_ends_once_the_innermost_first() -> None:
    told: list[tuple[str, BaseException | None]] = []
    stream, broken = Unfinished("result"), ConnectionError()
    for name in ("inner", "outer"):
        stream.on_end(lambda exc, name=name: told.append((name, exc)))  # type: ignore[misc]
    stream.end(broken)
    stream.end()
    assert told == [("inner", broken), ("outer", broken)]
    assert stream.result == "result"


def test_a_failure_has_a_name() -> None:
    class Outer:
        class Inner(Exception): ...

    assert error_type(KeyError()) == "KeyError"
    assert error_type(Outer.Inner()).endswith("Outer.Inner")
    assert error_type(Discarded("503")) == "503"


def test_an_answer_that_holds_nothing_is_let_go_without_ado() -> None:
    answer = Discarded("503")
    assert answer.discard(1.0) is None  # type: ignore[func-returns-value]
    assert asyncio.run(answer.adiscard(1.0)) is None  # type: ignore[func-returns-value]
