"""The sync side: one interceptor for the four kinds of RPCs."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from ..core.call import CURRENT, put_back
from ..core.outcome import Evidence, Unfinished
from .calls import Given, GivenUp, Progress, Running, Streaming, cancel
from .errors import StatusError
from .logical import Dependency, Rpc

_NOTHING: Any = object()


class Reader:
    """A stream of answers, whose first one may be here already. Has the methods of what gRPC returned.

    Args:
        call: that.
        deadline: of the attempt.
        first: the first answer.

    Attributes:
        waited: seconds that its reader had to wait.
    """

    def __init__(
        self, dependency: Dependency, rpc: Rpc, call: Any, deadline: float | None, first: Any = _NOTHING
    ) -> None:
        self._dependency = dependency
        self._rpc = rpc
        self._call = call
        self._deadline = deadline
        self._first = first
        self.waited = 0.0
        # At most one. Whoever pops it tells it: its reader, or gRPC's thread.
        self._on_end: list[Callable[[BaseException | None], None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        first, self._first = self._first, _NOTHING
        if first is not _NOTHING:
            return first
        monotonic = self._dependency.clock.monotonic
        began = monotonic()
        try:
            return next(self._call)
        except StopIteration:
            self._end(None)
            raise
        except Exception as exc:
            error = self._dependency.broken(exc, self._rpc, self._deadline)
            self._end(error)
            if error is exc:
                raise
            raise error from exc
        finally:
            self.waited += monotonic() - began

    def watch(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Tell ``on_end`` when it is over, also where nobody reads on; at once where it is."""
        self._on_end.append(on_end)
        add = getattr(self._call, "add_callback", None)  # a generator of an interceptor's has none
        if add is not None and not add(self._over):
            self._over()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """As of ``grpc.RpcContext``."""
        add = getattr(self._call, "add_callback", None)
        return add is not None and bool(add(callback))

    def _over(self) -> None:
        code = self._call.code()
        if code is grpc.StatusCode.OK:
            self._end(None)
        elif code is grpc.StatusCode.CANCELLED:
            self._end(GivenUp())
        else:
            error = StatusError(code, (), self._call.trailing_metadata(), self._call.details(), code.name)
            self._end(self._dependency.broken(error, self._rpc, self._deadline))

    def _end(self, exc: BaseException | None) -> None:
        try:
            on_end = self._on_end.pop()
        except IndexError:
            return
        on_end(exc)

    def cancel(self) -> bool:
        """As of ``grpc.Call``."""
        cancelled = cancel(self._call)
        self._end(GivenUp())
        return cancelled

    def drain(self, seconds: float, /) -> None:
        """Nobody wants it."""
        self.cancel()


class GivenStream(Given):
    """What a fallback gave in place of a stream of answers."""

    def __init__(self, values: Any) -> None:
        super().__init__(None)
        self._values = iter(values)

    def __next__(self) -> Any:
        return next(self._values)


class Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Policies around every RPC of a channel, for ``grpc.intercept_channel``; see `resilient.grpc.interceptor`.

    Args:
        dependency: what is called, and under which policies.
    """

    def __init__(self, dependency: Dependency) -> None:
        self.dependency = dependency

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._unary(Rpc(continuation, client_call_details, request, streams=False))

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return self._unary(Rpc(continuation, client_call_details, request_iterator, streams=True))

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._stream(Rpc(continuation, client_call_details, request, streams=False))

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return self._stream(Rpc(continuation, client_call_details, request_iterator, streams=True))

    # ------------------------------------------------------------------------------------------------ one answer
    def _unary(self, rpc: Rpc) -> Any:
        if _waits(rpc.continuation):
            try:
                return self._answer(rpc)
            except GivenUp:
                raise grpc.FutureCancelledError from None
        progress = Progress(rpc)
        _start(progress, self._answer)
        return Running(progress)

    def _answer(self, rpc: Rpc) -> Any:
        result = self._run(rpc, self._send)
        return rpc.call if result is rpc.response else Given(result)

    def _send(self, rpc: Rpc) -> Any:
        """One attempt, as the policies see it."""
        outcome = self._hand_over(rpc)
        try:
            exc = outcome.exception()
        except grpc.FutureCancelledError:
            raise GivenUp from None
        if exc is not None:
            raise self.dependency.failed(exc, rpc)
        rpc.ended(Evidence.ANSWERED, failed=False)
        rpc.response = outcome.result()
        return rpc.response

    # ------------------------------------------------------------------------------------------- a stream of them
    def _stream(self, rpc: Rpc) -> Streaming:
        progress = Progress(rpc)
        if rpc.one_shot:
            # There is one attempt, and what it is asked may hang on its answers.
            _work(progress, self._answers)
        else:
            _start(progress, self._answers)
        return Streaming(progress)

    def _answers(self, rpc: Rpc) -> Any:
        result = self._run(rpc, self._open)
        if result.__class__ is Unfinished:
            # Not before: what ends while the policies have not yet said what is to be done then ends unseen.
            result.result.watch(result.end)
            result = result.result
        return result if isinstance(result, Reader) else GivenStream(result)

    def _open(self, rpc: Rpc) -> Any:
        """One attempt: until its first answer is here, for after that nothing can be taken back."""
        dependency, deadline = self.dependency, CURRENT.get().deadline
        call = self._hand_over(rpc)
        first = _NOTHING
        if not rpc.one_shot:
            try:
                first = next(call)
            except StopIteration:
                rpc.ended(Evidence.ANSWERED, failed=False)
                return Reader(dependency, rpc, call, deadline)
            except Exception as exc:
                if rpc.cancelled:
                    raise GivenUp from None
                error = dependency.failed(exc, rpc)
                if error is exc:
                    raise
                raise error from exc
            except BaseException:
                cancel(call)
                raise
        rpc.ended(Evidence.ANSWERED, failed=False)
        reader = Reader(dependency, rpc, call, deadline, first)
        return Unfinished(reader, reader)

    # ------------------------------------------------------------------------------------------------------- both
    def _run(self, rpc: Rpc, send: Callable[[Rpc], Any]) -> Any:
        dependency = self.dependency
        call = dependency.prepare(rpc)
        token = None if call is CURRENT.get() else CURRENT.set(call)
        try:
            return dependency.bound(rpc, send, dependency.pipeline.bind)(rpc)
        except Exception as exc:
            error = dependency.ended(exc, rpc)
            if error is exc:
                raise
            raise error from exc
        finally:
            if token is not None:
                put_back(token)

    def _hand_over(self, rpc: Rpc) -> Any:
        """Begin an attempt; what gRPC, or an interceptor inside this one, returns."""
        dependency = self.dependency
        dependency.begin(rpc)
        if dependency.must_be_connected(rpc):
            seconds, patient = dependency.patience(rpc)
            state = dependency.connection.wait(
                seconds, dependency.clock, patient=patient, given_up=lambda: rpc.cancelled
            )
            if not rpc.cancelled:
                dependency.check(state)
        if rpc.cancelled:
            raise GivenUp
        request = iter(rpc.request) if _begins_anew(rpc) else rpc.request
        try:
            call = rpc.continuation(dependency.details(rpc), request)
        except Exception as exc:
            error = dependency.failed(exc, rpc)
            if error is exc:
                raise
            raise error from exc
        rpc.call = call
        if rpc.cancelled:
            cancel(call)
        return call


def _begins_anew(rpc: Rpc) -> bool:
    return rpc.streams and not rpc.one_shot and hasattr(rpc.request, "__iter__")


def _waits(continuation: Any) -> bool:
    """Whether the caller waits for the answer in this thread, and did not ask for a future.

    By its interface gRPC does not say. Where this cannot tell, a thread is used: that serves both, and costs more."""
    return getattr(continuation, "__qualname__", "").endswith("._with_call.<locals>.continuation")


def _start(progress: Progress, work: Callable[[Rpc], Any]) -> None:
    context = contextvars.copy_context()
    name = f"resilient-grpc-{progress.rpc.operation}"
    threading.Thread(target=context.run, args=(_work, progress, work), name=name, daemon=True).start()


def _work(progress: Progress, work: Callable[[Rpc], Any]) -> None:
    try:
        call = work(progress.rpc)
    except GivenUp:
        error = StatusError(grpc.StatusCode.CANCELLED, details="Locally cancelled by application!")
        progress.settle(error=error, cancelled=True)
    except BaseException as exc:
        progress.settle(error=exc)
    else:
        if not progress.settle(call):
            cancel(call)  # nobody waits for it any more
