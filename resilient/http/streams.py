"""Blocking network backend for the core: every operation is cut at the attempt's deadline, and dialling can
be pinned.

Pinning to an endpoint happens here and not in the URL, so Host, SNI and the certificate check keep the
Service's name. In a pool that is shared between names, a rewritten URL let a second name reuse the first
one's TLS connection."""

from __future__ import annotations

from typing import Any

from .attempt import Phase, clip

PIECE = 65536
"""Bytes handed to a blocking socket at once, so that a reader that stalls cannot outlast the deadline."""

Pin = tuple[str, int] | None
"""Where to dial, whatever the URL says; None: where it says."""


def carried(timeout: Any, stream: Any) -> Any:
    """Tell the attempt which stream it uses: its connection learns from it how to be killed."""
    if timeout.__class__ is Phase:
        timeout.attempt.kill = stream.kill
    return stream


class Stream:
    """A stream of the core's, cut at the deadline."""

    __slots__ = ("_core", "_inner")

    def __init__(self, inner: Any, core: Any) -> None:
        self._inner = inner
        self._core = core

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._inner.read(max_bytes, clip(timeout, self._core.ReadTimeout))
        if data and timeout.__class__ is Phase:
            timeout.attempt.received = True
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if len(buffer) <= PIECE:
            self._inner.write(buffer, clip(timeout, self._core.WriteTimeout))
            return
        view = memoryview(buffer)
        for start in range(0, len(view), PIECE):
            self._inner.write(view[start : start + PIECE], clip(timeout, self._core.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    kill = close

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        seconds = clip(timeout, self._core.ConnectTimeout)
        return carried(
            timeout, Stream(self._inner.start_tls(ssl_context, server_hostname, seconds), self._core)
        )

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Backend:
    """A blocking network backend, pinned to an endpoint where one is given."""

    def __init__(self, core: Any, pin: Pin) -> None:
        self._core = core
        self._pin = pin
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
        stream = self._inner.connect_tcp(host, port, seconds, local_address, socket_options or [])
        return carried(timeout, Stream(stream, self._core))

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        seconds = clip(timeout, self._core.ConnectTimeout)
        stream = self._inner.connect_unix_socket(path, seconds, socket_options or [])
        return carried(timeout, Stream(stream, self._core))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)
