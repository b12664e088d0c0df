"""Somebody else's transport as the place where requests go: Mock, ASGI, WSGI, or the user's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from ..core.errors import TimedOut
from .attempt import Attempt
from .binding import Binding
from .exchange import is_small

_NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol")


class Base:
    """What both share: the request that the transport is handed, and what its failures prove."""

    foreign = True
    """Whether somebody else's code does the sending."""

    def __init__(self, binding: Binding, transport: Any) -> None:
        self.binding = binding
        self.transport = transport

    def _request(self, request: Any, attempt: Attempt, trace: Any) -> Any:
        return self.binding.sdk.Request(
            request.method,
            request.url,
            headers=[*request.headers.raw, *attempt.headers],
            stream=request.stream if attempt.body is None else attempt.body,
            extensions=attempt.extensions(request.extensions, trace, cut=True),
        )

    def _raised(self, exc: BaseException, attempt: Attempt, given: Any) -> Exception | None:
        if not attempt.traced:
            # A transport without trace events: its error's class is all that there is; what bears another request is
            # another client's, such as one that an application in this process uses. A cancellation proves nothing.
            own = isinstance(exc, Exception) and getattr(exc, "_request", None) in (None, given)
            attempt.sent = not (own and type(exc).__name__ in _NOT_SENT)
        return self._late(exc, attempt)

    def _late(self, exc: BaseException, attempt: Attempt) -> Exception | None:
        if isinstance(exc, (self.binding.sdk.TimeoutException, TimeoutError)) and attempt.overdue():
            return TimedOut("the attempt ran out of time while it waited for the network")
        return None

    def _body_error(self, exc: BaseException, attempt: Attempt, request: Any) -> Exception | None:
        """As `_late`, for a body that is read after the call: no policy makes it the SDK's any more."""
        error = exc if isinstance(exc, TimedOut) else self._late(exc, attempt)
        if isinstance(error, TimedOut) and attempt.late is not None:
            attempt.late(error)
        return None if error is None else self.binding.own_error(error, request)


def _check(attempt: Attempt) -> None:
    """The deadline holds over the body too; the stream is not ours, so it is looked at between two pieces."""
    if attempt.overdue():
        raise TimedOut("the attempt ran out of time while its answer was read")


def _timely(stream: Any, attempt: Attempt) -> Iterator[bytes]:
    for chunk in stream:
        _check(attempt)
        yield chunk


async def _atimely(stream: Any, attempt: Attempt) -> AsyncIterator[bytes]:
    from ..core.loops import within

    chunks = aiter(stream)
    while True:
        try:
            chunk = await within(_left(attempt), anext, chunks)
        except StopAsyncIteration:
            return
        _check(attempt)
        yield chunk


def _left(attempt: Attempt) -> float | None:
    return None if attempt.deadline is None else max(0.0, attempt.deadline - attempt.clock())


class SyncWrapped(Base):
    """A sync transport of the user's."""

    def send(self, request: Any, attempt: Attempt) -> Any:
        sdk, given = self.binding.sdk, self._request(request, attempt, attempt.trace)
        try:
            response = self.transport.handle_request(given)
            attempt.received = True
            stream = response.stream
            if isinstance(stream, sdk.ByteStream):
                return response
            if is_small(request, response.status_code, response.headers.raw):
                try:
                    response.stream = sdk.ByteStream(b"".join(_timely(stream, attempt)))
                finally:
                    stream.close()
                return response
        except BaseException as exc:
            error = self._raised(exc, attempt, given)
            if error is None:
                raise
            raise error from exc
        response.stream = self.binding.sync_body(
            _Held(_timely(stream, attempt), stream.close),
            attempt,
            lambda exc: self._body_error(exc, attempt, request),
            stream.close,
        )
        response.stream.ours = False
        return response

    def close(self) -> None:
        self.transport.close()


class AsyncWrapped(Base):
    """An async transport of the user's. What it does is ended at the deadline, which its own time-outs do not know."""

    async def send(self, request: Any, attempt: Attempt) -> Any:
        from ..core.loops import within

        sdk, given = self.binding.sdk, self._request(request, attempt, attempt.atrace)
        try:
            response = await within(_left(attempt), self.transport.handle_async_request, given)
            attempt.received = True
            stream = response.stream
            if isinstance(stream, sdk.ByteStream):
                return response
            if is_small(request, response.status_code, response.headers.raw):
                try:
                    response.stream = sdk.ByteStream(
                        b"".join([chunk async for chunk in _atimely(stream, attempt)])
                    )
                finally:
                    await stream.aclose()
                return response
        except BaseException as exc:
            error = self._raised(exc, attempt, given)
            if error is None:
                raise
            raise error from exc
        response.stream = self.binding.async_body(
            _AsyncHeld(_atimely(stream, attempt), stream.aclose),
            attempt,
            lambda exc: self._body_error(exc, attempt, request),
            _keep,
        )
        response.stream.close_inner = stream.aclose
        response.stream.ours = False
        return response

    async def aclose(self) -> None:
        await self.transport.aclose()


class _Held:
    """The pieces of a stream, and how it is closed."""

    def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


class _AsyncHeld:
    """The same, async."""

    def __init__(self, pieces: AsyncIterator[bytes], aclose: Callable[[], Awaitable[None]]) -> None:
        self._pieces = pieces
        self.aclose = aclose

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


def _keep() -> None:
    """The wrapped transport closes its own connections."""
