"""The side of ``grpc.aio``: an interceptor for each kind of RPCs, as its channels take an object for one kind only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc
import grpc.aio

from ..core.call import CURRENT, put_back
from ..core.outcome import Evidence, Unfinished, attach
from .logical import Dependency, Rpc

_NOTHING: Any = object()
EOF = grpc.aio.EOF


# ----------------------------------------------------------------------------------------------------- what is returned
class _Over:
    """A call that is over: what a fallback gave in place of answers."""

    _done_writing_flag = True

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def time_remaining(self) -> float | None:
        return None

    def cancel(self) -> bool:
        return False

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        callback(self)

    async def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata()

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    async def details(self) -> str:
        return ""

    async def debug_error_string(self) -> str:
        return ""

    async def wait_for_connection(self) -> None:
        return None


class _Inside:
    """A call that hands on what it is asked to the one inside it."""

    _call: Any

    @property
    def _done_writing_flag(self) -> bool:  # gRPC asks what an interceptor returned for it
        return bool(getattr(self._call, "_done_writing_flag", False))

    def cancelled(self) -> bool:
        return bool(self._call.cancelled())

    def done(self) -> bool:
        return bool(self._call.done())

    def time_remaining(self) -> Any:
        return self._call.time_remaining()

    def cancel(self) -> bool:
        return bool(self._call.cancel())

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        self._call.add_done_callback(lambda call: callback(self))

    async def initial_metadata(self) -> Any:
        return await self._call.initial_metadata()

    async def trailing_metadata(self) -> Any:
        return await self._call.trailing_metadata()

    async def code(self) -> Any:
        return await self._call.code()

    async def details(self) -> Any:
        return await self._call.details()

    async def debug_error_string(self) -> Any:
        return await self._call.debug_error_string()

    async def wait_for_connection(self) -> None:
        await self._call.wait_for_connection()

    async def write(self, request: Any) -> None:
        await self._call.write(request)

    async def done_writing(self) -> None:
        await self._call.done_writing()


class _Unfinished(_Inside):
    """One that goes on after its policies have let it through.

    Args:
        call: gRPC's own.
        deadline: of the attempt.

    Attributes:
        waited: seconds that its reader had to wait.
    """

    def __init__(self, dependency: Dependency, rpc: Rpc, call: Any, deadline: float | None) -> None:
        self._dependency = dependency
        self._rpc = rpc
        self._call = call
        self._deadline = deadline
        self.waited = 0.0
        self._on_end: Callable[[BaseException | None], None] | None = None

    def watch(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Tell ``on_end`` when it is over, also where nobody reads on; at once where it is."""
        self._on_end = on_end
        self._call.add_done_callback(self._over)

    def _over(self, call: Any) -> None:
        code = None if call.cancelled() else _at_once(call.code())
        if code is None or code is grpc.StatusCode.CANCELLED:
            self._end(asyncio.CancelledError())
        elif code is grpc.StatusCode.OK:
            self._end(None)
        else:
            details, trailing = _at_once(call.details()), _at_once(call.trailing_metadata())
            error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details, code.name)
            self._end(self._dependency.broken(error, self._rpc, self._deadline))

    def _end(self, exc: BaseException | None) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(exc)

    def cancel(self) -> bool:
        cancelled = super().cancel()
        self._end(asyncio.CancelledError())
        return cancelled

    async def adrain(self, seconds: float, /) -> None:
        """Nobody wants it."""
        self.cancel()


class _OneAnswer(_Unfinished, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]  # any messages
    """A request stream whose one answer is still to come."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        dependency, rpc = self._dependency, self._rpc
        try:
            return await self._call
        except grpc.RpcError as exc:
            failed = dependency.broken(exc, rpc, self._deadline)
            self._end(failed)
            error = dependency.ended(failed, rpc)
            if error is exc:
                raise
            raise error from exc


class _Answers(_Unfinished):
    """A stream of answers, whose first one may be here already."""

    def __init__(
        self,
        dependency: Dependency,
        rpc: Rpc,
        call: Any,
        deadline: float | None,
        source: AsyncIterator[Any],
        first: Any = _NOTHING,
    ) -> None:
        super().__init__(dependency, rpc, call, deadline)
        self._source = source
        self._first = first
        self._messages: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._messages is None:
            self._messages = self._read()
        return self._messages

    async def read(self) -> Any:
        """As of gRPC's own."""
        return await anext(self.__aiter__(), EOF)

    async def _read(self) -> AsyncIterator[Any]:
        first, self._first = self._first, _NOTHING
        if first is not _NOTHING:
            yield first
        dependency = self._dependency
        monotonic = dependency.clock.monotonic
        while True:
            began = monotonic()
            try:
                message = await anext(self._source)
            except StopAsyncIteration:
                self._end(None)
                return
            except Exception as exc:
                error = dependency.broken(exc, self._rpc, self._deadline)
                self._end(error)
                if error is exc:
                    raise
                raise error from exc
            finally:
                self.waited += monotonic() - began
            yield message


class _UnaryStream(_Answers, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]  # any messages
    """The answers to one message."""


class _StreamStream(_Answers, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]  # any messages
    """The answers to a stream of messages."""


class _GivenAnswer(_Over, grpc.aio.UnaryUnaryCall, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]  # any messages
    """What a fallback gave in place of one answer."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        return self._value

    async def write(self, request: Any) -> None:
        raise asyncio.InvalidStateError("the RPC is over")

    async def done_writing(self) -> None:
        return None


class _GivenAnswers(_Over, grpc.aio.UnaryStreamCall, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]  # any messages
    """What a fallback gave in place of a stream of answers: an iterable, or an async one."""

    def __init__(self, values: Any) -> None:
        self._messages = _each(values)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages

    async def read(self) -> Any:
        return await anext(self._messages, EOF)

    async def write(self, request: Any) -> None:
        raise asyncio.InvalidStateError("the RPC is over")

    async def done_writing(self) -> None:
        return None


async def _each(values: Any) -> AsyncIterator[Any]:
    if hasattr(values, "__aiter__"):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


def _at_once(told: Any) -> Any:
    """What a coroutine gives that has nothing to wait for, as what a call that is over is asked; else None."""
    try:
        told.send(None)
    except StopIteration as end:
        return end.value
    told.close()
    return None


# ----------------------------------------------------------------------------------------------------------- the driver
class Driver:
    """What the four interceptors share.

    Args:
        dependency: what is called, and under which policies.
    """

    def __init__(self, dependency: Dependency) -> None:
        self.dependency = dependency

    async def answer(self, rpc: Rpc) -> Any:
        """An RPC with one answer; the call."""
        result = await self._run(rpc, self._send)
        if result.__class__ is Unfinished:
            return _watched(result)
        return rpc.call if result is rpc.response else _GivenAnswer(result)

    async def _send(self, rpc: Rpc) -> Any:
        """One attempt, as the policies see it."""
        call, deadline = await self._hand_over(rpc), CURRENT.get().deadline
        if rpc.one_shot:
            # There is one attempt; and what its caller writes it can write only when it has the call.
            rpc.ended(Evidence.ANSWERED, failed=False)
            running = _OneAnswer(self.dependency, rpc, call, deadline)
            return Unfinished(running, running)
        try:
            rpc.response = await call
        except Exception as exc:
            error = self.dependency.failed(exc, rpc)
            if error is exc:
                raise
            raise error from exc
        except BaseException as exc:
            _let_go(call, rpc, exc)
            raise
        rpc.ended(Evidence.ANSWERED, failed=False)
        return rpc.response

    async def answers(self, rpc: Rpc) -> Any:
        """An RPC with a stream of answers; the call."""
        result = await self._run(rpc, self._open)
        if result.__class__ is Unfinished:
            result = _watched(result)
        return result if isinstance(result, _Answers) else _GivenAnswers(result)

    async def _open(self, rpc: Rpc) -> Any:
        """One attempt: until its first answer is here, for after that nothing can be taken back."""
        dependency, deadline = self.dependency, CURRENT.get().deadline
        make = _StreamStream if rpc.streams else _UnaryStream
        call = await self._hand_over(rpc)
        source, first = aiter(call), _NOTHING
        if not rpc.one_shot:
            try:
                first = await anext(source)
            except StopAsyncIteration:
                rpc.ended(Evidence.ANSWERED, failed=False)
                return make(dependency, rpc, call, deadline, source)
            except Exception as exc:
                error = dependency.failed(exc, rpc)
                if error is exc:
                    raise
                raise error from exc
            except BaseException as exc:
                _let_go(call, rpc, exc)
                raise
        rpc.ended(Evidence.ANSWERED, failed=False)
        reader = make(dependency, rpc, call, deadline, source, first)
        return Unfinished(reader, reader)

    async def _run(self, rpc: Rpc, send: Callable[[Rpc], Any]) -> Any:
        dependency = self.dependency
        call = dependency.prepare(rpc)
        token = None if call is CURRENT.get() else CURRENT.set(call)
        try:
            return await dependency.bound(rpc, send, dependency.pipeline.abind)(rpc)
        except Exception as exc:
            error = dependency.ended(exc, rpc)
            if error is exc:
                raise
            raise error from exc
        finally:
            if token is not None:
                put_back(token)

    async def _hand_over(self, rpc: Rpc) -> Any:
        """Begin an attempt; what gRPC, or an interceptor inside this one, returns."""
        dependency = self.dependency
        dependency.begin(rpc)
        if dependency.must_be_connected(rpc):
            seconds, patient = dependency.patience(rpc)
            dependency.check(await dependency.connection.wait(seconds, dependency.clock, patient=patient))
        try:
            rpc.call = await rpc.continuation(dependency.details(rpc), rpc.request)
        except Exception as exc:
            error = dependency.failed(exc, rpc)
            if error is exc:
                raise
            raise error from exc
        return rpc.call


def _watched(unfinished: Unfinished[Any]) -> Any:
    """What the caller is to have. Not watched before: what ends while the policies have not yet said what is to be done
    then ends unseen."""
    unfinished.result.watch(unfinished.end)
    return unfinished.result


def _let_go(call: Any, rpc: Rpc, exc: BaseException) -> None:
    """It was cancelled, by its caller or by a time-out of ours, which keeps the report."""
    call.cancel()
    rpc.ended(Evidence.UNKNOWN, failed=True)
    attach(exc, evidence=Evidence.UNKNOWN, why_not_retried="body" if rpc.spent else None)


class UnaryUnary(Driver, grpc.aio.UnaryUnaryClientInterceptor):
    """One message, one answer."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self.answer(Rpc(continuation, client_call_details, request, streams=False))


class UnaryStream(Driver, grpc.aio.UnaryStreamClientInterceptor):
    """One message, a stream of answers."""

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self.answers(Rpc(continuation, client_call_details, request, streams=False))


class StreamUnary(Driver, grpc.aio.StreamUnaryClientInterceptor):
    """A stream of messages, one answer."""

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self.answer(Rpc(continuation, client_call_details, request_iterator, streams=True))


class StreamStream(Driver, grpc.aio.StreamStreamClientInterceptor):
    """A stream of messages, a stream of answers."""

    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self.answers(Rpc(continuation, client_call_details, request_iterator, streams=True))


KINDS = (UnaryUnary, UnaryStream, StreamUnary, StreamStream)
