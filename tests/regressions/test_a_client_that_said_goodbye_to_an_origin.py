"""An origin that was about to answer when its HTTP/2 client ended the connection raised h2's error at the end of its
block, as if a handler had failed: after a goodbye the library sends nothing more."""

from __future__ import annotations

import socket
import threading

import h2.config
import h2.connection
import pytest

from resilient.testing import Origin, answer, refused_stream
from resilient.testing.behaviours import Stepish, as_behaviour
from resilient.testing.exchange import Exchange
from resilient.testing.http2 import stream_of


@pytest.mark.parametrize("step", [answer(200, b"ok"), refused_stream()], ids=["answer", "reset"])
def test_it_is_left_alone(step: Stepish) -> None:
    done = threading.Event()

    def after_the_goodbye(exchange: Exchange) -> None:
        exchange.read()
        home = stream_of(exchange)._home
        with home.changed:
            came = home.changed.wait_for(
                lambda: home.wire.state_machine.state is h2.connection.ConnectionState.CLOSED, 10.0
            )
        assert came
        try:
            as_behaviour(step)(exchange)
        finally:
            done.set()

    with (
        Origin(after_the_goodbye, http2=True) as origin,
        socket.create_connection(("127.0.0.1", origin.port), timeout=10.0) as sock,
    ):
        wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        wire.initiate_connection()
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/")]
        wire.send_headers(1, head, end_stream=True)
        sock.sendall(wire.data_to_send())
        origin.wait_until(lambda origin: any(request.complete for request in origin.requests))
        wire.close_connection(0x1)
        sock.sendall(wire.data_to_send())
        assert done.wait(10.0)
