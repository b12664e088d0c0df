"""Network streams that the requests of one HTTP/2 connection share, and the backend that makes them.

The core hands each read and write to the stream with the time-out of whichever request happens to do it for all, and a
time-out there ends them all. So none of them holds here: each request has an alarm of its own."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from .astreams import AsyncBackend, AsyncioStream
from .attempt import NO_LIMIT, Phase
from .frames import NOTHING, Frames, asks, reset_frame
from .streams import Pin, carried

LAST_MOMENT = 0.05
"""Seconds: what a write under trio has at least, whatever is left of its request's time."""


class Multiplexed:
    """A stream that several requests share.

    Args:
        inner: ours, of asyncio or trio.
        core: the core.

    Attributes:
        frames: what passed over it.
        pieces: how often something came.
        uploading: requests whose bodies are being sent.
        owed: streams that something came for in the read of another, which have not looked yet.
        heard: called when the peer told a limit, reset a stream or said goodbye.
    """

    def __init__(self, inner: Any, core: Any) -> None:
        self.frames = Frames()
        self.pieces = 0
        self.heard: Callable[[], None] = _nothing
        self._inner = inner
        self._core = core
        self.uploading: set[Any] = set()
        self.owed: set[int] = set()
        self._turns = 0  # in which reads bring nothing
        self._held = b""  # for the core's next read
        self._resets: list[int] = []  # streams to be reset with the next write

    # ------------------------------------------------------------------------------------ what the core calls
    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._turns and self.owed:
            self._turns -= 1
            return NOTHING
        while not self._held:
            data = await self._inner.read(max_bytes)
            if not data:
                return b""
            self._take_in(data)
            self._owe(timeout)
        held, self._held = self._held, b""
        return held

    def _take_in(self, data: bytes) -> None:
        frames = self.frames
        before = frames.limit, frames.goodbye, frames.resets
        self.pieces += 1
        self._held += frames.received(data)
        if before != (frames.limit, frames.goodbye, frames.resets):
            self.heard()
        if frames.dropped and isinstance(self._inner, AsyncioStream):
            self._inner.write_now(frames.refund())  # under trio it goes out with the next write

    def _owe(self, timeout: float | None) -> None:
        """The core's requests read by turns. One whose answer, or room to send on, came in the read of another looks
        when it has its turn, and who comes before it would read on until something else comes, however long. So there
        are turns in which nothing comes, until all have looked."""
        frames = self.frames
        touched, frames.touched = frames.touched, set()
        if timeout.__class__ is Phase:
            touched.discard(timeout.attempt.stream.stream_id)
        owed = {stream for stream in touched if stream in frames.open or (stream == 0 and self.uploading)}
        if owed:
            if not self._turns:
                self.owed.clear()  # who has not looked in all turns does not wait
            self.owed |= owed
            self._turns = len(frames.open)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._inner.is_over():
            if asks(buffer):
                raise self._core.WriteError("the connection is closed")
            return  # what came before its end is still to be read
        if timeout.__class__ is Phase and timeout.attempt.stream.writes and asks(buffer):
            timeout.attempt.stream.moved()  # what it sends beside that is due to what others receive
        self.frames.sends(buffer)
        buffer += self._due_resets() + self.frames.refund()
        if not buffer:
            return
        if isinstance(self._inner, AsyncioStream):
            # All of it is the transport's at once; a cancellation takes nothing back.
            await self._inner.write(buffer)
        else:
            await self._write_under_trio(buffer, timeout)

    async def _write_under_trio(self, buffer: bytes, timeout: float | None) -> None:
        """A part of a frame would make nonsense of all that follows: what was begun is brought to its end, within the
        time of its request. Where there is no such time, or it does not suffice, the connection is over."""
        import trio

        seconds = _left(timeout)
        try:
            with trio.CancelScope(shield=seconds is not None):
                await self._inner.write(buffer, seconds)
        except BaseException:
            self.kill()
            raise

    async def aclose(self) -> None:
        self.kill()

    async def start_tls(self, *_: Any) -> Any:
        raise NotImplementedError("HTTP/2 is spoken on it already")

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    # -------------------------------------------------------------------------------------------- what we call
    def kill(self) -> None:
        self._inner.kill()

    def broken(self, what: str) -> Exception:
        """The core's error for a peer that breaks the rules."""
        error: Exception = self._core.RemoteProtocolError(what)
        return error

    def is_alive(self) -> bool:
        """Whether another request may be sent, asked while none is on its way: what came meanwhile is looked at."""
        data = self._inner.take_now()
        if data is None or _hung_up(self._inner.get_extra_info("socket")):
            return False
        if data:
            self._take_in(data)
        return self.frames.goodbye is None

    def reset(self, stream: int) -> None:
        """Tell the peer that nobody waits for a stream. At once where writing does not suspend."""
        self._resets.append(stream)
        if isinstance(self._inner, AsyncioStream):
            self._inner.write_now(self._due_resets())

    def _due_resets(self) -> bytes:
        """Of streams that the peer knows; a request that still lies with the core goes out first."""
        if not self._resets:
            return b""
        due = [stream for stream in self._resets if stream <= self.frames.sent]
        self._resets = [stream for stream in self._resets if stream > self.frames.sent]
        return b"".join(map(reset_frame, due))


def _nothing() -> None:
    """Nobody listens yet."""


def _left(timeout: float | None) -> float | None:
    """Seconds that a write may take; None: no end."""
    if timeout.__class__ is not Phase:
        return timeout
    attempt = timeout.attempt
    seconds = None if timeout >= NO_LIMIT else float(timeout)
    if attempt.deadline is None:
        return seconds
    left = max(LAST_MOMENT, attempt.deadline - attempt.clock())
    return left if seconds is None else min(seconds, left)


def _hung_up(sock: Any) -> bool:
    """Whether the peer closed it; unlike bytes that lie there, which HTTP/2 may send at any time."""
    if sock is None or sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sock.fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


class MultiplexingBackend:
    """An async network backend whose streams may come to be shared.

    Args:
        core: the core.
        pin: where to dial.
        known: whether HTTP/2 is spoken without being agreed upon.
    """

    def __init__(self, core: Any, pin: Pin, *, known: bool) -> None:
        self._core = core
        self._known = known
        self._inner = AsyncBackend(core, pin)

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *rest: Any, **given: Any
    ) -> Any:
        return self._agreed(timeout, await self._inner.connect_tcp(host, port, timeout, *rest, **given))

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, *rest: Any, **given: Any
    ) -> Any:
        return self._agreed(timeout, await self._inner.connect_unix_socket(path, timeout, *rest, **given))

    def _agreed(self, timeout: float | None, stream: Any) -> Any:
        return shared(timeout, stream, self._core) if self._known else _Undecided(stream, self._core)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def shared(timeout: float | None, inner: Any, core: Any) -> Multiplexed:
    """A stream on which HTTP/2 is spoken from now on; the request that opened it is told."""
    stream = Multiplexed(inner, core)
    if timeout.__class__ is Phase:
        timeout.attempt.stream.connected(stream)
    carried(timeout, stream)
    return stream


class _Undecided:
    """A stream before its TLS handshake, which says what will be spoken."""

    def __init__(self, inner: Any, core: Any) -> None:
        self._inner = inner
        self._core = core
        self.read, self.write = inner.read, inner.write
        self.aclose, self.kill = inner.aclose, inner.kill
        self.get_extra_info = inner.get_extra_info

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> Any:
        inner = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        agreed = inner.get_extra_info("ssl_object")
        if agreed is not None and agreed.selected_alpn_protocol() == "h2":
            return shared(timeout, inner, self._core)
        # Behind a proxy that is itself spoken to by TLS, another handshake follows.
        return _Undecided(inner, self._core)
