"""Blocking network backend for the core: every operation is cut at the attempt's deadline, and dialling can
be pinned.

Pinning to an endpoint happens here and not in the URL, so Host, SNI and the certificate check keep the
Service's name. In a pool that is shared between names, a rewritten URL let a second name reuse the first
one's TLS connection."""

from __future__ import annotations

import select
from typing import Any

from .attempt import Phase, clip

PIECE = 65536
"""Bytes handed to a stream of the core's at once, so that a reader that stalls cannot outlast the deadline."""

Pin = tuple[str, int] | None
"""Where to dial, whatever the URL says; None: where it says."""


def carried(timeout: Any, stream: Any) -> Any:
    """Tell the attempt which stream it uses: its connection learns from it how to be killed."""
    if timeout.__class__ is Phase:
        timeout.attempt.kill = stream.kill
    return stream


class Stream:
    """A stream of the core's, cut at the deadline.

    Args:
        inner: the core's.
        core: the core.
        sock: the socket beneath it, where that is all there is; it is read and written without the detour then.
    """

    __slots__ = ("_core", "_inner", "_poll", "_sock")

    def __init__(self, inner: Any, core: Any, sock: Any) -> None:
        self._inner = inner
        self._core = core
        self._sock = sock
        self._poll: select.poll | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        core, sock = self._core, self._sock
        seconds = clip(timeout, core.ReadTimeout)
        if sock is None:
            data: bytes = self._inner.read(max_bytes, seconds)
        else:
            try:
                sock.settimeout(seconds)
                data = sock.recv(max_bytes)
            except TimeoutError as exc:
                raise core.ReadTimeout(exc) from exc
            except OSError as exc:
                raise core.ReadError(exc) from exc
        if data and timeout.__class__ is Phase:
            timeout.attempt.received = True
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return  # the core hands over the end of a request without a body
        seconds = clip(timeout, self._core.WriteTimeout)
        if timeout.__class__ is Phase:
            timeout.attempt.sends()
        if self._sock is not None:
            self._send(buffer, seconds, timeout)
        elif len(buffer) <= PIECE:
            self._inner.write(buffer, seconds)
        else:
            view = memoryview(buffer)
            for start in range(0, len(view), PIECE):
                self._inner.write(view[start : start + PIECE], clip(timeout, self._core.WriteTimeout))

    def _send(self, buffer: bytes, seconds: float | None, timeout: float | None) -> None:
        core, sock = self._core, self._sock
        try:
            sock.settimeout(seconds)
            sent = sock.send(buffer)
            if sent < len(buffer):
                view = memoryview(buffer)
                while sent < len(buffer):
                    sock.settimeout(clip(timeout, core.WriteTimeout))
                    sent += sock.send(view[sent:])
        except TimeoutError as exc:
            raise core.WriteTimeout(exc) from exc
        except OSError as exc:
            raise core.WriteError(exc) from exc

    def close(self) -> None:
        self._inner.close()

    kill = close

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        seconds = clip(timeout, self._core.ConnectTimeout)
        inner = self._inner.start_tls(ssl_context, server_hostname, seconds)
        sock = None if self._sock is None else inner.get_extra_info("socket")
        return carried(timeout, Stream(inner, self._core, sock))

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self._sock is not None:
            return self._is_readable()
        return self._inner.get_extra_info(info)

    def _is_readable(self) -> bool:
        """Whether the peer said something while nothing was asked: that it closed, as a rule."""
        if self._poll is None:
            fd = self._sock.fileno()
            if fd < 0:
                return True
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
        return bool(self._poll.poll(0))


class ProxyStream(Stream):
    """A stream to a proxy: what the core says to a SOCKS proxy has no time-outs, so it has that of connecting."""

    __slots__ = ("_connecting",)

    def __init__(self, inner: Any, core: Any, connecting: float | None) -> None:
        super().__init__(inner, core, None)
        self._connecting = connecting

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return super().read(max_bytes, self._connecting if timeout is None else timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        super().write(buffer, self._connecting if timeout is None else timeout)


class Backend:
    """A blocking network backend, pinned to an endpoint where one is given.

    Args:
        core: the core.
        pin: where to dial.
        tunnelled: whether a proxy is between: a stream may lie in another one then.
    """

    def __init__(self, core: Any, pin: Pin, *, tunnelled: bool) -> None:
        self._core = core
        self._pin = pin
        self._tunnelled = tunnelled
        self._inner = core.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> Any:
        host, port = self._pin or (host, port)
        seconds = clip(timeout, self._core.ConnectTimeout)
        return self._carried(
            timeout, self._inner.connect_tcp(host, port, seconds, local_address, socket_options or [])
        )

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        seconds = clip(timeout, self._core.ConnectTimeout)
        return self._carried(timeout, self._inner.connect_unix_socket(path, seconds, socket_options or []))

    def _carried(self, timeout: float | None, inner: Any) -> Any:
        if self._tunnelled:
            return carried(timeout, ProxyStream(inner, self._core, timeout))
        return carried(timeout, Stream(inner, self._core, inner.get_extra_info("socket")))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
