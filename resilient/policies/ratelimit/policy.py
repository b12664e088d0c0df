"""The rate limit as a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.errors import PolicyError
from ...core.forks import tell_after_fork
from ...core.options import seconds
from ...core.policy import Gate, Policy, Wait, teller
from .options import RateLimitOptions
from .state import Bucket, KeyedBuckets, check_cost, too_late


class RateLimit(Gate[float]):
    """At most so many calls in a time, with bursts: a token bucket.

    Args:
        rate: a `limits` string such as ``"200/second"`` or ``"10 per 2 minutes"``, or an item of `limits`.
        burst: calls that a full bucket lets pass at once; 1 or more. None: the amount of the rate.
        cost: tokens that a call takes: a number, or a function of the call's arguments.
        max_wait: seconds that a call may wait for its token; 0: reject at once. The token is reserved for it,
            in the order of arrival. A wait that the call's deadline cannot pay is refused at once.
        key: gives, from the call's arguments, whose bucket is meant; any hashable. None: one bucket for all.
        max_keys: keys in use at once.
        overflow: what a new key meets past ``max_keys``: ``"refuse"``, or ``"share"`` one bucket with the
        others.
        name: shown in rejections and events.

    Raises:
        PolicyError: an option outside its range.

    A token is taken per attempt, and given back when the call never ran (a policy further in said no, or the
    waiter was cancelled), as far as it has not flowed in again since; not when it ran and was cancelled. A key that is
    in use is never evicted.

    Thread-safe; one object serves sync and async functions. No thread, no timer; an idle key costs nothing.

    Source: GCRA, ITU-T I.371; the notation is that of `limits`.

    Example:
        >>> from resilient import RateLimit, RateLimited
        >>> limit = RateLimit("2/hour")
        >>> @limit
        ... def report(): return "sent"
        >>> report(), report()
        ('sent', 'sent')
        >>> try: report()
        ... except RateLimited as error: print(error.reason)
        empty
    """

    kind = "ratelimit"

    def __init__(
        self,
        rate: Any,
        *,
        burst: int | None = None,
        cost: int | Callable[..., int] = 1,
        max_wait: float = 0.0,
        key: Callable[..., Any] | None = None,
        max_keys: int = 1_000_000,
        overflow: str = "refuse",
        name: str | None = None,
    ) -> None:
        self.options = RateLimitOptions(rate, burst, cost, max_wait, key, max_keys, overflow, name)
        self.name = name
        self._bucket = Bucket(self.options, teller(self))
        self._buckets = KeyedBuckets(self.options, teller(self)) if key is not None else None
        self.selects = key is not None or callable(cost)
        if not self.selects and cost == 1:
            # The state machine's own method stands in for the one below: one frame less on every call.
            self.admit = self._bucket.admit  # type: ignore[method-assign]  # one frame less on each call
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._bucket.after_fork()
        if self._buckets is not None:
            self._buckets.after_fork()

    def admit(self, now: float, /) -> float | Wait[float]:
        if self._buckets is not None or callable(self.options.cost):
            raise PolicyError(
                "RateLimit.guard(): key= and cost= need the call's arguments; decorate the function, or "
                "name them: "
                "limit.select(args, kwargs).guard()"
            )
        return self._bucket.admit_cost(now, self.options.cost)

    def cancel(self, permit: float, now: float, /) -> None:
        assert not callable(self.options.cost)
        self._bucket.give_back(permit, self.options.cost, now)

    def settle(self, wait: Wait[float], now: float, /) -> float:
        return _settle(self, wait, now, self.options)

    def abandon(self, wait: Wait[float], now: float, /) -> None:
        assert wait.permit is not None
        self._bucket.give_back(wait.permit, wait.cost, now)

    def select(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Gate[float]:
        options = self.options
        cost = check_cost(options.cost(*args, **kwargs), options) if callable(options.cost) else options.cost
        key = None
        if options.key is not None:
            key = options.key(*args, **kwargs)
            try:
                hash(key)
            except TypeError:
                raise PolicyError(
                    f"RateLimit: key gave a {type(key).__name__}, which has no hash; write "
                    "key=lambda request: request.tenant, which gives a text"
                ) from None
        return _Selected(self, self._bucket, self._buckets, key, cost)

    def retune(self, options: RateLimitOptions, now: float, /) -> None:
        self.options = options
        self._bucket.retune(options, now)
        if self._buckets is not None:
            self._buckets.retune(options, now)

    def hold(self, seconds: float, /) -> None:
        """No token for so many seconds: the callee says that it takes no call until then. Clients of this library do it
        where an answer says so. Waiters that have a token reserved keep it; a longer hold stays.

        Raises:
            PolicyError: seconds of less than 0; or the limit has ``key=``, and it is not known whose bucket is meant.
        """
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not 0 <= seconds < float("inf")
        ):
            raise PolicyError(
                f"RateLimit.hold: seconds={seconds!r} must be a number of at least 0; write limit.hold(2.5)"
            )
        if self._buckets is not None:
            raise PolicyError(
                "RateLimit.hold: a limit with key= has many buckets, and which is meant is not known"
            )
        self._bucket.hold(self.clock.monotonic() + seconds)

    def available(self) -> int:
        """Whole tokens in the bucket now; of a keyed limit, those of the bucket without a key."""
        return self._bucket.available(self.clock.monotonic())

    @property
    def keys(self) -> int:
        """Keys that are held."""
        return len(self._buckets) if self._buckets is not None else 0

    def describe(self, outer: tuple[Policy, ...] = (), inner: tuple[Policy, ...] = (), /) -> str:
        o = self.options
        parts = [o.rate.text, f"burst {o.burst}"]
        if callable(o.cost) or o.cost != 1:
            parts.append("cost per call" if callable(o.cost) else f"cost {o.cost}")
        if o.max_wait:
            parts.append(f"waits {seconds(o.max_wait)}")
        if o.key is not None:
            parts.append(f"per key, {o.max_keys} keys")
        if o.state is not None:
            parts.append(o.state)
        return f"RateLimit({', '.join(parts)})"


class _Selected(Gate[float]):
    """The limit as one call sees it: its key and its cost."""

    kind = "ratelimit"
    __slots__ = ("_bucket", "_buckets", "_cost", "_key")

    def __init__(
        self, limit: RateLimit, bucket: Bucket, buckets: KeyedBuckets | None, key: Any, cost: int
    ) -> None:
        self.name, self.operation, self.clock = limit.name, limit.operation, limit.clock
        self._bucket = bucket
        self._buckets = buckets
        self._key = key
        self._cost = cost

    def admit(self, now: float, /) -> float | Wait[float]:
        if self._buckets is None:
            return self._bucket.admit_cost(now, self._cost)
        return self._buckets.admit(self._key, self._cost, now)

    def cancel(self, permit: float, now: float, /) -> None:
        if self._buckets is None:
            self._bucket.give_back(permit, self._cost, now)
        else:
            self._buckets.give_back(self._key, permit, self._cost, now)

    def settle(self, wait: Wait[float], now: float, /) -> float:
        return _settle(self, wait, now, self._bucket.options)

    def abandon(self, wait: Wait[float], now: float, /) -> None:
        assert wait.permit is not None
        self.cancel(wait.permit, now)


def _settle(gate: Gate[float], wait: Wait[float], now: float, options: RateLimitOptions) -> float:
    assert wait.ready_at is not None
    assert wait.permit is not None
    if now >= wait.ready_at:
        return wait.permit
    gate.abandon(wait, now)
    raise too_late(options, wait.ready_at - now)
