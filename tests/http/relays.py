"""What stands between a client and a server: a proxy, and a socket in the file system."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit


class Proxy:
    """A forward proxy on loopback: absolute-form requests and CONNECT.

    Attributes:
        heads: the first request head of each connection.
        refuses: answer CONNECT with 502.
        hangs: never answer CONNECT.
        drops: answer CONNECT, then close.
        wants: the value of ``Proxy-Authorization`` without which the answer is 407.
    """

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.refuses = 0
        self.hangs = False
        self.drops = 0
        self.wants: str | None = None
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._sockets.append(sock)
                self._start(self._serve, sock)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65_536)
                if not data:
                    return
                head += data
            self.heads.append(head.decode("latin-1"))
            method, target, _ = head.decode("latin-1").split(" ", 2)
            if method == "CONNECT" and self.refuses:
                self.refuses -= 1
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            if (
                self.wants is not None
                and f"\r\nproxy-authorization: {self.wants}\r\n".lower() not in self.heads[-1].lower()
            ):
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            if method == "CONNECT" and self.hangs:
                client.recv(1)
                return
            if method == "CONNECT" and self.drops:
                self.drops -= 1
                client.sendall(b"HTTP/1.1 200 Connection Established\r\n\r\n")
                client.shutdown(socket.SHUT_RDWR)
                return
            where = urlsplit(f"//{target}" if method == "CONNECT" else target)
            server = socket.create_connection(("127.0.0.1", where.port or 80))
            self._sockets.append(server)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            else:
                server.sendall(head)
            self._start(self._pump, server, client)
            self._pump(client, server)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5.0)
        for sock in (self._listener, *self._sockets):
            sock.close()


class Socks(Proxy):
    """A SOCKS5 proxy (RFC 1928), with a user and a password (RFC 1929) where `user` is set.

    Attributes:
        heads: the destination of each connection.
        refuses: answer that the destination refused.
        user: and password, as ``"user:password"``.
    """

    user: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.url = self.url.replace("http://", "socks5://")

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            offered = self._take(client, self._take(client, 2)[1])
            method = 0 if self.user is None else 2
            if method not in offered:
                client.sendall(b"\x05\xff")
                client.shutdown(socket.SHUT_RDWR)
                return
            client.sendall(bytes((5, method)))
            if self.user is not None:
                name = self._take(client, self._take(client, 2)[1]).decode()
                password = self._take(client, self._take(client, 1)[0]).decode()
                good = f"{name}:{password}" == self.user
                client.sendall(b"\x01\x00" if good else b"\x01\x01")
                if not good:
                    client.shutdown(socket.SHUT_RDWR)
                    return
            kind = self._take(client, 4)[3]
            if kind == 3:
                host = self._take(client, self._take(client, 1)[0]).decode()
            else:
                host = socket.inet_ntoa(self._take(client, 4))
            port = int.from_bytes(self._take(client, 2))
            self.heads.append(f"{host}:{port}")
            if self.hangs:
                client.recv(1)
                return
            if self.refuses:
                self.refuses -= 1
                client.sendall(b"\x05\x05\x00\x01" + bytes(6))
                client.shutdown(socket.SHUT_RDWR)
                return
            server = socket.create_connection((host, port))
            self._sockets.append(server)
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            if self.drops:
                self.drops -= 1
                client.shutdown(socket.SHUT_RDWR)
                return
            self._start(self._pump, server, client)
            self._pump(client, server)

    @staticmethod
    def _take(sock: socket.socket, count: int) -> bytes:
        data = sock.recv(count, socket.MSG_WAITALL)
        if len(data) < count:
            raise OSError("the client left")
        return data


@contextmanager
def proxy(kind: type[Proxy] = Proxy) -> Iterator[Proxy]:
    running = kind()
    try:
        yield running
    finally:
        running.close()


@contextmanager
def at_path(path: Path, port: int) -> Iterator[None]:
    """Connections to a socket in the file system go to ``port`` of this machine, one after the other."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    relayed: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                relayed.extend((client, server))
                back = threading.Thread(target=Proxy._pump, args=(server, client), daemon=True)
                back.start()
                Proxy._pump(client, server)
                back.join()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        for sock in (listener, *relayed):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        thread.join(5.0)
        for sock in (listener, *relayed):
            sock.close()
