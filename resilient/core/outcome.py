"""What an attempt came to: a verdict for whoever counts, evidence for whoever may repeat it.

`Verdict` has three values because two are not enough: a cancelled call or a local rejection says nothing
about the callee (resilience4j calls it *ignored*, Netflix' concurrency-limits *onIgnore*).

`Evidence` answers one question: may the call have been processed? The classes follow gRPC's proposal A6, with
HTTP signals as evidence."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Verdict(enum.Enum):
    """What one attempt tells an admission policy about the callee."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"

    __hash__ = object.__hash__


SUCCESS = Verdict.SUCCESS
FAILURE = Verdict.FAILURE
IGNORED = Verdict.IGNORED


class Evidence(enum.Enum):
    """How far an attempt that failed provably got."""

    NOT_SENT = "not_sent"
    """Nothing left this process: no endpoint, no connection, a handshake that failed."""
    REFUSED = "refused"
    """It reached the peer's protocol layer and provably never its application (HTTP/2 REFUSED_STREAM,
    GOAWAY)."""
    DECLINED = "declined"
    """The peer said that it did not process it, and asks for less (429, an overload answer with proof)."""
    UNKNOWN = "unknown"
    """It left; what became of it is not known."""
    ANSWERED = "answered"
    """A complete error answer came back."""

    __hash__ = object.__hash__

    @property
    def proves_nothing_happened(self) -> bool:
        """True where repeating cannot make a second effect, whatever the call does."""
        return self in _PROOF


_PROOF = frozenset({Evidence.NOT_SENT, Evidence.REFUSED, Evidence.DECLINED})


@dataclass(frozen=True)
class Report:
    """What happened to a call that failed; stands on the exception as ``exc.resilient``.

    Attributes:
        evidence: how far the last attempt got; over HTTP UNKNOWN where that is so of any attempt, and ANSWERED where an
            earlier one was answered by a failure and the last one provably did nothing.
        attempts: how many times the call was tried; 0 where it was turned away before the first time.
        endpoint: ``host:port`` of the last attempt, where one is known.
        retry_after: seconds that the peer asked us to wait, 0 or more, where it did.
        why_not_retried: why no further attempt was made; None while nobody has decided.
        transient: whether trying again may help; None where the binding that made the report does not know.
        verdict: what admission policies are to make of the failure.
        replayed: whether the server says that the answer is one that it gave before, to an earlier request with the
            same idempotency key.
    """

    evidence: Evidence = Evidence.UNKNOWN
    attempts: int = 1
    endpoint: str | None = None
    retry_after: float | None = None
    why_not_retried: str | None = None
    transient: bool | None = None
    verdict: Verdict = FAILURE
    replayed: bool = False


def report_of(exc: BaseException, /) -> Report | None:
    """The report on an exception, or None."""
    report = exc.__dict__.get("resilient")
    return report if report.__class__ is Report else None


def attach(exc: BaseException, /, **changes: Any) -> Report:
    """Put a report on an exception, or change the one that is there; returns it.

    Written past ``__setattr__``, so that exceptions which refuse attributes carry a report too.
    """
    old = report_of(exc)
    report = Report(**changes) if old is None else replace(old, **changes)
    exc.__dict__["resilient"] = report
    return report


class Unfinished(Generic[T]):
    """A result that is still arriving, such as a response whose body is a stream.

    A function that runs under a pipeline may return one in place of its result: every admission policy then
    keeps its permit, and gives its verdict, when the stream ends instead of when the function returns. The
    caller who unwraps ``result`` must see to it that `end` is called, once, from any thread.

    Args:
        result: what the caller is to have.
        body: what it reads from, with the seconds that it let the reader wait in ``waited``. Its ``drain(seconds)``, or
            ``await adrain(seconds)`` in async code, is called where nobody wants the result: it reads what is left if
            that is little and comes soon, then closes."""

    __slots__ = ("_enders", "body", "result")

    def __init__(self, result: T, body: Any = None) -> None:
        self.result = result
        self.body = body
        self._enders: list[Callable[[BaseException | None], None]] = []

    def waited(self) -> float:
        """Seconds that the reader had to wait for what arrived since; the reader's own pauses do not count."""
        return 0.0 if self.body is None else float(self.body.waited)

    def on_end(self, ender: Callable[[BaseException | None], None], /) -> None:
        """Add what is to be done at the end; those added first (the innermost) are called first."""
        self._enders.append(ender)

    def end(self, exc: BaseException | None = None, /) -> None:
        """The stream ended: with ``exc`` where it broke. Further calls do nothing.

        Every ender is called, whatever one of them raises; the first such error is raised then."""
        broken: BaseException | None = None
        while self._enders:
            try:
                self._enders.pop(0)(exc)
            except BaseException as error:
                broken = broken or error
        if broken is not None:
            raise broken

    def discard(self, seconds: float, /) -> None:
        """Nobody wants it: let go of it within ``seconds``, in a way that keeps the connection."""
        if self.body is not None:
            self.body.drain(seconds)
        self.end()

    async def adiscard(self, seconds: float, /) -> None:
        """The same, in async code."""
        if self.body is not None:
            await self.body.adrain(seconds)
        self.end()


class Discarded(Exception):
    """Base for failures that hold something open (an unread answer), to be let go before the next attempt.

    Not part of the public error tree: a client binding raises it inside its own pipeline and turns it back
    into the answer that it holds.

    Args:
        error_type: what logs, events and metrics call it, such as the status of the answer.
        unfinished: what is still arriving of it; permits and verdicts wait for its end. None: it is all there."""

    def __init__(self, error_type: str, unfinished: Unfinished[Any] | None = None, /) -> None:
        super().__init__(error_type)
        self.error_type = error_type
        self.unfinished = unfinished

    def discard(self, seconds: float, /) -> None:
        """Let go of it; may take up to ``seconds`` to do so in a way that keeps the connection."""
        if self.unfinished is not None:
            self.unfinished.discard(seconds)

    async def adiscard(self, seconds: float, /) -> None:
        """The same, for async drivers."""
        if self.unfinished is not None:
            await self.unfinished.adiscard(seconds)


ERROR_TYPE = "_resilient_error_type"
"""Where a client binding writes on an error of its library what it is to be called, where the class says little."""


def error_type(exc: BaseException, /) -> str:
    """What logs, events and metrics call a failure: its class, or the status of the answer that it holds."""
    if isinstance(exc, Discarded):
        return exc.error_type
    return exc.__dict__.get(ERROR_TYPE) or type(exc).__qualname__
