"""What is aiohttp's own: sessions stay as they are, a cancellation leaves nothing behind, nothing is sent behind our
back."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import resilient.aiohttp
from resilient import (
    Bulkhead,
    DeadlineExceeded,
    Fallback,
    OutcomeUnknown,
    Pipeline,
    PolicyError,
    Retry,
    TimedOut,
    Timeout,
    report_of,
)
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import Evidence, Report
from resilient.http.pool import MAX_IDLE
from resilient.http.profiles import Profile, Signal
from resilient.testing import ManualClock, Origin, answer, drip_body, drip_head, stale, stall_upload
from resilient.testing.exchange import Exchange, Request
from tests.http.calls import descriptors, policies, seen_keys, wait_until_left
from tests.http.relays import proxy


def ours(url: str, clock: Any = SYSTEM_CLOCK, **given: Any) -> aiohttp.ClientSession:
    given.setdefault("policies", policies(clock))
    return resilient.aiohttp.session("svc", base_url=url, **given)


def run(work: Callable[[], Awaitable[Any]], clock: ManualClock | None = None) -> Any:
    async def whole() -> Any:
        try:
            return await work()
        finally:
            await asyncio.sleep(0.02)  # what aiohttp began to close, it closes in the steps after

    with asyncio.Runner(loop_factory=None if clock is None else clock.loop) as runner:
        return runner.run(whole())


def report_on(response: aiohttp.ClientResponse) -> Report:
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


Session = aiohttp.ClientSession


async def body(session: Session, method: str, path: str, **given: Any) -> Any:
    async with session.request(method, path, **given) as response:
        return response.status, await response.read(), response.method, response.url.path


async def by_content(session: Session, path: str, read: Callable[[Any], Any]) -> Any:
    async with session.get(path) as response:
        return await read(response.content), response.content.at_eof()


async def lines(content: Any) -> Any:
    return [line async for line in content]


async def pieces(content: Any) -> Any:
    return b"".join([piece async for piece in content.iter_chunked(1000)])


async def raises(session: Session, method: str, path: str, **given: Any) -> Any:
    with pytest.raises(Exception) as caught:  # noqa: PT011  (the same kind from both)
        await body(session, method, path, **given)
    return type(caught.value)


async def cookies(session: Session) -> Any:
    await body(session, "GET", "/moved")
    await body(session, "GET", "/plain", cookies={"mine": "1"})
    return sorted((each.key, each.value) for each in session.cookie_jar)


async def redirects(session: Session) -> Any:
    async with session.get("/twice") as response:
        return [(each.status, each.url.path) for each in response.history], response.url.path


async def missing(session: Session) -> Any:
    async with session.get("/missing") as response:
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            response.raise_for_status()
    return caught.value.status, caught.value.message


async def closed_early(session: Session) -> Any:
    for _ in range(3):
        async with session.get("/large") as response:
            assert len(await response.content.read(10)) == 10
    return (await body(session, "GET", "/"))[0]


async def arows() -> Any:
    for piece in (b"1", b"2"):
        yield piece


async def form(session: Session) -> Any:
    data = aiohttp.FormData({"order": "7"})
    data.add_field("scan", io.BytesIO(b"a scan"), filename="scan.png")
    status, content, *_ = await body(session, "PUT", "/", data=data)
    return status, content.count(b"a scan"), content.count(b"\r\n")


CASES: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "json": lambda session: body(session, "PUT", "/", json={"a": [1]}),
    "a form": lambda session: body(session, "PUT", "/", data={"a": "1"}, params={"q": "x y"}),
    "a multipart form": form,
    "a file": lambda session: body(session, "PUT", "/", data=io.BytesIO(b"12")),
    "a generator": lambda session: body(session, "PUT", "/", data=arows()),
    "text": lambda session: body(session, "PUT", "/", data="grün"),
    "packed": lambda session: body(session, "GET", "/packed"),
    "packed, chunked": lambda session: body(session, "GET", "/packed-chunked"),
    "badly packed": lambda session: raises(session, "GET", "/badly-packed"),
    "lines": lambda session: by_content(session, "/packed", lines),
    "content": lambda session: by_content(session, "/cookie", lambda content: content.read()),
    "pieces": lambda session: by_content(session, "/large", pieces),
    "head": lambda session: body(session, "HEAD", "/large"),
    "nothing": lambda session: body(session, "DELETE", "/nothing"),
    "until the end": lambda session: body(session, "GET", "/old"),
    "closed early": closed_early,
    "cookies": cookies,
    "redirects": redirects,
    "no redirects": lambda session: body(session, "GET", "/moved", allow_redirects=False),
    "too many": lambda session: raises(session, "GET", "/loop"),
    "raise_for_status": missing,
    "raise_for_status=": lambda session: raises(session, "GET", "/missing", raise_for_status=True),
    "a bad header": lambda session: raises(session, "GET", "/", headers={"X-A": "1\n2"}),
    "a bad scheme": lambda session: raises(session, "GET", "ftp://nowhere/"),
    "packed upload": lambda session: body(session, "PUT", "/", data=b"12", compress="gzip"),
}


def as_sent(request: Request) -> Any:
    own = ("resilient-", "idempotency-key", "host", "content-type", "content-length")
    headers = sorted(
        (name.lower(), value) for name, value in request.headers if not name.lower().startswith(own)
    )
    return request.method, request.target, headers, len(request.body)


@pytest.mark.parametrize("name", CASES)
def test_the_same(name: str) -> None:
    found: list[Any] = []

    async def main(make: Callable[[str], Session]) -> None:
        with Origin() as origin:
            origin.handle(serve)
            async with make(origin.url) as session:
                result = await CASES[name](session)
            found.append((result, [as_sent(request) for request in origin.requests]))

    run(lambda: main(aiohttp.ClientSession))
    run(lambda: main(ours))
    assert found[1] == found[0]


def test_a_session_is_a_plain_one() -> None:
    async def main(origin: Origin) -> None:
        async with ours(origin.url) as session:
            assert type(session) is aiohttp.ClientSession
            async with session.get("/") as response:
                assert type(response) is aiohttp.ClientResponse
            connector = session.connector
            assert connector is not None
            assert connector.limit == 0
            assert connector._keepalive_timeout == MAX_IDLE  # there is no public name for it

    with Origin(200) as origin:
        run(lambda: main(origin))


def test_traces_of_the_users_see_each_attempt(manual_clock: ManualClock) -> None:
    seen: Counter[str] = Counter()
    trace = aiohttp.TraceConfig()

    async def note(name: str) -> None:
        seen[name] += 1

    trace.on_request_start.append(lambda *_: note("start"))
    trace.on_request_headers_sent.append(lambda *_: note("sent"))
    trace.on_request_end.append(lambda *_: note("end"))

    async def main(origin: Origin) -> None:
        async with ours(origin.url, manual_clock, trace_configs=[trace]) as session:
            origin.script(503, "reset_before_effect")
            async with session.get("/") as response:
                assert report_on(response).attempts == 3

    with Origin(clock=manual_clock) as origin:
        run(lambda: main(origin), manual_clock)
    assert seen == {"start": 1, "sent": 3, "end": 1}


def test_a_web_socket() -> None:
    bulkhead = Bulkhead(1)
    pipeline = Pipeline(Timeout(0.2), bulkhead, name="svc")

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with (
            ours(f"http://127.0.0.1:{port}", policies=pipeline) as session,
            session.ws_connect("/") as socket,
        ):
            await socket.send_str("here")
            assert await socket.receive_str() == "here"
            assert bulkhead.in_flight == 0  # it is no call that ends
            await asyncio.sleep(0.3)
            await socket.send_str("still here")
            assert await socket.receive_str() == "still here"
        await runner.cleanup()

    run(main)


# ----------------------------------------------------------------------------------------------- middlewares
def test_middlewares_of_the_users_are_outside(manual_clock: ManualClock) -> None:
    seen: list[str] = []

    async def auth(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await handler(request)
        if response.status == 401:
            request.headers["Authorization"] = "Bearer fresh"
            response = await handler(request)
        seen.append(str(response.status))
        return response

    async def main(origin: Origin) -> None:
        async with ours(origin.url, manual_clock, middlewares=[auth], profile="supported") as session:
            origin.script(503, 401, 429)
            async with session.post("/", data=b"12") as response:
                assert response.status == 200
                assert report_on(response).attempts == 4
        assert seen == ["200"]
        # It is one call, with one key.
        assert len(set(seen_keys(origin.requests))) == 1
        assert [request.header("authorization") for request in origin.requests] == [
            None,
            None,
            *["Bearer fresh"] * 2,
        ]

    with Origin(clock=manual_clock) as origin:
        run(lambda: main(origin), manual_clock)


def test_a_request_that_a_middleware_sends_again_is_another_call(manual_clock: ManualClock) -> None:
    async def stubborn(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        for _ in range(2):
            try:
                response: aiohttp.ClientResponse = await handler(request)
            except aiohttp.ClientError:
                continue
            if response.status < 500:
                return response
        return await handler(request)  # type: ignore[no-any-return]

    async def main(origin: Origin) -> None:
        async with ours(origin.url, manual_clock, middlewares=[stubborn]) as session:
            origin.script(500, "reset_before_effect", 200)
            async with session.post("/") as response:
                assert response.status == 200
                assert report_on(response).attempts == 1
        assert len(set(seen_keys(origin.requests))) == 3

    with Origin(clock=manual_clock) as origin:
        run(lambda: main(origin), manual_clock)


# ----------------------------------------------------------------------------------------------- connections
def test_a_fresh_connection_is_one_that_was_not_used(manual_clock: ManualClock) -> None:
    # Those that are kept may be as old as the one that failed.
    def together(exchange: Exchange) -> None:
        stale()(exchange)

    async def main(origin: Origin) -> None:
        pipeline = policies(SYSTEM_CLOCK, attempts=1)
        async with ours(origin.url, policies=pipeline) as session:

            async def one() -> int:
                async with session.get("/") as response:
                    await response.read()
                    return response.status

            origin.script(*[together] * 4)
            assert await asyncio.gather(*(one() for _ in range(4))) == [200] * 4
            assert await one() == 200

    with Origin() as origin:
        run(lambda: main(origin))
        assert origin.connections == 5


def test_a_connector_of_the_users(manual_clock: ManualClock) -> None:
    async def main(origin: Origin) -> None:
        async with aiohttp.TCPConnector(limit=1) as connector:
            for _ in range(2):
                given: Any = {"connector": connector, "connector_owner": False}
                async with ours(origin.url, manual_clock, **given) as session, session.get("/") as response:
                    await response.read()
        assert origin.connections == 1

    with Origin(200, clock=manual_clock) as origin:
        run(lambda: main(origin), manual_clock)


def test_tls() -> None:
    async def main(origin: Origin) -> None:
        connector = aiohttp.TCPConnector(ssl=origin.client_context)
        async with ours(origin.url, connector=connector) as session:
            origin.script("reset_before_effect")
            async with session.get("/") as response:
                assert report_on(response).attempts == 2
            wrong = aiohttp.Fingerprint(b"0" * 32)
            with pytest.raises(aiohttp.ServerFingerprintMismatch) as caught:
                await session.get("/", ssl=wrong)
            report = report_of(caught.value)
            assert report is not None
            assert (report.attempts, report.evidence) == (1, Evidence.NOT_SENT)

    with Origin(tls=True) as origin:
        run(lambda: main(origin))


def test_a_proxy() -> None:
    async def main(origin: Origin, relay: Any) -> None:
        connector = aiohttp.TCPConnector(ssl=origin.client_context)
        async with ours(origin.url, connector=connector, proxy=relay.url, profile="none") as session:
            relay.refuses = 1  # what the proxy says no to reached nobody
            async with session.post("/") as response:
                assert report_on(response).attempts == 2
            origin.script("reset_before_effect")
            with pytest.raises(OutcomeUnknown):
                await session.post("/")
        assert all(head.startswith("CONNECT") for head in relay.heads)

    with Origin(tls=True) as origin, proxy() as relay:
        run(lambda: main(origin, relay))


# -------------------------------------------------------------------------------------------- cancellation
@pytest.mark.parametrize("what", ["hang", "head", "small body", "large body", "upload", "wait"])
def test_a_cancellation_leaves_nothing(what: str, manual_clock: ManualClock) -> None:
    steps: dict[str, Any] = {
        "hang": "hang",
        "head": drip_head(0.5),
        "small body": drip_body(0.5),
        "large body": drip_body(0.5, answer(200, b"x" * 1000, chunked=True)),
        "upload": stall_upload(),
        "wait": 503,
    }
    bulkhead = Bulkhead(1)
    pipeline = Pipeline(Timeout(100.0), Retry(3, wait=50.0), bulkhead, name="svc", clock=manual_clock)

    async def main(origin: Origin) -> None:
        async with ours(origin.url, policies=pipeline, profile="supported") as session:

            async def call() -> bytes:
                data = io.BytesIO(b"x" * (12_000_000 if what == "upload" else 2))
                async with session.post("/", data=data) as response:
                    return await response.read()

            origin.script(steps[what])
            task = asyncio.ensure_future(call())
            await asyncio.sleep(3.0)
            assert not task.done(), task
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert bulkhead.in_flight == 0
            assert len(origin.requests) == 1
            origin.always(200)
            async with session.get("/") as response:
                assert response.status == 200
            assert bulkhead.in_flight == 0
        assert len(asyncio.all_tasks()) == 1

    with Origin(clock=manual_clock) as origin:
        before = descriptors()
        run(lambda: main(origin), manual_clock)
        # Those of the server are open until it hears of it.
        origin.drop_connections()
        wait_until_left(origin)
        assert descriptors() == before


def test_the_sessions_own_total_is_the_end_of_the_call(manual_clock: ManualClock) -> None:
    async def main(origin: Origin) -> None:
        timeout = aiohttp.ClientTimeout(total=0.5)
        async with ours(origin.url, manual_clock, timeout=timeout) as session:
            with pytest.raises(DeadlineExceeded, match="the session's own total time-out is over") as caught:
                await session.get("/")
            assert isinstance(caught.value, aiohttp.ServerTimeoutError)
            with pytest.raises(OutcomeUnknown):
                await session.post("/")
        assert len(origin.requests) == 2

    with Origin("hang", clock=manual_clock) as origin:
        run(lambda: main(origin), manual_clock)


def test_a_stream_that_nobody_reads_ends_at_the_deadline(manual_clock: ManualClock) -> None:
    async def main(origin: Origin) -> None:
        async with ours(origin.url, policies=policies(manual_clock, total=1.0)) as session:
            response = await session.get("/")
            await asyncio.sleep(2.0)
            with pytest.raises(TimedOut, match="whole call took longer than 1 s"):
                await response.read()
            assert response.closed

    with Origin(drip_body(0.1, answer(200, b"x" * 1000, chunked=True)), clock=manual_clock) as origin:
        run(lambda: main(origin), manual_clock)


# ------------------------------------------------------------------------------------------------- the rest
def test_a_fallback(manual_clock: ManualClock) -> None:
    async def main(origin: Origin, spare: Origin) -> None:
        async with aiohttp.ClientSession(spare.url) as other:
            stand_in = Fallback(lambda request: other.get("/instead"), on=Exception)
            pipeline = Pipeline(stand_in, Timeout(2.0), name="svc", clock=manual_clock)
            async with ours(origin.url, policies=pipeline) as session, session.get("/") as response:
                assert response.url.path == "/instead"
                assert report_on(response).evidence is Evidence.UNKNOWN

    with (
        Origin("reset_before_effect", clock=manual_clock) as origin,
        Origin(200, clock=manual_clock) as spare,
    ):
        run(lambda: main(origin, spare), manual_clock)


def test_answers_are_read_where_the_profile_has_texts_only(manual_clock: ManualClock) -> None:
    async def main(origin: Origin, profile: Profile) -> None:
        async with ours(origin.url, manual_clock, profile=profile) as session, session.post("/") as response:
            read = await response.content.read()
            assert read == (b"" if profile.reused else b'{"type": "other"}')
            assert await response.json(content_type=None) == {"type": "other"} if profile.reused else True

    with Origin(answer(422, b'{"type": "other"}'), clock=manual_clock) as origin:
        run(lambda: main(origin, Profile(honours=True, reused=Signal(422, "reused"))), manual_clock)
        run(lambda: main(origin, Profile(honours=True)), ManualClock())


def test_bad_arguments() -> None:
    make: Any = resilient.aiohttp.session

    async def main() -> None:
        with pytest.raises(PolicyError, match="request_class= is ours"):
            make("svc", base_url="http://svc", request_class=aiohttp.ClientRequest)
        with pytest.raises(PolicyError, match="base_url=5 must be the service's URL"):
            make("svc", base_url=5)
        with pytest.raises(PolicyError, match="must be an absolute http or https URL"):
            make("svc", base_url="svc")
        with pytest.raises(PolicyError, match="async requests are cancelled"):
            make("svc", base_url="http://svc", policies=Pipeline(Timeout(1.0, walk_away=True)))
        with pytest.raises(TypeError, match="nonsense"):
            make("svc", base_url="http://svc", nonsense=1)

    run(main)
