"""What our stream sees of HTTP/2's frames, and what it shows the core of them."""

from __future__ import annotations

import itertools

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.http.frames import MOST, NOTHING, Frames, asks, reset_frame

LIMIT = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS


def frame(kind: int, payload: bytes, *, stream: int = 0, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def settings(**entries: int) -> bytes:
    """A frame of settings, by number: ``_3=100``."""
    return frame(
        4, b"".join(int(name[1:]).to_bytes(2) + value.to_bytes(4) for name, value in entries.items())
    )


def goaway(last: int, code: int = 0, more: bytes = b"") -> bytes:
    return frame(7, last.to_bytes(4) + code.to_bytes(4) + more)


def pair() -> tuple[h2.connection.H2Connection, h2.connection.H2Connection]:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    client.initiate_connection()
    server.initiate_connection()
    return client, server


HEAD = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]


def conversation() -> bytes:
    """What a server says: settings, two answers, a reset, a goodbye."""
    client, server = pair()
    for number in (1, 3, 5):
        client.send_headers(number, HEAD, end_stream=True)
    server.receive_data(client.data_to_send())
    for number in (1, 3):
        server.send_headers(number, [(":status", "200")])
        server.send_data(number, b"x" * 10_000, end_stream=True)
    server.reset_stream(5, 7)
    server.close_connection(last_stream_id=3)
    return server.data_to_send()


@given(st.lists(st.integers(0, 21_000), max_size=30))
def test_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    said = conversation()
    whole = Frames()
    whole.open.update({1: None, 3: None, 5: None})
    expected = whole.received(said)
    frames = Frames()
    frames.open.update({1: None, 3: None, 5: None})
    at = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    seen = b"".join(frames.received(said[one:next_]) for one, next_ in itertools.pairwise(at))
    assert seen == expected
    for each in (whole, frames):
        assert each.limit == 100
        assert each.open == {1: None, 3: None, 5: 7}
        assert each.goodbye is not None
        assert (each.goodbye.last_stream_id, each.goodbye.error_code) == (3, 0)
    # The core's library reads all of it, but for the goodbye.
    client, _ = pair()
    for number in (1, 3, 5):
        client.send_headers(number, HEAD, end_stream=True)
    kinds = [type(event) for event in client.receive_data(seen)]
    assert kinds.count(h2.events.StreamEnded) == 2
    assert kinds.count(h2.events.StreamReset) == 1
    assert h2.events.ConnectionTerminated not in kinds


@pytest.mark.parametrize(
    ("entries", "limit"),
    [
        ({"_3": 7}, 7),
        ({"_3": 250}, MOST),
        ({"_3": 0}, 0),
        ({}, MOST),  # RFC 9113 6.5.2: no limit
        ({"_4": 65_535}, MOST),
        ({"_3": 5, "_4": 1}, 5),
    ],
)
def test_the_core_is_always_told_the_same_limit(entries: dict[str, int], limit: int) -> None:
    frames, (client, _) = Frames(), pair()
    (event,) = client.receive_data(frames.received(settings(**entries)))[:1]
    assert isinstance(event, h2.events.RemoteSettingsChanged)
    assert event.changed_settings[LIMIT].new_value == MOST
    assert frames.limit == limit
    others = {int(name[1:]) for name in entries} - {3}
    assert {int(code) for code in event.changed_settings} == {3, *others}


def test_a_limit_that_changes_is_ours_to_keep() -> None:
    frames, (client, _) = Frames(), pair()
    client.receive_data(frames.received(settings(_3=50)))
    events = client.receive_data(frames.received(settings(_3=2, _5=20_000)))
    assert frames.limit == 2
    changed = [each for each in events if isinstance(each, h2.events.RemoteSettingsChanged)]
    assert [{int(code) for code in each.changed_settings} for each in changed] == [{5}]
    frames.received(settings(_5=20_000))
    assert frames.limit == 2
    frames.received(frame(4, b"", flags=1))  # an acknowledgement
    assert frames.limit == 2


def test_a_goodbye_may_be_said_twice() -> None:
    frames = Frames()
    assert frames.received(goaway(2**31 - 1)) == b""
    assert frames.goodbye is not None
    assert frames.goodbye.last_stream_id == 2**31 - 1
    assert frames.received(b"" + goaway(5, 11, b"why")) == b""
    assert (frames.goodbye.last_stream_id, frames.goodbye.error_code) == (5, 11)
    assert str(frames.goodbye) == "the server said GOAWAY: last stream 5, error code 11"


@pytest.mark.parametrize(
    "broken",
    [
        frame(7, b"\0\0\0\0"),  # too short
        frame(7, bytes(8), stream=3),  # on a stream
        frame(4, b"\0\0\0"),  # not a multiple of six
        frame(4, bytes(6), stream=1),
        frame(3, b"\0", stream=1),
        frame(0, bytes(20_000), stream=1),  # larger than was allowed
        b"HTTP/1.1 400 Bad Request\r\n\r\n",  # no HTTP/2 at all: taken for such a frame
    ],
)
def test_what_is_wrong_is_told_by_the_core(broken: bytes) -> None:
    frames = Frames()
    frames.open[1] = None
    assert frames.received(broken) == broken
    assert (frames.goodbye, frames.limit, frames.open) == (None, None, {1: None})


def test_what_nobody_reads_is_given_back_to_the_others() -> None:
    frames = Frames()
    frames.open[1] = None
    wanted, left = frame(0, b"x" * 100, stream=1), frame(0, b"y" * 50, stream=3)
    assert frames.received(wanted + left + wanted + left) == wanted + wanted
    client, server = pair()
    client.receive_data(server.data_to_send())
    server.receive_data(client.data_to_send())
    (event,) = server.receive_data(frames.refund())
    assert isinstance(event, h2.events.WindowUpdated)
    assert (event.stream_id, event.delta) == (0, 100)
    assert frames.refund() == b""


def test_what_is_sent_is_known_by_its_head() -> None:
    client, _ = pair()
    frames = Frames()
    first = client.data_to_send()
    frames.sends(first)
    assert (frames.sent, asks(first)) == (0, False)
    client.send_headers(1, HEAD)
    client.send_headers(3, HEAD, end_stream=True)
    heads = client.data_to_send()
    frames.sends(heads)
    assert (frames.sent, asks(heads)) == (3, True)
    client.send_data(1, b"x" * 100)
    client.increment_flow_control_window(100)
    body = client.data_to_send()
    frames.sends(body)
    assert (frames.sent, asks(body)) == (3, True)
    client.increment_flow_control_window(100)
    assert not asks(client.data_to_send())


def test_who_is_touched_and_a_frame_that_says_nothing() -> None:
    frames, (client, server) = Frames(), pair()
    client.receive_data(frames.received(server.data_to_send()))
    assert frames.touched == {0}
    frames.touched.clear()
    frames.received(conversation())
    assert frames.touched == {0, 1, 3, 5}
    assert [type(event) for event in client.receive_data(NOTHING)] == [h2.events.UnknownFrameReceived]


def test_a_reset_of_ours_is_one() -> None:
    client, server = pair()
    client.send_headers(1, HEAD, end_stream=True)
    server.receive_data(client.data_to_send())
    (event,) = server.receive_data(reset_frame(1))
    assert isinstance(event, h2.events.StreamReset)
    assert (event.stream_id, event.error_code) == (1, 8)
