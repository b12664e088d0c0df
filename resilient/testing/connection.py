"""One connection that an origin accepted: its socket, and knowing whether it waits.

A virtual-time loop may only jump while the origin has nothing left to do, so "I wait" must never be said
while bytes lie unread. Hence the order everywhere here: try the socket; if it would block, say for what we
wait, poll, take that back, try again. Bytes that arrive stay in the kernel, where `busy` sees them, until the
wait has been taken back.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from .clock import ManualClock

T = TypeVar("T")

_WORKING = 0
_READ, _WRITE = select.POLLIN, select.POLLOUT
# Linux tells that the peer has closed even while bytes of it lie unread; elsewhere those look the same.
_LEFT = getattr(select, "POLLRDHUP", select.POLLIN)

CHUNK = 65_536


class Gone(Exception):
    """The connection is over: closed by us, by the client, or because the origin stops."""


class Timing(Protocol):
    """What a connection wants to know of its origin."""

    clock: ManualClock | None


class Pause:
    """A wait on the origin's clock, which ends when the origin does.

    Attributes:
        on: somebody waits; read by any thread.
    """

    def __init__(self, timing: Timing) -> None:
        self.on = False
        self._timing = timing
        self._stopping = False
        self._woken = threading.Event()

    def stop(self) -> None:
        """End it with `Gone`, and every later one; from any thread."""
        self._stopping = True
        self._woken.set()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        if self._stopping:
            raise Gone
        clock = self._timing.clock
        if clock is None:
            self.on = True
            self._woken.wait(seconds)
        elif clock.autojump and not clock._driven:
            clock._move(by=seconds)  # whoever waits moves the time, as everywhere on such a clock
        else:
            # The alarm first: idle without one, we would be taken for waiting for ever.
            until = clock.monotonic() + seconds
            cancel = clock.call_at(until, self._go_on)
            self.on = True
            with clock._counted_as_blocked(until):
                self._woken.wait()
            cancel()
        self.on = False
        if self._stopping:
            raise Gone
        self._woken.clear()

    def _go_on(self) -> None:
        # In the thread that moves the time, which must not move it on before we had our turn.
        self.on = False
        self._woken.set()


class Connection:
    """A connection that was accepted. Used by a thread of its own; what others may call is marked.

    Attributes:
        number: which connection of the origin it is, from 1.
        open: whether our end is open.
        buffer: bytes that were received and not used yet.
        beside: tells whether something is left to be done by other threads that serve it (HTTP/2).
    """

    def __init__(self, sock: socket.socket, number: int, timing: Timing) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = number
        self.open = True
        self.buffer = bytearray()
        self._sock = sock
        self.beside: Callable[[], bool] | None = None
        self._pause = Pause(timing)
        self._waits_for = _WORKING  # read by any thread
        self._stuck = _WORKING  # what a thread beside waits for that sends; read by any thread
        self._stopping = False
        self._wire = (
            threading.Lock()
        )  # held while the socket is read or written: TLS bears one thread at a time
        self._closing = threading.Lock()  # guards the descriptor's end against who looks at it from outside

    # -- from any thread

    def busy(self) -> bool:
        """Whether something is left to be done here that needs no time to pass."""
        if self._pause.on:
            return False
        waits_for = self._waits_for
        if waits_for == _WORKING or self._is_ready(waits_for):
            return True
        if self._waits_for != waits_for:
            return True  # it went on, and may have taken the bytes before we looked for them
        # Only now: it may have come back from work in the meantime, and have left some to the threads beside.
        return self.beside is not None and self._is_busy_beside(self.beside)

    def _is_busy_beside(self, beside: Callable[[], bool]) -> bool:
        stuck = self._stuck
        if stuck == _WORKING:
            return beside()
        return self._is_ready(stuck) or self._stuck != stuck

    def _is_ready(self, wanted: int) -> bool:
        with self._closing:
            return self.open and _ready(self._sock, wanted, 0)

    def stop(self) -> None:
        """Have every wait of the connection end with `Gone`."""
        self._stopping = True
        self._pause.stop()
        with self._closing, contextlib.suppress(OSError):
            if self.open:
                # past SSLSocket.shutdown, which takes the TLS state away under the thread that uses it
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def send_beside(self, data: bytes) -> None:
        """Send all of it while the connection's own thread reads, which says for both what is waited for."""
        view = memoryview(data)
        while view:
            if not self.open or self._stopping:
                raise Gone
            wanted = _WRITE
            try:
                with self._wire:
                    view = view[self._sock.send(view[:CHUNK]) :]
                continue
            except (BlockingIOError, ssl.SSLWantWriteError):
                pass
            except ssl.SSLWantReadError:
                wanted = _READ
            except (OSError, ValueError) as exc:
                raise Gone from exc
            self._stuck = wanted
            _ready(self._sock, wanted, None)
            self._stuck = _WORKING

    def end_beside(self, *, reading: bool) -> None:
        """End our side of it; or have its own thread find that nothing more comes (``reading``)."""
        with self._closing, contextlib.suppress(OSError):
            if self.open:
                socket.socket.shutdown(self._sock, socket.SHUT_RD if reading else socket.SHUT_WR)

    # -- from its own thread

    def start_tls(self, context: ssl.SSLContext) -> None:
        """The server's side of the handshake."""
        try:
            tls = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        except OSError as exc:
            raise Gone from exc
        self._sock = tls
        self._retried(tls.do_handshake, _READ)

    def receive(self) -> bool:
        """Wait for bytes, add them to the buffer; False when the client sends no more."""
        data = self._retried(lambda: self._sock.recv(CHUNK), _READ)
        self.buffer += data
        return bool(data)

    def send(self, data: bytes) -> None:
        """Send all of it, as fast as the client takes it."""
        view = memoryview(data)
        while view:
            sent = self._retried(partial(self._sock.send, view[:CHUNK]), _WRITE)
            view = view[sent:]

    def wait(self, seconds: float) -> None:
        """Let time pass, on the origin's clock."""
        self._pause.wait(seconds)

    def wait_until_left(self) -> None:
        """Wait until the client closes the connection."""
        self._poll(_LEFT)

    def take_in(self, size: int) -> None:
        """Have the kernel take in about so many bytes that nobody reads; then the client cannot send on."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def close(self, *, notify: bool = True) -> None:
        """Close in order. ``notify``: with TLS's own goodbye, where there is TLS."""
        if self.open and notify and isinstance(self._sock, ssl.SSLSocket):
            # Sends our goodbye, then would wait for the client's, which we do not need.
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
        self._end()

    def reset(self) -> None:
        """Close with a TCP reset; what the client has not read yet is lost."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end()

    def _end(self) -> None:
        with self._closing:
            self.open = False
            self._sock.close()

    def _retried(self, operation: Callable[[], T], wanted: int) -> T:
        while True:
            if not self.open or self._stopping:
                raise Gone
            try:
                with self._wire:
                    return operation()
            except BlockingIOError:
                self._poll(wanted)
            except ssl.SSLWantReadError:  # TLS may have to read in order to write, and the other way round
                self._poll(_READ)
            except ssl.SSLWantWriteError:
                self._poll(_WRITE)
            except (OSError, ValueError) as exc:
                raise Gone from exc

    def _poll(self, wanted: int) -> None:
        self._waits_for = wanted
        _ready(self._sock, wanted, None)
        self._waits_for = _WORKING
        if self._stopping:
            raise Gone


def _ready(sock: socket.socket, wanted: int, timeout: float | None) -> bool:
    poll = select.poll()
    try:
        poll.register(sock, wanted)
    except (ValueError, OSError):
        return False
    return bool(poll.poll(None if timeout is None else timeout * 1000.0))
