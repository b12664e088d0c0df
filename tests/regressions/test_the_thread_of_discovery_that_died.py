"""The thread that resolves names died for good, and every client of the process kept its addresses for ever.

A name that is too long with ``_http._tcp.`` before it ended it, a logging filter of the user's did, and a system that
had no thread to give, once."""

from __future__ import annotations

import gc
import logging
import selectors
import threading
import time
from collections.abc import Iterator

import pytest

import resilient.httpx
from resilient import NoEndpoints, PolicyError, configure
from resilient.discovery.address import Address
from resilient.discovery.dns import Question, Steps
from resilient.discovery.options import Dns
from resilient.discovery.refresher import REST, Refresher, Round
from resilient.discovery.service import Service
from resilient.discovery.state import Answer, Kind
from resilient.testing import ManualClock, Nameserver, Origin

A = Address("10.0.0.1", 80)
DNS = Dns(nameservers=("127.0.0.1:1",))
LONG = ".".join(["a" * 60] * 3) + "." + "a" * 40 + ".shop.svc"
"""A name of the cluster's, to which no port's name can be added any more."""


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ttl=1) as nameserver:
        configure(dns=nameserver.dns())
        try:
            yield nameserver
        finally:
            configure()


@pytest.fixture
def refresher(clock: ManualClock) -> Refresher:
    """Without its thread: tests turn it."""
    refresher = Refresher(clock)
    refresher._start = lambda: None  # type: ignore[method-assign]  # turned by hand
    return refresher


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Script:
    """Asks what it is told to, or finds ``A``."""

    def __init__(self, *questions: Question) -> None:
        self.questions = list(questions)

    def steps(self) -> Steps[Answer]:
        while self.questions:
            yield self.questions.pop()
        return Answer(Kind.FOUND, (A,), 5.0)


def make(refresher: Refresher, clock: ManualClock, lookup: Script) -> Service:
    return Service("payments.shop.svc.cluster.local.", "http", refresher, lookup, verified=True, clock=clock)


def test_a_question_that_cannot_be_asked(
    refresher: Refresher, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    broken = make(refresher, clock, Script(Question("a" * 64 + ".local.", "A", DNS)))
    other = make(refresher, clock, Script())
    broken.start()
    other.start()
    refresher.run_due()
    assert other.addresses == (A,)
    assert "LabelTooLong" in str(broken.nothing())
    assert [record.name for record in caplog.records if record.exc_info] == ["resilient"]
    clock.advance(5.0)
    refresher.run_due()
    assert broken.addresses == (A,), "it is asked for again"


class Sick:
    """Fails in all it is asked."""

    asleep = True
    due = 0.0
    begun = 0

    def begin(self) -> Steps[Answer]:
        self.begun += 1
        raise RuntimeError("a bug")

    def finish(self, answer: Answer, /) -> None:
        raise RuntimeError("a bug")

    def broke(self, exc: BaseException, /) -> None:
        raise RuntimeError("another one")


def test_one_that_cannot_even_be_told(
    refresher: Refresher, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    sick, other = Sick(), make(refresher, clock, Script())
    with selectors.DefaultSelector() as selector:
        round_ = Round(selector, clock)
        assert round_.begin([sick, other]) > 0.0
        round_.begin([sick, other])
        assert other.addresses == (A,)
        assert sick.begun == 1, "it is not asked for without a pause"
        for _ in range(3):
            clock.advance(REST)
            round_.begin([sick, other])
    assert sick.begun == 4
    assert len([record for record in caplog.records if record.exc_info]) == 1, "told once"


def test_a_name_that_is_too_long_says_so(nameserver: Nameserver) -> None:
    with Origin() as origin:
        nameserver.set("payments.shop", [f"127.0.0.1:{origin.port}"], port="http")
        with resilient.httpx.client("long", base_url=f"http://{LONG}", port="http") as client:
            for _ in range(2):
                with pytest.raises(
                    PolicyError, match=r"port='http' is looked up as _http\._tcp\.a.* at most 253"
                ):
                    client.get("/")
        client = resilient.httpx.client("long", base_url=f"http://{LONG}:1")
        with client, pytest.raises(NoEndpoints, match="NXDOMAIN"):
            client.get("/")
        with resilient.httpx.client("p", base_url="http://payments.shop.svc", port="http") as client:
            assert client.get("/").status_code == 200


def test_a_logging_filter_that_raises_takes_nothing_away(refresher: Refresher, clock: ManualClock) -> None:
    def raises(record: logging.LogRecord) -> bool:
        raise ValueError("a bug of the user's")

    service = make(refresher, clock, Script())
    service.start()
    logger = logging.getLogger("resilient")
    level = logger.level
    logger.addFilter(raises)
    logger.setLevel("INFO")
    try:
        refresher.run_due()
    finally:
        logger.removeFilter(raises)
        logger.setLevel(level)
    assert service.addresses == (A,), "published before anything was logged"


def test_a_logging_filter_that_raises(nameserver: Nameserver) -> None:
    def raises(record: logging.LogRecord) -> bool:
        if threading.current_thread().name == "resilient-refresher":
            raise ValueError("a bug of the user's")
        return True

    logger = logging.getLogger("resilient")
    level = logger.level
    logger.addFilter(raises)
    logger.setLevel("INFO")
    try:
        with Origin() as one, Origin() as two:
            for origin in (one, two):
                nameserver.set("payments.shop", [f"127.0.0.1:{origin.port}"], port="http")
                with resilient.httpx.client("p", base_url="http://payments.shop.svc", port="http") as client:
                    while client.get("/").extensions["resilient"].endpoint != f"127.0.0.1:{origin.port}":
                        pass
    finally:
        logger.removeFilter(raises)
        logger.setLevel(level)


def test_a_system_without_threads_for_a_moment(
    nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, failures = threading.Thread.start, [1, 1]

    def fails(thread: threading.Thread) -> None:
        if thread.name == "resilient-refresher" and failures:
            failures.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    refresher = Refresher()
    monkeypatch.setattr("resilient.discovery.refresher.SERVICES._refresher", refresher)
    monkeypatch.setattr(threading.Thread, "start", fails)
    with Origin() as origin:
        nameserver.set("payments.shop", [f"127.0.0.1:{origin.port}"], port="http")
        with resilient.httpx.client("p", base_url="http://payments.shop.svc", port="http") as client:
            for _ in range(2):
                with pytest.raises(NoEndpoints, match="RuntimeError: can't start new thread"):
                    client.get("/")
            assert client.get("/").status_code == 200
    assert [record.getMessage() for record in caplog.records] == [
        "the thread that resolves names cannot be started: RuntimeError: can't start new thread"
    ], "told once"


class Ends:
    """Ends the thread that asks for it, once; then it finds something."""

    ended = False

    def steps(self) -> Steps[Answer]:
        if not self.ended:
            self.ended = True
            raise SystemExit
        return Answer(Kind.FOUND, (A,), 5.0)
        yield  # it asks nothing


class Listening:
    def __init__(self) -> None:
        self.told = threading.Event()

    def changed(self) -> None:
        self.told.set()


def test_a_thread_that_is_dead_is_replaced_by_the_next_call() -> None:
    refresher = Refresher()
    service = Service("payments.shop.svc.cluster.local.", "http", refresher, Ends(), verified=True)
    service.start()
    thread = refresher._thread
    if thread is not None:
        thread.join(10)
    patience = time.monotonic() + 10
    while not service.asleep and time.monotonic() < patience:
        time.sleep(0.01)  # the thread was gone from there before it was over
    assert service.asleep
    assert "SystemExit" in str(service.nothing()), "who waits for it is told"
    listening = Listening()
    service.listen(listening)
    service.start()
    assert listening.told.wait(10)
    assert service.addresses == (A,)
    del service
    gc.collect()
    refresher.wake()
