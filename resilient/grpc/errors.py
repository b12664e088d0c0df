"""Errors of ours that are gRPC's too: who catches ``grpc.RpcError``, and asks for its ``code()``, catches ours."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from ..core.errors import BulkheadFull, OutcomeUnknown, RateLimited, Rejected, ResilientError, TimedOut

Code = grpc.StatusCode


class Ended(grpc.Call, grpc.Future):  # type: ignore[type-arg]  # at run time it is not generic
    """What a call of the sync API says of itself once it is over, whatever it came to."""

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> Any:
        return None

    def add_callback(self, callback: Any) -> bool:
        return False

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        fn(self)


class StatusError(grpc.RpcError, Ended):
    """An RPC that failed, as the sync API raises it: like gRPC's own it is a ``grpc.Call`` and a ``grpc.Future`` too.
    An interceptor outside ours is given it in place of an answer.

    Args: as those of ``grpc.aio.AioRpcError``.
    """

    def __init__(
        self,
        code: Code,
        initial_metadata: Any = (),
        trailing_metadata: Any = (),
        details: str | None = None,
        debug_error_string: str | None = None,
    ) -> None:
        super().__init__(details)
        self._code = code
        # As plain tuples: those of gRPC cannot be pickled.
        self._initial_metadata = _plain(initial_metadata)
        self._trailing_metadata = _plain(trailing_metadata)
        self._details = details
        self._debug_error_string = debug_error_string

    def code(self) -> Code:
        return self._code

    def details(self) -> str | None:  # type: ignore[override]  # as gRPC's own
        return self._details

    def debug_error_string(self) -> str | None:
        """What gRPC knows beside."""
        return self._debug_error_string

    def initial_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._initial_metadata

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:  # type: ignore[override]  # tuples serve
        return self._trailing_metadata

    def result(self, timeout: float | None = None) -> Any:
        raise self

    def exception(self, timeout: float | None = None) -> StatusError:
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        return self.__traceback__

    def __str__(self) -> str:
        return f'RPC that terminated with status {self._code.name}, details "{self._details}"'

    def __reduce__(self) -> tuple[Any, ...]:
        state = (
            self._code,
            self._initial_metadata,
            self._trailing_metadata,
            self._details,
            self._debug_error_string,
        )
        return type(self), state


Face = type[StatusError] | type[grpc.aio.AioRpcError]
"""What the errors of one API are: those of grpc, or of grpc.aio."""


def own_error(exc: ResilientError, face: Face, /) -> ResilientError:
    """Make an error of ours one of gRPC's too, in place, where it is one of an RPC that did not come through."""
    if isinstance(exc, (TimedOut, Rejected)) and not isinstance(exc, grpc.RpcError):
        _dress(exc, face, exc)
    return exc


def outcome_unknown(exc: Exception, face: Face, operation: str, /, **known: Any) -> OutcomeUnknown:
    """The error for an RPC that may have happened; its status is that of ``exc``.

    Args:
        **known: its fields.
    """
    attempts = known["attempts"]
    ask = "look whether it happened before calling it again"
    if known["idempotency_key"] is not None:
        ask += ", or call it with the same .idempotency_key where the server honours keys"
    error = OutcomeUnknown(
        f"it was tried {attempts} time{'s' if attempts > 1 else ''} and may have happened ({_what(exc)}); {ask}",
        operation=operation,
        **known,
    )
    _dress(error, face, exc)
    return error


def _what(exc: Exception) -> str:
    code = getattr(exc, "code", None)
    return code().name if callable(code) else type(exc).__name__


def _dress(error: ResilientError, face: Face, like: Exception) -> None:
    args, status = error.args, _status(like)
    taken: Any = error
    taken.__class__ = _joined(type(error), face)
    face.__init__(taken, *status)
    error.args = args


def _status(exc: Exception) -> tuple[Any, ...]:
    if isinstance(exc, grpc.RpcError) and callable(getattr(exc, "code", None)):
        rpc: Any = exc
        debug = getattr(rpc, "debug_error_string", lambda: None)
        return rpc.code(), rpc.initial_metadata(), rpc.trailing_metadata(), rpc.details(), debug()
    if isinstance(exc, TimedOut):
        code = Code.DEADLINE_EXCEEDED
    elif isinstance(exc, (RateLimited, BulkheadFull)):
        code = Code.RESOURCE_EXHAUSTED
    else:
        code = Code.UNAVAILABLE
    return code, (), (), str(exc)


def _plain(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, value) for key, value in metadata or ())


def _joined(ours: type[ResilientError], face: Face) -> type[ResilientError]:
    found = _JOINED.get((ours, face))
    if found is None:
        fields = {"__module__": "resilient.grpc", "__reduce__": _reduce, "_parts": (ours, face)}
        found = _JOINED[ours, face] = type(ours.__name__, (ours, face), fields)
    return found


_JOINED: dict[tuple[type[ResilientError], Face], type[ResilientError]] = {}


def _reduce(error: Any) -> tuple[Any, ...]:
    return _rebuild, (*error._parts, error.args, error.__dict__.copy())


def _rebuild(ours: type[ResilientError], face: Face, args: tuple[Any, ...], fields: Any) -> ResilientError:
    cls = _joined(ours, face)
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields)
    return error
