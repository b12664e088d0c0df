"""Thousands of names and a silent nameserver took every descriptor of the process: each question has a socket."""

from __future__ import annotations

import selectors

from resilient.discovery.address import Address
from resilient.discovery.dns import Question, Steps
from resilient.discovery.options import Dns
from resilient.discovery.refresher import MOST_ASKED, Refresher, Round
from resilient.discovery.service import Service
from resilient.discovery.state import Answer, Kind
from resilient.testing import ManualClock, Nameserver
from tests.http.calls import descriptors


class Asks:
    """One question, and whether it was answered."""

    answered = False

    def __init__(self, name: str, dns: Dns) -> None:
        self.question = Question(name, "A", dns)

    def steps(self) -> Steps[Answer]:
        yield self.question
        self.answered = True
        return Answer(Kind.EMPTY)


def services(dns: Dns, clock: ManualClock, count: int) -> tuple[list[Service], list[Asks]]:
    refresher = Refresher(clock)
    asks = [Asks(f"p{i}.shop.svc.cluster.local.", dns) for i in range(count)]
    them = [Service(each.question.name, 80, refresher, each, verified=False, clock=clock) for each in asks]
    return them, asks


def test_a_bound_on_those_in_flight(manual_clock: ManualClock) -> None:
    with Nameserver() as nameserver, selectors.DefaultSelector() as selector:
        nameserver.fail("silence")
        them, _ = services(nameserver.dns(), manual_clock, 500)
        before = descriptors()
        round_ = Round(selector, manual_clock)
        left = round_.begin(them)
        assert len(round_._asked) == MOST_ASKED
        assert descriptors() - before <= MOST_ASKED + 10
        assert left == float("inf"), "none is to begin before one of them ends"
        round_.close()


def test_the_others_have_their_turn(manual_clock: ManualClock) -> None:
    with Nameserver() as nameserver:
        them, asks = services(nameserver.dns(), manual_clock, 200)
        refresher = them[0]._refresher
        refresher._start = lambda: None  # type: ignore[method-assign]  # turned by hand
        for each in them:
            each.start()
        refresher.run_due()
        assert all(each.answered for each in asks)


def test_the_one_that_waited_longest_is_next(manual_clock: ManualClock) -> None:
    with Nameserver() as nameserver, selectors.DefaultSelector() as selector:
        nameserver.fail("silence")
        them, asks = services(nameserver.dns(), manual_clock, MOST_ASKED + 20)
        manual_clock.advance(100.0)
        for number, each in enumerate(them):
            each._resolution.due = float(-number)
        round_ = Round(selector, manual_clock)
        round_.begin(them)
        names = [each.question.name for each in round_._asked.values()]
        assert names == [each.question.name for each in reversed(asks[20:])]
        round_.close()


class AsksNothing:
    """As the config center does."""

    def steps(self) -> Steps[Answer]:
        return Answer(Kind.FOUND, (Address("10.0.0.1", 80),), 5.0)
        yield  # it asks nothing


def test_who_asks_nothing_does_not_wait(manual_clock: ManualClock) -> None:
    with Nameserver() as nameserver, selectors.DefaultSelector() as selector:
        nameserver.fail("silence")
        them, _ = services(nameserver.dns(), manual_clock, 2 * MOST_ASKED)
        other = Service("other.", 80, them[0]._refresher, AsksNothing(), verified=False, clock=manual_clock)
        round_ = Round(selector, manual_clock)
        round_.begin(them)
        round_.begin([*them, other])
        assert other.addresses
        round_.close()
