"""A Service as a source: what callers see while the refresher asks; and the refresher, by hand and as a thread."""

from __future__ import annotations

import gc
import threading

import pytest

from resilient.core.events import DiscoveryFailed
from resilient.discovery.address import Address
from resilient.discovery.dns import Steps
from resilient.discovery.options import Dns
from resilient.discovery.refresher import Refresher, Services
from resilient.discovery.service import Asks, Service
from resilient.discovery.state import Answer, Kind
from resilient.testing import ManualClock, capture_events

A, B = Address("10.0.0.1", 80), Address("10.0.0.2", 80)
NAME = "payments.shop.svc.cluster.local."


class Script:
    """Answers, one after the other; the last one again and again."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def steps(self) -> Steps[Answer]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
        yield  # it asks nothing


def found(*addresses: Address, ttl: float = 5.0) -> Answer:
    return Answer(Kind.FOUND, addresses, ttl)


NOTHING = Answer(Kind.EMPTY, why="NXDOMAIN")
BROKEN = Answer(Kind.FAILED, why="10.96.0.10:53: SERVFAIL")


class Listening:
    """Who is told of changes."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.seen: list[tuple[Address, ...]] = []
        service.listen(self)

    def changed(self) -> None:
        self.seen.append(self.service.addresses)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def refresher(clock: ManualClock) -> Refresher:
    """Without its thread: tests turn it."""
    refresher = Refresher(clock)
    refresher._start = lambda: None  # type: ignore[method-assign]  # turned by hand
    return refresher


def make(refresher: Refresher, clock: ManualClock, lookup: Asks, *, verified: bool = False) -> Service:
    return Service(NAME, "http", refresher, lookup, verified=verified, clock=clock)


def test_nothing_is_asked_before_somebody_needs_it(refresher: Refresher, clock: ManualClock) -> None:
    script = Script(found(A))
    service = make(refresher, clock, script)
    assert refresher.run_due() is None
    assert (service.asleep, service.answered, script.asked) == (True, False, 0)
    service.start()
    assert not service.asleep
    left = refresher.run_due()
    assert (service.addresses, service.answered, script.asked) == ((A,), True, 1)
    assert left is not None
    assert 4.0 <= left <= 6.0


def test_listeners_hear_of_changes_alone(refresher: Refresher, clock: ManualClock) -> None:
    service = make(refresher, clock, Script(found(A), found(A), found(A, B), NOTHING))
    listening = Listening(service)
    service.start()
    for _ in range(25):
        refresher.run_due()
        clock.advance(6.0)
    assert listening.seen == [(A,), (A, B), ()]


def test_a_listener_is_held_weakly(refresher: Refresher, clock: ManualClock) -> None:
    service = make(refresher, clock, Script(found(A), found(B)))
    listening = Listening(service)
    seen = listening.seen
    del listening
    gc.collect()
    service.start()
    refresher.run_due()
    assert seen == []


def test_who_waits_is_woken_by_the_first_answer_whatever_it_says(
    refresher: Refresher, clock: ManualClock
) -> None:
    for answer in (found(A), NOTHING, BROKEN):
        service = make(refresher, clock, Script(answer))
        woken: list[int] = []
        assert service.arm(lambda woken=woken: woken.append(1))  # type: ignore[misc]  # a lambda with a default
        service.start()
        refresher.run_due()
        assert woken == [1]
        assert not service.arm(lambda: None), "there is nothing to wait for"


@pytest.mark.parametrize(
    ("answer", "reason", "says"),
    [
        (
            NOTHING,
            "empty",
            "no pod of payments.shop.svc.cluster.local. is ready, or there is no such Service: NX",
        ),
        (BROKEN, "unresolved", "could not be resolved in time: 10.96.0.10:53: SERVFAIL"),
        (None, "unresolved", "payments.shop.svc.cluster.local. could not be resolved in time"),
    ],
)
def test_the_error_where_there_is_none(
    answer: Answer | None, reason: str, says: str, refresher: Refresher, clock: ManualClock
) -> None:
    service = make(refresher, clock, Script(answer or found(A)))
    if answer is not None:
        service.start()
        refresher.run_due()
    error = service.nothing()
    assert (error.policy, error.reason, error.service) == ("discovery", reason, NAME)
    assert says in str(error)


def test_who_found_none_has_it_asked_for_again_soon(refresher: Refresher, clock: ManualClock) -> None:
    script = Script(NOTHING, found(A))
    service = make(refresher, clock, script)
    service.start()
    refresher.run_due()
    service.nothing()
    clock.advance(1.2)
    refresher.run_due()
    assert service.addresses == (A,), "a Service that appears later is reached"


def test_a_failed_connect_is_a_reason_to_ask(refresher: Refresher, clock: ManualClock) -> None:
    script = Script(found(A, B, ttl=30.0), found(B))
    service = make(refresher, clock, script)
    service.start()
    refresher.run_due()
    clock.advance(10.0)
    service.connect_failed(A)
    refresher.run_due()
    assert service.addresses == (B,)


def test_stale_addresses_are_dropped_before_the_nameserver_has_timed_out(
    refresher: Refresher, clock: ManualClock
) -> None:
    seen = []

    class Slow:
        def steps(self) -> Steps[Answer]:
            seen.append(service.addresses)
            clock.advance(2.5)  # that is how long it takes to give up
            return found(A) if len(seen) == 1 else BROKEN
            yield  # it asks nothing

    service = make(refresher, clock, Slow())
    service.start()
    for _ in range(30):
        refresher.run_due()
        clock.advance(5.0)
    assert seen[1] == (A,)
    assert seen[-1] == ()


def test_failures_are_told_and_logged_when_they_begin_and_end(
    refresher: Refresher, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "resilient")
    service = make(refresher, clock, Script(found(A), BROKEN, BROKEN, found(A)))
    service.start()
    with capture_events() as events:
        for _ in range(4):
            refresher.run_due()
            clock.advance(6.0)
    failed = events.named("resilient.discovery.failed")
    assert [type(each) for each in failed] == [DiscoveryFailed, DiscoveryFailed]
    assert (failed[0].dependency, failed[0].operation, failed[0].reason) == (NAME, "http", BROKEN.why)  # type: ignore[attr-defined]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"{NAME} port http: unresolved -> ready"),
        ("WARNING", f"{NAME} port http: ready -> stale: {BROKEN.why}"),
        ("INFO", f"{NAME} port http: stale -> ready"),
    ]


def test_a_bug_ends_neither_the_service_nor_the_others(
    refresher: Refresher, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    broken = make(refresher, clock, Script(KeyError("a bug"), found(A)))
    other = make(refresher, clock, Script(found(B)))
    broken.start()
    other.start()
    refresher.run_due()
    assert other.addresses == (B,)
    assert broken.answered
    assert "KeyError" in broken.nothing().args[0]
    clock.advance(2.0)
    refresher.run_due()
    assert broken.addresses == (A,)


def test_services_that_nobody_uses_are_forgotten(refresher: Refresher, clock: ManualClock) -> None:
    services = Services(refresher)
    dns = Dns(nameservers=("127.0.0.1:1",))
    first = services.get(NAME, 80, dns, verified=False)
    assert services.get(NAME, 80, dns, verified=False) is first, "one for all clients"
    assert services.get(NAME, 80, dns, verified=True) is not first, "plain HTTP believes less"
    assert services.get(NAME, "http", dns, verified=False) is not first
    first.start()
    del first
    gc.collect()
    assert refresher.run_due() is None


def test_without_anybody_to_tell_it_sleeps(refresher: Refresher, clock: ManualClock) -> None:
    service = make(refresher, clock, Script(found(A)))
    first, second = Listening(service), Listening(service)
    service.start()
    service.leave(first)
    assert not service.asleep
    service.leave(second)
    assert service.asleep
    assert refresher.run_due() is None


# ------------------------------------------------------------------------------------------------------ its thread
def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "resilient-refresher"]


class Real:
    """Something that is due once, in real time."""

    asleep = True

    def __init__(self) -> None:
        self.due = 0.0
        self.looked = threading.Event()

    def begin(self) -> Steps[Answer]:
        self.due = float("inf")
        self.looked.set()
        return NOTHING
        yield  # it asks nothing

    def finish(self, answer: Answer, /) -> None: ...

    def broke(self, exc: BaseException, /) -> None: ...


def test_one_thread_for_all_that_ends_with_the_last() -> None:
    before = set(threads())
    refresher = Refresher()
    things = [Real() for _ in range(5)]
    for thing in things:
        refresher.watch(thing)
    assert all(thing.looked.wait(10) for thing in things)
    (thread,) = set(threads()) - before
    assert thread.daemon
    things[0].looked.clear()
    things[0].due = 0.0
    refresher.wake()
    assert things[0].looked.wait(10)
    del thing
    things.clear()
    gc.collect()
    refresher.wake()
    thread.join(10)
    assert not thread.is_alive()
    later = Real()
    refresher.watch(later)
    assert later.looked.wait(10), "and it begins again"
    del later
    gc.collect()
    refresher.wake()
