"""Every error of this library.

::

    ResilientError
     ├─ Rejected                    a local "no": nothing was sent
     │   ├─ CircuitOpen             also pybreaker.CircuitBreakerError once pybreaker is loaded
     │   ├─ RateLimited
     │   ├─ BulkheadFull
     │   └─ NoEndpoints             no pod to send to
     ├─ TimedOut                    also TimeoutError: one attempt; may be retried
     │   └─ DeadlineExceeded        the whole call; never retried
     ├─ OutcomeUnknown              it may have happened
     ├─ IdempotencyError            what became of an idempotency key
     │   ├─ InProgress              the first request with it still runs
     │   ├─ KeyReused               it was used for another request
     │   ├─ KeyRequired             the server wants one
     │   └─ WindowExceeded          the server does not know it any more: nothing was sent
     └─ ConfigError
         ├─ PolicyError             built wrongly
         └─ DocumentError           the config document says something that cannot be

A failure of the callee is not here: the callee's own exception is raised, with a `Report` as
``exc.resilient``. All are picklable; a new object is made for every raise."""

from __future__ import annotations

import sys
from typing import Any


class ResilientError(Exception):
    """Base of all errors of this library.

    Attributes:
        dependency: the name of the pipeline or client, where it has one.
        operation: the function or the HTTP method, where it is known.
    """

    dependency: str | None = None
    operation: str | None = None

    def __init__(self, message: str, /, **fields: Any) -> None:
        super().__init__(message)
        self.__dict__.update(fields)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def __str__(self) -> str:
        where = ".".join(part for part in (self.dependency, self.operation) if part)
        return f"{where}: {self.args[0]}" if where and self.args else "".join(map(str, self.args))


def _rebuild(cls: type[ResilientError], args: tuple[Any, ...], fields: dict[str, Any]) -> ResilientError:
    exc = cls.__new__(cls)
    exc.args = args
    exc.__dict__.update(fields)
    return exc


class Rejected(ResilientError):
    """A policy of ours said no before anything was sent. Never retried, and no verdict on the callee.

    Attributes:
        policy: which policy said no, such as ``"breaker"``.
        reason: why, in one or two words that are stable enough to match on.
        retry_after: seconds after which asking again makes sense, where that is known.
    """

    policy: str = ""
    reason: str = ""
    retry_after: float | None = None


class _PybreakerFace(Exception):
    """Stands where ``pybreaker.CircuitBreakerError`` goes as soon as pybreaker is loaded."""


class CircuitOpen(Rejected, _PybreakerFace):
    """The breaker keeps calls away from a callee that is failing or slow.

    Attributes:
        state: ``"open"``, ``"half_open"`` or ``"forced_open"``.
        last_failure: class name of the failure that opened it.
        last_failure_age: seconds since then.
    """

    policy = "breaker"
    state: str = "open"
    last_failure: str | None = None
    last_failure_age: float | None = None

    def __new__(cls, *args: Any, **fields: Any) -> CircuitOpen:
        _join_pybreaker()
        return super().__new__(cls)


def _join_pybreaker() -> None:
    # pybreaker is not imported for this: whoever wrote `except pybreaker.CircuitBreakerError` has imported
    # it.
    face = getattr(sys.modules.get("pybreaker"), "CircuitBreakerError", None)
    if face is not None and face not in CircuitOpen.__mro__:
        CircuitOpen.__bases__ = (Rejected, face)


class RateLimited(Rejected):
    """The rate limit has no token, or none in time.

    Attributes:
        limit: the limit as it was written, such as ``"200/second"``.
        remaining: whole tokens left for calls that cost less; 0 or more.
    """

    policy = "ratelimit"
    limit: str = ""
    remaining: int = 0

    def __str__(self) -> str:
        # Said when it is read: under a flood far more calls are turned away than anybody looks at.
        text = super().__str__()
        known = self.reason == "empty" and self.retry_after is not None
        return f"{text}; the next in {self.retry_after:.3f} s" if known else text


class BulkheadFull(Rejected):
    """As many calls as allowed are in flight, and the queue is full or did not move in time."""

    policy = "bulkhead"


class FeatureDisabled(Rejected):
    """The feature is switched off, and there is no fallback for it.

    Attributes:
        feature: its name in the document.
        variant: the one in force.
    """

    policy = "degradation"
    feature: str = ""
    variant: str = ""


class NoEndpoints(Rejected):
    """There is no endpoint to send to: no pod of the Service is ready, or its name could not be resolved.

    Attributes:
        service: the absolute name that was looked up, where there is one.
    """

    policy = "discovery"
    service: str | None = None


class TimedOut(ResilientError, TimeoutError):
    """One attempt took longer than its time-out. A retry may follow.

    Attributes:
        timeout: the time-out in seconds.
    """

    timeout: float | None = None


class DeadlineExceeded(TimedOut):
    """The time for the whole call is over. Never retried, whatever ``on=`` says."""


class OutcomeUnknown(ResilientError):
    """The call may have happened: it was sent, and no answer came.

    Raised by client bindings only, for requests whose method is not idempotent (POST, PATCH), from the last error,
    whose class it has too.

    With `dependency` and `operation` it has all that is needed to ask again, also after a restart: it survives pickle,
    and its fields go into any table.

    Attributes:
        idempotency_key: the key that was sent, to ask again with; None where none was.
        attempts: how many times it was tried.
        first_sent: when the first of those that may have happened began, in seconds since the epoch by this machine's
            clock.
    """

    idempotency_key: str | None = None
    attempts: int = 1
    first_sent: float | None = None


class IdempotencyError(ResilientError):
    """What became of an idempotency key. Raised by client bindings, where the service's profile names the signal.

    Attributes:
        idempotency_key: the key; None where none was sent.
        attempts: how many times it was tried.
        first_sent: as of `OutcomeUnknown`, where something may have happened.
        response: the client's, where there was an answer; None in another process.
    """

    idempotency_key: str | None = None
    attempts: int = 0
    first_sent: float | None = None
    response: Any = None


class InProgress(IdempotencyError):
    """The first request with this key still runs at the server: it may yet happen. Ask again later, with the same key.

    Attributes:
        retry_after: seconds after which the server wants to be asked, where it said so.
    """

    retry_after: float | None = None


class KeyReused(IdempotencyError):
    """The key was used before, for a request with another body: a mistake of the caller's. Nothing was done."""


class KeyRequired(IdempotencyError):
    """The server wants a key, and got none that it knows. Nothing was done."""


class WindowExceeded(IdempotencyError):
    """The server keeps keys for less long than this one is old: sent again it could happen twice. Nothing was sent."""


class ConfigError(ResilientError):
    """Something of ours is configured wrongly."""


class PolicyError(ConfigError):
    """A policy or pipeline is built, or used, wrongly. The message says what to write instead."""


class DocumentError(ConfigError):
    """The config document says something that cannot be; nothing of it is applied.

    Args:
        message: what is wrong, and what to write instead.
        pointer: the keys and indexes that lead to the place.
        file: the name of its file; None where it is not known.
        line: of the place in its file, from 1; None where it is not known.
        suggestion: what was probably meant, where that is a single word.
        reason: which check refused it, in one word: ``size``, ``read``, ``encoding``, ``syntax``, ``structure``,
            ``reference``, ``semantic``, ``guard`` (it would take away, or change, too much of what is in force),
            ``selftest`` (it crashed when it was tried), ``policies`` (those that live in this process cannot take it),
            ``emergency`` (the emergency document does not fit the config document) or ``fault`` (it is ours).
        problems: all that is wrong, where that is more than this.
    """

    pointer: tuple[str | int, ...] = ()
    file: str | None = None
    line: int | None = None
    suggestion: str | None = None
    reason: str = "structure"
    problems: tuple[DocumentError, ...] = ()

    def __init__(
        self,
        message: str,
        /,
        *,
        pointer: tuple[str | int, ...] = (),
        file: str | None = None,
        line: int | None = None,
        suggestion: str | None = None,
        reason: str = "structure",
        problems: tuple[DocumentError, ...] = (),
        **fields: Any,
    ) -> None:
        super().__init__(
            message,
            pointer=pointer,
            file=file,
            line=line,
            suggestion=suggestion,
            reason=reason,
            problems=problems,
            **fields,
        )

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        parts = (place, ".".join(map(str, self.pointer)), super().__str__())
        said = ": ".join(part for part in parts if part)
        return "\n".join([said, *map(str, self.problems)])
