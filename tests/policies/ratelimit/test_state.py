"""The bucket beside a token bucket in fractions, by its definition: what flows in, what is taken, no more than full."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from resilient import PolicyError, RateLimited, Wait
from resilient.policies.ratelimit.options import RateLimitOptions
from resilient.policies.ratelimit.state import Bucket, KeyedBuckets, check_cost, too_late

TICK = 1 / 512  # seconds: exact in binary and in whole nanoseconds
RATES = ["1/second", "8/second", "10/second", "1000/second", "3 per 2 minutes", "1/hour"]


class Paid(NamedTuple):
    """What a call took, in both; with the time at which the bucket would have been full again."""

    permit: float
    cost: int
    full_at: Fraction


class Tokens:
    """Tokens flow in at a rate up to the burst. What is reserved goes below nothing."""

    def __init__(self, options: RateLimitOptions) -> None:
        self.full = options.burst or 0
        self.rate = Fraction(options.rate.amount * 10**9, options.rate.period)
        self.max_wait = Fraction(options.max_wait)
        self.level = Fraction(self.full)
        self.last = Fraction(0)
        self.held = Fraction(0)

    def flow(self, now: float) -> None:
        self.level = min(Fraction(self.full), self.level + (Fraction(now) - self.last) * self.rate)
        self.last = Fraction(now)

    def wait(self, cost: int, now: float) -> Fraction:
        self.flow(now)
        return max(Fraction(0), (cost - self.level) / self.rate)

    def take(self, cost: int, now: float) -> Fraction | None:
        wait = self.wait(cost, now)
        if wait > self.max_wait:
            return None
        self.level -= cost
        return wait

    def full_at(self) -> Fraction:
        return self.last + (self.full - self.level) / self.rate

    def give_back(self, paid: Paid, now: float) -> None:
        """What flowed in again since it was paid is not given back."""
        self.flow(now)
        left = (paid.full_at - Fraction(now)) * self.rate
        self.level = min(Fraction(self.full), self.level + min(Fraction(paid.cost), max(Fraction(0), left)))
        self.keep()

    def hold(self, until: float, now: float) -> None:
        """No token before that time, and one then; whatever comes back meanwhile."""
        self.flow(now)
        self.held = max(self.held, Fraction(until))
        self.level = min(self.level, 1 - (Fraction(until) - self.last) * self.rate)

    def keep(self) -> None:
        if self.last < self.held:
            self.level = min(self.level, 1 - (self.held - self.last) * self.rate)

    def whole(self, now: float) -> int:
        self.flow(now)
        return max(0, int(self.level // 1))


def agree(decide: Any, tokens: Tokens, cost: int, now: float) -> Paid | None:
    """Have both decide; what was paid, where they let it in."""
    wait = tokens.wait(cost, now)
    left = tokens.whole(now)
    reserved = tokens.take(cost, now)
    if reserved is None:
        with pytest.raises(RateLimited) as caught:
            decide()
        assert caught.value.reason == "empty"
        assert caught.value.retry_after == pytest.approx(float(wait), abs=1e-9)
        assert caught.value.remaining == left
        return None
    permit = decide()
    if isinstance(permit, Wait):
        assert reserved > 0
        assert permit.ready_at == pytest.approx(float(now + reserved), abs=1e-9)
        assert permit.cost == cost
        permit = permit.permit
    else:
        assert reserved == 0
    assert permit == pytest.approx(float(tokens.full_at()), abs=1e-9)
    return Paid(permit, cost, tokens.full_at())


class BucketMachine(RuleBasedStateMachine):
    taken = Bundle("taken")

    @initialize(
        rate=st.sampled_from(RATES),
        burst=st.sampled_from([1, 2, 3, 7, 50]),
        max_wait=st.sampled_from([0.0, 0.0, 0.25, 1.0, 100.0]),
        start=st.integers(0, 10**8),
    )
    def begin(self, rate: str, burst: int, max_wait: float, start: int) -> None:
        self.options = RateLimitOptions(rate, burst=burst, max_wait=max_wait)
        self.bucket = Bucket(self.options)
        self.tokens = Tokens(self.options)
        self.interval = self.options.rate.interval / 10**9
        self.now = start * TICK

    @rule(ticks=st.integers(1, 100))
    def a_moment_passes(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule(intervals=st.integers(1, 60))
    def tokens_flow_in(self, intervals: int) -> None:
        self.now += int(intervals * self.interval / TICK) * TICK

    @rule(target=taken)
    def one_call(self) -> Paid | None:
        return agree(lambda: self.bucket.admit(self.now), self.tokens, 1, self.now)

    @rule(target=taken, cost=st.integers(1, 7))
    def one_call_of_some_cost(self, cost: int) -> Paid | None:
        cost = min(cost, self.tokens.full)
        return agree(lambda: self.bucket.admit_cost(self.now, cost), self.tokens, cost, self.now)

    @rule(times=st.integers(2, 60))
    def a_storm(self, times: int) -> None:
        for _ in range(times):
            agree(lambda: self.bucket.admit(self.now), self.tokens, 1, self.now)

    @rule(paid=consumes(taken))
    def one_that_never_ran(self, paid: Paid | None) -> None:
        if paid is not None:
            self.bucket.give_back(paid.permit, paid.cost, self.now)
            self.tokens.give_back(paid, self.now)

    @rule(ticks=st.integers(0, 2_000))
    def the_callee_says_that_it_has_none(self, ticks: int) -> None:
        self.bucket.hold(self.now + ticks * TICK)
        self.tokens.hold(self.now + ticks * TICK, self.now)

    @rule()
    def somebody_looks(self) -> None:
        assert self.bucket.available(self.now) == self.tokens.whole(self.now)


BucketMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestBucket = BucketMachine.TestCase


class KeyedMachine(RuleBasedStateMachine):
    """As long as there is room, each key is a bucket of its own, and never forgotten while it matters."""

    taken = Bundle("taken")

    @initialize(
        rate=st.sampled_from(RATES),
        burst=st.sampled_from([1, 2, 7]),
        max_wait=st.sampled_from([0.0, 0.25, 100.0]),
        start=st.integers(0, 10**6),
    )
    def begin(self, rate: str, burst: int, max_wait: float, start: int) -> None:
        self.options = RateLimitOptions(rate, burst=burst, max_wait=max_wait)
        self.buckets = KeyedBuckets(self.options)
        self.tokens: dict[str, Tokens] = {}
        self.life = burst * self.options.rate.interval / 10**9 + max_wait
        self.used: dict[str, float] = {}
        self.now = start * TICK

    @rule(share=st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0, 1.1, 3.0]))
    def a_part_of_the_time_in_which_a_bucket_fills_passes(self, share: float) -> None:
        self.now += max(1, int(share * self.life / TICK)) * TICK

    @rule(ticks=st.integers(1, 100))
    def a_moment_passes(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule(target=taken, key=st.sampled_from("abcd"), cost=st.integers(1, 3))
    def a_call(self, key: str, cost: int) -> tuple[str, Paid | None]:
        return key, self.ask(key, min(cost, self.options.burst or 1))

    def ask(self, key: str, cost: int) -> Paid | None:
        self.used[key] = self.now
        tokens = self.tokens.setdefault(key, Tokens(self.options))
        return agree(lambda: self.buckets.admit(key, cost, self.now), tokens, cost, self.now)

    @rule(key=st.sampled_from("abcd"))
    def a_storm(self, key: str) -> None:
        for _ in range(10):
            self.ask(key, 1)

    @rule(share=st.sampled_from([0.1, 0.25, 0.3, 0.45, 0.6]), times=st.integers(1, 8))
    def others_call_while_time_passes(self, share: float, times: int) -> None:
        for _ in range(times):
            self.now += max(1, int(share * self.life / TICK)) * TICK
            self.ask("z", 1)

    @rule(key=st.sampled_from("abcd"))
    def all_of_it_is_asked_for(self, key: str) -> None:
        full = self.options.burst
        assert full is not None
        self.one_that_never_ran((key, self.ask(key, full)))

    @rule(call=consumes(taken))
    def one_that_never_ran(self, call: tuple[str, Paid | None]) -> None:
        key, paid = call
        if paid is not None:
            self.buckets.give_back(key, paid.permit, paid.cost, self.now)
            self.tokens[key].give_back(paid, self.now)

    @rule()
    def somebody_counts(self) -> None:
        live = sum(self.now - used < self.life for used in self.used.values())
        assert live <= len(self.buckets) <= len(self.used)


KeyedMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestKeyed = KeyedMachine.TestCase


# ------------------------------------------------------------------------------------------- what it comes down to
@given(st.integers(1, 10**6), st.sampled_from(["second", "minute", "hour", "day"]), st.integers(1, 300))
def test_from_full_it_admits_exactly_its_burst(amount: int, unit: str, burst: int) -> None:
    bucket = Bucket(RateLimitOptions(f"{amount}/{unit}", burst=burst))
    admitted = 0
    for _ in range(burst + 5):
        try:
            bucket.admit(1234.5678)
        except RateLimited:
            break
        admitted += 1
    assert admitted == burst


@given(
    st.integers(1, 2_000),
    st.integers(1, 20),
    st.floats(0, 1e7),
    st.lists(st.floats(0, 0.1), min_size=10, max_size=100),
)
def test_at_any_moments_never_more_than_the_burst_and_what_flowed_in(
    amount: int, burst: int, start: float, pauses: list[float]
) -> None:
    """Not only at moments that are exact: any float, and rates that do not divide a second."""
    bucket = Bucket(RateLimitOptions(f"{amount}/second", burst=burst))
    now, admitted = start, list[float]()
    for pause in pauses:
        now += pause
        for _ in range(burst + 2):
            try:
                bucket.admit(now)
            except RateLimited:
                break
            admitted.append(now)
    for i, first in enumerate(admitted):
        last = admitted[-1]
        count = len(admitted) - i
        # a nanosecond a call is lost to whole numbers, at most
        assert count <= burst + (last - first) * amount + 1e-5 * count + 1e-6 * amount


def test_the_rate_over_a_long_time_is_kept() -> None:
    bucket = Bucket(RateLimitOptions("7/second", burst=1))
    admitted = 0
    for tick in range(100_000):
        try:
            bucket.admit(tick / 1_000)
        except RateLimited:
            continue
        admitted += 1
    # a call is asked for once in a millisecond, so a token may lie there for as long
    assert 100 * 7 * (1 - 0.007) - 1 <= admitted <= 701


def test_while_it_is_held_nothing_that_comes_back_opens_it() -> None:
    bucket = Bucket(RateLimitOptions("1/hour", burst=1))
    permit = bucket.admit(0.0)
    assert isinstance(permit, float)
    bucket.hold(20.0)
    bucket.hold(5.0)  # a shorter one shortens nothing
    bucket.give_back(permit, 1, 1.0)
    with pytest.raises(RateLimited) as caught:
        bucket.admit(19.9)
    assert caught.value.retry_after == pytest.approx(0.1)
    bucket.admit(20.0)
    with pytest.raises(RateLimited):
        bucket.admit(20.0)  # one token, and no burst


def test_a_denied_call_takes_nothing() -> None:
    bucket = Bucket(RateLimitOptions("1/second", burst=3))
    for _ in range(3):
        bucket.admit(0.0)
    for tick in range(99):
        with pytest.raises(RateLimited):
            bucket.admit(tick / 100)
    assert bucket.admit(1.0) == 4.0, "when it is full again"


def test_a_rejection_names_the_limit_and_the_next_token() -> None:
    bucket = Bucket(RateLimitOptions("10 per 2 minutes", burst=2))
    bucket.admit(0.0)
    with pytest.raises(RateLimited) as caught:
        bucket.admit_cost(0.0, 2)
    error = caught.value
    assert (error.limit, error.retry_after, error.remaining) == ("10 per 2 minutes", 12.0, 1)
    assert str(error) == "the rate limit of 10 per 2 minutes (burst 2) has no token; the next in 12.000 s"


def test_past_the_deadline_it_says_so() -> None:
    error = too_late(RateLimitOptions("10/minute"), 2.5)
    assert (error.reason, error.limit, error.retry_after) == ("deadline", "10/minute", 2.5)
    assert str(error) == "the rate limit of 10/minute could admit it in 2.500 s, after the deadline"


@pytest.mark.parametrize("cost", [0, -1, True, 1.0, "2", None])
def test_a_cost_that_is_none_is_refused(cost: Any) -> None:
    with pytest.raises(
        PolicyError,
        match=r"^RateLimit: cost gave .*; it must give a whole number of at least 1; write cost=.*",
    ):
        check_cost(cost, RateLimitOptions("10/second"))


def test_a_cost_above_the_burst_can_never_pass() -> None:
    options = RateLimitOptions("10/second", burst=4)
    assert check_cost(4, options) == 4
    with pytest.raises(RateLimited) as caught:
        check_cost(5, options)
    assert (caught.value.reason, caught.value.limit) == ("cost above burst", "10/second")
    assert "raise burst= or split" in str(caught.value)


@given(
    st.sampled_from([1, 8]),
    st.sampled_from([0.0, 1.0]),
    st.lists(st.tuples(st.integers(0, 10), st.sampled_from("ab")), min_size=5, max_size=25),
)
@settings(max_examples=300)
def test_no_key_is_forgotten_before_it_is_full_again(
    burst: int, max_wait: float, calls: list[tuple[int, str]]
) -> None:
    options = RateLimitOptions("8/second", burst=burst, max_wait=max_wait)
    buckets, now = KeyedBuckets(options), 100.0
    tokens = {"a": Tokens(options), "b": Tokens(options)}
    for sixteenths, key in calls:
        now += sixteenths * (burst / 8 + max_wait) / 16
        while agree(lambda: buckets.admit(key, 1, now), tokens[key], 1, now):  # noqa: B023
            pass


def full_house(overflow: str, keys: int = 3) -> KeyedBuckets:
    buckets = KeyedBuckets(RateLimitOptions("1/second", burst=2, key=str, max_keys=keys, overflow=overflow))
    for number in range(keys):
        buckets.admit(number, 2, 0.0)
    return buckets


def test_past_the_keys_new_ones_are_refused_and_those_in_use_go_on() -> None:
    buckets = full_house("refuse")
    with pytest.raises(RateLimited) as caught:
        buckets.admit("new", 1, 1.0)
    assert (caught.value.reason, caught.value.limit) == ("too many keys", "1/second")
    assert "holds 3 keys in use, and this one is new" in str(caught.value)
    assert [buckets.admit(number, 1, 1.0) for number in range(3)] == [3.0, 3.0, 3.0]
    assert len(buckets) == 3


def test_past_the_keys_new_ones_share_a_bucket_as_set() -> None:
    buckets = full_house("share")
    paid = {key: buckets.admit(key, 1, 0.0) for key in ("new", "newer")}
    assert paid == {"new": 1.0, "newer": 2.0}, "in one bucket"
    with pytest.raises(RateLimited) as caught:
        buckets.admit("newest", 1, 0.0)
    assert (caught.value.reason, caught.value.retry_after) == ("empty", 1.0)
    assert len(buckets) == 3
    for key in ("new", "newer"):
        buckets.give_back(key, paid[key], 1, 0.0)
    assert [buckets.admit("newest", 1, 0.0) for _ in range(2)] == [1.0, 2.0]
    with pytest.raises(RateLimited):
        buckets.admit("newest", 1, 0.0)


def test_a_key_that_is_full_again_makes_room_and_one_in_use_does_not() -> None:
    buckets = full_house("refuse")
    assert buckets.admit(0, 1, 2.0) == 3.0, "a life has passed: all stand in the older half now"
    assert buckets.admit("new", 2, 2.0) == 4.0, "in the place of one that was full again"
    assert len(buckets) == 3
    with pytest.raises(RateLimited) as caught:
        buckets.admit(0, 2, 2.0)
    assert caught.value.remaining == 1, "the one in use kept its account"


def test_to_make_room_only_who_is_full_again_is_let_go() -> None:
    buckets = KeyedBuckets(RateLimitOptions("1/second", burst=3, key=str, max_keys=2))
    buckets.admit("idle", 1, 100.0)
    buckets.admit("busy", 3, 102.9)
    buckets.admit("idle", 1, 103.0)  # a life has passed: "busy" stands in the older half now
    with pytest.raises(RateLimited, match="holds 2 keys in use"):
        buckets.admit("new", 1, 103.5)
    with pytest.raises(RateLimited) as caught:
        buckets.admit("busy", 3, 105.875)
    assert caught.value.remaining == 2
    assert caught.value.retry_after == pytest.approx(0.025)


def test_a_key_in_use_stays_while_the_other_goes() -> None:
    buckets = KeyedBuckets(RateLimitOptions("1/second", burst=3, key=str, max_keys=3))
    buckets.admit("idle", 1, 100.0)
    buckets.admit("busy", 3, 102.9)
    buckets.admit("z", 1, 103.0)
    assert buckets.admit("new", 1, 105.5) == 106.5, "in the place of the idle one"
    assert len(buckets) == 3
    with pytest.raises(RateLimited) as caught:
        buckets.admit("busy", 3, 105.5)
    assert caught.value.remaining == 2


def test_a_token_comes_back_to_its_key_in_whichever_half_it_stands() -> None:
    buckets = KeyedBuckets(RateLimitOptions("1/second", burst=2))
    buckets.admit("z", 1, 100.0)
    paid = buckets.admit("a", 2, 101.5)
    buckets.admit("z", 1, 102.0)  # a life has passed: "a" stands in the older half now
    assert paid == 103.5
    buckets.give_back("a", paid, 2, 102.0)
    assert buckets.admit("a", 2, 102.0) == 104.0, "half a token flowed in, and is not given back again"
    buckets.give_back("a", 104.0, 1, 102.0)
    assert buckets.admit("a", 1, 102.0) == 104.0
    with pytest.raises(RateLimited):
        buckets.admit("a", 1, 102.0)


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 60)), max_size=200))
def test_however_many_come_no_more_are_held_and_none_in_use_is_forgotten(
    max_keys: int, calls: list[tuple[int, int]]
) -> None:
    options = RateLimitOptions("1/second", burst=3, key=str, max_keys=max_keys)
    buckets, tokens, now = KeyedBuckets(options), dict[int, Tokens](), 100.0
    last: dict[int, float] = {}
    for key, ticks in calls:
        now += ticks / 16
        mine = tokens.get(key, Tokens(options))
        live = mine.whole(now) < 3
        recent = sum(now - used <= 2 * 3.0 for used in last.values())
        try:
            agree(lambda: buckets.admit(key, 1, now), mine, 1, now)  # noqa: B023
        except RateLimited as error:
            refused = error.reason
        else:
            refused = None
        if refused is not None:
            assert refused == "too many keys"
            assert not live, "a key in use is never turned away as new"
            assert recent >= max_keys, "there was room"
        else:
            tokens[key] = mine
            last[key] = now
        assert len(buckets) <= max_keys


def test_keys_that_nobody_uses_are_let_go_little_by_little() -> None:
    buckets = KeyedBuckets(RateLimitOptions("1/second", burst=1))
    for key in range(10_000):
        buckets.admit(key, 1, 10.0)
    assert len(buckets) == 10_000
    buckets.admit("x", 1, 11.0)
    buckets.admit("x", 1, 12.0)
    assert len(buckets) == 1, "they are no keys any more"
    sizes = []
    for n in range(200):
        paid = buckets.admit("y", 1, 12.0 + n / 1_000)
        assert isinstance(paid, float)
        buckets.give_back("y", paid, 1, 12.0 + n / 1_000)
        sizes.append(len(buckets._dying))
    steps = [a - b for a, b in zip([10_000 - 64, *sizes], sizes, strict=False)]
    assert max(steps) <= 64, "no call pays for all of them"
    assert sizes[-1] == 0


@pytest.mark.parametrize("make", [Bucket, KeyedBuckets])
def test_after_a_fork_the_lock_is_free_and_the_account_is_kept(make: Any) -> None:
    bucket = make(RateLimitOptions("1/hour", burst=2))
    args = () if make is Bucket else ("key",)
    admit = bucket.admit_cost if make is Bucket else bucket.admit

    def ask(cost: int) -> Any:
        return admit(5.0, cost) if make is Bucket else admit(*args, cost, 5.0)

    ask(1)
    bucket._lock.acquire()
    bucket.after_fork()
    ask(1)
    with pytest.raises(RateLimited):
        ask(1)
