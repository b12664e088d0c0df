"""Asking the nameservers: many questions at once, in one thread, by UDP and where that is truncated by TCP.

Every question has a socket of its own, and so a port that nobody can guess. It is connected to the nameserver: only
that one's packets come in, and one where nobody listens says so at once."""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from .address import Address
from .dns import Broken, Question

if TYPE_CHECKING:
    import dns.message

PAYLOAD = 1232
"""Bytes of an answer by UDP (DNS flag day 2020): 73 addresses; more come by TCP."""
TRIES = (0.5, 2.0)
"""Seconds that each nameserver is given, in the first round and in the second: a lost packet costs half a second."""
_LONGEST = 65_535  # bytes of a message

Done = Callable[["dns.message.Message | Broken"], None]


class Exchange:
    """One question on its way: to one nameserver after the other, until one answers.

    Args:
        question: what is asked.
        selector: where its socket is registered, with this object as data.
        done: called once, with the answer or with `Broken`.

    Attributes:
        due: when the nameserver that is asked is given up.
    """

    def __init__(self, question: Question, selector: selectors.BaseSelector, done: Done) -> None:
        import dns.message

        self.question = question
        self.due = float("inf")
        self._selector = selector
        self._done = done
        self._query = dns.message.make_query(question.name, question.kind, use_edns=0, payload=PAYLOAD)
        self._places = iter([(seconds, server) for seconds in TRIES for server in question.dns.servers])
        self._server: Address | None = None
        self._sock: socket.socket | None = None
        self._tcp = False
        self._in = bytearray()
        self._out = b""
        self._why = "no nameserver"

    def ready(self, now: float) -> None:
        """Its socket can be read or written."""
        try:
            message = self._exchange()
        except BlockingIOError:
            return
        except Exception as exc:  # whatever a packet from outside makes of the parser
            self._failed(f"{type(exc).__name__}", now)
            return
        if message is not None:
            self._judge(message, now)

    def late(self, now: float) -> None:
        """Its time is over."""
        self._failed("Timeout", now)

    def abandon(self) -> None:
        """In a forked child: the selector is the parent's too, and must not hear of it."""
        if self._sock is not None:
            self._sock.close()

    def drop(self) -> None:
        """Nobody wants the answer any more."""
        sock, self._sock = self._sock, None
        if sock is not None:
            try:
                self._selector.unregister(sock)
            except KeyError:
                pass  # it could not be registered
            sock.close()

    # -------------------------------------------------------------------------------------------------- its steps
    def ask(self, now: float) -> None:
        """Ask the first nameserver, or the next."""
        self.drop()
        for seconds, server in self._places:
            self._server, self.due = server, now + seconds
            try:
                self._open(tcp=False)
            except OSError as exc:
                self._why = f"{server}: {type(exc).__name__}"
                self.drop()
                continue
            return
        self._done(Broken(f"{self.question.name} {self.question.kind}: {self._why}"))

    def _open(self, *, tcp: bool) -> None:
        assert self._server is not None
        host, port = self._server
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = sock = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        self._tcp, self._in = tcp, bytearray()
        self._selector.register(sock, selectors.EVENT_WRITE if tcp else selectors.EVENT_READ, self)
        sock.setblocking(False)
        wire = self._query.to_wire()
        if tcp:
            self._out = struct.pack("!H", len(wire)) + wire
            try:
                sock.connect((host, port))
            except BlockingIOError:
                pass  # it becomes writable when that is done
        else:
            sock.connect((host, port))
            sock.send(wire)

    def _exchange(self) -> dns.message.Message | None:
        """Take what has come; a message when it is whole."""
        sock = self._sock
        assert sock is not None
        if not self._tcp:
            return self._parse(sock.recv(_LONGEST))
        if self._out:
            self._out = self._out[sock.send(self._out) :]
            if not self._out:
                self._selector.modify(sock, selectors.EVENT_READ, self)
            return None
        whole = 2 + (struct.unpack("!H", self._in[:2])[0] if len(self._in) >= 2 else 0)
        data = sock.recv(whole - len(self._in))  # no more than this message: there is no other to wait for
        if not data:
            raise ConnectionResetError
        self._in += data
        if len(self._in) < whole or whole == 2:
            return None
        return self._parse(bytes(self._in[2:]))

    def _parse(self, data: bytes) -> dns.message.Message | None:
        """A message that answers the question; None where a packet does not, and may be forged."""
        import dns.exception
        import dns.message

        try:
            message = dns.message.from_wire(data, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError):
            if self._tcp:
                raise
            return None
        if self._query.is_response(message):
            return message
        if self._tcp:
            raise ValueError("this answers another question")
        return None

    def _judge(self, message: dns.message.Message, now: float) -> None:
        import dns.flags

        code = message.rcode().name
        if message.flags & dns.flags.TC and not self._tcp:
            # A truncated answer is never used, as some resolvers do: it would drop most of the pods.
            self.drop()
            self.due = max(self.due, now + TRIES[0])
            try:
                self._open(tcp=True)
            except OSError as exc:
                self._failed(type(exc).__name__, now)
        elif code in ("NOERROR", "NXDOMAIN"):
            self.drop()
            self._done(message)
        else:
            self._failed(code, now)

    def _failed(self, why: str, now: float) -> None:
        self._why = f"{self._server}: {why}"
        self.ask(now)
