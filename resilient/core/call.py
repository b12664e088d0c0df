"""The current logical call: what is allowed goes down in it.

One context variable, set only by a policy that has something to say, so that calls without a deadline, a key
or a second attempt pay nothing for it. It is inherited by tasks and by threads that copy the context."""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import NoReturn

from .clock import SYSTEM_CLOCK, Clock
from .errors import PolicyError


class Criticality(enum.Enum):
    """How much a call matters when something must be shed (Google's SRE book, chapter 21). The least goes
    first."""

    SHEDDABLE = "sheddable"
    SHEDDABLE_PLUS = "sheddable_plus"
    CRITICAL = "critical"
    CRITICAL_PLUS = "critical_plus"


class Call:
    """What a logical call may do. Immutable; `current_call` returns the one in force.

    Attributes:
        deadline: the clock's monotonic time at which the call is over, or None.
        attempt: which attempt of the innermost retry runs, from 1.
        idempotency_key: the key of the logical call, the same on every attempt, or None.
        criticality: how much the call matters.
        repeatable: whether the operation may be repeated after it may have happened, where the one who makes
            the call knows (an HTTP client knows its methods); None leaves it to the retry's own options.
    """

    # Defaults stand on the class: a copy writes only what differs, and a deadline is set on every call.
    deadline: float | None = None
    attempt: int = 1
    idempotency_key: str | None = None
    criticality: Criticality = Criticality.CRITICAL
    repeatable: bool | None = None
    _children: dict[str, int] | None = None
    _only_deadline = True  # nothing but the deadline differs from the defaults

    def with_deadline(self, deadline: float, /) -> Call:
        """A copy whose deadline is the earlier of the two."""
        old = self.deadline
        if old is not None and old < deadline:
            return self
        if self._only_deadline:
            call = Call()
        else:
            call = self._copy()
            if self.idempotency_key is not None:
                call._children = self._count()  # the copy counts on with the same numbers
        call.deadline = deadline
        return call

    def with_attempt(self, attempt: int, /) -> Call:
        """A copy for another attempt. Child keys are counted anew, so each attempt makes the same ones."""
        call = self._copy()
        call.attempt = attempt
        return call

    def with_key(self, key: str, /) -> Call:
        """A copy with an idempotency key of its own."""
        call = self._copy()
        call.idempotency_key = key
        return call

    def with_repeatable(self, repeatable: bool | None, /) -> Call:
        """A copy that says whether the operation may be repeated."""
        if self is NO_CALL:
            return _REPEATABLE if repeatable else _NOT_REPEATABLE if repeatable is False else self
        call = self._copy()
        call.repeatable, call._children = repeatable, self._children
        return call

    def with_criticality(self, criticality: Criticality, /) -> Call:
        """A copy with another criticality."""
        call = self._copy()
        call.criticality = criticality
        if self.idempotency_key is not None:
            call._children = self._count()
        return call

    def _copy(self) -> Call:
        """All but the count of child keys."""
        call = Call()
        call._only_deadline = False
        call.deadline = self.deadline
        call.attempt = self.attempt
        call.idempotency_key = self.idempotency_key
        call.criticality = self.criticality
        call.repeatable = self.repeatable
        return call

    def _count(self) -> dict[str, int]:
        if self._children is None:
            self._children = {}
        return self._children

    def child_key(self, operation: str, /, label: str | None = None) -> str | None:
        """The key for a call made inside this one; None where this one has no key.

        The same parent key, operation and label give the same child key in every process, so a redelivered
        job sends the same keys. Without a label the calls of one operation are numbered in the order in which
        they are made: give labels where that order can change."""
        if self.idempotency_key is None:
            return None
        if label is None:
            counts = self._count()
            number = counts.get(operation, 0) + 1
            counts[operation] = number
            label = str(number)
        from .keys import child_key

        return child_key(self.idempotency_key, operation, label)

    def remaining(self, clock: Clock = SYSTEM_CLOCK, /) -> float | None:
        """Seconds left until the deadline, 0.0 when it is over; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - clock.monotonic())

    def __repr__(self) -> str:
        key = "" if self.idempotency_key is None else ", idempotency_key=..."
        level = self.criticality.value
        return f"Call(deadline={self.deadline}, attempt={self.attempt}{key}, criticality={level})"


NO_CALL = Call()
_REPEATABLE, _NOT_REPEATABLE = NO_CALL._copy(), NO_CALL._copy()  # what most requests begin with
_REPEATABLE.repeatable, _NOT_REPEATABLE.repeatable = True, False
CURRENT: ContextVar[Call] = ContextVar("resilient_call", default=NO_CALL)

current_call = CURRENT.get
"""The call in force in this context; one without limits where no policy has set any."""


def put_back(token: Token[Call], /) -> None:
    """Undo a ``CURRENT.set``, also where a coroutine that was left behind is closed in another context: there
    is nothing to put back there, and an error would be taken for the callee's."""
    try:
        CURRENT.reset(token)
    except ValueError:
        pass


class Scope:
    """A block in which the Call says more: ``with``, in sync and async code alike. May be entered again, also inside
    itself.

    Args:
        name: of the function that made it.
        change: makes the Call of the block from the one outside.
    """

    __slots__ = ("_change", "_name", "_tokens")

    def __init__(self, name: str, change: Callable[[Call], Call]) -> None:
        self._name = name
        self._change = change
        self._tokens: list[Token[Call]] = []

    def __enter__(self) -> Call:
        call = self._change(CURRENT.get())
        self._tokens.append(CURRENT.set(call))
        return call

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        put_back(self._tokens.pop())

    def __call__(self, fn: object, /) -> NoReturn:
        # As a decorator it would be over before an async function began.
        instead = "Timeout(1.5)" if self._name == "deadline" else "a with block inside the function"
        raise PolicyError(
            f"{self._name} is a block, no decorator: write `with {self._name}(...):`, or {instead}"
        )


def deadline(seconds: float, /, *, clock: Clock = SYSTEM_CLOCK) -> Scope:
    """Everything inside is over ``seconds`` from now, or at the deadline already in force if that is earlier.

    Works in sync and async code alike (as a plain ``with``). It stops nothing by itself: every wait of ours
    inside draws on it (backoff, limiter, queue, the HTTP layer), and no attempt is started after it.

    Args:
        seconds: more than 0.
        clock: the clock that the pipelines inside use.

    Example:
        >>> with deadline(1.5) as call:
        ...     assert call.remaining() <= 1.5
    """
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < float("inf"):
        raise PolicyError(
            f"deadline: seconds={seconds!r} must be a number of more than 0; write deadline(1.5) for 1.5 seconds"
        )
    return Scope("deadline", lambda call: call.with_deadline(clock.monotonic() + seconds))


def criticality(level: Criticality | str, /) -> Scope:
    """Everything inside matters as much as ``level`` says.

    Example:
        >>> with criticality("sheddable") as call:
        ...     assert call.criticality is Criticality.SHEDDABLE
    """
    try:
        chosen = Criticality(level)
    except ValueError:
        names = ", ".join(repr(each.value) for each in Criticality)
        raise PolicyError(f"criticality: {level!r} is not a level; write one of {names}") from None
    return Scope("criticality", lambda call: call.with_criticality(chosen))
