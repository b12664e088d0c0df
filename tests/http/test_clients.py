"""Clients and transports as the user meets them: what they take and refuse, what they wrap, what they tell."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import resilient
import resilient.testing
from resilient import CircuitBreaker, Pipeline, PolicyError, Retry, Timeout
from resilient.core.outcome import Evidence
from resilient.testing import ManualClock, Origin, answer
from tests.http.calls import Caller, both, policies, report
from tests.http.sdk import bound, httpx, now


# ------------------------------------------------------------------------------------------------ plain clients
def test_plain_clients_come_back() -> None:
    with bound.client("svc", base_url="http://svc") as client:
        assert type(client) is httpx.Client
    assert type(bound.async_client("svc", base_url="http://svc")) is httpx.AsyncClient


@both
def test_what_a_client_takes(mode: str, manual_clock: ManualClock) -> None:
    heard: list[str] = []

    def on_request(request: httpx.Request) -> None:
        heard.append(f"{request.method} {request.url.path}")

    def on_response(response: httpx.Response) -> None:
        heard.append(str(response.status_code))

    async def aon_request(request: httpx.Request) -> None:
        on_request(request)

    async def aon_response(response: httpx.Response) -> None:
        on_response(response)

    hooks: Any = (
        {"request": [on_request], "response": [on_response]}
        if mode == "sync"
        else {"request": [aon_request], "response": [aon_response]}
    )
    with (
        Origin(answer(200, headers={"Set-Cookie": "seen=yes"}), clock=manual_clock) as origin,
        Caller(
            mode,
            origin.url,
            manual_clock,
            headers={"X-Mine": "1"},
            params={"tenant": "7"},
            cookies={"sid": "abc"},
            auth=("me", "secret"),
            event_hooks=hooks,
            timeout=httpx.Timeout(3.0),
            limits=httpx.Limits(),
            default_encoding="utf-8",
        ) as caller,
    ):
        origin.script(503)
        response = caller.get("/x")
        assert response.status_code == 200
        # Hooks are told of calls, not of attempts.
        assert heard == ["GET /x", "200"]
        assert str(response.request.url) == f"{origin.url}/x?tenant=7"
        assert caller.client.cookies["seen"] == "yes"
        for seen in origin.requests:
            assert seen.target == "/x?tenant=7"
            assert seen.header("x-mine") == "1"
            assert seen.header("cookie") == "sid=abc"
            assert seen.header("authorization") == "Basic bWU6c2VjcmV0"
        caller.get("/y")
        assert origin.requests[-1].header("cookie") == "sid=abc; seen=yes"


def token() -> Any:
    """Asks for a token when it is told that it has none, by a request of its own."""

    class Token(httpx.Auth):  # type: ignore[misc]  # of the run's SDK
        def auth_flow(self, request: Any) -> Any:
            response = yield request
            if response.status_code == 401:
                token = yield httpx.Request("POST", request.url.copy_with(path="/token"))
                request.headers["Authorization"] = f"Bearer {token.headers['x-token']}"
                yield request

    return Token()


@both
def test_an_auth_flow_of_the_users(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, auth=token()) as caller,
    ):
        origin.script(401, 429, answer(200, headers={"X-Token": "t"}), 503)
        assert caller.get("/x").status_code == 200
        assert [(each.method, each.target) for each in origin.requests] == [
            ("GET", "/x"),
            ("POST", "/token"),
            ("POST", "/token"),
            ("GET", "/x"),
            ("GET", "/x"),
        ]
        assert origin.requests[-1].header("authorization") == "Bearer t"


@both
def test_a_trace_of_the_users(mode: str, manual_clock: ManualClock) -> None:
    heard: list[str] = []

    def trace(name: str, info: object) -> None:
        heard.append(name)

    async def atrace(name: str, info: object) -> None:
        heard.append(name)

    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        origin.script("reset_after_effect")
        mine = {"trace": trace if mode == "sync" else atrace}
        assert caller.get(extensions=mine).status_code == 200
        assert heard.count("http11.send_request_headers.started") == 2
        exc = caller.fails("GET", extensions={"resilient": "mine"})
        assert isinstance(exc, PolicyError)
        assert "give a RequestOptions" in str(exc)


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": ""}, r"name='' must name the dependency; write client\('payments'"),
        ({"name": None}, r"name=None must name the dependency"),
        (
            {"base_url": "payments"},
            r"base_url='payments' must be an absolute http or https URL; write 'http://",
        ),
        ({"base_url": ""}, r"base_url='' must be an absolute"),
        ({"base_url": "ftp://svc"}, r"must be an absolute"),
        ({"profile": "maybe"}, r"profile='maybe' must be a Profile or one of .*write profile='unknown'"),
        (
            {"endpoints": ["10.0.0.7"]},
            r"endpoints: '10.0.0.7' is not host:port; write '10.0.0.7:8080'",
        ),
        ({"endpoints": ["10.0.0.7:0"]}, r"has port 0; a port is 1 to 65535"),
        ({"endpoints": ["10.0.0.7:http"]}, r"not host:port"),
        ({"endpoints": [":80"]}, r"not host:port"),
        ({"endpoints": ["a:1"], "proxy": "http://p:1"}, r"leave one of them out"),
        ({"endpoints": ["a:1"], "port": "http"}, r"port='http' is looked up, and endpoints= is not"),
        ({"port": 8080}, r"port=8080 must be the name of the Service's port.*a number belongs into base_url"),
        ({"port": "80"}, r"port='80' must be the name"),
        ({"port": "_http._tcp"}, r"must be the name"),
        ({"http1": False}, r"http1=False leaves no protocol; leave it out, or write async_client"),
        (
            {"transport": "a mock", "verify": False},
            r"verify would be",
        ),
        (
            {"transport": "a mock", "endpoints": ["a:1"]},
            r"endpoints would be without effect beside transport=",
        ),
    ],
)
@pytest.mark.parametrize("make", ["client", "async_client"])
def test_wrong_arguments(make: str, given: dict[str, Any], says: str) -> None:
    arguments = {"name": "svc", "base_url": "http://svc", **given}
    if "transport" in given:
        arguments["transport"] = httpx.MockTransport(lambda request: httpx.Response(200))
    with pytest.raises(PolicyError, match=says):
        getattr(bound, make)(arguments.pop("name"), **arguments)


def test_what_httpx_does_not_take_either() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        bound.client("svc", base_url="http://svc", nonsense=1)


def test_two_clocks() -> None:
    own = Pipeline(Retry(3), name="svc", clock=ManualClock())
    with pytest.raises(PolicyError, match="give it to the pipeline alone"):
        bound.client("svc", base_url="http://svc", policies=own, clock=ManualClock())


def test_a_policy_alone_is_a_pipeline(manual_clock: ManualClock) -> None:
    with (
        Origin() as origin,
        bound.client("alone", base_url=origin.url, policies=Retry(2, wait=0.0), clock=manual_clock) as client,
    ):
        origin.script(503)
        response = client.get("/")
        assert report(response).attempts == 2


@pytest.mark.parametrize("make", ["client", "async_client"])
def test_nothing_is_opened_when_made(make: str) -> None:
    # Nobody listens there, and nobody is asked.
    client = getattr(bound, make)("svc", base_url="http://nobody.invalid:1", endpoints=["192.0.2.1:9"])
    assert next(iter(client._transport.endpoints)).exchange.pool.opened == 0


# ------------------------------------------------------------------------------------------------------- wrapping
def test_a_mock(manual_clock: ManualClock) -> None:
    seen: list[httpx.Request] = []

    def bank(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response([503, 201][len(seen) > 1], json={"n": len(seen)})

    transport = bound.wrap(
        httpx.MockTransport(bank),
        "bank",
        base_url="http://bank.svc",
        policies=policies(manual_clock, name="bank"),
        profile="supported",
    )
    assert isinstance(transport, bound.Transport)
    with httpx.Client(transport=transport, base_url="http://bank.svc") as client:
        response = client.post("/charges", json={"cents": 995})
    assert response.status_code == 201
    assert response.json() == {"n": 2}
    assert report(response).attempts == 2
    assert len({request.headers["idempotency-key"] for request in seen}) == 1
    assert {request.content for request in seen} == {b'{"cents":995}'}
    assert seen[1].headers["resilient-attempt"] == "2/3"


def test_a_mock_of_an_async_client(manual_clock: ManualClock) -> None:
    seen: list[httpx.Request] = []

    async def bank(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            raise httpx.ConnectError("nobody there")
        return httpx.Response(201)

    async def main() -> httpx.Response:
        async with bound.async_client(
            "bank",
            base_url="http://bank.svc",
            transport=httpx.MockTransport(bank),
            policies=policies(manual_clock, name="bank"),
        ) as client:
            return await client.post("/charges")

    assert report(manual_clock.run(main())).attempts == 2


@pytest.mark.parametrize(
    ("error", "attempts", "evidence"),
    [
        (httpx.ConnectError, 3, Evidence.NOT_SENT),
        (httpx.ConnectTimeout, 3, Evidence.NOT_SENT),
        (httpx.PoolTimeout, 3, Evidence.NOT_SENT),
        (httpx.ReadError, 1, Evidence.UNKNOWN),
        (httpx.ReadTimeout, 1, Evidence.UNKNOWN),
        (httpx.WriteError, 1, Evidence.UNKNOWN),
        (httpx.RemoteProtocolError, 1, Evidence.UNKNOWN),
    ],
)
def test_what_errors_of_another_transport_prove(
    error: type[Exception], attempts: int, evidence: Evidence, manual_clock: ManualClock
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise now(error)("it failed", request=request)

    with bound.client(
        "bank",
        base_url="http://bank.svc",
        transport=httpx.MockTransport(fail),
        policies=policies(manual_clock, name="bank"),
    ) as client:
        with pytest.raises(now(error)) as caught:
            client.post("/charges")
        assert report(caught.value).attempts == attempts
        assert report(caught.value).evidence is evidence
        assert isinstance(caught.value, resilient.OutcomeUnknown) == (evidence is Evidence.UNKNOWN)


def test_the_sdks_own_transport_tells_what_was_sent(manual_clock: ManualClock) -> None:
    with Origin() as origin:
        wrapped = bound.wrap(
            httpx.HTTPTransport(verify=False), "svc", base_url=origin.url, policies=policies(manual_clock)
        )
        with httpx.Client(transport=wrapped, base_url=origin.url) as client:
            origin.script("reset_after_effect")
            with pytest.raises(resilient.OutcomeUnknown):
                client.post("/")
            origin.script("reset_after_effect", 503)
            assert report(client.get("/")).attempts == 3
            with client.stream("GET", "/") as response:
                assert response.read() == b""


def test_an_asgi_application(manual_clock: ManualClock) -> None:
    calls = 0

    async def app(
        scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        nonlocal calls
        calls += 1
        status = 503 if calls == 1 else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    wrapped = bound.wrap(
        httpx.ASGITransport(app=app),
        "app",
        base_url="http://app.svc",
        policies=policies(manual_clock, name="app"),
    )
    assert isinstance(wrapped, bound.AsyncTransport)

    async def main() -> httpx.Response:
        async with httpx.AsyncClient(transport=wrapped, base_url="http://app.svc") as client:
            return await client.get("/")

    response = manual_clock.run(main())
    assert response.text == "hello"
    assert report(response).attempts == 2


def test_a_wsgi_application(manual_clock: ManualClock) -> None:
    calls = 0

    def app(environ: Any, start_response: Any) -> list[bytes]:
        nonlocal calls
        calls += 1
        start_response("503 Busy" if calls == 1 else "200 OK", [])
        return [b"hello"]

    wrapped = bound.wrap(
        httpx.WSGITransport(app=app),
        "app",
        base_url="http://app.svc",
        policies=policies(manual_clock, name="app"),
    )
    with httpx.Client(transport=wrapped, base_url="http://app.svc") as client:
        response = client.get("/")
    assert response.text == "hello"
    assert report(response).attempts == 2


def streaming(breaks: bool) -> Any:
    """A transport of the user's that streams, with bodies that count how often they are closed."""

    class Streamed(httpx.SyncByteStream):  # type: ignore[misc]  # of the run's SDK
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            yield b"x"
            if breaks:
                raise httpx.ReadError("it broke")

        def close(self) -> None:
            self.closed += 1

    class Own(httpx.BaseTransport):  # type: ignore[misc]  # of the run's SDK
        def __init__(self) -> None:
            self.bodies: list[Streamed] = []
            self.closed = 0

        def handle_request(self, request: Any) -> Any:
            self.bodies.append(Streamed())
            return httpx.Response([503, 200][len(self.bodies) > 1], stream=self.bodies[-1])

        def close(self) -> None:
            self.closed += 1

    return Own()


@pytest.mark.parametrize("breaks", [False, True])
def test_a_transport_of_the_users(breaks: bool, manual_clock: ManualClock) -> None:
    breaker = CircuitBreaker(consecutive=2, minimum_calls=100)
    pipeline = Pipeline(Timeout(9.0), Retry(3, wait=0.0), breaker, name="own", clock=manual_clock)
    own = streaming(breaks)
    with bound.client("own", base_url="http://own.svc", transport=own, policies=pipeline) as client:
        if breaks:
            with pytest.raises(httpx.ReadError):
                client.get("/")
            assert breaker.state == "open"
        else:
            assert client.get("/").text == "x"
            assert breaker.state == "closed"
    assert len(own.bodies) == 2
    assert all(body.closed for body in own.bodies)
    assert own.closed == 1


def test_an_async_transport_of_the_users(manual_clock: ManualClock) -> None:
    class Own(httpx.AsyncBaseTransport):  # type: ignore[misc]  # of the run's SDK
        closed = 0

        async def handle_async_request(self, request: Any) -> Any:
            async def body() -> AsyncIterator[bytes]:
                yield b"x"

            return httpx.Response(200, content=body())

        async def aclose(self) -> None:
            self.closed += 1

    own = Own()

    async def main() -> str:
        async with bound.async_client(
            "own", base_url="http://own.svc", transport=own, policies=policies(manual_clock, name="own")
        ) as client:
            return (await client.get("/")).text

    assert manual_clock.run(main()) == "x"
    assert own.closed == 1


# --------------------------------------------------------------------------------------------- headers of ours
@both
@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("http://payments", True),
        ("http://payments.shop.svc", True),
        ("http://payments.shop.svc.cluster.local", True),
        ("http://localhost", True),
        ("http://127.0.0.1", True),
        ("http://[::1]", True),
        ("http://api.example.com", False),
        ("http://10.0.0.7", False),
        ("http://svc.example.com", False),
        ("http://localhost.example.com", False),
        ("http://cluster.local.example.com", False),
    ],
)
def test_only_our_own_are_told(url: str, ours: bool, mode: str, manual_clock: ManualClock) -> None:
    seen: list[httpx.Request] = []

    def look(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response([503, 200][len(seen) > 1])

    with (
        Caller(mode, url, manual_clock, transport=httpx.MockTransport(look)) as caller,
        resilient.criticality("sheddable"),
    ):
        assert caller.get().status_code == 200
    names = {name for request in seen for name in request.headers if name.startswith("resilient")}
    told = {"resilient-attempt", "resilient-timeout-ms", "resilient-criticality"}
    assert names == (told if ours else set())
    if ours:
        assert seen[1].headers["resilient-attempt"] == "2/3"
        assert seen[1].headers["resilient-criticality"] == "sheddable"


@both
def test_endpoints_that_are_named_are_our_own(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin:
        there = [f"127.0.0.1:{origin.port}"]
        with Caller(mode, "http://api.example.com", manual_clock, endpoints=there) as caller:
            caller.get()
        assert origin.requests[0].header("resilient-timeout-ms") == "9995"


# ------------------------------------------------------------------------------------------------------ secrets
@both
def test_secrets_stay_out_of_logs_and_errors(
    mode: str, manual_clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="resilient")
    said: list[str] = []
    with Origin(clock=manual_clock) as origin:
        base = origin.url.replace("http://", "http://user:pa55word@")
        breaker = CircuitBreaker(consecutive=4, minimum_calls=100)
        pipeline = Pipeline(Timeout(9.0), Retry(3, wait=0.0), breaker, name="svc", clock=manual_clock)
        with (
            Caller(mode, base, manual_clock, policies=pipeline) as caller,
            resilient.testing.capture_events() as events,
        ):
            origin.always("reset_after_effect")
            for _ in range(6):
                exc: BaseException | None = caller.fails(
                    "POST",
                    "/x?token=t0ken",
                    headers={"Authorization": "Bearer b3arer", "Idempotency-Key": "k3y"},
                    content=b"b0dy",
                )
                while exc is not None:
                    said += [
                        str(exc),
                        repr(exc),
                        *getattr(exc, "__notes__", ()),
                        repr(exc.__dict__.get("resilient")),
                    ]
                    exc = exc.__cause__
        said += [repr(event) + str(event.attributes()) for event in events.events]
    said += [
        record.getMessage() + repr(record.__dict__) for record in caplog.records if record.name == "resilient"
    ]
    text = "\n".join(said)
    assert "circuit breaker" in text
    assert origin.requests
    for secret in ("pa55word", "t0ken", "b3arer", "k3y", "b0dy"):
        assert secret not in text
