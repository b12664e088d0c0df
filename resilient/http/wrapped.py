"""Somebody else's transport as the place where requests go: Mock, ASGI, WSGI, or the user's own."""

from __future__ import annotations

from typing import Any

from ..core.errors import TimedOut
from .attempt import Attempt
from .binding import Binding

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
            stream=request.stream if attempt.body is None else self._stream(attempt.body),
            extensions=attempt.extensions(request.extensions, trace),
        )

    def _stream(self, body: Any) -> Any:
        raise NotImplementedError

    def _raised(self, exc: Exception, attempt: Attempt) -> Exception | None:
        if not attempt.traced:
            # A transport without trace events: its error's class is all that there is.
            attempt.sent = type(exc).__name__ not in _NOT_SENT
        if isinstance(exc, self.binding.sdk.TimeoutException) and attempt.overdue():
            return TimedOut("the attempt ran out of time while it waited for the network")
        return None


def _as_is(exc: BaseException) -> None:
    """Errors of the wrapped transport are the SDK's already."""


def _keep() -> None:
    """The wrapped transport closes its own connections."""


class SyncWrapped(Base):
    """A sync transport of the user's."""

    def send(self, request: Any, attempt: Attempt) -> Any:
        try:
            response = self.transport.handle_request(self._request(request, attempt, attempt.trace))
        except Exception as exc:
            error = self._raised(exc, attempt)
            if error is None:
                raise
            raise error from exc
        if not isinstance(response.stream, self.binding.sdk.ByteStream):
            stream = response.stream
            response.stream = self.binding.sync_body(stream, attempt, _as_is, stream.close)
        return response

    def _stream(self, body: Any) -> Any:
        return self.binding.sync_body(body, None, _as_is, _keep)

    def close(self) -> None:
        self.transport.close()


class AsyncWrapped(Base):
    """An async transport of the user's."""

    async def send(self, request: Any, attempt: Attempt) -> Any:
        try:
            response = await self.transport.handle_async_request(
                self._request(request, attempt, attempt.atrace)
            )
        except Exception as exc:
            error = self._raised(exc, attempt)
            if error is None:
                raise
            raise error from exc
        if not isinstance(response.stream, self.binding.sdk.ByteStream):
            stream = response.stream
            response.stream = self.binding.async_body(stream, attempt, _as_is, _keep)
            response.stream.close_inner = stream.aclose
        return response

    def _stream(self, body: Any) -> Any:
        return self.binding.async_body(body, None, _as_is, _keep)

    async def aclose(self) -> None:
        await self.transport.aclose()
