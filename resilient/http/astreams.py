"""Async network backends for the core: an asyncio one of our own, and the core's under trio.

The asyncio stream is a protocol over a transport, without cancel scopes: a quarter of the CPU of a request
less than the core's own, and it can be killed without suspending, so that no cancellation leaks it."""

from __future__ import annotations

import asyncio
import select
import ssl
from typing import Any

from ..core.loops import in_trio, running_loop
from .attempt import Phase, clip
from .streams import Pin, carried

_HIGH, _LOW = 262_144, 65_536
"""Bytes received and not yet read at which the transport is paused, and resumed."""


class AsyncBackend:
    """An async network backend, pinned to an endpoint where one is given; asyncio or trio, whichever runs."""

    def __init__(self, core: Any, pin: Pin) -> None:
        self._core = core
        self._pin = pin

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> Any:
        host, port = self._pin or (host, port)
        if in_trio():
            seconds = clip(timeout, self._core.ConnectTimeout)
            inner = await self._core.TrioBackend().connect_tcp(
                host, port, seconds, local_address, socket_options or []
            )
            return carried(timeout, TrioStream(inner, self._core))
        loop = asyncio.get_running_loop()
        stream = AsyncioStream(self._core, loop)
        local = None if local_address is None else (local_address, 0)
        await stream.connect(
            lambda: loop.create_connection(lambda: stream, host, port, local_addr=local), timeout
        )
        try:
            for option in socket_options or ():
                stream.get_extra_info("socket").setsockopt(*option)
        except OSError as exc:
            stream.kill()
            raise self._core.ConnectError(exc) from exc
        return carried(timeout, stream)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Any = None
    ) -> Any:
        if in_trio():
            seconds = clip(timeout, self._core.ConnectTimeout)
            inner = await self._core.TrioBackend().connect_unix_socket(path, seconds, socket_options or [])
            return carried(timeout, TrioStream(inner, self._core))
        loop = asyncio.get_running_loop()
        stream = AsyncioStream(self._core, loop)
        await stream.connect(lambda: loop.create_unix_connection(lambda: stream, path), timeout)
        return carried(timeout, stream)

    async def sleep(self, seconds: float) -> None:
        from ..core.loops import sleep

        await sleep(seconds)


class AsyncioStream(asyncio.Protocol):
    """A connection of an asyncio loop, as a stream of the core's."""

    def __init__(self, core: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._core = core
        self._loop = loop
        self._transport: Any = None
        self._buffer = bytearray()
        self._eof = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._full = False  # the transport takes no more for now
        self._drain: asyncio.Future[None] | None = None
        self._paused = False

    # ------------------------------------------------------------------------------- what the transport calls
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._reader is not None:
            _wake(self._reader)
        elif len(self._buffer) > _HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        self._error = exc
        _wake(self._reader)
        _wake(self._drain)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._drain)

    # ------------------------------------------------------------------------------------ what the core calls
    async def connect(self, dial: Any, timeout: float | None) -> None:
        seconds = clip(timeout, self._core.ConnectTimeout)
        try:
            async with asyncio.timeout(seconds):
                await dial()
        except TimeoutError as exc:
            self.kill()
            # The system's own time-out (ETIMEDOUT) is that class too.
            raise self._core.ConnectTimeout(str(exc)) from exc
        except OSError as exc:
            self.kill()
            raise self._core.ConnectError(exc) from exc
        except BaseException:
            self.kill()
            raise

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        seconds = clip(timeout, self._core.ReadTimeout)
        if not self._buffer and not self._eof:
            self._reader = self._loop.create_future()
            try:
                await self._wait(self._reader, seconds, self._core.ReadTimeout)
            finally:
                self._reader = None
        buffer = self._buffer
        if buffer:
            if timeout.__class__ is Phase:
                timeout.attempt.received = True
            data = bytes(buffer[:max_bytes])
            del buffer[:max_bytes]
            if self._paused and len(buffer) < _LOW:
                self._paused = False
                self._transport.resume_reading()
            return data
        if self._error is not None:
            raise self._core.ReadError(self._error) from self._error
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if self._transport.is_closing():
            raise self._core.WriteError(self._error or "the connection is closed")
        seconds = clip(timeout, self._core.WriteTimeout)
        if timeout.__class__ is Phase:
            timeout.attempt.sends()
        self._transport.write(buffer)
        if self._full:
            # One for each wait: whoever is cancelled in it cancels it, and the next may write on a shared connection.
            self._drain = self._loop.create_future()
            try:
                await self._wait(self._drain, seconds, self._core.WriteTimeout)
            finally:
                self._drain = None
            if self._error is not None:
                raise self._core.WriteError(self._error) from self._error

    async def _wait(
        self, future: asyncio.Future[None], seconds: float | None, error: type[Exception]
    ) -> None:
        if seconds is None:
            await future
            return
        timer = self._loop.call_later(seconds, _expire, future, error)
        try:
            await future
        finally:
            timer.cancel()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        seconds = clip(timeout, self._core.ConnectTimeout)
        try:
            async with asyncio.timeout(seconds):
                self._transport = await self._loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as exc:
            self.kill()
            raise self._core.ConnectTimeout(str(exc)) from exc
        except OSError as exc:  # ssl.SSLError among them
            self.kill()
            raise self._core.ConnectError(exc) from exc
        except BaseException:
            self.kill()
            raise
        if self._transport is None:
            raise self._core.ConnectError("the connection was lost during the TLS handshake")
        return carried(timeout, self)

    # -------------------------------------------------------------------- what is asked where it is shared (HTTP/2)
    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        return bool(self._transport.is_closing())

    def write_now(self, data: bytes) -> None:
        """Send it after what was written before; never suspends. From its own loop only."""
        if data and running_loop() is self._loop and not self._transport.is_closing():
            self._transport.write(data)

    def take_now(self) -> bytes | None:
        """What has come already; None: the peer has gone."""
        if (
            self._eof or self._paused or self._transport.is_closing()
        ):  # paused: it sent far more than was asked
            return None
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    async def aclose(self) -> None:
        self.kill()

    def kill(self) -> None:
        """Close it now, without a farewell; never suspends, never raises."""
        transport = self._transport
        if transport is not None and not self._loop.is_closed():
            transport.abort()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            if self._buffer or self._eof or self._transport.is_closing():
                return True
            # What has come since the loop last looked counts too: a peer that has closed is not sent a request.
            return _readable(self._transport.get_extra_info("socket"))
        name = _EXTRA.get(info)
        return None if name is None else self._transport.get_extra_info(name)


_EXTRA = {
    "ssl_object": "ssl_object",
    "client_addr": "sockname",
    "server_addr": "peername",
    "socket": "socket",
}


def _readable(sock: Any) -> bool:
    """Whether bytes, or the end, have come to the socket."""
    number = sock.fileno()
    if number < 0:
        return True
    if not hasattr(select, "poll"):
        return bool(select.select([number], [], [], 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _expire(future: asyncio.Future[None], error: type[Exception]) -> None:
    if not future.done():
        future.set_exception(error())


class TrioStream:
    """A stream of the core's under trio, cut at the deadline."""

    def __init__(self, inner: Any, core: Any) -> None:
        self._inner = inner
        self._core = core

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = await self._inner.read(max_bytes, clip(timeout, self._core.ReadTimeout))
        if data and timeout.__class__ is Phase:
            timeout.attempt.received = True
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        seconds = clip(timeout, self._core.WriteTimeout)
        if timeout.__class__ is Phase:
            timeout.attempt.sends()
        await self._inner.write(buffer, seconds)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        seconds = clip(timeout, self._core.ConnectTimeout)
        inner = await self._inner.start_tls(ssl_context, server_hostname, seconds)
        return carried(timeout, TrioStream(inner, self._core))

    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        sock = self._inner.get_extra_info("socket")
        return bool(sock is None or sock.fileno() < 0)

    def take_now(self) -> bytes | None:
        """Nothing: trio reads no more than it is asked for. None: it is closed."""
        return None if self.is_over() else b""

    async def aclose(self) -> None:
        self.kill()

    def kill(self) -> None:
        """Close the socket beneath; trio's own closing of a TLS stream would suspend for a farewell."""
        sock = self._inner.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
