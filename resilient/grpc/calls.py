"""What the caller of the sync API holds while an RPC runs: a future, or a stream of answers.

gRPC's own returns at once, and so do these: attempts run in a thread that ends with the first answer. What the thread
knows of is `Progress`, not what the caller holds: that may be dropped at any time, and then the RPC is cancelled, as
gRPC's own is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import grpc

from ..core.events import logger
from .errors import Ended, StatusError
from .logical import Rpc


class GivenUp(BaseException):
    """The caller cancelled: no policy is to make anything of it."""


class Given(Ended):
    """What a fallback gave in place of an answer, as a call that is over."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    def details(self) -> str:
        return ""

    def initial_metadata(self) -> Any:
        return ()

    def trailing_metadata(self) -> Any:
        return ()

    def result(self, timeout: float | None = None) -> Any:
        return self._value

    def exception(self, timeout: float | None = None) -> None:
        return None

    def traceback(self, timeout: float | None = None) -> None:
        return None


class Progress:
    """How far an RPC is: running until it has a call, or an error.

    Args:
        rpc: the logical call.
    """

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc
        self.call: Any = None
        self.error: BaseException | None = None
        self.cancelled = False
        self._settled = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []  # guarded by _lock

    @property
    def is_settled(self) -> bool:
        return self._settled.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is settled within ``timeout`` seconds."""
        return self._settled.wait(timeout)

    def settle(
        self, call: Any = None, error: BaseException | None = None, *, cancelled: bool = False
    ) -> bool:
        """It has a call, or failed. False where it had before: whoever was cancelled takes nothing more."""
        with self._lock:
            if self._settled.is_set():
                return False
            self.call, self.error, self.cancelled = call, error, cancelled
            self._settled.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._when_over(callback)
        return True

    def cancel(self) -> bool:
        """As of gRPC's own: False where it is over."""
        error = StatusError(grpc.StatusCode.CANCELLED, details="Locally cancelled by application!")
        self.rpc.cancelled = True
        if self.settle(error=error, cancelled=True):
            cancel(self.rpc.call)
            return True
        return self.call is not None and cancel(self.call)

    def drop(self) -> None:
        """Its caller is gone. Takes no lock: the collector may come while this thread holds one."""
        self.rpc.cancelled = True
        cancel(self.call if self.is_settled else self.rpc.call)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call it when the RPC is over; at once where it is."""
        with self._lock:
            if not self._settled.is_set():
                self._callbacks.append(callback)
                return
        self._when_over(callback)

    def _when_over(self, callback: Callable[[], None]) -> None:
        if self.call is not None and self.call.add_callback(callback):
            return
        try:
            callback()
        except Exception:
            logger().exception("%s: a done callback failed", self.rpc.operation)


def cancel(call: Any) -> bool:
    """Cancel what gRPC, or an interceptor of the user's, returned."""
    if call is None:
        return False
    if hasattr(call, "cancel"):
        return bool(call.cancel())
    if hasattr(call, "close"):  # a generator
        try:
            call.close()
        except ValueError:  # another thread waits in it
            return False
    return True


class Running(grpc.Call, grpc.Future):  # type: ignore[type-arg]  # at run time it is not generic
    """A call that its caller does not wait for. Every method does what that of gRPC's own does."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __del__(self) -> None:
        self._progress.drop()

    def _over(self) -> Any:
        """The call or the error, which have the same methods; waits for it."""
        self._progress.wait()
        return self._progress.call or _as_call(self._progress.error)

    # ------------------------------------------------------------------------------------------------- grpc.Call
    def code(self) -> Any:
        return self._over().code()

    def details(self) -> Any:
        return self._over().details()

    def initial_metadata(self) -> Any:
        return self._over().initial_metadata()

    def trailing_metadata(self) -> Any:
        return self._over().trailing_metadata()

    def debug_error_string(self) -> Any:
        """As that of gRPC's own."""
        return getattr(self._over(), "debug_error_string", lambda: None)()

    def is_active(self) -> bool:
        progress = self._progress
        return not progress.is_settled or (progress.call is not None and bool(progress.call.is_active()))

    def time_remaining(self) -> Any:
        call = self._progress.call if self._progress.is_settled else self._progress.rpc.call
        return self._progress.rpc.timeout if call is None else call.time_remaining()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        if not self.is_active():
            return False
        self._progress.on_end(callback)
        return True

    # ----------------------------------------------------------------------------------------------- grpc.Future
    def cancel(self) -> bool:
        return self._progress.cancel()

    def cancelled(self) -> bool:
        progress = self._progress
        if progress.is_settled and progress.call is not None:
            return bool(progress.call.cancelled())
        return progress.cancelled

    def running(self) -> bool:
        return self.is_active()

    def done(self) -> bool:
        return not self.is_active()

    def result(self, timeout: float | None = None) -> Any:
        error = self._failure(timeout)
        if error is not None:
            raise error
        return self._progress.call.result(timeout)

    def exception(self, timeout: float | None = None) -> Any:
        error = self._failure(timeout)
        return self._progress.call.exception(timeout) if error is None else error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        error = self._failure(timeout)
        if error is None:
            found: TracebackType | None = self._progress.call.traceback(timeout)
            return found
        if error.__traceback__ is not None:
            return error.__traceback__
        try:
            raise error
        except BaseException:
            return sys.exc_info()[2]

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        self._progress.on_end(lambda: fn(self))

    def _failure(self, timeout: float | None) -> BaseException | None:
        progress = self._progress
        if not progress.wait(timeout):
            raise grpc.FutureTimeoutError
        if progress.cancelled:
            raise grpc.FutureCancelledError
        return progress.error


class Streaming(Running):
    """One whose answers are a stream."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._progress.wait()
        if self._progress.error is not None:
            raise self._progress.error
        return next(self._progress.call)

    def next(self) -> Any:
        """As ``next()`` of it: gRPC's own has both."""
        return self.__next__()


def _as_call(error: Any) -> Any:
    """What failed before there was a call."""
    if hasattr(error, "trailing_metadata"):
        return error
    return StatusError(grpc.StatusCode.INTERNAL, details=str(error))
