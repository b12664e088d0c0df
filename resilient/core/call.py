"""The current logical call: what is allowed goes down in it.

One context variable, set only by a policy that has something to say, so that calls without a deadline, a key
or a second attempt pay nothing for it. It is inherited by tasks and by threads that copy the context."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

from .clock import SYSTEM_CLOCK, Clock
from .errors import PolicyError


class Criticality(enum.Enum):
    """How much a call matters when something must be shed (Google's SRE book, chapter 21). The least goes
    first."""

    SHEDDABLE = "sheddable"
    SHEDDABLE_PLUS = "sheddable_plus"
    CRITICAL = "critical"
    CRITICAL_PLUS = "critical_plus"


class Rest(NamedTuple):
    """What a Call says beside its times. Most calls say nothing, and share `PLAIN`."""

    idempotency_key: str | None = None
    criticality: Criticality = Criticality.CRITICAL
    numbers: dict[str, itertools.count[int]] | None = None
    """Of the children of each operation, where there is a key."""
    place: str = ""
    """Of the retry that makes this attempt, among the retries inside the keyed call."""


PLAIN = Rest()
make_call = object.__new__
"""A deadline is set on every call, and an ``__init__`` would cost as much again. Who makes one sets all four fields."""


class Call:
    """What a logical call may do. Immutable; `current_call` returns the one in force.

    Attributes:
        deadline: the clock's monotonic time at which the call is over, or None.
        attempt: which attempt of the innermost retry runs, from 1.
        began: when the call of that retry began, by the clock; None in first attempts.
        rest: what else it says; for the library's own use.
    """

    __slots__ = ("attempt", "began", "deadline", "rest")
    deadline: float | None
    attempt: int
    began: float | None
    rest: Rest

    @property
    def idempotency_key(self) -> str | None:
        """The key of the logical call, the same on every attempt, or None."""
        return self.rest.idempotency_key

    @property
    def criticality(self) -> Criticality:
        """How much the call matters."""
        return self.rest.criticality

    def with_deadline(self, deadline: float, /) -> Call:
        """A copy whose deadline is the earlier of the two."""
        old = self.deadline
        if old is not None and old < deadline:
            return self
        call = make_call(Call)
        call.deadline = deadline
        call.attempt = self.attempt
        call.began = self.began
        call.rest = self.rest
        return call

    def with_key(self, key: str, /) -> Call:
        """A copy with an idempotency key of its own, whose children are numbered from 1."""
        return self._with(idempotency_key=key, numbers={}, place="")

    def for_retry(self, operation: str, /) -> Call:
        """A copy for a retry that begins inside this keyed call.

        Children of the retry's attempts are numbered within its own place, so that each attempt gives them the same
        keys, and never those of a call beside the retry."""
        place = f"{self.rest.place}{operation} {self._next(f'retry {operation}')}/"
        return self._with(place=place, numbers={})

    def with_attempt(self, attempt: int, began: float | None = None, /) -> Call:
        """A copy for another attempt of the retry that this Call belongs to; its children are numbered anew."""
        rest = self.rest
        if rest.numbers is not None:
            rest = rest._replace(numbers={})
        call = make_call(Call)
        call.deadline = self.deadline
        call.attempt = attempt
        call.began = began
        call.rest = rest
        return call

    def with_criticality(self, criticality: Criticality, /) -> Call:
        """A copy with another criticality."""
        return self._with(criticality=criticality)

    def _with(self, **changes: Any) -> Call:
        call = make_call(Call)
        call.deadline, call.attempt, call.began = self.deadline, self.attempt, self.began
        call.rest = self.rest._replace(**changes)
        return call

    def _next(self, operation: str) -> int:
        """The number of the next child of its kind: each is given once, however many threads ask."""
        numbers = self.rest.numbers
        assert numbers is not None
        return next(numbers.setdefault(operation, itertools.count(1)))

    def child_key(self, operation: str, /, label: str | None = None) -> str | None:
        """The key for a call made inside this one; None where this one has no key.

        The same parent key, operation and label give the same child key in every process, so a redelivered
        job sends the same keys. Without a label the calls of one operation are numbered in the order in which
        they are made, within the retry that makes them: give labels where that order can change."""
        rest = self.rest
        if rest.idempotency_key is None:
            return None
        from .keys import child_key

        if label is None:
            return child_key(rest.idempotency_key, operation, rest.place, str(self._next(operation)))
        return child_key(rest.idempotency_key, operation, label)

    def remaining(self, clock: Clock = SYSTEM_CLOCK, /) -> float | None:
        """Seconds left until the deadline, 0.0 when it is over; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - clock.monotonic())

    def __repr__(self) -> str:
        key = "" if self.idempotency_key is None else ", idempotency_key=..."
        level = self.criticality.value
        return f"Call(deadline={self.deadline}, attempt={self.attempt}{key}, criticality={level})"


NO_CALL = make_call(Call)
NO_CALL.deadline, NO_CALL.attempt, NO_CALL.began, NO_CALL.rest = None, 1, None, PLAIN
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
    itself, and by several tasks and threads at once.

    Args:
        name: of the function that made it.
        change: makes the Call of the block from the one outside.
    """

    __slots__ = ("_change", "_name")

    def __init__(self, name: str, change: Callable[[Call], Call]) -> None:
        self._name = name
        self._change = change

    def __enter__(self) -> Call:
        call = self._change(CURRENT.get())
        _ENTERED.set((self, CURRENT.set(call), _ENTERED.get()))
        return call

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        entered = _ENTERED.get()
        if entered is None or entered[0] is not self:
            return  # a coroutine that was left behind is closed in another context
        try:
            CURRENT.reset(entered[1])
        except ValueError:
            return  # the same, inside another use of this block
        _ENTERED.set(entered[2])

    def __call__(self, fn: object, /) -> NoReturn:
        # As a decorator it would be over before an async function began.
        instead = "Timeout(1.5)" if self._name == "deadline" else "a with block inside the function"
        raise PolicyError(
            f"{self._name} is a block, no decorator: write `with {self._name}(...):`, or {instead}"
        )


_Entered = tuple[Scope, Token[Call], "_Entered | None"]
_ENTERED: ContextVar[_Entered | None] = ContextVar("resilient_entered", default=None)
"""The blocks that this context is in, the innermost first, with what puts back the Call outside each."""


def deadline(seconds: float, /, *, clock: Clock = SYSTEM_CLOCK) -> Scope:
    """Everything inside is over ``seconds`` from now, or at the deadline already in force if that is earlier.

    Works in sync and async code alike (as a plain ``with``). It stops nothing by itself: every wait of ours
    inside draws on it (backoff, limiter, queue, the HTTP layer), and no attempt of a retry, of a time-out or over
    HTTP is started after it.

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
