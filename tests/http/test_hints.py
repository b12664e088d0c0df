"""What an answer says to whoever might send again: status by status, header by header, nonsense included."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.outcome import FAILURE, IGNORED, Evidence, Verdict
from resilient.http.hints import answer, retry_after
from resilient.http.profiles import PROFILES, Profile
from resilient.http.quota import empty_for
from tests.http.sdk import httpx

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
        (529, Evidence.ANSWERED, True, FAILURE),
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
        {"X-Should-Retry": "false"},
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
    found = answer(409, given, keyed=True, profile=PROFILES["supported"])
    assert found is not None
    assert (found.evidence, found.transient, found.verdict) == (Evidence.UNKNOWN, True, IGNORED)
    assert found.retry_after == 2.0


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
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


# ------------------------------------------------------------------------------------------------ further words
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("250", 0.25), (" 1000 ", 1.0), ("2147483647", 2_147_483.647)],
)
def test_grpc_pushback(value: str, seconds: float) -> None:
    found = answer(503, headers(grpc_retry_pushback_ms=value, Retry_After="9"))
    assert found is not None
    assert (found.transient, found.retry_after, found.why_not) == (True, seconds, None)


@pytest.mark.parametrize("value", ["-1", "", "soon", "1.5", "+1", "99999999999", "٣"])
def test_a_grpc_pushback_that_forbids_it(value: str) -> None:
    # Proposal A6: negative and not parseable both mean "do not retry".
    found = answer(503, httpx.Headers([(b"grpc-retry-pushback-ms", value.encode())]))
    assert found is not None
    assert (found.transient, found.why_not) == (False, "server")


@pytest.mark.parametrize("name", ["Stripe-Should-Retry", "X-Should-Retry"])
@pytest.mark.parametrize("status", [400, 404, 409, 501, 505])
def test_a_server_that_says_yes(status: int, name: str) -> None:
    found = answer(status, httpx.Headers({name: "true", "Retry-After": "2"}))
    assert found is not None
    # It may be asked again; whether it may be repeated is still for method and key to say.
    assert (found.evidence, found.transient, found.retry_after) == (Evidence.ANSWERED, True, 2.0)
    assert answer(200, httpx.Headers({name: "true"})) is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("1", None),
        ("2", "nested"),
        (" 3 ", "nested"),
        ("0", None),
        ("", None),
        ("many", None),
        ("9" * 200, None),
    ],
)
def test_a_proxy_that_has_retried(value: str, why: str | None) -> None:
    given = headers(x_envoy_attempt_count=value)
    found = answer(503, given)
    assert found is not None
    assert (found.transient, found.why_not) == (why is None, why)
    limited = answer(429, given)
    assert limited is not None
    assert limited.transient  # Envoy retries no 429 by itself; it passed one on


def test_an_answer_that_was_given_before_is_not_asked_for_again() -> None:
    given = headers(Idempotent_Replayed="true")
    supported = PROFILES["supported"]
    found = answer(500, given, profile=supported, keyed=True)
    assert found is not None
    assert (found.transient, found.why_not, found.replayed) == (False, "server", True)
    for keyed, profile in ((False, supported), (True, PROFILES["unknown"])):
        found = answer(500, given, profile=profile, keyed=keyed)
        assert found is not None
        assert (found.transient, found.replayed) == (True, False)


def test_a_server_that_will_never_know() -> None:
    found = answer(
        500, headers(Idempotency_Key_Status="outcome-unknown"), profile=PROFILES["supported"], keyed=True
    )
    assert found is not None
    assert (found.evidence, found.transient, found.why_not) == (Evidence.UNKNOWN, False, "server")


# ---------------------------------------------------------------------------------------------------- quotas
@pytest.mark.parametrize(
    ("limit", "policy", "seconds"),
    [
        ('"default";r=0;t=30', "", 30.0),
        ('"default";r=50;t=30', "", None),
        ('"burst";r=0;t=5, "daily";r=0;t=900', "", 900.0),
        ('"burst";r=0;t=5, "daily";r=7;t=900', "", 5.0),
        ('"default";r=0', '"default";q=100;w=60', 60.0),
        ('"default";r=0', '"other";q=100;w=60', None),
        ('"default";r=0', "", None),
        ('"slots";r=0;t=30', '"slots";q=10;qu="concurrent-requests"', None),
        ('"bytes";r=0;t=30', '"bytes";q=10;qu="content-bytes";w=60;pk=:cHM=:', 30.0),
        ('"default";r=0;t=30', "((", 30.0),
        # What breaks the rules is ignored, item by item where it is a list all the same.
        ("default;r=0;t=30", "", None),
        ('"default";r=0.0;t=30', "", None),
        ('"default";r="0";t=30', "", None),
        ('"default";r=-1;t=30', "", None),
        ('"default";r=0;t=-30', "", None),
        ('("a" "b");r=0;t=30', "", None),
        ('"a";r=?0;t=30', "", None),
        ('"default";r=0;t=30;;', "", None),
        ("limit=10, remaining=0, reset=5", "", None),  # an older draft's
        ("", "", None),
        ('"a";r=0;t=1, ' * 100 + '"b";r=0;t=2', "", None),  # longer than anybody needs
        ('"ä";r=0;t=30', "", None),
    ],
)
def test_ratelimit_fields(limit: str, policy: str, seconds: float | None) -> None:
    given = httpx.Headers([(b"RateLimit", limit.encode()), (b"RateLimit-Policy", policy.encode())])
    found = answer(429, given)
    assert found is not None
    assert found.quota == seconds
    assert found.retry_after == seconds
    assert answer(200, given) is None


def test_retry_after_goes_before_what_is_left_of_a_quota() -> None:
    found = answer(429, headers(RateLimit='"default";r=0;t=30', Retry_After="2"))
    assert found is not None
    assert (found.retry_after, found.quota) == (2.0, 30.0)


def test_what_a_cache_says_of_a_quota_is_old() -> None:
    for age, seconds in (("0", 30.0), ("7", None), ("", None)):
        assert empty_for(headers(RateLimit='"default";r=0;t=30', Age=age), lambda: AT) == seconds


@pytest.mark.parametrize(
    ("remaining", "reset", "refused", "seconds"),
    [
        ("0", "30", False, 30.0),
        ("0", "1.5", False, 1.5),
        ("0", f"{AT + 40:.0f}", False, 40.0),  # GitHub: a date in seconds
        ("0", f"{(AT + 40) * 1000:.0f}", False, 40.0),  # and in milliseconds
        ("0", f"{AT - 40:.0f}", False, 0.0),
        ("12", "30", False, None),
        (None, "30", False, None),
        (None, "30", True, 30.0),  # it was turned away: there is none left
        ("12", "30", True, None),  # it was turned away by another limit
        ("0", None, True, None),
        ("0", "soon", True, None),
        ("none", "30", False, None),
        ("0", "1" * 40, False, None),
        ("0", "6m0s", False, None),
    ],
)
def test_older_fields(remaining: str | None, reset: str | None, refused: bool, seconds: float | None) -> None:
    given = {"X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset}
    found = httpx.Headers({name: value for name, value in given.items() if value is not None})
    assert empty_for(found, lambda: AT, "X-RateLimit", refused=refused) == pytest.approx(seconds)
    assert empty_for(found, lambda: AT, "X-Other", refused=refused) is None
    assert empty_for(found, lambda: AT, refused=refused) is None


def test_older_fields_are_a_matter_of_the_profile() -> None:
    given = headers(X_RateLimit_Remaining="0", X_RateLimit_Reset="30")
    plain, knows = answer(429, given), answer(429, given, profile=Profile(quota="X-RateLimit"))
    assert plain is not None
    assert plain.quota is None
    assert knows is not None
    assert (knows.quota, knows.retry_after) == (30.0, 30.0)


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_no_quota_field_raises(limit: bytes, policy: bytes) -> None:
    given = httpx.Headers([(b"ratelimit", limit), (b"ratelimit-policy", policy)])
    seconds = empty_for(given, lambda: AT)
    assert seconds is None or seconds >= 0


def test_what_parses_quotas_is_imported_with_the_first_of_them(sdk: str) -> None:
    program = (
        f"import sys, {sdk} as httpx, resilient.{sdk}; from resilient.http.hints import answer; "
        "answer(429, httpx.Headers({'Retry-After': '1'})); assert 'http_sf' not in sys.modules; "
        "answer(429, httpx.Headers({'RateLimit': '\"a\";r=0;t=1'})); assert 'http_sf' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
