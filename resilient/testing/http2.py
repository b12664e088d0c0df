"""HTTP/2 at an origin: each request of a connection is carried out by a thread of its own, side by side.

The same behaviours as over HTTP/1.1: what resets or breaks off there ends the request's stream here, what closes the
connection closes it with all that is on it. What is about bytes of HTTP/1.1 has no counterpart and is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, Literal, NoReturn, Protocol

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from .clock import ORIGIN_THREADS
from .connection import Connection, Gone, Pause
from .exchange import Answer, Cut, Exchange, Request, Step

PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
INTERNAL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED = 0x2, 0x7, 0xB, 0xD


class Host(Protocol):
    """What the streams want of their origin."""

    clock: Any
    port: int
    max_head: int
    max_body: int

    def now(self) -> float: ...
    def seen(
        self, method: str, target: str, headers: list[tuple[str, str]], version: str, connection: int
    ) -> Request: ...
    def changed(self) -> None: ...
    def refuse(self) -> None: ...
    def step(self) -> Step: ...
    def joined(self, thread: threading.Thread) -> None: ...
    def failed(self, exc: Exception) -> None: ...


class Http2Connection:
    """A connection that speaks HTTP/2. `serve` is called by the connection's own thread.

    Args:
        most: requests at a time.
    """

    def __init__(self, origin: Host, connection: Connection, most: int) -> None:
        self.origin = origin
        self.connection = connection
        self.changed = threading.Condition(threading.RLock())
        self.wire = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=False, header_encoding="latin-1", validate_outbound_headers=False
            )
        )  # this and all below: guarded by changed
        limit = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: most}
        self.wire.local_settings = h2.settings.Settings(client=False, initial_values=limit)
        self._is_over = False
        self._streams: dict[int, Http2Exchange] = {}
        self._last: int | None = None  # said by a goodbye
        self._is_reset = False
        self._closes_when_done = False

    # ----------------------------------------------------------------------------- in the connection's own thread
    def serve(self) -> None:
        """Read until the connection ends; then no stream is left."""
        connection = self.connection
        connection.beside = self._busy
        try:
            with self.changed:
                self.wire.initiate_connection()
                self.flush()
            while connection.buffer or connection.receive():
                data = bytes(connection.buffer)
                connection.buffer.clear()
                with self.changed:
                    for event in self.wire.receive_data(data):
                        self._take(event)
                    self.flush()
                    self.changed.notify_all()
        except h2.exceptions.ProtocolError:
            with self.changed:
                self.flush()  # the library has written why
        finally:
            with self.changed:
                self._is_over = True
                streams = list(self._streams.values())
                self.changed.notify_all()
            for stream in streams:
                stream.pause.stop()
            if self._is_reset:
                connection.reset()
            connection.close()

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            if self._last is not None and event.stream_id > self._last:
                return
            fields: Any = event.headers
            pseudo = dict(field for field in fields if field[0].startswith(":"))
            headers = [("host", pseudo.get(":authority", ""))]
            headers += [field for field in fields if not field[0].startswith(":")]
            number = self.connection.number
            request = self.origin.seen(pseudo[":method"], pseudo[":path"], headers, "HTTP/2", number)
            begun = self._streams[event.stream_id] = Http2Exchange(self, event.stream_id, request)
            thread = threading.Thread(
                target=begun.run,
                args=(self.origin.step(),),
                name=f"{ORIGIN_THREADS}-{self.origin.port}-{self.connection.number}.{event.stream_id}",
                daemon=True,
            )
            self.origin.joined(thread)
            thread.start()
        elif (stream := self._streams.get(getattr(event, "stream_id", None) or 0)) is not None:
            stream.take(event)
        elif isinstance(
            event, h2.events.DataReceived
        ):  # of a stream that is over: its room is that of all others
            self.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    # -------------------------------------------------------------------------------------------- from any thread
    @property
    def over(self) -> bool:
        """Whether nothing more can be sent: it ended, or its client broke the rules or said goodbye."""
        return self._is_over or self.wire.state_machine.state is h2.connection.ConnectionState.CLOSED

    def _busy(self) -> bool:
        if not self.changed.acquire(blocking=False):
            return True  # somebody is at it, and may wait for the very loop that asks
        try:
            return any(stream.is_busy() for stream in self._streams.values())
        finally:
            self.changed.release()

    # ------------------------------------------------------------------------- from a stream's thread, under changed
    def flush(self, extra: bytes = b"") -> None:
        """Send what the library has written."""
        data = self.wire.data_to_send() + extra
        if data:
            self.connection.send_beside(data)

    def say_goodbye(self, last: int, code: int) -> None:
        """Send GOAWAY; streams above ``last`` are left alone from now on. The connection ends with the others."""
        payload = last.to_bytes(4) + code.to_bytes(4)
        # The library would take nothing more, though requests up to ``last`` are still to be answered.
        self.flush(len(payload).to_bytes(3) + b"\x07\x00" + bytes(4) + payload)
        self._last, self._closes_when_done = last, True
        for number, stream in self._streams.items():
            if number > last:
                stream.abandon()
        self.changed.notify_all()

    def end(self, how: Literal["close", "reset"]) -> None:
        """End the connection with all that is on it."""
        for stream in self._streams.values():
            stream.abandon()
        self.changed.notify_all()
        if how == "reset":
            self._is_reset = True
        # In order: only our side, for what has been sent is lost where the socket is closed with bytes unread.
        self.connection.end_beside(reading=how == "reset")

    def left(self, stream: int) -> None:
        """A stream is over."""
        over = self._streams.pop(stream)
        try:
            over.acknowledge()
            self.flush()
        except (Gone, h2.exceptions.ProtocolError):
            return  # and so is the connection
        if self._closes_when_done and not self._streams and not self._is_reset:
            self.end("close")


class Http2Exchange(Exchange):
    """A request over HTTP/2, as a behaviour works on it.

    Attributes:
        stream_id: the number of its stream.
    """

    def __init__(self, home: Http2Connection, stream_id: int, request: Request) -> None:
        super().__init__(home.origin, home.connection)
        self.stream_id = stream_id
        self.pause = Pause(home.origin)
        self._home = home
        self._request: Request = request
        self._came: list[tuple[bytes, int]] = []  # pieces of the body, each with what it took of the window
        self._complete = False
        self._abandoned = False
        self._until: Callable[[], bool] | None = None  # what its thread waits for

    # ---------------------------------------------------------------------- by the connection's thread, under changed
    def take(self, event: Any) -> None:
        """Something came for it."""
        if isinstance(event, h2.events.DataReceived):
            self._came.append((event.data, event.flow_controlled_length))
        elif isinstance(event, h2.events.StreamEnded):
            self._complete = True
        elif isinstance(event, h2.events.StreamReset):
            self._request.cancelled = True
            self.abandon()

    def acknowledge(self) -> None:
        """Give the client back the room that the pieces took."""
        for _, taken in self._came:
            if taken:
                self._home.wire.acknowledge_received_data(taken, self.stream_id)
        self._came.clear()

    def abandon(self) -> None:
        """Nobody wants its answer any more."""
        self._abandoned = True
        self.pause.stop()

    def is_busy(self) -> bool:
        """Whether it has something left to do that needs no time to pass."""
        if self.pause.on:
            return False
        return self._until is None or self._until()

    # --------------------------------------------------------------------------------------------- its own thread
    def run(self, step: Step) -> None:
        """Carry out what is to be done with it."""
        try:
            step(self)
        except Gone:
            pass
        except Exception as exc:  # a handler's, or a behaviour's that is not ours
            self.origin.failed(exc)  # type: ignore[attr-defined]  # an Origin, which the server of the socket is part of
            self._quietly(lambda: self.respond(Answer(500, effect=False)))
        finally:
            with self._home.changed:
                self._home.left(self.stream_id)
            self.origin.changed()

    def _quietly(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Gone:
            pass

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Under changed: until ``condition`` holds."""
        self._until = lambda: self._is_gone() or condition()
        try:
            self._home.changed.wait_for(self._until)
        finally:
            self._until = None
        self._check()

    def _is_gone(self) -> bool:
        return self._abandoned or self._home.over

    def _check(self) -> None:
        if self._is_gone():
            raise Gone

    def read_head(self) -> Request:
        return self._request

    def read(self, *, up_to: int | None = None) -> Request:
        request, home = self._request, self._home
        with home.changed:
            while not request.complete and (up_to is None or len(request.body) < up_to):
                self._wait_until(lambda: bool(self._came) or self._complete)
                request.body += b"".join(data for data, _ in self._came)
                self.acknowledge()
                home.flush()
                request.complete = self._complete
                if len(request.body) > self.origin.max_body:
                    self._send_head(Answer(413), 0, end=True)
                    raise Gone
        self.origin.changed()
        return request

    def wait(self, seconds: float, /) -> None:
        if seconds > 0:
            self.pause.wait(seconds)

    def hang(self) -> NoReturn:
        """Do nothing until the client gives up."""
        with self._home.changed:
            self._wait_until(lambda: False)
        raise Gone

    # ------------------------------------------------------------------------------------------------- answering
    def respond(self, answer: Answer, /) -> None:
        request = self.read()
        if answer.makes_effect:
            self.effect()
        bare = request.method == "HEAD" or answer.status in (204, 304)
        length = None if answer.chunked else max(0, len(answer.body) + self.surplus)
        if self.head_pace:
            self.wait(self.head_pace * len(answer.head(length, self.origin.now())))
        if answer.close:
            self.goaway(self.stream_id)
        self._break_off("head")
        body = b"" if bare else answer.body
        cut = self.cut
        if cut is not None:
            body = body[: len(body) // 2 if cut.after is None else cut.after]
        with self._home.changed:
            self._check()
            self._send_head(answer, length, end=not body and cut is None)
        step = 1 if self.body_pace else max(1, len(body))
        for at in range(0, len(body), step):
            self.wait(self.body_pace)
            self._send_data(body[at : at + step], end=at + step >= len(body) and cut is None)
        self._break_off("body")

    def _break_off(self, part: str) -> None:
        cut: Cut | None = self.cut
        if cut is not None and cut.part == part:
            if cut.reset:
                self.reset()
            else:
                self.close()
            raise Gone

    def _send_head(self, answer: Answer, length: int | None, *, end: bool) -> None:
        given = [(name.lower(), value) for name, value in answer.headers]
        names = {name for name, _ in given}
        headers = [(":status", str(answer.status))]
        if "date" not in names:
            headers.append(("date", formatdate(self.origin.now(), usegmt=True)))
        if length is not None and "content-length" not in names and answer.status != 204:
            headers.append(("content-length", str(length)))
        self._home.wire.send_headers(self.stream_id, [*headers, *given], end_stream=end)
        self._home.flush()

    def _send_data(self, data: bytes, *, end: bool) -> None:
        wire = self._home.wire
        with self._home.changed:
            while data:
                self._check()
                size = min(
                    len(data), wire.max_outbound_frame_size, wire.local_flow_control_window(self.stream_id)
                )
                if size == 0:
                    self._wait_until(lambda: wire.local_flow_control_window(self.stream_id) > 0)
                    continue
                piece, data = data[:size], data[size:]
                wire.send_data(self.stream_id, piece, end_stream=end and not data)
                self._home.flush()

    def send(self, data: bytes, /) -> None:
        raise TypeError("over HTTP/2 no bytes can be sent as they are; answer, or reset the stream")

    # ---------------------------------------------------------------------------------------------------- ending
    def reset_stream(self, code: int) -> None:
        """Reset the stream, with an error code."""
        with self._home.changed:
            if not self._is_gone():
                self._home.wire.reset_stream(self.stream_id, code)
                self._home.flush()
                self.abandon()

    def reset(self) -> None:
        """Reset the stream: over HTTP/2 the connection is shared with others."""
        self.reset_stream(INTERNAL_ERROR)

    def goaway(self, last: int, code: int = 0) -> None:
        """Say that streams above ``last`` will not be answered, and end the connection when the others are."""
        with self._home.changed:
            self._check()
            self._home.say_goodbye(last, code)

    def close(self, *, notify: bool = True) -> None:
        """Close the connection, with all that is on it."""
        with self._home.changed:
            self._home.end("close")

    def reset_connection(self) -> None:
        """Reset the connection, with all that is on it."""
        with self._home.changed:
            self._home.end("reset")

    @property
    def open(self) -> bool:
        with self._home.changed:
            return not self._is_gone()

    def take_in(self, size: int, /) -> None:
        """Nothing: what is not read is not acknowledged, and the client sends no further."""

    def wait_for_more(self) -> bool:
        """False: the next request has a stream of its own."""
        return False

    def skip(self) -> None:
        """Nothing: there is no next request on a stream."""


def stream_of(exchange: Exchange) -> Http2Exchange:
    """An exchange that is a stream of HTTP/2.

    Raises:
        TypeError: for HTTP/1.1.
    """
    if not isinstance(exchange, Http2Exchange):
        raise TypeError("this is for HTTP/2: write Origin(http2=True), and have the client speak it")
    return exchange
