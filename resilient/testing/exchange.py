"""One request at an origin, and everything that can be done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Literal, NoReturn, Protocol

from .connection import Connection, Gone

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""A mapping, or pairs where a name comes twice."""

_LINE = 8_192  # the longest chunk-size or trailer line that is read


def pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Headers as pairs, in their order."""
    return tuple(headers.items() if isinstance(headers, Mapping) else headers)


@dataclass(slots=True, eq=False)
class Request:
    """A request that an origin saw.

    Attributes:
        method: such as ``"POST"``.
        target: as it stands in the request line, query included.
        headers: names as sent, values as text, in order.
        body: the bytes received so far, transfer coding removed.
        connection: number of the connection, from 1 in the order in which they were accepted.
        order: number of the request, from 1 in the order in which their heads were read.
        complete: whether the whole body was received.
        effect: whether the origin did what was asked.
        version: ``"HTTP/1.1"``, ``"HTTP/1.0"`` or ``"HTTP/2"``.
        cancelled: whether the client reset its stream (HTTP/2).
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    connection: int
    order: int
    version: str = "HTTP/1.1"
    body: bytes = b""
    complete: bool = False
    effect: bool = False
    cancelled: bool = False

    def header(self, name: str, default: str | None = None, /) -> str | None:
        """The value of the first header of that name, in whatever case; else ``default``."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), default)


@dataclass(frozen=True)
class Answer:
    """An answer to be sent; see `resilient.testing.answer`."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    chunked: bool = False
    close: bool = False
    effect: bool | None = None

    @property
    def makes_effect(self) -> bool:
        return self.status < 400 if self.effect is None else self.effect

    def head(self, length: int | None, now: float) -> bytes:
        """The head; ``length`` None for chunked."""
        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = ""
        given = {name.lower() for name, _ in self.headers}
        lines = [f"HTTP/1.1 {self.status} {reason}"]
        if "date" not in given:
            lines.append(f"Date: {formatdate(now, usegmt=True)}")
        if not given & {"content-length", "transfer-encoding"} and self.status >= 200 and self.status != 204:
            lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        if self.close:
            lines.append("Connection: close")
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True)
class Cut:
    """Where an answer breaks off: after so many bytes of a part (None: half of it), by a reset or a close."""

    part: Literal["head", "body"]
    after: int | None
    reset: bool


class Host(Protocol):
    """What an exchange wants of its origin."""

    max_head: int
    max_body: int

    def now(self) -> float: ...
    def seen(
        self, method: str, target: str, headers: list[tuple[str, str]], version: str, connection: int
    ) -> Request: ...
    def changed(self) -> None: ...
    def refuse(self) -> None: ...


class Exchange:
    """A request whose first bytes are here, and its connection: what a behaviour works on.

    Whatever is done after the connection ended raises an exception of its own, which ends the behaviour; let
    it pass. Used by the connection's own thread only.

    Attributes:
        origin: the origin that the request came to.
        head_pace: seconds before each byte of the answer's head; 0.0 sends it at once.
        body_pace: the same for the body.
        cut: where the answer breaks off, if it does.
        surplus: by how much ``Content-Length`` says more (or less) than is sent.
        continues: whether ``Expect: 100-continue`` is answered.

    Example:
        >>> import urllib.request
        >>> from resilient.testing import Origin
        >>> def teapot_for_gets(exchange):
        ...     if exchange.read_head().method == "GET":
        ...         exchange.wait(0.0)
        ...         exchange.send(b"HTTP/1.1 418 I'm a teapot\\r\\nContent-Length: 0\\r\\n\\r\\n")
        ...     else:
        ...         exchange.reset()
        >>> with Origin() as origin:
        ...     origin.script(teapot_for_gets)
        ...     try:
        ...         urllib.request.urlopen(origin.url)
        ...     except urllib.error.HTTPError as answer:
        ...         with answer:
        ...             print(answer.status)
        418
    """

    def __init__(self, origin: Host, connection: Connection) -> None:
        self.origin = origin
        self.head_pace = 0.0
        self.body_pace = 0.0
        self.cut: Cut | None = None
        self.surplus = 0
        self.continues = True
        self._connection = connection
        self._request: Request | None = None
        self._body = bytearray()

    # -- reading

    def read_head(self) -> Request:
        """Read the request line and the headers, once; the request is recorded."""
        if self._request is not None:
            return self._request
        buffer = self._connection.buffer
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            if len(buffer) > self.origin.max_head:
                self._refuse(431)
            self._receive()
        if end > self.origin.max_head:
            self._refuse(431)
        first, *lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
        del buffer[: end + 4]
        try:
            method, target, version = first.split(" ")
            headers = [(name, value.strip()) for name, value in (line.split(":", 1) for line in lines)]
        except ValueError:
            self._refuse(400)
        self._request = self.origin.seen(method, target, headers, version, self._connection.number)
        return self._request

    def read(self, *, up_to: int | None = None) -> Request:
        """Read the whole request, once; ``up_to``: only so many bytes of the body, or a few more."""
        request = self.read_head()
        if request.complete:
            return request
        if self.continues and (request.header("expect") or "").lower() == "100-continue":
            self.continues = False
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if "chunked" in (request.header("transfer-encoding") or "").lower():
                request.complete = self._read_chunks(up_to)
            else:
                length = int(request.header("content-length") or "0")
                if not 0 <= length <= self.origin.max_body:
                    self._refuse(413 if length > 0 else 400)
                wanted = length if up_to is None else min(up_to, length)
                self._take(wanted - len(self._body), self._body)
                request.complete = len(self._body) == length
        except ValueError:
            self._refuse(400)
        finally:
            request.body = bytes(self._body)
            self.origin.changed()
        return request

    def _read_chunks(self, up_to: int | None) -> bool:
        while up_to is None or len(self._body) < up_to:
            size = int(self._line().split(b";")[0], 16)
            if size < 0 or len(self._body) + size > self.origin.max_body:
                self._refuse(413)
            if size == 0:
                while self._line():
                    pass  # trailers
                return True
            self._take(size, self._body)
            self._line()
        return False

    def _line(self) -> bytes:
        buffer = self._connection.buffer
        while (end := buffer.find(b"\r\n")) < 0:
            if len(buffer) > _LINE:
                self._refuse(400)
            self._receive()
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line

    def _take(self, size: int, into: bytearray) -> None:
        buffer = self._connection.buffer
        while size > 0:
            if not buffer:
                self._receive()
            part = buffer[:size]
            del buffer[:size]
            into += part
            size -= len(part)

    def _receive(self) -> None:
        if not self._connection.receive():
            raise Gone

    def _refuse(self, status: int) -> NoReturn:
        """The request is not one that can be answered: say so and end."""
        self._connection.send(Answer(status, close=True).head(0, self.origin.now()))
        self.close()
        raise Gone

    # -- doing

    def effect(self) -> None:
        """What was asked is done now, whatever the client gets to know of it."""
        self.read_head().effect = True
        self.origin.changed()

    def wait(self, seconds: float, /) -> None:
        """Let ``seconds`` (0 or more) pass, on the origin's clock."""
        if seconds > 0:
            self._connection.wait(seconds)

    def hang(self) -> None:
        """Do nothing until the client gives up and closes, then close too."""
        self._connection.wait_until_left()
        self.close()
        raise Gone

    # -- answering

    def respond(self, answer: Answer, /) -> None:
        """Read the request, have the answer's effect, and send it, through all faults that are set."""
        request = self.read()
        if answer.makes_effect:
            self.effect()
        bare = request.method == "HEAD" or answer.status in (204, 304)
        if answer.chunked:
            head = answer.head(None, self.origin.now())
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer.body), answer.body) if answer.body else b"0\r\n\r\n"
        else:
            head, body = answer.head(max(0, len(answer.body) + self.surplus), self.origin.now()), answer.body
        self._part("head", head, self.head_pace)
        if not bare:
            self._part("body", body, self.body_pace)
        asked = (request.header("connection") or "").lower()
        if answer.close or asked == "close" or (request.version == "HTTP/1.0" and asked != "keep-alive"):
            self.close()

    def _part(self, name: Literal["head", "body"], data: bytes, pace: float) -> None:
        cut = self.cut if self.cut is not None and self.cut.part == name else None
        if cut is not None:
            data = data[: len(data) // 2 if cut.after is None else cut.after]
        if pace > 0:
            for position in range(len(data)):
                self.wait(pace)
                self.send(data[position : position + 1])
        else:
            self.send(data)
        if cut is not None:
            if cut.reset:
                self.reset()
            else:
                self.close(notify=False)
            raise Gone

    def send(self, data: bytes, /) -> None:
        """Send bytes as they are."""
        self._connection.send(data)

    # -- ending

    def close(self, *, notify: bool = True) -> None:
        """Close the connection in order; under TLS with its goodbye, unless ``notify`` is False."""
        self._connection.close(notify=notify)

    def reset(self) -> None:
        """Reset the connection: the client gets ``ECONNRESET``, and may lose what it has not read yet.

        Under TLS, Python's `ssl` tells a client of it as of an end without goodbye (seen in 3.11).
        """
        self._connection.reset()

    @property
    def open(self) -> bool:
        """Whether the connection can take another request."""
        return self._connection.open

    def take_in(self, size: int, /) -> None:
        """Have the kernel take in about ``size`` bytes that nobody reads; then the client cannot send on."""
        self._connection.take_in(size)

    def wait_for_more(self) -> bool:
        """Wait until the client sends something more; False when it closes instead."""
        return bool(self._connection.buffer) or self._connection.receive()

    def skip(self) -> None:
        """Read the client's next request to its end and forget it, unrecorded."""
        unseen = Exchange(_Blind(self.origin), self._connection)
        unseen.read()


class _Blind:
    """An origin that looks away."""

    def __init__(self, origin: Host) -> None:
        self.max_head, self.max_body, self.now = origin.max_head, origin.max_body, origin.now

    def seen(
        self, method: str, target: str, headers: list[tuple[str, str]], version: str, connection: int
    ) -> Request:
        return Request(method, target, headers, connection, 0, version)

    def changed(self) -> None:
        pass

    def refuse(self) -> None:
        pass


Step = Callable[[Exchange], None]
