"""Virtual time jumped while an `Origin` was about to serve: a call timed out although the answer was on its way.

Between taking a connection out of the queue and noting it the origin looked idle. Both are one step now: whoever asks
whether it is busy has to wait for the lock."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from resilient.testing import Origin, origin


def test_it_is_taken_and_noted_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []

    class Watched(origin.Connection):
        def __init__(self, sock: socket.socket, number: int, by: Any) -> None:
            held.append(by._changed._is_owned())
            super().__init__(sock, number, by)

    accept = socket.socket.accept

    def accepting(self: socket.socket) -> Any:
        held.append(one._changed._is_owned())  # type: ignore[attr-defined]
        return accept(self)

    monkeypatch.setattr(origin, "Connection", Watched)
    monkeypatch.setattr(socket.socket, "accept", accepting)
    with Origin() as one, socket.create_connection(one._address, timeout=10.0) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    assert held[:2] == [True, True]
