"""The set: who comes and goes, who is ejected, probed and taken back; and there is always one while there are any."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import CircuitBreaker, NoEndpoints
from resilient.balance.endpoint import Endpoint
from resilient.balance.endpoints import Endpoints, Fixed
from resilient.core.events import EndpointsChanged, EndpointTransition
from resilient.core.outcome import FAILURE, SUCCESS
from resilient.core.registry import REGISTRY
from resilient.discovery.address import Address
from resilient.discovery.source import Listener, Static
from resilient.testing import ManualClock, capture_events
from tests.balance.calls import Call

OPTIONS = CircuitBreaker(consecutive=3, minimum_calls=1000, open_for=5.0, max_open=60.0, probes=2).options


class Changing:
    """A source that tests change."""

    asleep = True
    answered = False

    def __init__(self, n: int = 0) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.said: list[object] = []
        self.listener: Listener | None = None
        self.wakes: list[Callable[[], None]] = []
        if n:
            self.set(n)

    def set(self, n: int, *, first: int = 0) -> None:
        self.answered = True
        self.addresses = tuple(Address(f"10.0.0.{i}", 80) for i in range(first, first + n))
        if self.listener is not None:
            self.listener.changed()

    def start(self) -> None:
        self.asleep = False
        self.said.append("start")

    def listen(self, listener: Listener, /) -> None:
        self.listener = listener

    def leave(self, listener: Listener, /) -> None:
        self.said.append("leave")

    def arm(self, wake: Callable[[], None], /) -> bool:
        if not self.answered:
            self.wakes.append(wake)
        return not self.answered

    def connect_failed(self, address: Address, /) -> None:
        self.said.append(address)

    def hurry(self) -> None:
        self.said.append("hurry")

    def nothing(self) -> NoEndpoints:
        return NoEndpoints("none is ready", reason="empty")


class Balanced:
    """Endpoints over a source that changes, with what was made and retired."""

    def __init__(self, n: int, clock: ManualClock) -> None:
        self.clock = clock
        self.source = Changing(n)
        self.retired: list[str] = []
        self.set = Endpoints(
            "payments", self.source, str, retire=self.retired.append, options=OPTIONS, clock=clock
        )

    def call(self, *, bad: Sequence[int] = (), tried: Sequence[Endpoint[str]] = ()) -> int:
        """One call, which fails at the endpoints of these numbers; where it went."""
        now, call = self.clock.monotonic(), Call()
        permit = self.set.pick(tried, now, call)
        number = int(call.endpoint.address.host.rpartition(".")[2])
        call.endpoint.heard(permit, FAILURE if number in bad else SUCCESS, 0.01, now)
        call.endpoint.leave(call)
        return number

    def fail(self, number: int, times: int = 3) -> None:
        """An endpoint fails so many times in a row."""
        now = self.clock.monotonic()
        endpoint = self.at(number)
        for _ in range(times):
            permit = endpoint.enter(call := Call(), now)
            endpoint.heard(permit, FAILURE, 0.01, now)
            endpoint.leave(call)

    def at(self, number: int) -> Endpoint[str]:
        return next(each for each in self.set if each.address.host == f"10.0.0.{number}")

    def seen(self, times: int = 200, *, bad: Sequence[int] = ()) -> set[int]:
        return {self.call(bad=bad) for _ in range(times)}


# ------------------------------------------------------------------------------------------------ who is there
def test_those_that_stay_keep_all_that_is_known_of_them(clock: ManualClock) -> None:
    balanced = Balanced(3, clock)
    kept, went = balanced.at(1), balanced.at(0)
    balanced.fail(1)
    with capture_events() as events:
        balanced.source.set(3, first=1)
    assert balanced.at(1) is kept
    assert kept.state == "open"
    assert (went.draining, kept.draining) == (True, False)
    assert balanced.retired == ["10.0.0.0:80"]
    (event,) = events.named("resilient.endpoints.changed")
    assert isinstance(event, EndpointsChanged)
    assert (event.dependency, event.added, event.removed, event.count) == ("payments", 1, 1, 3)
    assert balanced.seen() == {2, 3}


def test_the_same_again_is_no_change(clock: ManualClock) -> None:
    balanced = Balanced(3, clock)
    with capture_events() as events:
        balanced.source.set(3)
    assert list(events.named("resilient.endpoints.changed")) == []


def test_one_that_left_and_fails_late_changes_nothing(clock: ManualClock) -> None:
    balanced = Balanced(2, clock)
    went = balanced.at(0)
    balanced.source.set(1, first=1)
    for _ in range(5):
        went.heard(went.enter(Call(), 0.0), FAILURE, 0.01, 0.0) if went.state == "closed" else None
    assert balanced.seen() == {1}


def test_none(clock: ManualClock) -> None:
    balanced = Balanced(0, clock)
    with pytest.raises(NoEndpoints, match="none is ready"):
        balanced.call()
    balanced.source.set(2)
    assert balanced.seen() == {0, 1}
    balanced.source.set(0)
    with pytest.raises(NoEndpoints):
        balanced.call()
    assert len(balanced.set) == 0


def test_the_source_is_started_by_the_first_call_and_by_the_first_in_a_child(clock: ManualClock) -> None:
    balanced = Balanced(1, clock)
    assert balanced.source.said == []
    assert balanced.set.unknown
    balanced.set.wait(5.0)
    assert not balanced.set.unknown
    assert balanced.source.said == ["start"]
    balanced.source.asleep = True  # as after a fork
    balanced.set.after_fork()
    assert balanced.set.unknown
    balanced.set.wait(5.0)
    assert balanced.source.said == ["start", "start"]
    assert balanced.seen() == {0}


def test_it_is_unknown_until_the_source_has_said_anything(clock: ManualClock) -> None:
    balanced = Balanced(0, clock)
    assert balanced.set.unknown
    balanced.source.set(0)  # that there is nothing
    balanced.set.wait(5.0)
    assert not balanced.set.unknown


def test_a_call_between_the_answer_and_the_telling_of_it(clock: ManualClock) -> None:
    """The source knows, and its thread has not come to telling it yet."""
    balanced = Balanced(0, clock)
    balanced.source.listener = None
    balanced.source.set(2)
    balanced.set.wait(5.0)
    assert balanced.seen() == {0, 1}


def test_waiting_in_vain_takes_as_long_as_it_may(clock: ManualClock) -> None:
    balanced = Balanced(0, clock)
    with pytest.raises(NoEndpoints):
        balanced.set.wait(0.01)
    assert balanced.set.unknown
    with pytest.raises(NoEndpoints):
        asyncio.run(balanced.set.await_(0.01))
    assert balanced.set.unknown
    assert clock.monotonic() == 0.0, "nameservers are not in a test's time"
    for wake in balanced.source.wakes:
        wake()  # nobody is left to be woken


def test_sets_are_found_by_whoever_looks_at_all(clock: ManualClock) -> None:
    balanced = Balanced(2, clock)
    assert balanced.set in REGISTRY.endpoints()


def test_a_failed_connect_is_told_to_the_source(clock: ManualClock) -> None:
    balanced = Balanced(2, clock)
    balanced.set.connect_failed(balanced.at(1))
    assert balanced.source.said == [Address("10.0.0.1", 80)]


# --------------------------------------------------------------------------------------------------- who is fit
def test_one_that_fails_is_passed_over(clock: ManualClock) -> None:
    balanced = Balanced(3, clock)
    with capture_events() as events:
        balanced.fail(1)
    assert balanced.seen() == {0, 2}
    (event,) = events.named("resilient.endpoint.transition")
    assert isinstance(event, EndpointTransition)
    assert (event.endpoint, event.old, event.new, event.reason) == (
        "10.0.0.1:80", "closed", "open", "consecutive"
    )  # fmt: skip
    assert "hurry" in balanced.source.said, "it may be gone: look again"


def test_when_its_time_is_over_single_calls_find_out_and_it_is_taken_back(clock: ManualClock) -> None:
    balanced = Balanced(3, clock)
    balanced.fail(1)
    clock.advance(3.9)
    assert balanced.seen() == {0, 2}
    clock.advance(1.1)
    assert balanced.call() == 1, "the first call is the probe"
    assert balanced.at(1).state == "half_open"
    assert balanced.call() == 1
    assert balanced.at(1).state == "closed"
    assert balanced.at(1).load(clock.monotonic()) == 0.0, "what it cost before is forgiven"
    assert balanced.seen() == {0, 1, 2}


def test_other_rules_hold_for_those_that_are_there_and_those_that_come(clock: ManualClock) -> None:
    balanced = Balanced(3, clock)
    balanced.fail(1)
    balanced.set.retune(replace(OPTIONS, open_for=1.0, consecutive=1), clock.monotonic())
    assert balanced.at(1).state == "open", "it stays ejected, for the new time at most"
    clock.advance(1.0)
    assert balanced.call() == 1
    assert balanced.call() == 1
    balanced.fail(2, times=1)
    assert balanced.at(2).state == "open"
    balanced.source.set(4)
    balanced.fail(3, times=1)
    assert balanced.at(3).state == "open"


def test_one_probe_at_a_time(clock: ManualClock) -> None:
    balanced = Balanced(3, clock)
    balanced.fail(1)
    clock.advance(5.0)
    now = clock.monotonic()
    permit = balanced.set.pick((), now, call := Call())
    assert call.endpoint is balanced.at(1)
    assert balanced.seen() == {0, 2}, "while it is on its way"
    call.endpoint.heard(permit, FAILURE, 0.01, now)
    call.endpoint.leave(call)
    assert balanced.seen() == {0, 2}
    clock.advance(5.0)
    assert balanced.seen() == {0, 2}, "twice as long after a probe that failed"
    clock.advance(5.0)
    assert balanced.call() == 1


def test_a_call_that_has_tried_it_does_not_probe_it(clock: ManualClock) -> None:
    balanced = Balanced(3, clock)
    balanced.fail(1)
    clock.advance(5.0)
    assert balanced.call(tried=[balanced.at(1)]) in {0, 2}


@pytest.mark.parametrize(("n", "out"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_more_than_half_are_never_passed_over(n: int, out: int, clock: ManualClock) -> None:
    balanced = Balanced(n, clock)
    for number in range(out):
        balanced.fail(number)
    assert balanced.set.panic
    for endpoint in balanced.set:
        endpoint.forgive()  # who failed is still less likely; here is asked who is possible
    assert balanced.seen() == set(range(n)), "then the fault is not one endpoint's"


@pytest.mark.parametrize(("n", "out"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_up_to_half_are(n: int, out: int, clock: ManualClock) -> None:
    balanced = Balanced(n, clock)
    for number in range(out):
        balanced.fail(number)
    assert not balanced.set.panic
    assert balanced.seen() == set(range(out, n))


def test_out_of_panic_by_probes(clock: ManualClock) -> None:
    balanced = Balanced(2, clock)
    balanced.fail(0)
    balanced.fail(1)
    clock.advance(5.0)
    balanced.seen(50)
    assert not balanced.set.panic
    assert [each.state for each in balanced.set] == ["closed", "closed"]


def test_a_fit_one_goes_and_the_last_is_not_ejected_any_more(clock: ManualClock) -> None:
    balanced = Balanced(2, clock)
    balanced.fail(0)
    assert balanced.seen() == {1}
    balanced.source.set(1)
    assert balanced.seen() == {0}


# --------------------------------------------------------------------------------------------- another one each time
@given(st.integers(1, 8), st.data())
def test_each_attempt_takes_another_while_there_is_one(n: int, data: st.DataObject) -> None:
    balanced = Balanced(n, ManualClock())
    for number in data.draw(st.sets(st.integers(0, n - 1), max_size=n // 2)):
        balanced.fail(number)
    fit = [each for each in balanced.set if each.state == "closed"]
    tried: list[Endpoint[str]] = []
    for attempt in range(2 * n):
        balanced.set.pick(tried, 0.0, call := Call())
        endpoint = call.endpoint
        if attempt < len(fit):
            assert endpoint not in tried
        elif len(fit) > 1:
            assert endpoint is not tried[-1], "not where it failed just now"
        tried.append(endpoint)
    assert balanced.set.untried(tried[:1]) == (n > 1)
    assert not balanced.set.untried(list(balanced.set))


# ------------------------------------------------------------------------------------------------------ no choice
def test_one_place_where_everything_goes() -> None:
    fixed = Fixed(Address("payments", 80), "exchange")
    permit = fixed.pick((), 0.0, call := Call())
    assert permit is None
    endpoint = call.endpoint
    assert (endpoint.exchange, endpoint.text) == ("exchange", "payments:80")
    assert (len(fixed), list(fixed), fixed.untried([])) == (1, [endpoint], False)
    assert next(iter(Fixed(None, "exchange"))).text == ""


def test_a_fixed_list_is_a_source_that_never_changes() -> None:
    one, two = Address("10.0.0.1", 80), Address("10.0.0.2", 80)
    source = Static([one, two, one])
    assert source.addresses == (one, two)
    assert not source.arm(lambda: None)
    source.start()
    source.hurry()
    source.connect_failed(one)
    assert source.addresses == (one, two)
    assert source.nothing().reason == "empty"
