"""Who may use which connection of one endpoint where requests share them (HTTP/2): no I/O, one short lock.

A connection takes as many requests at a time as its peer says; the oldest that has a place is filled first. While one
is being opened the others wait for it, once. One on which something went wrong takes no more and is killed with its
last request: the core does not clean up after a request that was cancelled, so that is no place to begin another."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

from ..core.forks import tell_after_fork
from .alarm import Alarm
from .frames import MOST, Goodbye
from .multiplexed import Multiplexed
from .pool import MAX_AGE, MAX_IDLE, Connection

_ANSWERED = frozenset(("http2.receive_response_headers.complete", "http2.receive_response_headers.failed"))


class SharedConnection(Connection):
    """A connection, which may turn out to speak HTTP/1.1 and be shared by nobody.

    Attributes:
        stream: what its requests share; None: it speaks HTTP/1.1, or is not there yet.
        ready: what it speaks is known, and how many requests at a time it takes.
        draining: it takes no more.
        in_flight: its requests.
    """

    __slots__ = ("draining", "in_flight", "ready", "stream")

    def __init__(self, core: Any, loop: Any, old_at: float) -> None:
        super().__init__(core, loop, old_at)
        self.stream: Multiplexed | None = None
        self.ready = False
        self.draining = False
        self.in_flight: set[Use] = set()  # guarded by the pool's lock

    def has_place(self) -> bool:
        if self.stream is None:
            return not self.in_flight
        return len(self.in_flight) < (self.stream.frames.limit or 0)

    def is_good(self, now: float, max_idle: float) -> bool:
        """Whether it may take another request, when it has a place."""
        core, stream = self.core, self.stream
        if now >= self.old_at:
            return False
        if stream is not None:
            idle = not self.in_flight
            return core.is_available() and not (
                idle and (now - self.idle_since >= max_idle or not stream.is_alive())
            )
        return bool(self.in_flight) or self.usable(now, max_idle)


class Use:
    """One request on a connection that others may share.

    Args:
        pool: of the connection.
        attempt: what it is an attempt of.
        read, write: seconds without any progress, as the SDK's ``timeout=`` says them; None: no limit.

    Attributes:
        writes: it is still being sent.
        stream_id: its stream, from when its head was begun to be sent.
        goodbye: the peer said that it will not answer this stream.
        reset: the code with which the peer reset its stream.
        answered: the head of an answer came: whatever the peer says after that, it took the request.
        well: whether its connection was, when it ended.
        timely: whether the alarm is set to the end of its quiet time, and not to the deadline.
        alarm: ends what it waits for.
    """

    __slots__ = (
        "_read",
        "_untold",
        "_write",
        "alarm",
        "answered",
        "attempt",
        "connection",
        "goodbye",
        "pieces",
        "pool",
        "reset",
        "stream_id",
        "timely",
        "well",
        "writes",
    )

    def __init__(self, pool: SharedPool, attempt: Any, read: float | None, write: float | None) -> None:
        self.pool = pool
        self.attempt = attempt
        self.connection: SharedConnection
        self.writes = True
        self._read = read
        self._write = write
        self._untold: dict[str, Any] | None = None
        self.stream_id: int | None = None
        self.pieces = 0
        self.goodbye: Goodbye | None = None
        self.reset: int | None = None
        self.answered = False
        self.well = True
        self.timely = True
        self.alarm: Alarm | None = None

    # ------------------------------------------------------------------------------------ what is told on the way
    def connected(self, stream: Multiplexed) -> None:
        """The connection was opened for it, and HTTP/2 is spoken."""
        connection = self.connection
        connection.stream = stream
        stream.heard = lambda: self.pool.heard(connection)

    async def trace(self, name: str, info: dict[str, Any]) -> None:
        """The core's trace callback: which stream it has, and how far it is."""
        if name == "http2.send_request_headers.started":
            stream = self.connection.stream
            assert stream is not None
            self.stream_id = number = info["stream_id"]
            self.attempt.sent_at = self.attempt.clock()
            self.pieces = stream.pieces
            stream.frames.open[number] = None
            stream.uploading.add(self)
            self.moved()
        elif name == "http2.send_request_body.complete":
            self.writes = False
            self._uploaded()
            self.moved()
        elif name == "http2.receive_response_headers.complete":
            self.moved()
        elif name == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            self.pool.heard(self.connection)  # nothing else was agreed upon
        await self._tell(name, info)
        if name in _ANSWERED:
            self._check_status(info)

    async def _tell(self, name: str, info: dict[str, Any]) -> None:
        """Tell the attempt, and the user's own trace. Where the core has just taken a number for the stream and not yet
        begun it, a trace that suspends would let the next request have the same: it is told with what follows."""
        attempt = self.attempt
        if name == "http2.send_request_headers.started" and attempt.user_trace is not None:
            attempt.sent, self._untold = True, info
            return
        if self._untold is not None:
            untold, self._untold = self._untold, None
            await attempt.atrace("http2.send_request_headers.started", untold)
        await attempt.atrace(name, info)

    def _check_status(self, info: dict[str, Any]) -> None:
        """The core believes whatever stands for a status, and what is no number breaks it."""
        stream = self.connection.stream
        assert stream is not None
        if isinstance(info.get("exception"), ValueError):
            raise stream.broken("the status of the server's answer is no number") from info["exception"]
        answered = info.get("return_value")
        if answered is not None and not 100 <= answered[0] <= 999:
            raise stream.broken(f"the status of the server's answer is {answered[0]}")

    def _uploaded(self) -> None:
        if self.connection.stream is not None:
            self.connection.stream.uploading.discard(self)

    def moved(self) -> None:
        """There was progress: the time that it may be quiet begins anew."""
        if self.stream_id is not None and self.connection.stream is not None:
            self.connection.stream.owed.discard(self.stream_id)
        if self.alarm is not None:
            self.alarm.move(self._left())

    def _left(self) -> float | None:
        attempt = self.attempt
        if self.stream_id is None:
            quiet = None  # until then the streams hold it to the time for connecting
        else:
            quiet = self._write if self.writes else self._read
        if attempt.deadline is None:
            return quiet
        left: float = max(0.0, attempt.deadline - attempt.clock())
        self.timely = quiet is not None and quiet < left
        return quiet if self.timely else left

    def watched_by(self, alarm: Alarm) -> None:
        """From now on ``alarm`` ends it."""
        self.alarm = alarm
        if self.goodbye is not None:
            self.give_up()
        self.moved()

    def give_up(self) -> None:
        """The peer will not answer it."""
        if self.alarm is not None:
            self.alarm.ring()

    @property
    def was_reset(self) -> int | None:
        """The code with which the peer reset its stream."""
        stream = self.connection.stream
        return None if stream is None or self.stream_id is None else stream.frames.open.get(self.stream_id)

    def settle(self) -> None:
        """It ended otherwise than by its answer: note what is known of it now."""
        connection = self.connection
        self._uploaded()
        self.well = connection.core.is_available() and not connection.draining
        self.reset = self.was_reset
        stream = connection.stream
        self.answered = stream is not None and self.stream_id in stream.frames.answered

    def reached_the_socket(self) -> bool:
        """Whether its head did; asked when the core gave up on it by itself."""
        stream = self.connection.stream
        return stream is None or (self.stream_id is not None and self.stream_id <= stream.frames.sent)

    def heard_anything(self) -> bool:
        """Whether anything came on its connection since it was sent."""
        stream = self.connection.stream
        return stream is not None and self.stream_id is not None and stream.pieces != self.pieces


class SharedPool:
    """The connections of one endpoint, which requests share.

    Args:
        connect: makes a new connection object of the core's; does no I/O.
        max_age: seconds, +-20 %.
        max_idle: seconds.
        keep: idle connections at most.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        max_age: float = MAX_AGE,
        max_idle: float = MAX_IDLE,
        keep: int = 100,
    ) -> None:
        self._connect = connect
        self._max_age = max_age
        self._max_idle = max_idle
        self._keep = keep
        self._lock = threading.RLock()
        self._open: list[SharedConnection] = []  # that may take requests, the oldest first; guarded by _lock
        self._waiting: list[Callable[[], None]] = []  # guarded by _lock
        self._takes = MOST  # requests at a time that the last one took; guarded by _lock
        self._closed = False  # guarded by _lock
        self.opened = 0  # connections made so far; guarded by _lock
        self.failed = 0  # those of them that never were ready; guarded by _lock
        self.in_use = 0  # requests; guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        """A child lets go of its parent's connections without a word on them: they share the selector of its loop."""
        self._lock = threading.RLock()
        self._open, self._waiting, self.in_use = [], [], 0

    @property
    def idle(self) -> int:
        """Connections without a request."""
        with self._lock:
            return sum(not connection.in_flight for connection in self._open)

    def take(self, use: Use, now: float, loop: Any, *, fresh: Any = False, patient: bool) -> bool:
        """Give ``use`` a connection. False where it is ``patient``, and better waits for one that is being opened.

        Args:
            fresh: as an attempt's.
        """
        dead: list[SharedConnection] = []
        found, opening = None, 0
        with self._lock:
            for connection in () if fresh is True else tuple(self._open):
                if connection.loop is not loop:
                    if connection.loop.is_closed():
                        self._open.remove(connection)
                elif not connection.ready:
                    opening += 1
                elif not connection.is_good(now, self._max_idle):
                    self._drain(connection)
                    if not connection.in_flight:
                        dead.append(connection)
                elif connection is not fresh and connection.has_place():
                    found = connection
                    break
            # Each that is being opened is waited for by as many as it will have places for.
            waits = found is None and patient and len(self._waiting) < opening * (self._takes - 1)
            if not waits:
                if found is None:
                    self.opened += 1
                    found = SharedConnection(
                        self._connect(), loop, now + self._max_age * (0.8 + 0.4 * random.random())
                    )
                    self._open.append(found)
                found.uses += 1
                found.in_flight.add(use)
                self.in_use += 1
                use.connection = found
        for connection in dead:
            connection.kill()
        return not waits

    def wait_for_one(self, loop: Any) -> Callable[[Callable[[], None]], bool]:
        """For `wait_for_wake`: who is told when a connection that is being opened is ready, or failed."""

        def arm(wake: Callable[[], None]) -> bool:
            with self._lock:
                opening = any(each.loop is loop and not each.ready for each in self._open)
                if opening:
                    self._waiting.append(wake)
            return opening

        return arm

    def heard(self, connection: SharedConnection) -> None:
        """What a connection speaks and takes is known, or has changed; or its peer ended streams, or all of it."""
        stream = connection.stream
        limit = 1 if stream is None else stream.frames.limit
        goodbye = None if stream is None else stream.frames.goodbye
        woken: list[Callable[[], None]] = []
        with self._lock:
            if limit is not None and not connection.ready:
                connection.ready, self._takes = True, max(1, limit)
                woken, self._waiting = self._waiting, []
            if goodbye is not None:
                self._drain(connection)
            in_flight = tuple(connection.in_flight)
        for wake in woken:
            wake()
        for use in in_flight:
            if goodbye is not None and use.stream_id is not None and use.stream_id > goodbye.last_stream_id:
                use.goodbye = goodbye
                use.give_up()
            elif use.writes and use.was_reset is not None:
                use.give_up()  # the core might wait for ever until it may send on

    def give(self, use: Use, now: float, *, clean: bool) -> None:
        """The request is over; ``clean``: the core has nothing left of it. Again for the same request it does
        nothing."""
        connection, woken = use.connection, []
        stream, number = connection.stream, use.stream_id
        with self._lock:
            if use not in connection.in_flight:
                return
            connection.in_flight.discard(use)
            self.in_use -= 1
            if not connection.ready:  # it was being opened, and others wait
                clean = False
                self.failed += 1
                woken, self._waiting = self._waiting, []
            if (
                self._closed
                or not clean
                or now >= connection.old_at
                or not connection.core.is_available()
                or (not connection.in_flight and self.idle > self._keep)
            ):
                self._drain(connection)
            connection.idle_since = now
            over = connection.draining and not connection.in_flight
        for wake in woken:
            wake()
        if over:
            connection.kill()
        if stream is not None and number is not None:
            was_reset = stream.frames.close(number)
            stream.owed.discard(number)
            if not (over or clean) and was_reset is None and use.attempt.sent:
                stream.reset(number)

    def _drain(self, connection: SharedConnection) -> None:
        if not connection.draining:
            connection.draining = True
            if connection in self._open:
                self._open.remove(connection)

    def close(self) -> None:
        """Kill what is idle; what is in use is killed with its last request."""
        for connection in self._empty():
            connection.kill()

    def drain(self) -> None:
        """As `close`, from any thread: connections are killed by their own loop."""
        for connection in self._empty():
            try:
                connection.loop.call_soon_threadsafe(connection.kill)
            except RuntimeError:
                pass  # the loop is closed, and its connections with it

    def _empty(self) -> list[SharedConnection]:
        with self._lock:
            self._closed = True
            given_up, self._open = self._open, []
            for connection in given_up:
                connection.draining = True
        return [connection for connection in given_up if not connection.in_flight]
