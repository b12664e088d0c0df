"""An HTTP origin on loopback that does what it is told, above all wrongly."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .behaviours import Behaviour, Stepish, as_behaviour, by_handler
from .clock import ORIGIN_THREADS, ManualClock
from .connection import Connection, Gone
from .exchange import Exchange, Request

_BACKLOG = 1024
_JOIN = 5.0


class Origin:
    """A fault-injecting HTTP/1.1 and HTTP/2 server on a port of its own; a context manager.

    Each request takes the next step of the `script`, in the order in which their first bytes come; after the
    last step, the default. It answers 200 as long as nothing else is said. What a step can be: see
    `resilient.testing.behaviours`.

    Args:
        default: what is done when the script is over.
        clock: where its delays pass; None: in real time. On a `ManualClock` that jumps, a virtual-time loop
            goes forward to their end when nothing else is to be done; with no such loop running, a delay
            moves the clock.
        tls: True for a certificate made on the spot (needs trustme), or a server's context of yours.
        http2: whether HTTP/2 is spoken too (needs h2): with TLS to clients that offer it, else to those that begin
            with it. A number: how many requests a connection takes at a time; True: 100.
        host: an address of this machine.
        max_connections: how many may be open at a time; further ones are reset.
        max_head: bytes of a request's head, else 431.
        max_body: bytes of a request's body, else 413.

    Opens its socket and threads when entered, and leaves none of them behind. All methods are safe from any
    thread. An exception from a handler or a behaviour of yours is answered with 500 and raised again when the
    block ends. Needs ``select.poll``: Linux, macOS.

    Example:
        >>> import httpx
        >>> from resilient.testing import Origin, reset_after_effect
        >>> with Origin() as origin, httpx.Client(base_url=origin.url) as client:
        ...     origin.script(503, reset_after_effect())
        ...     print(client.get("/a").status_code)
        ...     try:
        ...         client.post("/b")
        ...     except httpx.ReadError:
        ...         print([request.effect for request in origin.requests])
        ...     print(client.get("/c").status_code, origin.connections)
        503
        [False, True]
        200 2
    """

    def __init__(
        self,
        default: Stepish = 200,
        *,
        clock: ManualClock | None = None,
        tls: bool | ssl.SSLContext = False,
        http2: bool | int = False,
        host: str = "127.0.0.1",
        max_connections: int = 256,
        max_head: int = 65_536,
        max_body: int = 16 * 1024 * 1024,
    ) -> None:
        self.clock = clock
        self.host = host
        self.port = 0
        self.max_connections = max_connections
        self.max_head = max_head
        self.max_body = max_body
        self._tls = tls
        self._http2 = http2
        self._server_context: ssl.SSLContext | None = None
        self._client_context: ssl.SSLContext | None = None
        self._default = as_behaviour(default)
        self._changed = threading.Condition(threading.Lock())
        self._steps: deque[Behaviour] = deque()  # this and all below: guarded by _changed
        self._requests: list[Request] = []
        self._accepted = 0
        self._connections: set[Connection] = set()
        self._threads: set[threading.Thread] = set()
        self._errors: list[BaseException] = []
        self._changes = 0
        self._listener: socket.socket | None = None
        self._reserved: socket.socket | None = None  # bound, not listening: refuses, and keeps the port ours
        self._address: tuple[str, int] = ("", 0)
        self._refusing = False  # asked to the acceptor
        self._running = False
        self._acceptor: threading.Thread | None = None
        self._bell: socket.socket | None = None  # what is sent here, the acceptor hears

    def __repr__(self) -> str:
        state = "not running" if not self._running else "refusing" if self._reserved else "listening"
        return f"<Origin {self.url} {state}, {self._accepted} connections, {len(self._requests)} requests>"

    # -- its life

    def __enter__(self) -> Self:
        if self._running:
            raise RuntimeError("this origin runs already")
        if self._tls is True:
            from .tls import make_contexts

            names = dict.fromkeys((self.host, "localhost", "127.0.0.1"))
            self._server_context, self._client_context = make_contexts(*names)
        elif isinstance(self._tls, ssl.SSLContext):
            self._server_context = self._tls
        if self._http2 and self._server_context is not None:
            self._server_context.set_alpn_protocols(["h2", "http/1.1"])
        listener = self._bind(self.port)
        listener.listen(_BACKLOG)
        self._address = listener.getsockname()[:2]
        self.port = self._address[1]
        hearing, self._bell = socket.socketpair()
        self._listener, self._running = listener, True
        self._acceptor = threading.Thread(
            target=self._accept, args=(hearing,), name=f"{ORIGIN_THREADS}-{self.port}", daemon=True
        )
        self._acceptor.start()
        if self.clock is not None:
            self.clock._watch(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if exc is None and self._errors:
            raise self._errors[0]

    def close(self) -> None:
        """End all connections and threads; called by the end of the block, and harmless again.

        Raises:
            RuntimeError: when a handler did not return within 5 real seconds.
        """
        with self._changed:
            if not self._running:
                return
            self._running = False
            self._ring()
        if self.clock is not None:
            self.clock._unwatch(self)
        assert self._bell is not None
        assert self._acceptor is not None
        self._acceptor.join()
        self._bell.close()
        with self._changed:
            connections, threads = list(self._connections), list(self._threads)
            if self._reserved is not None:
                self._reserved.close()
                self._reserved = None
        for connection in connections:
            connection.stop()
        until = time.monotonic() + _JOIN
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if left := [thread.name for thread in threads if thread.is_alive()]:
            raise RuntimeError(f"a handler of the origin does not return: {', '.join(left)}")

    def _bind(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, port))
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    # -- what it does

    def script(self, *steps: Stepish) -> None:
        """Add steps, one for each of the next requests.

        Raises:
            TypeError, ValueError: for what is no behaviour.

        Example:
            >>> from resilient.testing import Origin, answer
            >>> Origin().script(503, "hang", answer(200, "hello"))
        """
        behaviours = [as_behaviour(step) for step in steps]
        with self._changed:
            self._steps.extend(behaviours)

    def always(self, step: Stepish, /) -> None:
        """Do ``step`` for every request from now on; what is left of the script is dropped."""
        behaviour = as_behaviour(step)
        with self._changed:
            self._steps.clear()
            self._default = behaviour

    def handle(self, handler: Callable[[Request], Stepish], /) -> Callable[[Request], Stepish]:
        """Ask ``handler``, once the request is read, what to do when the script is over; a decorator too.

        Args:
            handler: called in a thread of the origin, several at a time.

        Example:
            >>> origin = Origin()
            >>> @origin.handle
            ... def by_path(request):
            ...     return 200 if request.target == "/charges" else 404
        """
        behaviour = by_handler(handler)
        with self._changed:
            self._default = behaviour
        return handler

    def refuse(self) -> None:
        """Refuse connects from now on, as if nobody were there. Connections that are open stay so."""
        with self._changed:
            listener = self._listener
            if listener is None:
                return
            self._refusing = True
            # The acceptor closes it: closed under its poll, the number might be another socket's by then.
            self._ring()
            self._changed.wait_for(lambda: self._listener is not listener)
            if self._running and self._listener is None and self._reserved is None:  # nobody else asked too
                self._reserved = self._bind(self.port)

    def reopen(self) -> None:
        """Accept connects again, on the same port."""
        with self._changed:
            if self._reserved is None:
                return
            self._reserved.listen(_BACKLOG)
            self._listener, self._reserved = self._reserved, None
            self._ring()

    def drop_connections(self) -> None:
        """End all open connections in order, idle or not, as a process does that exits."""
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            connection.stop()
        self.wait_until(lambda _: not any(connection.open for connection in connections))

    # -- what it saw

    @property
    def url(self) -> str:
        """Such as ``http://127.0.0.1:40001``, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def client_context(self) -> ssl.SSLContext:
        """A TLS context for clients that trusts this origin only; with ``tls=True``, while it runs.

        Raises:
            RuntimeError: without that.
        """
        if self._client_context is None:
            raise RuntimeError("only a running Origin(tls=True) has a context for clients")
        return self._client_context

    @property
    def requests(self) -> list[Request]:
        """Every request whose head was read, in that order."""
        with self._changed:
            return list(self._requests)

    @property
    def effects(self) -> list[Request]:
        """The requests that were done."""
        with self._changed:
            return [request for request in self._requests if request.effect]

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        with self._changed:
            return self._accepted

    @property
    def open_connections(self) -> int:
        """How many of them are open at our end; that of an idle one closes when its client's does."""
        with self._changed:
            return len(self._connections)

    @property
    def steps_left(self) -> int:
        """How many steps of the script were not taken yet."""
        with self._changed:
            return len(self._steps)

    def wait_until(self, condition: Callable[[Origin], object], /, timeout: float = 5.0) -> None:
        """Wait in real time until ``condition`` of this origin holds, asked whenever something changed here.

        Args:
            condition: a function of this origin.
            timeout: real seconds.

        Raises:
            TimeoutError: when it does not come to hold.

        Example:
            >>> import httpx
            >>> with Origin() as origin:
            ...     status = httpx.get(origin.url).status_code
            ...     origin.wait_until(lambda origin: origin.open_connections == 0)
        """
        until = time.monotonic() + timeout
        while True:
            with self._changed:
                before = self._changes
            if condition(self):
                return
            with self._changed:
                # asked again at once where something changed while it was asked
                left = max(0.0, until - time.monotonic())
                if not self._changed.wait_for(lambda: self._changes != before, left):  # noqa: B023  (called at once)
                    break
        raise TimeoutError(f"it did not come to hold within {timeout} s: {self!r}")

    # -- for its connections

    def now(self) -> float:
        """The origin's time, in seconds since 1970."""
        return time.time() if self.clock is None else self.clock.time()

    def seen(
        self, method: str, target: str, headers: list[tuple[str, str]], version: str, connection: int
    ) -> Request:
        """Record a request. For `Exchange`."""
        with self._changed:
            request = Request(method, target, headers, connection, len(self._requests) + 1, version)
            self._requests.append(request)
        self.changed()
        return request

    def changed(self) -> None:
        """Have those look again who wait for something here. For `Exchange`."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def step(self) -> Behaviour:
        """What is to be done with the next request. For its connections."""
        with self._changed:
            return self._next_step()

    def joined(self, thread: threading.Thread) -> None:
        """A thread that is to end with the origin. For connections that have several."""
        with self._changed:
            self._threads = {thread, *(each for each in self._threads if each.is_alive())}

    def failed(self, exc: Exception) -> None:
        """A handler raised. For its connections."""
        with self._changed:
            self._errors.append(exc)

    # -- for virtual-time loops

    def busy(self) -> bool:
        """Whether something is left to be done that needs no time to pass. For virtual-time loops."""
        with self._changed:
            # Connections are taken out of the queue under the lock too, so none can slip by in between.
            if self._listener is not None and _ready(self._listener, 0):
                return True
            connections = list(self._connections)
        return any(connection.busy() for connection in connections)

    def serves(self, address: tuple[str, int], /) -> bool:
        """Whether connections to ``address`` end here. For virtual-time loops."""
        return address == self._address

    # -- its threads

    def _ring(self) -> None:
        assert self._bell is not None
        self._bell.send(b"x")

    def _accept(self, hearing: socket.socket) -> None:
        with hearing:
            while True:
                with self._changed:
                    if (self._refusing or not self._running) and self._listener is not None:
                        self._listener.close()
                        self._listener = None
                        self._refusing = False
                        self._changed.notify_all()
                    if not self._running:
                        return
                    listener = self._listener
                if hearing in _ready_of(hearing, listener):
                    hearing.recv(64)
                elif listener is not None:
                    self._take_connection(listener)

    def _take_connection(self, listener: socket.socket) -> None:
        with self._changed:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # its client has left already
            connection = Connection(sock, self._accepted + 1, self)
            if len(self._connections) >= self.max_connections:
                connection.reset()
                return
            self._accepted += 1
            self._connections.add(connection)
            step = self._next_step() if self._upcoming().on_accept else None
            thread = threading.Thread(
                target=self._serve,
                args=(connection, step),
                name=f"{ORIGIN_THREADS}-{self.port}-{connection.number}",
                daemon=True,
            )
            self._threads = {thread, *(each for each in self._threads if each.is_alive())}
        self.changed()
        thread.start()

    def _upcoming(self) -> Behaviour:
        return self._steps[0] if self._steps else self._default

    def _next_step(self) -> Behaviour:
        return self._steps.popleft() if self._steps else self._default

    def _serve(self, connection: Connection, step: Behaviour | None) -> None:
        exchange = Exchange(self, connection)
        try:
            if step is not None:
                step(exchange)
            if connection.open and self._server_context is not None:
                connection.start_tls(self._server_context)
            if self._http2 and connection.open and exchange.wait_for_more():
                from .http2 import PREFACE, Http2Connection

                if connection.buffer.startswith(PREFACE):
                    Http2Connection(self, connection, 100 if self._http2 is True else self._http2).serve()
            while connection.open and exchange.wait_for_more():
                step = self.step()
                step(exchange)
                if connection.open:
                    exchange.read()  # what the step left unread would be taken for the next request
                exchange = Exchange(self, connection)
        except Gone:
            pass
        except Exception as exc:  # a handler's, or a behaviour's that is not ours
            self.failed(exc)
            with contextlib.suppress(Gone):
                exchange.send(
                    b"HTTP/1.1 500 Handler Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
        finally:
            connection.close()
            with self._changed:
                self._connections.discard(connection)
            self.changed()


def _ready(sock: socket.socket, timeout: int | None) -> bool:
    return bool(_ready_of(sock, timeout=timeout))


def _ready_of(*socks: socket.socket | None, timeout: int | None = None) -> list[socket.socket]:
    poll = select.poll()
    by_number = {sock.fileno(): sock for sock in socks if sock is not None}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(timeout)]
