"""What is known of one name: the state machine of discovery. No I/O; the time is passed in.

Three kinds of answers, each with its own grace (Envoy got two of them wrong, at different times):

- *found*: the endpoints are these.
- *empty*: the name does not exist or has no addresses. A headless Service without ready pods looks like that, and so
  does one that was deleted. The last endpoints are kept for a moment, unless connects to them fail.
- *failed*: the nameserver is broken, the Service probably is not. The last endpoints are kept: for ever where their
  certificate proves who they are, else only as long as their addresses can be believed to be theirs.

::

    unresolved --found--> ready --empty--> fading --grace over, or a connect failed--> empty
                            |                                                            ^
                            +---------------empty, and a connect failed just now---------+
                            ^ \\--failed--> stale  --too old, and no certificate-----> unresolved
                            +------------------found again, from anywhere------------------+
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from typing import NamedTuple

from .address import Address

UNRESOLVED = "unresolved"
READY = "ready"
FADING = "fading"
EMPTY = "empty"
STALE = "stale"

SHORTEST, LONGEST = 1.0, 30.0
"""Seconds between two refreshes of a name, whatever its TTL says."""
EMPTY_GRACE = 15.0
"""Seconds for which the last endpoints are kept after the name became empty."""
EMPTY_REFRESH = 5.0
"""Seconds between two refreshes of a name that nobody calls and that has no endpoints: CoreDNS' own negative TTL."""
SOON = 1.0
"""Seconds between two refreshes while there is a reason to hurry."""
BACKOFF = (0.5, 5.0)
"""Seconds until a nameserver that failed is asked again: the first time, and at most."""
STALE_LIMIT = 60.0
"""Seconds after the last answer for which an address without a certificate is believed: addresses are given to other
pods."""


class Kind(enum.Enum):
    """What an answer is."""

    FOUND = "found"
    EMPTY = "empty"
    FAILED = "failed"


class Answer(NamedTuple):
    """One answer.

    Attributes:
        kind: which of the three.
        addresses: what was found, sorted, each once.
        ttl: seconds.
        why: for people: the answer's code, or what went wrong.
    """

    kind: Kind
    addresses: tuple[Address, ...] = ()
    ttl: float = 0.0
    why: str = ""


class Resolution:
    """What is known of one name, and when to ask again.

    Args:
        verified: whether a certificate proves to the caller whom it reached.
        rand: gives numbers in [0, 1).

    Attributes:
        addresses: where calls may go.
        status: ``unresolved``, ``ready``, ``fading``, ``empty`` or ``stale``.
        answered: whether any answer came yet.
        due: the time of the next refresh.
        why: the last answer that was not good, for people.
    """

    __slots__ = (
        "_asked_at",
        "_empty_since",
        "_failures",
        "_found_at",
        "_rand",
        "_refused",
        "_verified",
        "addresses",
        "answered",
        "due",
        "status",
        "why",
    )

    def __init__(self, *, verified: bool, rand: Callable[[], float] = random.random) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.status = UNRESOLVED
        self.answered = False
        self.due = float("-inf")
        self.why = ""
        self._verified = verified
        self._rand = rand
        self._asked_at = float("-inf")
        self._found_at = float("-inf")
        self._empty_since: float | None = None
        self._failures = 0
        self._refused: dict[Address, float] = {}  # those in the set to which a connect failed, and when

    def tell(self, answer: Answer, now: float, /) -> None:
        """An answer came."""
        self.answered = True
        self._asked_at = now
        if answer.kind is Kind.FOUND:
            self.addresses, self.status, self.why = answer.addresses, READY, ""
            self._found_at, self._empty_since, self._failures = now, None, 0
            if self._refused:
                self._refused = {each: at for each, at in self._refused.items() if each in answer.addresses}
            self.due = now + self._jittered(min(LONGEST, max(SHORTEST, answer.ttl)))
        elif answer.kind is Kind.EMPTY:
            self._failures = 0
            self.why = answer.why
            self._empty(now)
        else:
            self._failures += 1
            self.why = answer.why
            if self.addresses and self._empty_since is None:
                self.status = STALE
            first, most = BACKOFF
            self.due = now + self._jittered(min(most, first * 2.0 ** min(self._failures - 1, 16)))
            self.age(now)

    def age(self, now: float, /) -> None:
        """Time passed without an answer: what can no longer be believed is dropped."""
        if not self.addresses:
            return
        if self._empty_since is not None:
            if now - self._empty_since >= EMPTY_GRACE:
                self._drop(EMPTY)
        elif not self._verified and self.status == STALE and now - self._found_at > STALE_LIMIT:
            self._drop(UNRESOLVED)

    def wake(self, now: float, /) -> None:
        """Nobody asked for a while, and somebody will again: what may be wrong by now is known no longer."""
        self.age(now)
        if now - self._asked_at > STALE_LIMIT and not (self._verified and self.addresses):
            self.answered = False

    def connect_failed(self, address: Address, now: float, /) -> None:
        """A connection to an endpoint could not be made: ask again soon."""
        if address in self.addresses:
            self._refused[address] = now
        if self._empty_since is not None:
            self._drop(EMPTY)
        elif self.status == STALE and not self._verified:
            self.addresses = tuple(each for each in self.addresses if each != address)
            if not self.addresses:
                self._drop(UNRESOLVED)
        self.hurry(now)

    def hurry(self, now: float, /) -> None:
        """There is a reason to ask before the time."""
        self.due = min(self.due, max(now, self._asked_at + self._jittered(SOON)))

    def _empty(self, now: float) -> None:
        if not self.addresses:
            self._drop(EMPTY)
            self.due = now + self._jittered(EMPTY_REFRESH)
            return
        if any(now - at <= EMPTY_GRACE for at in self._refused.values()):
            self._drop(EMPTY)  # two witnesses: nobody listens there, and no name leads there
            self.due = now + self._jittered(SOON)
            return
        if self._empty_since is None:
            self._empty_since = now
        self.status = FADING
        self.due = now + self._jittered(SOON)
        self.age(now)

    def _drop(self, status: str) -> None:
        self.addresses, self.status, self._empty_since, self._refused = (), status, None, {}

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.8 + 0.4 * self._rand())
