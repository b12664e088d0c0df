"""urllib3's connections, cut at the attempt's deadline, and telling the attempt what they do.

Pools and connections stay urllib3's, with everything that they know of TLS and proxies; the classes here stand in front
of them. The socket of a connection is theirs too: each of its operations takes no longer than what is left, so a head
that drips is cut like any other. What was sent is seen here, and not guessed from errors."""

from __future__ import annotations

import functools
import io
import threading
import weakref
from collections.abc import Callable
from typing import Any

import urllib3
from urllib3.exceptions import ConnectTimeoutError

from .attempt import Attempt
from .body import DRAIN_BYTES, ResponseBody, sooner
from .pool import MAX_AGE, MAX_IDLE, old_at


class Sending:
    """An attempt, while this thread sends it.

    Attributes:
        seen: a connection of ours was taken for it.
        reader: what its answer is read through.
    """

    __slots__ = ("attempt", "reader", "seen")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.seen = False
        self.reader: Reader | None = None


class _Thread(threading.local):
    sending: Sending | None = None


THREAD = _Thread()
"""What this thread sends. The SDK hands nothing of ours down to its connections."""


class Socket:
    """The socket of a connection: what is sent and received goes through here."""

    __slots__ = ("_inner", "_seconds", "attempt")

    def __init__(self, inner: Any, attempt: Attempt) -> None:
        self._inner = inner
        self._seconds: float | None = inner.gettimeout()
        self.attempt = attempt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def settimeout(self, seconds: float | None) -> None:
        self._seconds = seconds

    def cut(self, attempt: Attempt) -> None:
        """Let the next operation end where its own time-out does, or the deadline."""
        seconds = left(attempt, self._seconds)
        if seconds is not None and seconds <= 0.0:
            raise TimeoutError("timed out")
        self._inner.settimeout(seconds)

    def sendall(self, data: Any) -> None:
        self.cut(self.attempt)
        self.attempt.sends()
        self._inner.sendall(data)

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        reader = Reader(self, self._inner.makefile("rb", buffering=0), self.attempt)
        sending = THREAD.sending
        if sending is not None and sending.attempt is self.attempt:
            sending.reader = reader
        return io.BufferedReader(reader)


class Reader(io.RawIOBase):
    """What one answer is read through; closed when it was read to its end, or is not wanted any more.

    Attributes:
        body: is told what becomes of it, once the caller has the head.
    """

    def __init__(self, sock: Socket, inner: Any, attempt: Attempt) -> None:
        self._socket = sock
        self._inner = inner
        self._attempt = attempt
        self.body: Body | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        attempt, body = self._attempt, self.body
        began = attempt.clock()
        try:
            self._socket.cut(attempt)
            count: int | None = self._inner.readinto(buffer)
        except BaseException as exc:
            if body is not None:
                body.broke(exc, attempt.clock() - began)
            raise
        if body is not None:
            body.waited += attempt.clock() - began
        if count:
            attempt.received = True
        elif body is not None and body.framed:
            body.broke(ConnectionError("the answer broke off"), 0.0)
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._inner.close()
            if self.body is not None:
                self.body.end()


class Body(ResponseBody):
    """The body of an answer that is still arriving.

    Args:
        response: urllib3's.
        attempt: whose deadline the reading is cut at.
        translate: makes a time-out of ours of one at the deadline.
    """

    def __init__(
        self, response: Any, attempt: Attempt, translate: Callable[[BaseException], Exception | None]
    ) -> None:
        # Weak, as it is what the response reads through: where that is dropped, it closes itself at once.
        super().__init__(weakref.ref(response), attempt, translate, _nothing)
        self.framed = (
            response.chunked or response.length_remaining is not None
        )  # else it ends with the connection

    @property
    def error(self) -> BaseException | None:
        """What it broke with."""
        return self._error

    def broke(self, exc: BaseException, waited: float) -> None:
        """Reading from the socket failed, after so long."""
        self.waited += waited
        self._failed(exc)

    def end(self) -> None:
        """Nobody reads it any more."""
        self._end()

    def drain(self, seconds: float) -> None:
        """Read what is left, if it is little and comes soon; then close."""
        self._attempt.deadline = sooner(self._attempt, seconds)
        response = self._stream()
        try:
            response.read(DRAIN_BYTES, decode_content=False)
        except Exception:  # thrown away, whatever it was
            self._error = None
        finally:
            response.close()


def _nothing() -> None:
    """urllib3 takes its connections back by itself."""


def left(attempt: Attempt, seconds: float | None) -> float | None:
    """How long something may take: as long as it is given, or what is left until the deadline, whichever is less."""
    if attempt.deadline is None:
        return seconds
    rest = attempt.deadline - attempt.clock()
    return rest if seconds is None or rest < seconds else seconds


class _Connection:
    """Stands in front of a connection class of urllib3's."""

    sock: Any
    timeout: Any
    close: Callable[[], None]
    attempt: Attempt | None = None
    idle_since = 0.0
    old_at = 0.0

    def take(self, sending: Sending) -> None:
        """It is to send this attempt."""
        attempt = self.attempt = sending.attempt
        sending.seen = True
        now = attempt.clock()
        if self.sock is not None and (
            attempt.fresh or now >= self.old_at or now - self.idle_since >= MAX_IDLE
        ):
            self.close()
        attempt.reused = self.sock is not None
        if attempt.reused:
            self.sock.attempt = attempt

    def connect(self) -> None:
        attempt, own = self.attempt, self.timeout
        theirs: Any = super()
        if attempt is None:  # somebody else's use of the pool
            theirs.connect()
            return
        seconds = left(attempt, own)
        if attempt.connect_timeout is not None and (seconds is None or attempt.connect_timeout < seconds):
            seconds = attempt.connect_timeout
        if seconds is not None and seconds <= 0.0:
            raise ConnectTimeoutError(self, "The deadline is over.")
        self.timeout = seconds
        try:
            theirs.connect()
        finally:
            self.timeout = own
        self.sock = Socket(self.sock, attempt)
        self.sock.settimeout(own)
        self.old_at = old_at(attempt.clock(), MAX_AGE)


class _Pool:
    """Stands in front of a pool class of urllib3's."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        if THREAD.sending is not None:
            connection.take(THREAD.sending)
        return connection

    def _put_conn(self, connection: Any) -> None:
        if connection is not None and connection.attempt is not None:
            connection.idle_since = connection.attempt.clock()
            connection.attempt = None
        super()._put_conn(connection)  # type: ignore[misc]


@functools.cache
def _cut(pool: Any) -> Any:
    theirs = pool.ConnectionCls
    connection = type(theirs.__name__, (_Connection, theirs), {})
    return type(pool.__name__, (_Pool, pool), {"ConnectionCls": connection})


def cut(manager: urllib3.PoolManager) -> None:
    """Have a manager's pools be cut at deadlines: ours in front of those that it uses, whichever they are."""
    manager.pool_classes_by_scheme = {
        scheme: _cut(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }
