"""Children that were forked while a name was resolved hung, or had no endpoints until the pods changed.

They waited for the lock of an import that only the parent's thread could have ended, or for the lock under which a
dependency is located; or they knew addresses of which nobody had told their endpoints."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import resilient.httpx
from resilient import configure
from resilient.core.forks import load_unforked
from resilient.testing import Nameserver, Origin

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
WITHIN = 20.0


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ttl=1) as nameserver:
        configure(dns=nameserver.dns())
        try:
            yield nameserver
        finally:
            configure()


def in_child(work: Callable[[], object]) -> object:
    """What ``work`` returns in a forked child, as text; the child is killed where it hangs."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = repr(work())
        except BaseException as exc:
            said = repr(exc)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    timer = threading.Timer(WITHIN, os.kill, (pid, 9))
    timer.start()
    try:
        with os.fdopen(reader) as said_there:
            return said_there.read()
    finally:
        timer.cancel()
        os.waitpid(pid, 0)


def client(port: int, nameserver: Nameserver) -> Any:
    nameserver.set("payments.shop", [f"127.0.0.1:{port}"], port="http")
    return resilient.httpx.client("payments", base_url="http://payments.shop.svc", port="http")


def test_before_the_endpoints_are_told(nameserver: Nameserver) -> None:
    """The thread stands between publishing addresses and telling of them."""
    with Origin() as origin, client(origin.port, nameserver) as shop:
        endpoints = shop._transport.endpoints
        told, go_on, changed = threading.Event(), threading.Event(), endpoints.changed

        def waits() -> None:
            if threading.current_thread().name == "resilient-refresher":
                told.set()
                go_on.wait(WITHIN)
            changed()

        endpoints.source.start()
        endpoints.changed = waits
        try:
            assert told.wait(WITHIN)
            assert in_child(lambda: (shop.get("/").status_code, len(endpoints))) == "(200, 1)"
        finally:
            go_on.set()


def test_in_the_middle_of_a_change(nameserver: Nameserver) -> None:
    """New endpoints are there, and nobody has said who is fit."""
    with Origin() as one, Origin() as two, client(one.port, nameserver) as shop:
        assert shop.get("/").status_code == 200
        endpoints = shop._transport.endpoints
        told, go_on, sort = threading.Event(), threading.Event(), endpoints._sort

        def waits(now: float) -> None:
            if threading.current_thread().name == "resilient-refresher":
                told.set()
                go_on.wait(WITHIN)
            sort(now)

        endpoints._sort = waits
        nameserver.set("payments.shop", [f"127.0.0.1:{two.port}"], port="http")
        one.refuse()
        try:
            assert told.wait(WITHIN)
            assert in_child(lambda: shop.get("/").status_code) == "200"
        finally:
            go_on.set()
        assert two.requests


def test_while_a_dependency_is_located(nameserver: Nameserver) -> None:
    with Origin() as origin, client(origin.port, nameserver) as shop:
        transport = shop._transport
        located, go_on, locate = threading.Event(), threading.Event(), transport._locate

        def waits() -> Any:
            found = locate()
            if threading.current_thread() is caller:
                located.set()
                go_on.wait(WITHIN)
            return found

        transport._locate = waits
        caller = threading.Thread(target=lambda: shop.get("/"))
        caller.start()
        try:
            assert located.wait(WITHIN)
            assert in_child(lambda: shop.get("/").status_code) == "200"
        finally:
            go_on.set()
            caller.join(WITHIN)


def test_while_a_redirect_is_followed() -> None:
    with Origin() as origin:
        transport = resilient.httpx.Transport("payments", base_url="http://payments.shop.svc")
        outside = transport.outside
        making, go_on, make = threading.Event(), threading.Event(), outside._make

        def waits(url: Any) -> Any:
            if threading.current_thread() is caller:
                making.set()
                go_on.wait(WITHIN)
            return make(url)

        outside._make = waits
        shop = resilient.httpx.httpx.Client(transport=transport)
        caller = threading.Thread(target=lambda: shop.get(origin.url))
        caller.start()
        try:
            assert making.wait(WITHIN)
            assert in_child(lambda: shop.get(origin.url).status_code) == "200"
        finally:
            go_on.set()
            caller.join(WITHIN)
            shop.close()


def test_a_call_of_a_signal_handler_while_a_dependency_is_located() -> None:
    with Origin() as origin:
        shop = resilient.httpx.client("payments", base_url=origin.url)
        transport, inner = shop._transport, []
        locate = transport._locate

        def interrupted() -> Any:
            transport._locate = locate
            inner.append(shop.get("/").status_code)
            return locate()

        transport._locate = interrupted
        assert [shop.get("/").status_code, *inner] == [200, 200]
        places = transport.endpoints
        assert len({id(each.exchange) for each in places}) == 1
        shop.close()


def test_nobody_forks_while_modules_are_imported() -> None:
    importing, go_on, done = threading.Event(), threading.Event(), []

    def load() -> None:
        importing.set()
        go_on.wait(0.3)  # in vain: who would say so waits in `fork`
        done.append("imported")

    loader = threading.Thread(target=load_unforked, args=(load,))
    loader.start()
    assert importing.wait(WITHIN)
    assert in_child(lambda: load_unforked(lambda: done.append("there too")) or done) == (
        "['imported', 'there too']"
    )
    loader.join(WITHIN)
    in_child(lambda: None)  # and the parent can go on forking


def test_while_the_first_name_is_looked_up() -> None:
    """In a fresh process: the imports are those of the first lookup."""
    program = """
import os, sys, threading, time, warnings
import resilient.httpx
from resilient import configure
from resilient.testing import Nameserver, Origin
warnings.simplefilter("ignore")
with Nameserver(ttl=1) as nameserver, Origin() as origin:
    nameserver.set("payments.shop", [f"127.0.0.1:{origin.port}"], port="http")
    configure(dns=nameserver.dns())
    client = resilient.httpx.client("payments", base_url="http://payments.shop.svc", port="http")
    caller = threading.Thread(target=lambda: client.get("/"))
    caller.start()
    while "dns.rdata" not in sys.modules:
        time.sleep(0.0005)
    pid = os.fork()
    if pid == 0:
        print(client.get("/").status_code, flush=True)
        os._exit(0)
    caller.join()
    os.waitpid(pid, 0)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.stdout, run.stderr) == ("200\n", "")
