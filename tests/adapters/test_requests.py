"""What is requests' own: sessions stay as they are, urllib3's connections are cut, nothing is sent behind our back."""

from __future__ import annotations

import gzip
import io
import pickle
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from requests.exceptions import UnrewindableBodyError

import resilient.requests
from resilient import (
    ANY_ERROR,
    DeadlineExceeded,
    Fallback,
    OutcomeUnknown,
    Pipeline,
    PolicyError,
    Retry,
    TimedOut,
    Timeout,
    report_of,
    standard,
)
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import Evidence, Report
from resilient.http.pool import MAX_IDLE
from resilient.testing import ManualClock, Origin, answer, drip_body, stall_upload
from resilient.testing.exchange import Request
from tests.http.calls import policies, seen_keys, wait_until_left
from tests.http.relays import proxy


def plain() -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    return made


def ours(url: str, clock: Any = SYSTEM_CLOCK, **given: Any) -> requests.Session:
    given.setdefault("policies", policies(clock))
    made = resilient.requests.session("svc", base_url=url, **given)
    made.trust_env = False
    return made


def report_on(response: requests.Response) -> Report:
    """What is told of a call, on its answer."""
    found: Any = response
    report: Report = found.extensions["resilient"]
    return report


# ------------------------------------------------------------------------------------------- as without us
PACKED = gzip.compress(b"line 1\nline 2\n" * 50)


def serve(request: Request) -> Any:
    path = request.target.partition("?")[0]
    if path == "/packed":
        return answer(
            200, PACKED, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"}
        )
    if path == "/packed-chunked":
        return answer(
            200, PACKED, chunked=True, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"}
        )
    if path == "/badly-packed":
        return answer(200, b"not gzip", headers={"Content-Encoding": "gzip"})
    if path == "/large":
        return answer(200, b"0123456789" * 20_000)
    if path == "/cookie":
        return answer(200, b"ok", headers={"Set-Cookie": "seen=yes; Path=/"})
    if path == "/moved":
        return answer(302, b"gone", headers={"Location": "/cookie", "Set-Cookie": "hop=1; Path=/"})
    if path == "/twice":
        return answer(301, headers={"Location": "/moved"})
    if path == "/loop":
        return answer(302, headers={"Location": "/loop"})
    if path == "/old":
        return answer(200, b"until the end", close=True)
    if path == "/missing":
        return answer(404, b'{"error": "no"}', headers={"Content-Type": "application/json"})
    if path == "/nothing":
        return answer(204)
    return answer(200, request.body or b"{}", headers={"Content-Type": "application/json"})


def streamed(session: requests.Session, url: str) -> Any:
    with session.get(f"{url}/large", stream=True) as response:
        return [len(chunk) for chunk in response.iter_content(65_536)]


def raw(session: requests.Session, url: str, path: str) -> Any:
    response = session.get(url + path, stream=True)
    found = (
        response.raw.read(7),
        response.raw.read(decode_content=False),
        response.raw.status,
        response.raw.version,
    )
    return *found, response.raw.closed, sorted(response.raw.headers)


def hooked(session: requests.Session, url: str) -> Any:
    told: list[Any] = []
    hook = lambda response, **given: told.append((response.status_code, sorted(given)))  # noqa: E731
    session.hooks["response"].append(hook)
    session.get(f"{url}/moved", hooks={"response": hook})
    return told


def raised(session: requests.Session, url: str) -> Any:
    with pytest.raises(requests.HTTPError) as caught:
        session.get(f"{url}/missing").raise_for_status()
    return caught.value.response.json(), caught.value.request.path_url


def badly(session: requests.Session, url: str, **given: Any) -> Any:
    with pytest.raises(Exception) as caught:  # noqa: PT011  (the same kind from both)
        session.request(**{"method": "GET", "url": url, **given})
    return type(caught.value)


def cookies(session: requests.Session, url: str) -> Any:
    session.get(f"{url}/moved")
    session.get(f"{url}/plain", cookies={"mine": "1"})
    return sorted(session.cookies.items())


def copied(session: requests.Session, url: str) -> Any:
    response = pickle.loads(pickle.dumps(session.get(f"{url}/twice")))
    return response.status_code, response.content, response.request.url[len(url) :], len(response.history)


def prepared(session: requests.Session, url: str) -> Any:
    request = session.prepare_request(requests.Request("PUT", url, data={"a": 1}))
    return [session.send(request).content for _ in range(2)] + [session.send(request.copy()).content]


CASES: dict[str, Callable[[requests.Session, str], Any]] = {
    "json": lambda session, url: session.put(url, json={"a": [1]}).json(),
    "a form": lambda session, url: session.put(url, data={"a": "1"}, params={"q": "x y"}).text,
    "files": lambda session, url: len(session.put(url, files={"scan": b"12"}).content),
    "a file": lambda session, url: session.put(url, data=io.BytesIO(b"12")).content,
    "a generator": lambda session, url: session.put(url, data=iter((b"1", b"2"))).content,
    "text": lambda session, url: session.put(url, data="grün").content,
    "packed": lambda session, url: session.get(f"{url}/packed").text,
    "packed, chunked": lambda session, url: session.get(f"{url}/packed-chunked").text,
    "lines": lambda session, url: list(session.get(f"{url}/packed", stream=True).iter_lines()),
    "streamed": streamed,
    "raw": lambda session, url: raw(session, url, "/packed"),
    "raw, chunked": lambda session, url: raw(session, url, "/packed-chunked"),
    "raw, large": lambda session, url: raw(session, url, "/large"),
    "badly packed": lambda session, url: badly(session, f"{url}/badly-packed"),
    "head": lambda session, url: (
        session.head(f"{url}/large").headers["content-length"],
        session.head(url).content,
    ),
    "nothing": lambda session, url: (session.get(f"{url}/nothing").content, session.delete(url).status_code),
    "until the end": lambda session, url: (session.get(f"{url}/old").content, session.get(url).content),
    "cookies": cookies,
    "redirects": lambda session, url: [
        (each.status_code, each.url[len(url) :], each.content) for each in session.get(f"{url}/twice").history
    ],
    "no redirects": lambda session, url: session.get(f"{url}/moved", allow_redirects=False).next.url[
        len(url) :
    ],
    "too many": lambda session, url: badly(session, f"{url}/loop"),
    "hooks": hooked,
    "raise_for_status": raised,
    "basic auth": lambda session, url: session.get(url, auth=("me", "secret")).status_code,
    "no scheme": lambda session, url: badly(session, "nowhere"),
    "a bad header": lambda session, url: badly(session, url, headers={"X-A": "1\n2"}),
    "no certificate file": lambda session, url: badly(
        session, url.replace("http", "https"), verify="/nowhere.pem"
    ),
    "a bad time-out": lambda session, url: badly(session, url, timeout=(1, 2, 3)),
    "copied": copied,
    "prepared": prepared,
    "urllib3's time-out": lambda session, url: session.get(url, timeout=urllib3.Timeout(total=5)).status_code,
}


def as_sent(request: Request) -> Any:
    own = ("resilient-", "idempotency-key", "host", "content-type", "content-length")
    headers = sorted(
        (name.lower(), value) for name, value in request.headers if not name.lower().startswith(own)
    )
    return request.method, request.target, headers, len(request.body)


@pytest.mark.parametrize("name", CASES)
def test_the_same(name: str) -> None:
    found = []
    for make in (lambda url: plain(), ours):
        with Origin() as origin:
            origin.handle(serve)
            with make(origin.url) as session:
                result = CASES[name](session, origin.url)
            found.append((result, [as_sent(request) for request in origin.requests], origin.connections))
    assert found[1] == found[0]


def test_a_session_is_a_plain_one() -> None:
    with Origin(200) as origin, ours(origin.url) as session:
        assert type(session) is requests.Session
        assert type(session.get(origin.url)) is requests.Response


# ------------------------------------------------------------------------------------------------- auth flows
def test_digest_authentication_is_part_of_the_call() -> None:
    challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm="MD5"'
    with Origin() as origin:
        origin.script(answer(401, b"who?", headers={"WWW-Authenticate": challenge}), 429)
        with ours(origin.url, profile="supported") as session:
            response = session.post(origin.url, data=b"12", auth=HTTPDigestAuth("me", "secret"))
            assert response.status_code == 200
            assert len(origin.requests) == 3
            assert len(set(seen_keys(origin.requests))) == 1
            assert report_on(response).attempts == 3
            assert [request.body for request in origin.requests] == [b"12"] * 3
            session.post(origin.url)
            assert len(set(seen_keys(origin.requests))) == 2


# --------------------------------------------------------------------------------------------- prepared requests
def test_a_prepared_request_that_is_sent_again_is_another_call(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, ours(origin.url, manual_clock) as session:
        request = session.prepare_request(requests.Request("POST", origin.url, data=b"12"))
        for send in (request, request, request.copy()):
            origin.script(500)
            assert session.send(send).status_code == 500
            manual_clock.advance(20.0)  # the deadline of the one before is over
        assert len(set(seen_keys(origin.requests))) >= 2
        first, second, third = seen_keys(origin.requests)
        assert first != second
        assert third is not None


def test_a_redirect_that_the_caller_follows_is_another_call(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, ours(origin.url, manual_clock) as session:
        origin.script(answer(303, headers={"Location": "/there"}))
        response = session.post(origin.url, allow_redirects=False)
        manual_clock.advance(20.0)
        assert response.next is not None
        followed = session.send(response.next)
        assert followed.status_code == 200
        assert report_on(followed).attempts == 1
        assert [request.method for request in origin.requests] == ["POST", "GET"]
        assert seen_keys(origin.requests)[1] is None


def test_a_request_that_is_being_sent_is_refused() -> None:
    with Origin() as origin, ours(origin.url) as session:
        arrived, gate, errors = threading.Event(), threading.Event(), []

        def hold(exchange: Any) -> None:
            arrived.set()
            gate.wait(30.0)
            answer_now(exchange)

        origin.always(hold)
        request = session.prepare_request(requests.Request("GET", origin.url))
        thread = threading.Thread(target=lambda: errors.append(session.send(request).status_code))
        thread.start()
        assert arrived.wait(30.0)
        with pytest.raises(PolicyError, match=r"is being sent already; .*session\.prepare_request"):
            session.send(request)
        gate.set()
        thread.join()
        assert errors == [200]


def answer_now(exchange: Any) -> None:
    exchange.read()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


# ----------------------------------------------------------------------------------------------- connections
def test_connections_that_were_idle_for_long_are_not_used(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, ours(origin.url, manual_clock) as session:
        session.get(origin.url)
        manual_clock.advance(MAX_IDLE - 0.1)
        session.get(origin.url)
        assert origin.connections == 1
        manual_clock.advance(MAX_IDLE + 0.1)
        session.get(origin.url)
        assert origin.connections == 2


def test_threads_share_a_session() -> None:
    with Origin() as origin, ours(origin.url) as session:
        origin.handle(lambda request: answer(200, request.target.encode()))
        wrong: list[Any] = []

        def work(n: int) -> None:
            for i in range(20):
                path = f"/{n}/{i}"
                if session.get(origin.url + path).text != path:
                    wrong.append(path)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(origin.requests) == 160


def test_an_upload_that_stalls_is_cut_and_no_stale_connection() -> None:
    with Origin() as origin:
        origin.script(200, stall_upload())
        with ours(origin.url, policies=policies(SYSTEM_CLOCK, total=0.4)) as session:
            session.get(origin.url)
            with pytest.raises(requests.Timeout) as caught:
                session.put(origin.url, data=b"x" * 12_000_000)
            assert isinstance(caught.value, DeadlineExceeded)
            assert len(origin.requests) == 2


def test_an_upload_that_meets_its_own_time_out_is_not_sent_at_once_again() -> None:
    with Origin() as origin:
        origin.script(200, stall_upload(), stall_upload())
        with ours(origin.url, policies=policies(SYSTEM_CLOCK, attempts=1)) as session:
            session.get(origin.url)
            with pytest.raises(requests.ConnectionError) as caught:
                session.put(origin.url, data=b"x" * 12_000_000, timeout=0.2)
            report = report_of(caught.value)
            assert report is not None
            assert report.attempts == 1
            assert len(origin.requests) == 2


def test_a_body_behind_a_redirect_that_can_be_read_once() -> None:
    with Origin() as origin, ours(origin.url) as session:
        origin.script(answer(307, headers={"Location": "/there"}))
        with pytest.raises(
            UnrewindableBodyError, match="made_anew"
        ):  # requests itself sends nothing in its place
            session.post(origin.url, data=iter((b"1", b"2")))
        assert [request.body for request in origin.requests] == [b"12"]


def test_the_handshake_is_cut(manual_clock: ManualClock) -> None:
    with Origin("hang") as origin:
        url = origin.url.replace("http:", "https:")
        pipeline = standard("svc", attempts=1, connect_timeout=0.2)
        with resilient.requests.session("svc", base_url=url, policies=pipeline) as session:
            session.trust_env = False
            with pytest.raises(requests.ReadTimeout) as caught:  # as requests has it
                session.post(url)
        report = report_of(caught.value)
        assert report is not None
        assert report.evidence is Evidence.NOT_SENT
        assert not isinstance(caught.value, OutcomeUnknown)


def test_tls(tmp_path: Path) -> None:
    with Origin(tls=True) as origin, ours(origin.url) as session:
        origin.script("reset_before_effect")
        session.verify = ca_file(origin, tmp_path)
        response = session.get(origin.url)
        assert response.status_code == 200
        assert report_on(response).attempts == 2
        origin.script(drip_body(0.03))
        with ours(origin.url, policies=policies(SYSTEM_CLOCK, total=0.3)) as quick:
            quick.verify = session.verify
            with pytest.raises(requests.Timeout):
                quick.get(origin.url)


def ca_file(origin: Origin, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    (authority,) = origin.client_context.get_ca_certs(binary_form=True)
    path.write_text(ssl.DER_cert_to_PEM_cert(authority))
    return str(path)


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy(tls: bool, tmp_path: Path) -> None:
    with Origin(tls=tls) as origin, proxy() as relay, ours(origin.url, profile="none") as session:
        session.proxies = {"http": relay.url, "https": relay.url}
        if tls:
            session.verify = ca_file(origin, tmp_path)
        assert session.get(origin.url).status_code == 200
        assert relay.heads[0].startswith("CONNECT" if tls else f"GET {origin.url}/")
        origin.script("reset_before_effect")
        with pytest.raises(OutcomeUnknown):
            session.post(origin.url)
        if tls:  # what the proxy says no to reached nobody
            relay.refuses = 1
            assert report_on(session.post(origin.url)).attempts == 2


# ---------------------------------------------------------------------------------- what stands in our place
@pytest.mark.parametrize(
    ("error", "evidence"),
    [
        (requests.ConnectionError("mocked"), Evidence.UNKNOWN),
        (requests.ReadTimeout("mocked"), Evidence.UNKNOWN),
        (requests.ConnectTimeout("mocked"), Evidence.NOT_SENT),
    ],
)
def test_a_stand_in_for_the_adapter_does_not_say_how_far_it_got(
    error: Exception, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the packages that mock requests do it.
    with ours("http://bank.svc") as session:

        def fails(*_: Any, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(HTTPAdapter, "send", fails)
        with pytest.raises(type(error)) as caught:
            session.post("http://bank.svc/charges")
        report = report_of(caught.value)
        assert report is not None
        assert report.evidence is evidence
        assert report.attempts == (3 if evidence is Evidence.NOT_SENT else 1)

        def answers(*_: Any, **__: Any) -> requests.Response:
            response = requests.Response()
            response.status_code = 200
            response.raw = io.BytesIO(b"mocked")
            return response

        monkeypatch.setattr(HTTPAdapter, "send", answers)
        assert session.get("http://bank.svc").content == b"mocked"


def test_a_fallback() -> None:
    def stand_in(request: Any) -> requests.Response:
        assert request.method == "GET"
        response = requests.Response()
        response.status_code = 203
        return response

    pipeline = Pipeline(Fallback(stand_in, on=Exception), Timeout(2.0), name="svc")
    with Origin() as origin, ours(origin.url, policies=pipeline) as session:
        origin.script("reset_before_effect")
        response = session.get(origin.url)
        assert response.status_code == 203
        assert report_on(response).evidence is Evidence.UNKNOWN
    wrong = Pipeline(Fallback(lambda request: "nothing", on=Exception), name="svc")
    with (
        Origin(502) as origin,
        ours(origin.url, policies=wrong) as session,
        pytest.raises(PolicyError, match=r"write Fallback\(lambda request: requests.Response\(\)\)"),
    ):
        session.get(origin.url)


def test_retries_around_a_call_that_gave_up_are_none(manual_clock: ManualClock) -> None:
    with Origin(503, clock=manual_clock) as origin, ours(origin.url, manual_clock) as session:

        @Pipeline(Retry(3, on=ANY_ERROR, wait=0.0), clock=manual_clock)
        def lookup() -> None:
            session.get(origin.url).raise_for_status()

        with pytest.raises(requests.HTTPError):
            lookup()
        assert len(origin.requests) == 3


# ----------------------------------------------------------------------------------------------- bad arguments
def test_bad_arguments() -> None:
    make: Any = resilient.requests.session
    with pytest.raises(PolicyError, match="max_retries= would repeat what the policies know nothing of"):
        make("svc", base_url="http://svc", max_retries=3)
    with pytest.raises(PolicyError, match="base_url=5 must be the service's URL"):
        make("svc", base_url=5)
    with pytest.raises(PolicyError, match="must be an absolute http or https URL"):
        make("svc", base_url="svc")
    with pytest.raises(TypeError, match="nonsense"):
        make("svc", base_url="http://svc", nonsense=1)
    with pytest.raises(PolicyError, match="make a session in each process"):
        pickle.dumps(make("svc", base_url="http://svc"))


def test_time_outs_of_the_caller_and_of_an_attempt() -> None:
    # Whichever is less.
    with Origin("hang") as origin:
        with ours(origin.url, policies=policies(SYSTEM_CLOCK, attempt=0.1, attempts=1)) as session:
            with pytest.raises(TimedOut):
                session.get(origin.url, timeout=5.0)
            with pytest.raises(requests.ReadTimeout) as caught:
                session.get(origin.url, timeout=0.05)
            assert not isinstance(caught.value, TimedOut)
        wait_until_left(origin)
