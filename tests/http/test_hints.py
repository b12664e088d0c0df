"""What an answer says to whoever might send again: status by status, header by header, nonsense included."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.outcome import FAILURE, IGNORED, Evidence, Verdict
from resilient.http.hints import answer, retry_after

AT = 1_767_225_600.0  # Thu, 01 Jan 2026 00:00:00 GMT
DATE = formatdate(AT, usegmt=True)


def headers(**given: str) -> httpx.Headers:
    return httpx.Headers({name.replace("_", "-"): value for name, value in given.items()})


@pytest.mark.parametrize(
    "status", [100, 200, 204, 206, 301, 304, 307, 400, 401, 403, 404, 405, 409, 410, 412, 422, 451]
)
def test_simply_an_answer(status: int) -> None:
    assert answer(status, headers(Retry_After="1")) is None


@pytest.mark.parametrize(
    ("status", "evidence", "transient", "verdict"),
    [
        (408, Evidence.ANSWERED, True, IGNORED),
        (425, Evidence.DECLINED, True, IGNORED),
        (429, Evidence.DECLINED, True, IGNORED),
        (500, Evidence.ANSWERED, True, FAILURE),
        (501, Evidence.ANSWERED, False, FAILURE),
        (502, Evidence.ANSWERED, True, FAILURE),
        (503, Evidence.ANSWERED, True, FAILURE),
        (504, Evidence.ANSWERED, True, FAILURE),
        (505, Evidence.ANSWERED, False, FAILURE),
        (511, Evidence.ANSWERED, False, FAILURE),
        (599, Evidence.ANSWERED, False, FAILURE),
    ],
)
def test_a_failure(status: int, evidence: Evidence, transient: bool, verdict: Verdict) -> None:
    found = answer(status, headers())
    assert found is not None
    assert (found.evidence, found.transient, found.verdict) == (evidence, transient, verdict)
    assert found.retry_after is None
    assert found.why_not is None


@pytest.mark.parametrize("name", ["resilient-not-processed", "x-envoy-overloaded", "finagle-http-nack"])
def test_an_overload_answer_with_proof(name: str) -> None:
    found = answer(503, httpx.Headers({name: "1"}))
    assert found is not None
    assert found.evidence is Evidence.DECLINED
    # The proof is for overload: in any other answer it proves nothing.
    other = answer(500, httpx.Headers({name: "1"}))
    assert other is not None
    assert other.evidence is Evidence.ANSWERED


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize(
    "given",
    [
        {"Stripe-Should-Retry": "false"},
        {"Stripe-Should-Retry": "FALSE"},
        {"finagle-http-nonretryable-nack": ""},
    ],
)
def test_a_server_that_says_no(status: int, given: dict[str, str]) -> None:
    found = answer(status, httpx.Headers(given | {"Retry-After": "1"}))
    assert found is not None
    assert not found.transient
    assert found.why_not == "server"


def test_in_progress_is_believed_of_servers_that_honour_keys_alone() -> None:
    given = headers(Idempotency_Key_Status="in-progress", Retry_After="2")
    assert answer(409, given) is None
    found = answer(409, given, keyed=True)
    assert found is not None
    assert (found.evidence, found.transient, found.verdict) == (Evidence.UNKNOWN, True, IGNORED)
    assert found.retry_after == 2.0


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_retry_after_is_read_where_a_retry_is_possible(status: int) -> None:
    found = answer(status, headers(Retry_After="7"))
    assert found is not None
    assert found.retry_after == 7.0


@pytest.mark.parametrize("status", [501, 505])
def test_retry_after_says_nothing_where_none_is(status: int) -> None:
    found = answer(status, headers(Retry_After="7"))
    assert found is not None
    assert found.retry_after is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("  120 ", 120.0),
        ("1.5", 1.5),  # not in the RFC, and sent
        ("007", 7.0),
        ("86400000", 86_400_000.0),  # what is too long is the caller's to judge
        (formatdate(AT + 90, usegmt=True), 90.0),
        (formatdate(AT, usegmt=True), 0.0),
        (formatdate(AT - 90, usegmt=True), 0.0),
        ("Thursday, 01-Jan-26 00:01:30 GMT", 90.0),  # RFC 850, obsolete, to be understood (RFC 9110 5.6.7)
        ("Thu Jan  1 00:01:30 2026", 90.0),  # asctime, likewise: it is UTC
        ("", None),
        (" ", None),
        ("soon", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("0x10", None),
        ("1.2.3", None),
        (".", None),
        ("inf", None),
        ("nan", None),
        ("infinity", None),
        ("1_000", None),
        ("٣", None),
        ("1, 2", None),
        ("9" * 129, None),
        ("Thu, 99 Jan 2026 00:00:00 GMT", None),
        ("Thu, 01 Jan 99999 00:00:00 GMT", None),
        ("Thu, 01 Jan 2026 25:61:00 GMT", None),
        ("\x00", None),
    ],
)
def test_retry_after_parsed(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value, "date": DATE}) == seconds


@pytest.fixture
def far_from_greenwich() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC+7"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
@pytest.mark.parametrize("value", ["Thu, 01 Jan 2026 00:01:30 GMT", "Thu Jan  1 00:01:30 2026"])
def test_dates_are_utc_wherever_we_are(value: str) -> None:
    assert retry_after({"retry-after": value, "date": DATE}) == 90.0


def test_a_date_is_read_against_the_answers_own() -> None:
    # Their clock is a year behind ours: what counts is how far the one is from the other.
    year = 365 * 86_400
    then = {"retry-after": formatdate(AT - year + 5, usegmt=True), "date": formatdate(AT - year, usegmt=True)}
    assert retry_after(then) == 5.0


@pytest.mark.parametrize("date", [None, "", "yesterday", "x" * 1000])
def test_a_date_without_one_beside_it(date: str | None) -> None:
    # Against our own clock then.
    given = {"retry-after": formatdate(time.time() + 3600, usegmt=True)}
    if date is not None:
        given["date"] = date
    found = retry_after(given)
    assert found is not None
    assert 3000 < found <= 3600


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_raises(value: str, date: str) -> None:
    found = retry_after({"retry-after": value, "date": date})
    assert found is None or found >= 0.0
