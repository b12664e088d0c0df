"""Every behaviour of `Origin`, as a raw socket sees it and as httpx does."""

from __future__ import annotations

import contextlib
import http.client
import pathlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import pytest

from resilient.testing import (
    Behaviour,
    Exchange,
    ManualClock,
    Origin,
    Request,
    answer,
    by_handler,
    close_without_answer,
    die,
    drip_body,
    drip_head,
    garbage,
    hang,
    ignore_continue,
    reset_after_effect,
    reset_mid_body,
    reset_mid_head,
    reset_on_accept,
    retry_later,
    slow,
    stale,
    stall_upload,
    truncated,
    wrong_length,
)

GET = b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\n\r\n"
GET_AND_CLOSE = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def origin(clock: ManualClock) -> Iterator[Origin]:
    with Origin(clock=clock) as running:
        yield running


@pytest.fixture
def client(origin: Origin) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=origin.url) as client:
        yield client


@contextlib.contextmanager
def connected(origin: Origin) -> Iterator[socket.socket]:
    with socket.create_connection((origin.host, origin.port), timeout=5.0) as sock:
        yield sock


def until_end(sock: socket.socket) -> bytes:
    """All that comes until the other side ends in order; raises ConnectionResetError otherwise."""
    data = b""
    while part := sock.recv(65_536):
        data += part
    return data


def until_reset(sock: socket.socket) -> bytes:
    """All that comes until the other side resets."""
    data = b""
    with pytest.raises(ConnectionResetError):
        while True:
            part = sock.recv(65_536)
            assert part, "closed in order"
            data += part
    return data


def one_answer(sock: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(sock)
    response.begin()
    with response:
        return response.status, response.read()


# -- answers and the record


def test_answers_200_and_records_the_request(origin: Origin) -> None:
    with connected(origin) as sock:
        sock.sendall(
            b"PUT /x?q=1 HTTP/1.1\r\nHost: a\r\nX-Two:  b \r\nx-two: c\r\nContent-Length: 5\r\n\r\nhello"
        )
        assert one_answer(sock) == (200, b"")
    [request] = origin.requests
    assert (request.method, request.target, request.version) == ("PUT", "/x?q=1", "HTTP/1.1")
    assert request.headers == [("Host", "a"), ("X-Two", "b"), ("x-two", "c"), ("Content-Length", "5")]
    assert request.header("X-TWO") == "b"
    assert request.header("none") is None
    assert request.header("none", "else") == "else"
    assert (request.body, request.complete, request.effect) == (b"hello", True, True)
    assert (request.connection, request.order) == (1, 1)
    assert origin.effects == [request]


def test_keeps_connections_alive_and_counts_them(origin: Origin) -> None:
    with connected(origin) as first, connected(origin) as second:
        for sock in (first, second, first):
            sock.sendall(GET)
            assert one_answer(sock) == (200, b"")
        assert [request.connection for request in origin.requests] == [1, 2, 1]
        assert [request.order for request in origin.requests] == [1, 2, 3]
        assert (origin.connections, origin.open_connections) == (2, 2)
    origin.wait_until(lambda origin: origin.open_connections == 0)
    assert origin.connections == 2


def test_pipelined_requests_are_answered_in_order(origin: Origin) -> None:
    origin.script(201, 202, 203)
    with connected(origin) as sock:
        sock.sendall(GET + POST + GET_AND_CLOSE)
        data = until_end(sock)
    assert [line[9:12] for line in data.split(b"\r\n") if line.startswith(b"HTTP/")] == [
        b"201",
        b"202",
        b"203",
    ]


def test_script_then_default(origin: Origin, client: httpx.Client) -> None:
    origin.always(204)
    origin.script(500, answer(201, "hé", [("X-A", "b")]), "retry_later")
    assert origin.steps_left == 3
    assert client.get("/").status_code == 500
    made = client.get("/")
    assert (made.status_code, made.text, made.headers["x-a"]) == (201, "hé", "b")
    assert client.get("/").status_code == 503
    assert [client.get("/").status_code for _ in range(2)] == [204, 204]
    assert origin.steps_left == 0
    assert [request.effect for request in origin.requests] == [False, True, False, True, True]
    assert origin.connections == 1


def test_always_drops_the_script(origin: Origin, client: httpx.Client) -> None:
    origin.script(500, 500)
    origin.always(201)
    assert client.get("/").status_code == 201


def test_effect_can_be_said(origin: Origin, client: httpx.Client) -> None:
    origin.script(answer(500, effect=True), answer(200, effect=False))
    client.get("/")
    client.get("/")
    assert [request.effect for request in origin.requests] == [True, False]


def test_handler_decides_by_the_request(origin: Origin, client: httpx.Client) -> None:
    @origin.handle
    def by_body(request: Request) -> Behaviour | int:
        return answer(200, request.body.upper()) if request.body else 400

    origin.script(by_handler(lambda request: 418))
    assert client.post("/", content=b"a").status_code == 418
    assert client.post("/", content=b"a").content == b"A"
    assert client.get("/").status_code == 400


def test_head_and_204_have_no_body(origin: Origin, client: httpx.Client) -> None:
    origin.script(answer(200, "hello"), 204, answer(200, "hello"))
    head = client.head("/")
    assert (head.headers["content-length"], head.content) == ("5", b"")
    assert "content-length" not in client.get("/").headers
    assert client.get("/").text == "hello"
    assert origin.connections == 1


def test_chunked_both_ways(origin: Origin, client: httpx.Client) -> None:
    origin.script(answer(200, "hello", chunked=True), answer(200, chunked=True))
    got = client.post("/", content=iter([b"ab", b"cd"]))
    assert (got.text, got.headers["transfer-encoding"]) == ("hello", "chunked")
    assert client.get("/").content == b""
    assert origin.requests[0].body == b"abcd"
    assert origin.connections == 1


def test_trailers_and_chunk_extensions_are_read_past(origin: Origin) -> None:
    with connected(origin) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n" + GET_AND_CLOSE
        )
        until_end(sock)
    assert [request.body for request in origin.requests] == [b"abcde", b""]


def test_connection_close(origin: Origin, client: httpx.Client) -> None:
    origin.script(answer(200, close=True))
    assert client.get("/").headers["connection"] == "close"
    client.get("/")
    assert origin.connections == 2


def test_http_1_0_closes(origin: Origin) -> None:
    with connected(origin) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert until_end(sock).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 9000, 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 1000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 1000, 431),
    ],
)
def test_limits_and_nonsense_are_answered(data: bytes, status: int) -> None:
    with Origin(max_head=500, max_body=100) as origin, connected(origin) as sock:
        sock.sendall(data)
        assert until_end(sock).startswith(b"HTTP/1.1 %d " % status)


def test_too_many_connections_are_reset() -> None:
    with Origin(max_connections=1) as origin, connected(origin) as first:
        first.sendall(GET)
        one_answer(first)
        with pytest.raises(ConnectionResetError), connected(origin) as second:
            until_end(second)
        assert origin.connections == 1


# -- Retry-After


def test_retry_after(origin: Origin, client: httpx.Client, clock: ManualClock) -> None:
    clock.sleep(10.0)
    origin.script(
        retry_later(2),
        retry_later(0.5, 429),
        retry_later(30, as_date=True),
        retry_later(datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        retry_later("soon"),
    )
    answers = [client.get("/") for _ in range(5)]
    assert [each.status_code for each in answers] == [503, 429, 503, 503, 503]
    after = [each.headers["retry-after"] for each in answers]
    assert after[:2] == ["2", "0.5"]
    assert parsedate_to_datetime(after[2]).timestamp() == clock.time() + 30.0
    assert parsedate_to_datetime(answers[2].headers["date"]).timestamp() == clock.time()
    assert after[3:] == ["Wed, 02 Jan 2030 03:04:05 GMT", "soon"]
    assert origin.effects == []


# -- connections that end


def test_reset_on_accept(origin: Origin) -> None:
    origin.script(reset_on_accept(), 201)
    with (
        pytest.raises(ConnectionResetError),
        connected(origin) as sock,
    ):  # connecting may meet the reset already
        until_end(sock)
    with connected(origin) as sock:
        sock.sendall(GET)
        assert one_answer(sock)[0] == 201
    assert origin.connections == 2


def test_reset_before_the_request_is_read(origin: Origin) -> None:
    origin.script("reset_before_request")
    with connected(origin) as sock:
        sock.sendall(POST)
        assert until_reset(sock) == b""
    assert origin.requests == []


@pytest.mark.parametrize("name", ["reset_before_effect", "reset_after_effect"])
def test_reset_without_answer(origin: Origin, client: httpx.Client, name: str) -> None:
    origin.script(name, name)
    with connected(origin) as sock:
        sock.sendall(POST)
        assert until_reset(sock) == b""
    with pytest.raises(httpx.ReadError):
        client.post("/", content=b"hello")
    assert [request.body for request in origin.requests] == [b"hello", b"hello"]
    assert [request.effect for request in origin.requests] == [name == "reset_after_effect"] * 2


def test_reset_mid_head(origin: Origin, client: httpx.Client) -> None:
    origin.script(reset_mid_head(12), "reset_mid_head")
    with connected(origin) as sock:
        sock.sendall(GET)
        assert until_reset(sock) == b"HTTP/1.1 200"
    with pytest.raises(httpx.ReadError):
        client.get("/")
    assert len(origin.effects) == 2


def test_reset_mid_body(origin: Origin, client: httpx.Client) -> None:
    origin.script(reset_mid_body(3, answer(200, "hello")), "reset_mid_body")
    with connected(origin) as sock:
        sock.sendall(GET)
        assert until_reset(sock).endswith(b"Content-Length: 5\r\n\r\nhel")
    with pytest.raises(httpx.ReadError):
        client.get("/")


def test_truncated(origin: Origin, client: httpx.Client) -> None:
    origin.script(truncated(3, answer(200, "hello")), truncated(4, answer(200, "hello", chunked=True)))
    with connected(origin) as sock:
        sock.sendall(GET)
        assert until_end(sock).endswith(b"Content-Length: 5\r\n\r\nhel")
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        client.get("/")


@pytest.mark.parametrize("effect", [False, True])
def test_close_without_answer(origin: Origin, client: httpx.Client, effect: bool) -> None:
    origin.script(close_without_answer(effect=effect), close_without_answer(effect=effect))
    with connected(origin) as sock:
        sock.sendall(POST)
        assert until_end(sock) == b""
    with pytest.raises(httpx.RemoteProtocolError, match="without sending"):
        client.post("/", content=b"hello")
    assert [request.effect for request in origin.requests] == [effect, effect]


def test_stale_until_the_next_request(origin: Origin, client: httpx.Client) -> None:
    origin.script(stale(), 201)
    with connected(origin) as sock:
        sock.sendall(GET)
        assert one_answer(sock)[0] == 200
        sock.sendall(POST)
        assert until_end(sock) == b""
    assert len(origin.requests) == 1
    assert client.get("/").status_code == 201

    origin.script(stale(ending="reset"))
    client.get("/")
    with pytest.raises(httpx.ReadError):
        client.get("/")
    assert client.get("/").status_code == 200
    assert len(origin.requests) == 4


def test_stale_after_a_while(origin: Origin, client: httpx.Client, clock: ManualClock) -> None:
    origin.script(stale(5.0))
    client.get("/")
    origin.wait_until(lambda origin: origin.open_connections == 0)
    assert clock.monotonic() == 5.0
    assert client.get("/").status_code == 200  # httpx saw the end before it sent
    assert origin.connections == 2


def test_stale_with_a_client_that_leaves(origin: Origin) -> None:
    origin.script(stale(), stale(then=answer(200, close=True)))
    for _ in range(2):
        with connected(origin) as sock:
            sock.sendall(GET)
            one_answer(sock)
        origin.wait_until(lambda origin: origin.open_connections == 0)


def test_refuse_and_reopen(origin: Origin, client: httpx.Client) -> None:
    client.get("/")
    port = origin.port
    origin.refuse()
    origin.refuse()
    assert "refusing" in repr(origin)
    with pytest.raises(ConnectionRefusedError), connected(origin):
        pass
    assert client.get("/").status_code == 200  # over the connection that is open
    origin.reopen()
    origin.reopen()
    assert httpx.get(origin.url).status_code == 200
    assert origin.port == port


def test_die(origin: Origin, client: httpx.Client) -> None:
    origin.script(die(), 201, die(then=answer(202, close=True)))
    with pytest.raises(httpx.ReadError):
        client.post("/", content=b"hello")
    with pytest.raises(httpx.ConnectError):
        client.get("/")
    origin.reopen()
    assert client.get("/").status_code == 201
    assert client.get("/").status_code == 202
    with pytest.raises(httpx.ConnectError):
        client.get("/")


def test_drop_connections(origin: Origin) -> None:
    origin.script(200, "hang")
    with connected(origin) as idle, connected(origin) as hanging:
        idle.sendall(GET)
        one_answer(idle)
        hanging.sendall(GET)
        origin.wait_until(lambda origin: len(origin.requests) == 2)
        origin.drop_connections()
        assert until_end(idle) == until_end(hanging) == b""
    assert httpx.get(origin.url).status_code == 200


# -- time


def test_hang_until_the_client_leaves(origin: Origin, clock: ManualClock) -> None:
    origin.script(hang(effect=True), "hang")
    for _ in range(2):
        with connected(origin) as sock:
            sock.sendall(POST + GET)
            sock.settimeout(0.01)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            origin.wait_until(
                lambda origin: origin.requests and all(each.complete for each in origin.requests)
            )
        origin.wait_until(lambda origin: origin.open_connections == 0)
    assert [request.effect for request in origin.requests] == [True, False]
    assert clock.monotonic() == 0.0


def test_delays_move_a_clock_that_jumps(origin: Origin, client: httpx.Client, clock: ManualClock) -> None:
    origin.script(slow(5.0, 503), drip_head(0.5), drip_body(2.0, answer(200, "hello")))
    assert client.get("/").status_code == 503
    assert clock.monotonic() == 5.0
    head = client.get("/")
    begun = 5.0 + 0.5 * sum(len(name) + len(value) + 4 for name, value in head.headers.raw) + 0.5 * 19
    assert clock.monotonic() == begun
    assert client.get("/").text == "hello"
    assert clock.monotonic() == begun + 10.0
    assert clock.sleeps == []  # the server's, not the client's


def test_delays_in_real_time() -> None:
    with Origin() as origin:
        origin.script(slow(0.001), drip_head(0.00001), drip_body(0.00001), slow(0.0))
        assert [httpx.get(origin.url).status_code for _ in range(4)] == [200] * 4


def test_delays_wait_for_a_clock_that_does_not_jump() -> None:
    clock = ManualClock(autojump=False)
    with Origin(slow(5.0), clock=clock) as origin, connected(origin) as sock:
        sock.sendall(GET)
        clock.wait_until_blocked()
        clock.advance(4.5)
        assert origin.effects == []
        clock.advance(0.5)
        assert one_answer(sock)[0] == 200


def test_behaviours_go_into_each_other(origin: Origin, clock: ManualClock) -> None:
    origin.script(slow(1.0, drip_body(1.0, reset_mid_body(2, answer(500, "hello", effect=True)))))
    with connected(origin) as sock:
        sock.sendall(GET)
        assert until_reset(sock).endswith(b"\r\n\r\nhe")
    assert clock.monotonic() == 3.0
    assert len(origin.effects) == 1


def test_stalled_upload(origin: Origin) -> None:
    origin.script(stall_upload(after=10))
    head = b"POST / HTTP/1.1\r\nContent-Length: 16777216\r\n\r\n"
    with connected(origin) as sock:
        sock.sendall(head)
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.sendall(b"x" * 16_777_216)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    origin.wait_until(lambda origin: origin.open_connections == 0)
    [request] = origin.requests
    assert not request.complete
    assert request.body == b"x" * 10


def test_upload_that_stalls_for_a_while(origin: Origin, client: httpx.Client, clock: ManualClock) -> None:
    origin.script(stall_upload(3.0), stall_upload(3.0, 201, after=3))
    assert client.post("/", content=b"x" * 8_000_000).status_code == 200
    assert client.post("/", content=iter([b"ab", b"cd", b"ef"])).status_code == 201
    assert [len(request.body) for request in origin.requests] == [8_000_000, 6]
    assert clock.monotonic() == 6.0


# -- answers that break the rules


def test_length_that_says_more(origin: Origin) -> None:
    origin.script(wrong_length(3, answer(200, "hello")))
    with connected(origin) as sock:
        sock.sendall(GET)
        response = http.client.HTTPResponse(sock)
        response.begin()
        with response:
            assert response.getheader("content-length") == "8"
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                response.read()


def test_length_that_says_less(origin: Origin, client: httpx.Client) -> None:
    origin.script(wrong_length(-2, answer(200, "hello")), wrong_length(-2, answer(200, "a", close=True)))
    assert client.get("/").text == "hel"
    with connected(origin) as sock:
        sock.sendall(GET)
        assert b"Content-Length: 0\r\n" in until_end(sock)


def test_garbage(origin: Origin, client: httpx.Client) -> None:
    origin.script("garbage", garbage(b"HTTP/9.9 hello\r\n\r\n", effect=True))
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/")
    assert [request.effect for request in origin.requests] == [False, True]


def test_100_continue(origin: Origin) -> None:
    head = b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
    with connected(origin) as sock:
        sock.sendall(head)
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert one_answer(sock)[0] == 200
    origin.script(ignore_continue())
    with connected(origin) as sock:
        sock.sendall(head)
        sock.settimeout(0.01)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        sock.settimeout(5.0)
        sock.sendall(b"hello")
        assert sock.recv(100).startswith(b"HTTP/1.1 200")


# -- behaviours of one's own


def test_any_function_is_a_behaviour(origin: Origin) -> None:
    def early(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 204 Early\r\n\r\n")  # before it has read anything

    origin.script(early, 201)
    with connected(origin) as sock:
        for status in (204, 201):
            sock.sendall(POST)
            assert one_answer(sock)[0] == status


@pytest.mark.parametrize("step", ["no such", 1.5, None, True])
def test_refuses_what_is_no_behaviour(step: object) -> None:
    for take in (Origin().script, Origin().always, slow.__get__(1.0)):
        with pytest.raises((TypeError, ValueError), match="is no behaviour"):
            take(step)  # type: ignore[arg-type]


def test_a_failing_handler_is_answered_and_raised_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError), Origin() as origin:
        origin.handle(lambda request: 1 // 0)
        assert httpx.get(origin.url).status_code == 500
        assert httpx.get(origin.url).status_code == 500


def test_a_failing_handler_does_not_hide_the_test_s_own_failure() -> None:
    with pytest.raises(LookupError), Origin() as origin:
        origin.handle(lambda request: 1 // 0)
        httpx.get(origin.url)
        raise LookupError


def test_behaviours_print_themselves() -> None:
    assert repr(slow(0.5, drip_body(0.1, 503))) == "slow(0.5, drip_body(0.1, answer(503)))"
    assert repr(ignore_continue(hang())) == "ignore_continue(hang(effect=False))"
    assert repr(stale()) == "stale(None, answer(200), ending='close')"
    assert repr(reset_after_effect()) == "reset_after_effect()"


# -- TLS


def test_tls() -> None:
    with (
        Origin(tls=True) as origin,
        httpx.Client(base_url=origin.url, verify=origin.client_context) as client,
    ):
        assert origin.url.startswith("https://")
        origin.script(
            answer(200, b"x" * 1_000_000), "reset_after_effect", "hang", truncated(10), answer(close=True)
        )
        assert len(client.post("/", content=b"y" * 1_000_000).content) == 1_000_000
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            client.get("/")
        with pytest.raises(httpx.ReadTimeout):
            client.get("/", timeout=0.05)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            client.get("/")
        assert client.get("/").status_code == 200
        assert client.get("/").status_code == 200
        assert origin.requests[0].body == b"y" * 1_000_000
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate|self.signed"):
            httpx.get(origin.url)


def test_tls_with_a_context_of_one_s_own_and_clients_that_speak_no_tls() -> None:
    with Origin(tls=True) as made, Origin(tls=made._server_context or False) as origin:
        assert httpx.get(origin.url, verify=made.client_context).status_code == 200
        with pytest.raises(RuntimeError, match="tls=True"):
            origin.client_context  # noqa: B018
        with connected(origin) as sock, contextlib.suppress(ConnectionResetError):
            sock.sendall(GET)
            assert not until_end(sock).startswith(b"HTTP/")
        assert origin.connections == 2
        assert len(origin.requests) == 1


def test_tls_needs_trustme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trustme", None)
    with pytest.raises(RuntimeError, match="pip install trustme"):
        Origin(tls=True).__enter__()


def test_tls_context_of_clients_checks_names() -> None:
    with Origin(tls=True) as origin:
        assert origin.client_context.check_hostname
        with (
            socket.create_connection((origin.host, origin.port)) as sock,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            origin.client_context.wrap_socket(sock, server_hostname="elsewhere.example")


# -- nothing is left


def descriptors() -> int:
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


def test_leaves_nothing_behind(clock: ManualClock) -> None:
    threads, before = threading.active_count(), descriptors()
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin(clock=clock))
        origin.script(200, "hang", 200, slow(1.0, "hang"))
        for _ in range(4):
            sock = stack.enter_context(connected(origin))
            sock.sendall(GET)
        stack.enter_context(connected(origin))
        origin.wait_until(lambda origin: len(origin.requests) == 4 and origin.connections == 5)
        origin.refuse()
        origin.close()
        origin.close()
        assert threading.active_count() == threads
        assert clock._watched() == []
        assert origin.open_connections == 0
        assert "not running" in repr(origin)
    assert descriptors() == before


def test_starts_again_on_its_port() -> None:
    origin = Origin()
    with origin:
        port = origin.port
        assert httpx.get(origin.url).status_code == 200
        with pytest.raises(RuntimeError, match="runs already"):
            origin.__enter__()
    with pytest.raises(httpx.ConnectError):
        httpx.get(origin.url)
    with origin:
        assert httpx.get(origin.url).status_code == 200
        assert origin.port == port
    assert origin.connections == 2


def test_ends_what_waits_in_real_time_and_what_sends() -> None:
    with Origin(slow(3600.0)) as origin, connected(origin) as waiting, connected(origin) as taking:
        waiting.sendall(GET)
        origin.wait_until(lambda origin: origin.requests and origin.requests[0].complete)
        origin.always(answer(200, b"x" * 50_000_000))
        taking.sendall(GET)
        origin.wait_until(lambda origin: origin.effects)
        origin.close()
        with contextlib.suppress(ConnectionResetError):
            assert until_end(waiting) == b""


def test_close_tells_of_a_handler_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient.testing.origin._JOIN", 0.01)
    there, go = threading.Event(), threading.Event()

    def handler(exchange: Exchange) -> None:
        there.set()
        go.wait()

    with Origin(handler) as origin, connected(origin) as sock:
        sock.sendall(GET)
        assert there.wait(10.0)
        threads = [thread for thread in threading.enumerate() if thread.name.endswith(f"-{origin.port}-1")]
        with pytest.raises(RuntimeError, match="does not return: resilient-origin-"):
            origin.close()
        go.set()
        for thread in threads:
            thread.join()


def test_wait_until_gives_up(origin: Origin) -> None:
    with pytest.raises(TimeoutError, match=r"did not come to hold within 0\.0 s: <Origin http"):
        origin.wait_until(lambda origin: False, timeout=0.0)


def test_many_clients_at_once(origin: Origin) -> None:
    for _ in range(20):
        origin.script(200, 503, "reset_after_effect", close_without_answer(), "garbage")
    failed = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal failed
        with httpx.Client(base_url=origin.url) as client:
            for _ in range(10):
                try:
                    client.post("/", content=b"x" * 10_000)
                except httpx.TransportError:
                    with lock:
                        failed += 1

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == 60
    assert origin.steps_left == 0
    assert len(origin.requests) == 100
    assert len(origin.effects) == 40
    assert sorted(request.order for request in origin.requests) == list(range(1, 101))
    origin.wait_until(lambda origin: origin.open_connections == 0)


def test_ipv6() -> None:
    try:
        origin = Origin(host="::1").__enter__()
    except OSError:
        pytest.skip("no IPv6 here")
    with contextlib.closing(origin):
        assert httpx.get(origin.url).status_code == 200
