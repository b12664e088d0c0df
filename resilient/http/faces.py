"""Errors of ours that are also an SDK's: who catches the SDK's errors catches ours.

And the few questions about its requests and answers that the logic of a call has, whichever SDK it is."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..core.errors import (
    IdempotencyError,
    InProgress,
    KeyRequired,
    KeyReused,
    OutcomeUnknown,
    Rejected,
    ResilientError,
    TimedOut,
    WindowExceeded,
)
from ..core.outcome import Report, report_of

_KEY_ERRORS: dict[str, tuple[type[IdempotencyError], str]] = {
    "in_progress": (
        InProgress,
        "the first request with this key still runs at the service, and may yet happen; ask again later, with the same "
        "key",
    ),
    "reused": (
        KeyReused,
        "the service has seen this key with another request; make the body from stored data, and a new key for a new "
        "intent",
    ),
    "missing": (
        KeyRequired,
        "the service wants an idempotency key, in the header that it knows; see profile=",
    ),
}


class Faces:
    """What the logic of a call knows of an SDK; a binding says the rest.

    Args:
        home: the module of ours that binds it, such as ``resilient.httpx``; it has the binding as ``BINDING``.
        error: the base of the SDK's errors about requests.
        timeout, transport, answer: its error for time that ran out, for a request that was not sent, and for an answer.
        on_the_way: its errors after which nobody knows what became of the request.
        unset: the fields of its errors that do not survive pickle, as they are then.
        builds, response: how it makes a request and an answer, for messages that tell what to write.
    """

    def __init__(
        self,
        home: str,
        *,
        error: type[Exception],
        timeout: type[Exception],
        transport: type[Exception],
        answer: type[Exception],
        on_the_way: tuple[type[Exception], ...],
        unset: dict[str, Any],
        builds: str,
        response: str,
    ) -> None:
        self.home = home
        self.on_the_way = on_the_way
        self.unset = unset
        self.builds = builds
        self.response = response
        self._error, self._timeout, self._transport, self._answer = error, timeout, transport, answer
        self._joined: dict[tuple[type, type], type] = {}

    # ------------------------------------------------------------------------------------------- what bindings say
    def request_body(self, request: Any) -> Any:
        """The body of a request that is not in memory, as a `RequestBody`; None where it is."""
        raise NotImplementedError

    def content(self, response: Any) -> bytes | None:
        """The body of an answer that was read inside the attempt, unpacked; None where it was not read. The answer
        itself is left as it is: whoever wants its raw bytes may."""
        raise NotImplementedError

    def taken(self, given: Any) -> Any:
        """What a policy gave in place of an answer, as one; None where it is none of the SDK's."""
        raise NotImplementedError

    def show(self, error: Any, request: Any, response: Any = None) -> None:
        """Let an error tell its request, and its answer, as the SDK's do."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------- errors of both
    def own_error(self, exc: Exception, request: Any) -> Exception:
        """Make an error of ours one of the SDK's too, in place where that can be."""
        sdk_error: bool = isinstance(exc, self._error)
        if sdk_error:
            return exc
        if isinstance(exc, TimedOut):
            face = self._timeout
        elif isinstance(exc, (Rejected, WindowExceeded)):
            face = self._transport
        else:
            return exc
        taken: Any = exc
        cls: Any = self._join(type(exc), face)
        try:
            taken.__class__ = cls
        except TypeError:  # the SDK's is an OSError, which is laid out otherwise
            taken = cls.__new__(cls)
            taken.args = exc.args
            taken.__dict__.update(exc.__dict__)
        self.show(taken, request)
        joined: Exception = taken
        return joined

    def face(self, exc: Exception) -> type[Exception]:
        """The SDK's class for a failure."""
        if isinstance(exc, self._error):
            return type(exc)
        return self._timeout if isinstance(exc, TimedOut) else self._transport

    def outcome_unknown(
        self, exc: Exception, request: Any, done: str | None, /, *, lost_there: bool, **known: Any
    ) -> OutcomeUnknown:
        """The error for a request that may have happened, of the class of the failure too.

        Args:
            done: the method of what a redirect answered, where ``request`` only asked what came of it; None: it is
                ``request`` that may have happened.
            lost_there: whether it was lost at another authority than the client's own.
            **known: its fields.
        """
        cls: Any = self._join(OutcomeUnknown, self.face(exc))
        attempts = known["attempts"]
        what = (
            f"{request.method} was tried {attempts} time{'s' if attempts > 1 else ''} and may have happened"
        )
        if lost_there:
            there = request.url.netloc.decode("ascii", "replace")
            what = f"{request.method} went to another authority, {there}, and may have happened there"
        if done is not None:
            what = f"{done} was answered by a redirect and may have happened, and what that points at failed"
        ask = "look whether it happened before sending it again"
        if known["idempotency_key"] is not None:
            ask += ", or send it with the same .idempotency_key to a server that honours keys"
        error = cls.__new__(cls)
        error.args = (f"{what} ({type(exc).__name__}); {ask}",)
        error.__dict__.update(known)
        self.show(error, request)
        report = report_of(exc)
        if report is not None:
            error.__dict__["resilient"] = report
        unknown: OutcomeUnknown = error
        return unknown

    def key_error(
        self, kind: str, request: Any, response: Any, report: Report, **known: Any
    ) -> IdempotencyError:
        """The error for an answer that speaks of the key, one of the SDK's for answers too.

        Args:
            **known: its fields.
        """
        ours, text = _KEY_ERRORS[kind]
        cls: Any = self._join(ours, self._answer)
        error = cls.__new__(cls)
        error.args = (f"{text} ({request.method}, status {response.status_code})",)
        error.__dict__.update(known)
        if ours is InProgress:
            error.retry_after = report.retry_after
        self.show(error, request, response)
        error.__dict__["resilient"] = report
        found: IdempotencyError = error
        return found

    def _join(self, ours: type, face: type) -> type:
        key = (ours, face)
        found = self._joined.get(key)
        if found is None:
            fields = {"__module__": self.home, "__reduce__": _reduce, "_binding": self, "_parts": key}
            found = self._joined[key] = type(ours.__name__, (ours, face), fields)
        return found


def _reduce(error: Any) -> tuple[Any, ...]:
    ours, face = error._parts
    unset = error._binding.unset
    fields = {name: value for name, value in error.__dict__.items() if name not in unset}
    return _rebuild, (error._binding.home, ours, face, error.args, fields)


def _rebuild(
    home: str, ours: type, face: type, args: tuple[Any, ...], fields: dict[str, Any]
) -> ResilientError:
    binding = import_module(home).BINDING
    cls = binding._join(ours, face)
    error: ResilientError = cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields, **binding.unset)
    return error
