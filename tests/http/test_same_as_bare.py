"""What the SDK does in public is the same with our transport between: each case runs on a bare client and on one of
ours, against one server, and what the caller saw and what the server saw are compared."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import CircuitBreaker, Pipeline, Timeout
from resilient.testing import Origin, answer, by_handler
from resilient.testing.behaviours import Stepish
from resilient.testing.exchange import Exchange, Request
from tests.http.calls import both
from tests.http.sdk import bound, httpx

OURS = {"idempotency-key", "resilient-timeout-ms", "resilient-attempt", "traceparent"}
TEXT = "één\nzwei\r\ntrois\n".encode()


# ----------------------------------------------------------------------------------------------------- the server
def hints_then_answer(exchange: Exchange) -> None:
    exchange.read()
    exchange.send(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )


def trailers(exchange: Exchange) -> None:
    exchange.read()
    exchange.send(
        b"HTTP/1.1 200 All Is Well\r\nTransfer-Encoding: chunked\r\nX-Twice: a\r\nX-TWICE: b\r\n\r\n"
        b"2\r\nok\r\n0\r\nX-After: 1\r\n\r\n"
    )


def no_body(exchange: Exchange) -> None:
    method = exchange.read().method
    length = b"Content-Length: 5\r\n" if method == "HEAD" else b""
    exchange.send(b"HTTP/1.1 %d x\r\n%s\r\n" % (200 if method == "HEAD" else 204, length))


def serve(request: Request) -> Stepish:
    path, _, query = request.target.partition("?")
    if path.startswith("/redirect/"):
        return answer(int(path[10:]), b"moved", {"Location": query, "Set-Cookie": "hop=1; Path=/"})
    if path == "/cookies":
        return answer(200, b"", [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/c; HttpOnly")])
    if path == "/digest" and request.header("authorization") is None:
        challenge = 'Digest realm="r", nonce="n1", qop="auth", algorithm=SHA-256, opaque="o"'
        return answer(401, b"", {"WWW-Authenticate": challenge})
    if path == "/token":
        return answer(200, b"secret")
    if path == "/gzip":
        return answer(200, gzip.compress(TEXT * 50, mtime=0), {"Content-Encoding": "gzip"})
    if path == "/deflate":
        return answer(200, zlib.compress(TEXT), {"Content-Encoding": "deflate"}, chunked=True)
    if path == "/not-gzip":
        return answer(200, b"plain", {"Content-Encoding": "gzip"})
    if path == "/latin":
        return answer(200, "é".encode("latin-1"), {"Content-Type": "text/plain"})
    if path == "/big":
        return answer(200, b"0123456789" * 20_000, chunked=query == "chunked")
    if path == "/lines":
        return answer(200, TEXT, {"Content-Type": "text/plain; charset=utf-8"}, chunked=True)
    return SPECIAL.get(path) or answer(200, request.body or b"ok", {"X-Path": request.target})


SPECIAL: dict[str, Stepish] = {
    "/hang": "hang",
    "/reset": "reset_before_effect",
    "/garbage": "garbage",
    "/404": 404,
    "/503": 503,
    "/304": 304,
    "/truncated": "truncated",
}
RAW: dict[str, Callable[[Exchange], None]] = {
    "/103": hints_then_answer,
    "/trailers": trailers,
    "/empty": no_body,
}


def route(exchange: Exchange) -> None:
    path = exchange.read_head().target.partition("?")[0]
    (RAW.get(path) or by_handler(serve))(exchange)


# ----------------------------------------------------------------------------------------------- one way to call
class Driver:
    """A client, sync or async, called by the same words; `saw` is what its caller saw."""

    def __init__(self, client: Any, mode: str) -> None:
        self.client, self.mode = client, mode
        self.saw: list[Any] = []

    async def result(self, value: Any) -> Any:
        return await value if self.mode == "async" else value

    async def get(self, url: str, **given: Any) -> Any:
        return await self.send("GET", url, **given)

    async def send(self, method: str, url: str, **given: Any) -> Any:
        """A request; what came of it is noted."""
        try:
            response = await self.result(self.client.request(method, url, **given))
        except Exception as exc:  # whatever it is, it must be the same
            self.failed(exc)
            return None
        self.note(response)
        return response

    def failed(self, exc: Exception) -> None:
        kinds = [cls.__name__ for cls in type(exc).__mro__ if cls.__module__ == httpx.__name__]
        request = getattr(exc, "_request", None)
        self.saw.append((kinds or type(exc).__name__, None if request is None else str(request.url)))

    def note(self, response: Any) -> None:
        extensions = {
            k: v for k, v in response.extensions.items() if k not in ("resilient", "network_stream")
        }
        timed = hasattr(response, "_elapsed") and response.elapsed.total_seconds() > 0
        raw = [(name, value) for name, value in response.headers.raw if name.lower() != b"date"]
        self.saw.append(
            {
                "status": (response.status_code, response.reason_phrase, response.http_version),
                "url": str(response.url),
                "method": response.request.method,
                "sent": [name for name in response.request.headers if name not in OURS],
                "headers": raw,
                "body": response.content,
                "text": (response.encoding, response.text),
                "cookies": sorted(dict(response.cookies).items()),
                "history": [(each.status_code, str(each.url)) for each in response.history],
                "next": response.next_request and str(response.next_request.url),
                "extensions": extensions,
                "bytes": response.num_bytes_downloaded,
                "closed": (response.is_closed, response.is_stream_consumed, timed),
            }
        )

    async def stream(self, url: str, how: str, *arguments: Any, read: int = -1) -> None:
        """The pieces of a streamed answer, at most ``read`` of them."""
        context = self.client.stream("GET", url)
        response = await self.enter(context)
        pieces: list[Any] = []
        try:
            if self.mode == "sync":
                for piece in getattr(response, how)(*arguments):
                    pieces.append(piece)
                    if len(pieces) == read:
                        break
            else:
                async for piece in getattr(response, "a" + how)(*arguments):
                    pieces.append(piece)
                    if len(pieces) == read:
                        break
        except Exception as exc:
            self.failed(exc)
        self.saw.append((response.is_stream_consumed, response.is_closed))
        await self.leave(context)
        whole = (
            pieces if arguments or how == "iter_lines" else [type(pieces[0])().join(pieces)] if pieces else []
        )
        if read < 0:  # where the reader stops, the sizes of pieces are the network's
            self.saw.append((whole, response.num_bytes_downloaded, response.is_closed))

    async def enter(self, context: Any) -> Any:
        return context.__enter__() if self.mode == "sync" else await context.__aenter__()

    async def leave(self, context: Any) -> None:
        if self.mode == "sync":
            context.__exit__(None, None, None)
        else:
            await context.__aexit__(None, None, None)

    async def close(self) -> None:
        await self.result(self.client.close() if self.mode == "sync" else self.client.aclose())


Case = Callable[[Driver, str], Awaitable[None]]
CASES: dict[str, tuple[Case, Callable[[Driver | None], dict[str, Any]]]] = {}


def case(**given: Any) -> Callable[[Case], Case]:
    """A case, and what its clients are made with; a callable is called, as the SDK's objects are of the run."""

    def add(work: Case) -> Case:
        made = lambda driver: {  # noqa: E731  (a row of the table)
            name: value(driver) if callable(value) else value for name, value in given.items()
        }
        CASES[getattr(work, "__name__", "case")] = work, made
        return work

    return add


# ------------------------------------------------------------------------------------------------------ the cases
def elsewhere(url: str) -> str:
    """The same server as another host."""
    return url.replace("127.0.0.1", "localhost")


@case(follow_redirects=True)
async def every_redirect(it: Driver, url: str) -> None:
    for code in (301, 302, 303, 307, 308):
        for method in ("GET", "POST", "HEAD", "PUT"):
            await it.send(
                method, f"/redirect/{code}?/there", content=b"" if method in ("GET", "HEAD") else b"body"
            )


@case()
async def redirects_not_followed(it: Driver, url: str) -> None:
    await it.get("/redirect/302?/there")
    await it.get("/redirect/302?/there", follow_redirects=True)


@case(follow_redirects=True, max_redirects=2)
async def too_many_redirects(it: Driver, url: str) -> None:
    await it.get("/redirect/302?/redirect/302?/redirect/302?/redirect/302?/x")
    await it.get("/redirect/302?ftp://nowhere/")
    await it.get("/redirect/302?http://")


@case(follow_redirects=True, auth=("me", "secret"), headers={"X-Mine": "1"}, cookies={"c": "1"})
async def a_redirect_to_another_host(it: Driver, url: str) -> None:
    await it.get(f"/redirect/302?{elsewhere(url)}/there")
    await it.send("POST", f"/redirect/307?{elsewhere(url)}/there", json={"a": 1})
    await it.get(f"{elsewhere(url)}/there")


@case(auth=lambda _: httpx.DigestAuth("me", "secret"))
async def digest(it: Driver, url: str) -> None:
    await it.get("/digest")
    await it.send("POST", "/digest", content=b"body")


@case(follow_redirects=True)
async def auth_of_one_request(it: Driver, url: str) -> None:
    await it.get("/x", auth=("a", "b"))
    await it.get(url.replace("://", "://u:p@") + "/x")

    class Token(httpx.Auth):  # type: ignore[misc]  # of the run's SDK
        requires_response_body = True

        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            token = yield httpx.Request("GET", request.url.copy_with(path="/token"))
            request.headers["Authorization"] = f"Bearer {token.text}"
            yield request

    await it.get("/redirect/302?/x", auth=Token())
    await it.get("/x", auth=lambda request: request)


@case()
async def netrc(it: Driver, url: str) -> None:
    await it.get("/x", auth=httpx.NetRCAuth("netrc"))


@case(cookies={"mine": "1"})
async def cookies(it: Driver, url: str) -> None:
    await it.get("/cookies")
    await it.get("/c/x")
    await it.get("/other")
    it.saw.append(sorted(it.client.cookies.items()))


@case()
async def streaming_down(it: Driver, url: str) -> None:
    for path in ("/big", "/big?chunked", "/gzip", "/deflate", "/lines", "/empty", "/304"):
        for how, *arguments in (
            ("iter_raw",),
            ("iter_raw", 1000),
            ("iter_bytes", 777),
            ("iter_text",),
            ("iter_lines",),
        ):
            await it.stream(path, how, *arguments)
    await it.stream("/big", "iter_raw", read=2)
    await it.get("/after")


@case()
async def streaming_misused(it: Driver, url: str) -> None:
    for late in (False, True):
        context = it.client.stream("GET", "/big")
        response = await it.enter(context)
        if late:
            await it.leave(context)
        for attribute in ("content", "text"):
            try:
                getattr(response, attribute)
            except Exception as exc:
                it.failed(exc)
        try:
            await it.result(response.read() if it.mode == "sync" else response.aread())
            it.saw.append(len(response.content))
        except Exception as exc:
            it.failed(exc)
        await it.leave(context)


@case()
async def streaming_up(it: Driver, url: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b"one", b"", b"two")

    async def apieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece

    await it.send("POST", "/x", content=pieces() if it.mode == "sync" else apieces())
    await it.send("POST", "/x", content=b"abc", headers={"Transfer-Encoding": "chunked"})
    await it.send("POST", "/x", data={"a": "1", "b": ["2", "3"]})
    await it.send("POST", "/x", json={"a": "é"})
    files = {"f": ("n.txt", b"data", "text/x")}
    await it.send("POST", "/x", files=files, headers={"Content-Type": "multipart/form-data; boundary=b"})
    await it.send("PUT", "/x", content="text")
    await it.send("DELETE", "/x")


def hooks(driver: Driver | None) -> dict[str, Any]:
    assert driver is not None
    saw = driver.saw

    def heard(what: Any) -> None:
        saw.append((type(what).__name__, str(what.url), getattr(what, "status_code", None)))
        if "raises" in str(what.url) and type(what).__name__ == "Response":
            raise LookupError("of a hook")

    async def aheard(what: Any) -> None:
        heard(what)

    hook = heard if driver.mode == "sync" else aheard
    raiser: Any = lambda response: response.raise_for_status()  # noqa: E731  (a row of the table)
    if driver.mode == "async":

        async def raiser(response: Any) -> None:
            response.raise_for_status()

    return {"request": [hook], "response": [hook, raiser]}


@case(event_hooks=hooks, follow_redirects=True)
async def event_hooks(it: Driver, url: str) -> None:
    for path in ("/x", "/404", "/raises", "/redirect/302?/x", "/garbage"):
        await it.get(path)


@case(params={"p": "1"}, headers=[("X-Order", "1"), ("x-ORDER", "2"), ("A-Last", "3"), ("User-Agent", "me")])
async def merging(it: Driver, url: str) -> None:
    await it.get("a/b", params={"q": "ä b"}, headers={"Accept": "text/x", "X-New": "1"})
    await it.get("/a/../b?c=d#fragment")
    await it.get("", headers={"Host": "other.example"})
    await it.get("/%7Euser/a%2Fb", params=None)
    await it.get("/x", headers={"X-É": "1"})
    await it.get("/x", extensions={"target": b"/elsewhere"})
    await it.send("QUERY", "/x", content=b"q")


@case(default_encoding=lambda _: lambda content: "latin-1")
async def encodings(it: Driver, url: str) -> None:
    for path in ("/latin", "/gzip", "/deflate", "/not-gzip", "/lines"):
        await it.get(path)
        await it.get(path, headers={"Accept-Encoding": "identity"})


@case()
async def odd_answers(it: Driver, url: str) -> None:
    for path in ("/103", "/trailers", "/empty", "/304", "/404", "/503"):
        await it.get(path)
    await it.send("HEAD", "/empty")
    await it.send("HEAD", "/big")
    await it.send("OPTIONS", "*")


@case(timeout=lambda _: httpx.Timeout(5.0, read=0.05))
async def failures(it: Driver, url: str) -> None:
    for path in ("/hang", "/reset", "/garbage", "/truncated", "/x"):
        await it.get(path)
    await it.get("/hang", timeout=httpx.Timeout(0.05))
    await it.get("http://127.0.0.1:1/refused")
    await it.get("ftp://a/b")
    await it.get("http://[bad")
    await it.get("http://no-such-host.invalid/")
    await it.get("/x", headers={"X": "a\nb"})
    await it.get("/x")


@case()
async def the_network_stream(it: Driver, url: str) -> None:
    response = await it.get("/x")
    stream = response.extensions["network_stream"]
    it.saw.append((stream.get_extra_info("server_addr"), stream.get_extra_info("ssl_object")))
    it.saw.append(hasattr(stream.get_extra_info("socket"), "getsockname"))
    it.saw.append(response.extensions["http_version"])


@case()
async def pickled(it: Driver, url: str) -> None:
    response = await it.result(it.client.get("/gzip"))
    copy = pickle.loads(pickle.dumps(response))
    it.saw.append((copy.status_code, copy.content, copy.headers == response.headers, copy.is_closed))
    it.note(response)


@case(mounts=lambda driver: {"http://mounted": mounted(driver), "all://*.none": None})
async def mounts(it: Driver, url: str) -> None:
    await it.get("http://mounted/x")
    await it.get("http://no.none/x")


def mounted(driver: Any) -> Any:
    return httpx.MockTransport(lambda request: httpx.Response(207, text="mounted"))


@case()
async def closing(it: Driver, url: str) -> None:
    await it.get("/x")
    await it.close()
    await it.close()
    await it.get("/x")
    it.saw.append(it.client.is_closed)


# ------------------------------------------------------------------------------------------------------- compared
CNONCE = re.compile(r'(cnonce|response)="[^"]*"')


def as_sent(request: Request) -> tuple[Any, ...]:
    headers = [
        (name, CNONCE.sub(r'\1="?"', value)) for name, value in request.headers if name.lower() not in OURS
    ]
    return request.method, request.target, headers, request.body


def without_hosts(saw: list[Any]) -> str:
    return CNONCE.sub(r'\1="?"', repr(saw))


def drive(mode: str, work: Coroutine[Any, Any, None]) -> None:
    if mode == "async":
        asyncio.run(work)
    else:
        with pytest.raises(StopIteration):  # it awaits nothing that waits
            work.send(None)


@both
@pytest.mark.parametrize("name", CASES)
def test_the_same(name: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, made = CASES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "netrc").write_text("machine 127.0.0.1\nlogin me\npassword secret\n")
    seen = []
    with Origin(route) as origin:
        for ours in (False, True):
            driver = Driver(None, mode)
            given = made(driver)
            if ours:
                policies = Pipeline(Timeout(20.0), CircuitBreaker(consecutive=99), name="same")
                make = bound.client if mode == "sync" else bound.async_client
                driver.client = make("same", base_url=origin.url, policies=policies, **given)
            else:
                make = httpx.Client if mode == "sync" else httpx.AsyncClient
                driver.client = make(base_url=origin.url, **given)
            before = len(origin.requests)

            async def whole(driver: Driver = driver) -> None:
                await work(driver, origin.url)
                await driver.close()

            drive(mode, whole())
            seen.append((driver.saw, [as_sent(each) for each in origin.requests[before:]]))
    (bare, at_bare), (with_us, at_us) = seen
    assert bare, "the case shows nothing"
    for one, other in zip(bare, with_us, strict=True):
        assert without_hosts([one]) == without_hosts([other])
    assert at_us == at_bare
