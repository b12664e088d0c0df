"""The bucket: GCRA, in whole nanoseconds. No I/O; the time is passed in; one lock.

The generic cell rate algorithm keeps one number, the theoretical arrival time of the next call if all calls
so far were evenly spaced. A call of cost ``n`` at ``t`` moves it from ``max(tat, t)`` to that plus ``n``
intervals, and may go when the result is at most ``burst`` intervals ahead of ``t``. Equal to a token bucket
that starts full (ITU-T I.371). Whole numbers, because with floats a full bucket admits one call less than
``burst`` in half of all settings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, Self

from ...core.errors import PolicyError, RateLimited
from ...core.options import OBSERVE
from ...core.policy import Wait
from .options import NANOSECONDS, RateLimitOptions

_SWEEP = 64
"""Keys of the older half that are let go per admission."""
_LOOK = 4_096
"""Keys that are looked at for one that is full, where there is no room for a new one: less than a millisecond."""


class Bucket:
    """One token bucket. A permit is the time at which the bucket is full again, if nobody else calls.

    The arrival time is kept as a moment at which the bucket was full, plus the nanoseconds that were taken
    since: a call that finds it full again, as most do, writes two numbers and calculates nothing."""

    __slots__ = (
        "_full_at",
        "_full_then",
        "_gap",
        "_held",
        "_interval",
        "_lock",
        "_max_wait",
        "_observed",
        "_span",
        "_taken",
        "options",
    )

    def __init__(
        self, options: RateLimitOptions, observed: Callable[[RateLimited], None] = lambda _: None
    ) -> None:
        self._lock = threading.RLock()
        self._observed = observed
        self._use(options)
        self._full_then = 0.0  # when the bucket was full; guarded by _lock
        self._taken = 0  # nanoseconds taken since; guarded by _lock
        self._full_at = float("-inf")  # when it will be full again; guarded by _lock
        self._held = 0  # nanoseconds until which there is no token, see `hold`; guarded by _lock

    def _use(self, options: RateLimitOptions) -> None:
        self.options = options
        self._interval: int = options.rate.interval
        self._gap: float = options.rate.interval / NANOSECONDS
        self._span: int = options.rate.interval * options.capacity
        self._max_wait = int(options.max_wait * NANOSECONDS)

    def retune(self, options: RateLimitOptions, now: float) -> None:
        """Go on with another rate or burst, as full as before."""
        t = int(now * NANOSECONDS)
        with self._lock:
            arrival, old = self._arrival(), self.options
            self._use(options)
            if arrival > t:
                self._full_then = 0.0
                if t < self._held:  # until then as before; what is reserved for later stays so many tokens
                    late = arrival - _held_arrival(self._held, old)
                    arrival = _held_arrival(self._held, options) + late * self._interval // old.rate.interval
                else:
                    arrival = rescaling(t, old, options)(arrival)
                self._taken = arrival
                self._full_at = self._taken / NANOSECONDS

    def hold(self, until: float) -> None:
        """No token before ``until``, and one then: the callee says that it takes no call until then. What was reserved
        before stays reserved, and no hold is shortened."""
        t = int(until * NANOSECONDS)
        with self._lock:
            least = _held_arrival(t, self.options)
            self._held = max(self._held, t)
            if least > self._arrival():
                self._move(least)

    def admit(self, now: float, /) -> float | Wait[float]:
        with self._lock:
            if now >= self._full_at:
                self._full_then = now
                self._taken = self._interval
                self._full_at = full_at = now + self._gap
                return full_at
            # From here on as admit_cost for a cost of 1, without its frame and its lock.
            t = int(now * NANOSECONDS)
            tat = int(self._full_then * NANOSECONDS) + self._taken
            new = (tat if tat > t else t) + self._interval
            early = new - self._span - t
            if early <= self._max_wait:
                self._taken += new - tat
                self._full_at = full_at = new / NANOSECONDS
                if early <= 0 or self.options.state is not None:
                    return full_at
                return reserved(t + early, Reserved(full_at, self._interval), 1)
        if self.options.state is None:
            raise limited(self.options, early, 0)
        return let_by(limited(self.options, early, 0), self.options, self._observed)

    def admit_cost(self, now: float, cost: int) -> float | Wait[float]:
        t = int(now * NANOSECONDS)
        with self._lock:
            tat = self._arrival()
            new = (tat if tat > t else t) + cost * self._interval
            early = new - self._span - t
            if early <= self._max_wait:
                self._move(new)
                if early <= 0 or self.options.state is not None:
                    return self._full_at
                return reserved(t + early, Reserved(self._full_at, self._interval), cost)
        if self.options.state is None:
            raise limited(self.options, early, tokens(self.options, tat, t))
        return let_by(limited(self.options, early, 0), self.options, self._observed)

    def give_back(self, permit: float, cost: int, now: float) -> None:
        """A call that paid ``cost`` never ran."""
        back = outstanding(permit, cost, now, self._interval)
        if back > 0:
            with self._lock:
                arrival = self._arrival() - back
                if now * NANOSECONDS < self._held:
                    arrival = max(arrival, _held_arrival(self._held, self.options))
                self._move(arrival)

    def _arrival(self) -> int:
        """The theoretical arrival time in nanoseconds."""
        return int(self._full_then * NANOSECONDS) + self._taken

    def _move(self, arrival: int) -> None:
        self._taken += arrival - self._arrival()
        self._full_at = arrival / NANOSECONDS

    def available(self, now: float) -> int:
        """Whole tokens in the bucket."""
        with self._lock:
            return tokens(self.options, self._arrival(), int(now * NANOSECONDS))

    def after_fork(self) -> None:
        self._lock = threading.RLock()


def _held_arrival(t: int, options: RateLimitOptions) -> int:
    """The arrival time of a bucket whose next token comes at ``t``."""
    interval: int = options.rate.interval
    return t + interval * (options.capacity - 1)


def rescaling(t: int, old: RateLimitOptions, new: RateLimitOptions) -> Callable[[int], int]:
    """From the arrival time of a bucket to that of one which is as full at ``t`` under other options.

    From the first token to the last it is scaled, so that full stays full, and one stays one: a bucket under pressure
    lets no burst through when it grows. What is reserved stays so many tokens."""
    interval, new_interval = old.rate.interval, new.rate.interval
    top, new_top = t + interval * old.capacity, t + new_interval * new.capacity
    more, per = (new.capacity - 1) * new_interval, max(1, old.capacity - 1) * interval

    def rescaled(arrival: int) -> int:
        level = top - arrival
        if level <= interval:
            return int(new_top - level * new_interval // interval)
        return int(new_top - new_interval - (level - interval) * more // per)

    return rescaled


def tokens(options: RateLimitOptions, tat: int, t: int) -> int:
    interval: int = options.rate.interval
    return max(0, min(options.capacity, (t + interval * options.capacity - max(tat, t)) // interval))


def reserved(ready_at: int, permit: float, cost: int) -> Wait[float]:
    """Tokens that are there at ``ready_at`` nanoseconds."""
    wait = Wait[float](ready_at=ready_at / NANOSECONDS, cost=cost)
    wait.permit = permit
    return wait


class Reserved(float):
    """A permit that is waited for: meanwhile the rate may be changed.

    Attributes:
        interval: nanoseconds of a token when it was reserved.
    """

    __slots__ = ("interval",)
    interval: int

    def __new__(cls, full_at: float, interval: int) -> Self:
        made = super().__new__(cls, full_at)
        made.interval = interval
        return made


class Shared(Reserved):
    """A permit out of the bucket that keys past ``max_keys`` share."""

    __slots__ = ()


def outstanding(permit: float, cost: int, now: float, interval: int) -> int:
    """Nanoseconds of what a call took that have not flowed in again: what did has been there for others, and is not
    given back a second time."""
    took = permit.interval if isinstance(permit, Reserved) else interval
    back = min(cost * took, round(permit * NANOSECONDS) - int(now * NANOSECONDS))
    return back if took == interval else back * interval // took


NO_TOKEN = 0.0
"""The permit of a call that was let by without one: nothing is given back of it."""


def let_by(refusal: RateLimited, options: RateLimitOptions, observed: Callable[[RateLimited], None]) -> float:
    """What a call gets in place of its refusal, where the limit is suspended."""
    if options.state == OBSERVE:
        observed(refusal)
    return NO_TOKEN


def limited(options: RateLimitOptions, early: int, remaining: int) -> RateLimited:
    return RateLimited(
        options.refusal,
        reason="empty",
        limit=options.rate.text,
        retry_after=early / NANOSECONDS,
        remaining=remaining,
        dependency=options.name,
    )


def too_many_keys(options: RateLimitOptions) -> RateLimited:
    return RateLimited(
        f"the rate limit of {options.rate.text} holds {options.max_keys} keys in use, and this one is new",
        reason="too many keys",
        limit=options.rate.text,
        dependency=options.name,
    )


def too_late(options: RateLimitOptions, seconds: float) -> RateLimited:
    """The deadline comes before the token."""
    return RateLimited(
        f"the rate limit of {options.rate.text} could admit it in {seconds:.3f} s, after the deadline",
        reason="deadline",
        limit=options.rate.text,
        retry_after=seconds,
        dependency=options.name,
    )


class KeyedBuckets:
    """One bucket per key, one number each. A live key is never evicted.

    A key whose bucket is full again is the same as one that was never seen. Any key that was not used for the
    time in which an empty bucket fills up is full; so keys live in two halves, the older one is let go after
    that time, and nothing has to be looked for."""

    __slots__ = (
        "_dying",
        "_life",
        "_lock",
        "_new",
        "_none_before",
        "_observed",
        "_old",
        "_overflow",
        "_soonest",
        "_turned",
        "options",
    )

    def __init__(
        self, options: RateLimitOptions, observed: Callable[[RateLimited], None] = lambda _: None
    ) -> None:
        self.options = options
        self._observed = observed
        self._lock = threading.RLock()
        self._life = _life(options)
        self._new: dict[Hashable, int] = {}  # guarded by _lock
        self._old: dict[Hashable, int] = {}  # guarded by _lock
        self._dying: dict[Hashable, int] = {}  # full buckets, let go little by little; guarded by _lock
        self._overflow = 0  # the bucket that keys past max_keys share; guarded by _lock
        self._turned = 0  # guarded by _lock
        self._soonest = 0  # when the first of those that were looked at is full; guarded by _lock
        self._none_before = 0  # until then no key is full, as far as is known; guarded by _lock

    def retune(self, options: RateLimitOptions, now: float) -> None:
        """As `Bucket.retune`, for each key at once: calls wait for it, a quarter of a second for a million keys."""
        t = int(now * NANOSECONDS)
        with self._lock:
            rescaled = rescaling(t, self.options, options)
            known = self._old | self._new
            self._new = {key: rescaled(tat) for key, tat in known.items() if tat > t}
            self._old, self._dying = {}, {}
            self._overflow = rescaled(max(t, self._overflow))
            self._none_before = 0  # they are full at other times than were looked for
            self.options, self._life, self._turned = options, _life(options), t

    def admit(self, key: Hashable, cost: int, now: float) -> float | Wait[float]:
        t = int(now * NANOSECONDS)
        with self._lock:
            options = self.options
            interval = options.rate.interval
            if t - self._turned >= self._life or self._dying:
                self._turn(t)
            found = self._new.get(key)
            if found is None:
                found = self._old.pop(key, None)
            shared = (
                found is None
                and len(self._new) + len(self._old) >= options.max_keys
                and not self._make_room(t)
            )
            full = shared and options.overflow == "refuse"
            tat = self._overflow if shared else found or 0
            new = (tat if tat > t else t) + cost * interval
            early = new - interval * options.capacity - t
            if not full and (early <= 0 or early <= int(options.max_wait * NANOSECONDS)):
                if shared:
                    self._overflow = new
                else:
                    self._new[key] = new
                full_at = new / NANOSECONDS
                if shared:
                    permit: float = Shared(full_at, interval)
                else:
                    permit = Reserved(full_at, interval) if early > 0 else full_at
                waits = early > 0 and options.state is None
                return reserved(t + early, permit, cost) if waits else permit
            if not shared and found is not None:
                self._new[key] = found
        if options.state is None:
            raise too_many_keys(options) if full else limited(options, early, tokens(options, tat, t))
        refused = too_many_keys(options) if full else limited(options, early, 0)
        return let_by(refused, options, self._observed)

    def give_back(self, key: Hashable, permit: float, cost: int, now: float) -> None:
        """A call that paid ``cost`` never ran."""
        back = outstanding(permit, cost, now, self.options.rate.interval)
        if back <= 0:
            return
        with self._lock:
            if isinstance(permit, Shared):
                self._overflow -= back
                return
            for half in (self._new, self._old):
                if key in half:
                    half[key] -= back
                    self._none_before = min(self._none_before, half[key])
                    return
            # It was full, and was let go: there is nothing to give back.

    def _turn(self, t: int) -> None:
        if t - self._turned >= self._life:
            self._dying = self._old if len(self._old) > _SWEEP else {}
            self._old, self._new, self._turned = self._new, {}, t
        # A dict of a million keys takes tens of milliseconds to free at once.
        for _ in range(min(_SWEEP, len(self._dying))):
            self._dying.popitem()

    def _make_room(self, t: int) -> bool:
        """Let go of a key that is full by now; part of them is looked at, so that no call takes long."""
        if t < self._none_before:
            return False
        if not self._old:
            # Begin to look at all of them: what is moved here and not used again is full when its time comes.
            self._old, self._new, self._turned = self._new, {}, t
            self._soonest = (
                t + self.options.rate.interval
            )  # those that are used meanwhile are not full before that
        for _ in range(min(_LOOK, len(self._old))):
            key, tat = self._old.popitem()
            if tat <= t:
                return True
            self._new[key] = tat
            self._soonest = min(self._soonest, tat)
        if not self._old:
            self._none_before = self._soonest  # all of them were looked at in vain
        return False

    def __len__(self) -> int:
        with self._lock:
            return len(self._new) + len(self._old)

    def after_fork(self) -> None:
        self._lock = threading.RLock()


def _life(options: RateLimitOptions) -> int:
    """Nanoseconds after which a key that nobody used is full again."""
    interval: int = options.rate.interval
    return interval * options.capacity + int(options.max_wait * NANOSECONDS)


def check_cost(cost: Any, options: RateLimitOptions) -> int:
    """A cost that a user's function gave."""
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 1:
        raise PolicyError(
            f"RateLimit: cost gave {cost!r}; it must give a whole number of at least 1; write "
            "cost=lambda batch: max(1, len(batch))"
        )
    if cost > options.capacity and options.state is None:
        raise RateLimited(
            f"a call of cost {cost} can never pass a burst of {options.burst}; raise burst= or split the "
            "call",
            reason="cost above burst",
            limit=options.rate.text,
            dependency=options.name,
        )
    return cost
