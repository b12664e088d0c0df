"""Through real proxies, sockets of other kinds, and TLS with demands: what was sent is known, the deadline holds."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trustme

from resilient import OutcomeUnknown
from resilient.core.clock import SYSTEM_CLOCK
from resilient.core.outcome import Evidence
from resilient.testing import ManualClock, Origin
from tests.http.calls import Caller, both, policies, report
from tests.http.relays import Proxy, Socks, proxy
from tests.http.sdk import httpx

kinds = pytest.mark.parametrize("kind", [Proxy, Socks], ids=["tunnel", "socks"])


@both
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_socks(tls: bool, mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    with Origin(tls=tls) as origin, proxy(Socks) as way:
        origin.script(503)
        verify = {"verify": origin.client_context} if tls else {}
        with Caller(mode, origin.url, clock, proxy=way.url, **verify) as caller:
            response = caller.get("/x")
            assert (response.status_code, report(response).attempts) == (200, 2)
        assert way.heads == [f"127.0.0.1:{origin.port}"]
        assert [each.target for each in origin.requests] == ["/x", "/x"]


@both
def test_socks_resolves_names_itself(mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    with Origin() as origin, proxy(Socks) as way:
        url = f"http://localhost:{origin.port}"
        with Caller(mode, url, clock, proxy=way.url.replace("socks5:", "socks5h:")) as caller:
            assert caller.get("/x").status_code == 200
        assert way.heads == [f"localhost:{origin.port}"]


@both
@pytest.mark.parametrize("given", ["url", "Proxy"])
def test_a_proxy_that_wants_a_password(given: str, mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    for kind, tls in ((Proxy, False), (Proxy, True), (Socks, False)):
        with Origin(tls=tls) as origin, proxy(kind) as way:
            way.wants = "Basic dXM6cHc="
            if isinstance(way, Socks):
                way.wants, way.user = None, "us:pw"
            with_password: Any = way.url.replace("://", "://us:pw@")
            if given == "Proxy":
                with_password = httpx.Proxy(way.url, auth=("us", "pw"))
            verify = {"verify": origin.client_context} if tls else {}
            with Caller(mode, origin.url, clock, proxy=with_password, **verify) as caller:
                assert caller.post("/x").status_code == 200
            assert origin.requests[0].header("proxy-authorization") in (None, "Basic dXM6cHc=")
            if tls:
                assert origin.requests[0].header("proxy-authorization") is None
            with Caller(mode, origin.url, clock, proxy=way.url, **verify) as caller:
                if kind is Proxy and not tls:
                    assert caller.post("/x").status_code == 407
                else:
                    exc = caller.fails("POST", "/x")
                    assert isinstance(exc, httpx.ProxyError)
                    assert report(exc).evidence is Evidence.NOT_SENT
            assert len(origin.requests) == 1


@both
@kinds
@pytest.mark.parametrize("how", ["refuses", "drops"])
def test_a_proxy_that_fails_once(how: str, kind: type[Proxy], mode: str) -> None:
    # Only the proxy heard of it: any request may be sent again, and is.
    clock = ManualClock(io_grace=2.0)
    with Origin(tls=True) as origin, proxy(kind) as way:
        setattr(way, how, 1)
        with Caller(mode, origin.url, clock, proxy=way.url, verify=origin.client_context) as caller:
            response = caller.post("/x")
            assert (response.status_code, report(response).attempts) == (200, 2)
        assert len(origin.requests) == 1
        setattr(way, how, 9)
        with Caller(mode, origin.url, clock, proxy=way.url, verify=origin.client_context) as caller:
            exc = caller.fails("POST", "/x")
            assert not isinstance(exc, OutcomeUnknown)
            assert report(exc).evidence is Evidence.NOT_SENT
            assert report(exc).attempts == 3
        assert len(origin.requests) == 1


@both
@kinds
def test_a_proxy_that_hangs(kind: type[Proxy], mode: str) -> None:
    clock = ManualClock(io_grace=0.4)
    own = policies(clock if mode == "async" else SYSTEM_CLOCK, attempt=0.1, attempts=2)
    with Origin(tls=True) as origin, proxy(kind) as way:
        way.hangs = True
        given: dict[str, Any] = {"proxy": way.url, "verify": origin.client_context, "policies": own}
        with Caller(mode, origin.url, clock, timeout=None, **given) as caller:
            exc = caller.fails("POST", "/x")
            assert isinstance(exc, httpx.TimeoutException)
            assert not isinstance(exc, OutcomeUnknown)
            assert report(exc).evidence is Evidence.NOT_SENT
            assert report(exc).attempts == 2
        assert len(way.heads) == 2
        assert origin.requests == []


@both
def test_a_proxy_where_nobody_listens(mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    for scheme in ("http", "socks5"):
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            Caller(
                mode, "http://svc.example", clock, proxy=f"{scheme}://127.0.0.1:{taken.getsockname()[1]}"
            ) as caller,
        ):
            taken.close()
            exc = caller.fails("POST", "/x")
            assert isinstance(exc, httpx.ConnectError)
            assert report(exc).evidence is Evidence.NOT_SENT


# ---------------------------------------------------------------------------------------- certificates of clients
@both
def test_a_server_that_wants_a_certificate(mode: str) -> None:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(server)
    ca.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    with_one, without = (ssl.create_default_context() for _ in range(2))
    for context in (with_one, without):
        ca.configure_trust(context)
    ca.issue_cert("me@shop.example").configure_cert(with_one)
    clock = ManualClock(io_grace=2.0)
    with Origin(tls=server) as origin:
        with Caller(mode, origin.url, clock, verify=with_one) as caller:
            assert caller.post("/x").status_code == 200
        with Caller(mode, origin.url, clock, verify=without) as caller:
            assert isinstance(caller.fails("POST", "/x"), httpx.TransportError)
        assert len(origin.requests) == 1


@both
def test_no_certificate_is_checked_where_that_is_asked(mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    with Origin(tls=True) as origin:
        with Caller(mode, origin.url, clock, verify=False) as caller:
            assert caller.get("/x").status_code == 200
        with Caller(mode, origin.url, clock, verify=True) as caller:
            exc = caller.fails("GET", "/x")
            assert type(exc) is httpx.ConnectError
            assert report(exc).attempts == 1


# ---------------------------------------------------------------------------------------------------- the socket
@both
def test_options_of_the_socket(mode: str) -> None:
    clock = ManualClock(io_grace=2.0)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)]
    given: dict[str, Any] = {"local_address": "127.0.0.1", "socket_options": options}
    with Origin() as origin, Caller(mode, origin.url, clock, **given) as caller:
        stream = caller.get("/x").extensions["network_stream"]
        sock = stream.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert stream.get_extra_info("client_addr")[0] == "127.0.0.1"
