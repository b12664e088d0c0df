"""What is known of a name: beside a history of all answers, and in the cases that others get wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient.discovery.address import Address
from resilient.discovery.state import (
    EMPTY,
    EMPTY_GRACE,
    FADING,
    LONGEST,
    READY,
    SHORTEST,
    STALE,
    STALE_LIMIT,
    UNRESOLVED,
    Answer,
    Kind,
    Resolution,
)

A, B, C = (Address(f"10.0.0.{n}", 80) for n in (1, 2, 3))
NOTHING = Answer(Kind.EMPTY, why="NXDOMAIN")
BROKEN = Answer(Kind.FAILED, why="SERVFAIL")


def found(*addresses: Address, ttl: float = 5.0) -> Answer:
    return Answer(Kind.FOUND, addresses, ttl)


def middle() -> float:
    return 0.5  # no jitter


def resolution(*answers: tuple[float, Answer], verified: bool = False) -> Resolution:
    state = Resolution(verified=verified, rand=middle)
    for at, answer in answers:
        state.tell(answer, at)
    return state


# --------------------------------------------------------------------------------------------- the three answers
def test_what_was_found_is_used_until_the_next_answer() -> None:
    state = resolution((0.0, found(A, B)), (5.0, found(B, C)))
    assert (state.addresses, state.status, state.answered) == ((B, C), READY, True)


@pytest.mark.parametrize(("ttl", "after"), [(0.0, SHORTEST), (5.0, 5.0), (30.0, 30.0), (3600.0, LONGEST)])
def test_it_is_asked_again_by_the_ttl_within_limits(ttl: float, after: float) -> None:
    assert resolution((100.0, found(A, ttl=ttl))).due == pytest.approx(100.0 + after)


@pytest.mark.parametrize(("rand", "share"), [(0.0, 0.8), (1.0, 1.2)])
def test_the_time_has_jitter(rand: float, share: float) -> None:
    state = Resolution(verified=False, rand=lambda: rand)
    state.tell(found(A, ttl=10.0), 0.0)
    assert state.due == pytest.approx(10.0 * share)


def test_empty_is_not_believed_at_once() -> None:
    state = resolution((0.0, found(A, B)), (5.0, NOTHING))
    assert (state.addresses, state.status) == ((A, B), FADING)
    assert state.due == pytest.approx(6.0), "and asked again soon"
    state.tell(NOTHING, 5.0 + EMPTY_GRACE - 0.1)
    assert state.addresses == (A, B)
    state.tell(NOTHING, 5.0 + EMPTY_GRACE)
    assert (state.addresses, state.status, state.why) == ((), EMPTY, "NXDOMAIN")


def test_empty_is_believed_as_soon_as_a_connect_fails() -> None:
    state = resolution((0.0, found(A, B)), (5.0, NOTHING))
    state.connect_failed(A, 5.5)
    assert (state.addresses, state.status) == ((), EMPTY)


def test_empty_is_believed_at_once_where_a_connect_failed_just_before() -> None:
    state = resolution((0.0, found(A, B)))
    state.connect_failed(A, 4.0)
    state.tell(NOTHING, 5.0)
    assert (state.addresses, state.status) == ((), EMPTY), "two witnesses, whichever comes first"
    assert state.due <= 6.2, "and it may come back any moment"


def test_a_connect_that_failed_says_nothing_once_its_pod_is_gone_or_long_after() -> None:
    state = resolution((0.0, found(A, B)))
    state.connect_failed(A, 4.0)
    state.tell(found(B), 5.0)
    state.tell(NOTHING, 6.0)
    assert (state.addresses, state.status) == ((B,), FADING)
    later = resolution((0.0, found(A, B)))
    later.connect_failed(A, 4.0)
    later.tell(NOTHING, 4.0 + EMPTY_GRACE + 0.1)
    assert (later.addresses, later.status) == ((A, B), FADING)


@pytest.mark.parametrize(
    ("answer", "verified", "asleep", "answered"),
    [
        (found(A), False, STALE_LIMIT, True),
        (found(A), False, STALE_LIMIT + 0.1, False),
        (found(A), True, 1e6, True),  # a certificate proves who they are
        (NOTHING, False, 1e6, False),  # by now there may be some
        (NOTHING, True, 1e6, False),
        (NOTHING, True, 1.0, True),
    ],
)
def test_what_is_known_after_a_sleep(answer: Answer, verified: bool, asleep: float, answered: bool) -> None:
    state = Resolution(verified=verified, rand=middle)
    state.tell(answer, 0.0)
    state.wake(asleep)
    assert state.answered is answered
    state.tell(found(B), asleep)
    assert (state.answered, state.addresses) == (True, (B,))


def test_what_faded_in_its_sleep() -> None:
    state = resolution((0.0, found(A)), (5.0, NOTHING))
    state.wake(5.0 + EMPTY_GRACE)
    assert (state.addresses, state.status) == ((), EMPTY)


def test_a_connect_that_fails_without_it_says_nothing_of_the_others() -> None:
    state = resolution((0.0, found(A, B, ttl=30.0)))
    state.connect_failed(A, 10.0)
    assert state.addresses == (A, B)
    assert state.due == 10.0, "but there is a reason to ask"


def test_empty_is_never_for_ever() -> None:
    state = resolution((0.0, NOTHING))
    assert (state.addresses, state.status) == ((), EMPTY)
    assert state.due <= 6.0
    state.tell(found(A), 5.0)
    assert (state.addresses, state.status) == ((A,), READY)


def test_what_comes_back_in_time_was_never_away() -> None:
    state = resolution((0.0, found(A)), (5.0, NOTHING), (6.0, found(A)), (11.0, NOTHING))
    state.tell(NOTHING, 11.0 + EMPTY_GRACE - 1.0)
    assert state.addresses == (A,), "the grace begins anew"


def test_a_broken_nameserver_takes_nothing_away() -> None:
    state = resolution((0.0, found(A, B)), *((5.0 + n, BROKEN) for n in range(50)), verified=True)
    assert (state.addresses, state.status, state.why) == ((A, B), STALE, "SERVFAIL")
    state.tell(BROKEN, 1e6)
    assert state.addresses == (A, B), "a certificate proves who they are"


def test_without_a_certificate_old_addresses_may_be_somebody_elses() -> None:
    state = resolution((0.0, found(A, B)), (5.0, BROKEN))
    state.connect_failed(A, 6.0)
    assert state.addresses == (B,), "given to nobody, or to somebody else"
    state.age(STALE_LIMIT)
    assert state.addresses == (B,)
    state.age(STALE_LIMIT + 0.1)
    assert (state.addresses, state.status) == ((), UNRESOLVED)
    state.tell(found(A), 70.0)
    assert (state.addresses, state.status) == ((A,), READY)


def test_the_last_one_that_cannot_be_connected_to_while_stale() -> None:
    state = resolution((0.0, found(A)), (5.0, BROKEN))
    state.connect_failed(A, 6.0)
    assert (state.addresses, state.status) == ((), UNRESOLVED)


def test_a_nameserver_that_breaks_while_a_name_fades() -> None:
    state = resolution((0.0, found(A)), (5.0, NOTHING), (6.0, BROKEN))
    assert (state.addresses, state.status) == ((A,), FADING)
    state.age(5.0 + EMPTY_GRACE)
    assert (state.addresses, state.status) == ((), EMPTY), "what was said before still counts"


def test_a_nameserver_that_fails_is_asked_less_and_less() -> None:
    state, times = resolution((0.0, BROKEN)), []
    for n in range(1, 8):
        times.append(state.due - (n - 1) * 10.0)
        state.tell(BROKEN, n * 10.0)
    assert times == pytest.approx([0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0])
    assert state.answered, "who waits for the first answer is told"
    assert state.status == UNRESOLVED


@pytest.mark.parametrize("answer", [found(A, ttl=30.0), NOTHING, BROKEN])
def test_a_reason_to_hurry_counts_once_a_second(answer: Answer) -> None:
    state = resolution((100.0, answer))
    state.hurry(100.0)
    assert state.due <= 101.0
    state.hurry(200.0)
    assert state.due <= 101.0, "never later than it was"
    late = resolution((100.0, found(A, ttl=30.0)))
    late.hurry(110.0)
    assert late.due == 110.0


# ------------------------------------------------------------------------------------------- beside a history
class History(RuleBasedStateMachine):
    """The rules, said again over the whole history of answers."""

    @initialize(verified=st.booleans())
    def begin(self, verified: bool) -> None:
        self.verified = verified
        self.state = Resolution(verified=verified, rand=middle)
        self.now = 1000.0
        self.last: tuple[Address, ...] = ()
        self.last_at = 0.0
        self.empty_since: float | None = None
        self.stale = False
        self.refused: dict[Address, float] = {}

    def check(self, do: Callable[[], None]) -> None:
        do()
        if self.last and self.empty_since is not None and self.now - self.empty_since >= EMPTY_GRACE:
            self.last = ()
        believed = self.verified or not self.stale or self.now - self.last_at <= STALE_LIMIT
        if self.last and self.empty_since is None and not believed:
            self.last = ()
        if not self.last:
            self.empty_since, self.refused = None, {}
        assert self.state.addresses == self.last

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 14.0, 30.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.check(lambda: self.state.age(self.now))

    @rule(some=st.sets(st.sampled_from([A, B, C]), min_size=1), ttl=st.sampled_from([0.0, 5.0, 600.0]))
    def it_is_found(self, some: set[Address], ttl: float) -> None:
        addresses = tuple(sorted(some))
        self.last, self.last_at, self.empty_since, self.stale = addresses, self.now, None, False
        self.refused = {each: at for each, at in self.refused.items() if each in some}
        self.check(lambda: self.state.tell(found(*addresses, ttl=ttl), self.now))

    @rule()
    def it_is_empty(self) -> None:
        if any(self.now - at <= EMPTY_GRACE for at in self.refused.values()):
            self.last = ()
        elif self.last and self.empty_since is None:
            self.empty_since = self.now
        self.check(lambda: self.state.tell(NOTHING, self.now))

    @rule()
    def nobody_knows(self) -> None:
        if self.last and self.empty_since is None:
            self.stale = True
        self.check(lambda: self.state.tell(BROKEN, self.now))

    @rule(address=st.sampled_from([A, B, C]))
    def a_connect_fails(self, address: Address) -> None:
        if address in self.last:
            self.refused[address] = self.now
        if self.last and self.empty_since is not None:
            self.last = ()
        elif self.stale and not self.verified:
            self.last = tuple(each for each in self.last if each != address)
        self.check(lambda: self.state.connect_failed(address, self.now))

    @invariant()
    def it_is_asked_again_in_time(self) -> None:
        if hasattr(self, "state") and self.state.answered:
            assert self.state.due <= self.now + LONGEST * 1.2


History.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestHistory = History.TestCase
