"""Virtual time jumped, or a deadlock was told, while a stream of an `Origin` had just been given something to do.

Its streams were asked before its socket. In between the connection's thread could take the bytes, hand them to a
stream and wait again: at both looks there seemed to be nothing left."""

from __future__ import annotations

import socket

import pytest

from resilient.testing import ManualClock, connection


class Timing:
    clock: ManualClock | None = None


def test_the_streams_are_asked_after_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = socket.socket()
    handed = False

    def looked(sock: socket.socket, wanted: int, timeout: float | None) -> bool:
        nonlocal handed
        handed = True  # by the connection's own thread, which waits again before we see whether it changed
        return False

    with ours:
        monkeypatch.setattr(connection, "_ready", looked)
        waits = connection.Connection(ours, 1, Timing())
        waits._waits_for = connection._READ
        waits.beside = lambda: handed
        assert waits.busy()
