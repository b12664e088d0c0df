"""What passes over an HTTP/2 connection, seen frame by frame: pure, no I/O (RFC 9113 4.1, 6.4, 6.5, 6.8).

The core ends every request that waits when the peer says goodbye (GOAWAY), also those that are still answered, and
sends one at a time to a peer that names no limit. So it is not shown the goodbye, and is always told the same limit;
what the peer really said stands here, and whoever shares the connection out holds to it."""

from __future__ import annotations

from collections.abc import Iterator

MOST = 100
"""Requests on a connection at a time, however many its peer takes: the core takes no more."""

_HEAD = 9
_LARGEST = 16_384
"""Bytes: what a peer may send without having asked."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_WINDOW_UPDATE = 8
_LOOKED_AT = frozenset((_DATA, _RST_STREAM, _SETTINGS, _GOAWAY))
_ACK = 1
_MAX_CONCURRENT_STREAMS = 3

CANCEL = 0x8


class Goodbye:
    """The peer ends the connection.

    Attributes:
        last_stream_id: the highest stream that it will answer.
        error_code: why; 0 where all is well.
    """

    def __init__(self, last_stream_id: int, error_code: int) -> None:
        self.last_stream_id = last_stream_id
        self.error_code = error_code

    def __str__(self) -> str:
        return f"the server said GOAWAY: last stream {self.last_stream_id}, error code {self.error_code}"


class Frames:
    """One connection's frames, both ways. Used by the connection's own loop only.

    Attributes:
        limit: requests that the peer takes at a time, at most `MOST`; None: it has said nothing yet.
        goodbye: what it said last when it ended the connection.
        open: the streams of requests that are on their way, each with the code of its first reset.
        answered: those of them for which the head of an answer came.
        resets: how many of them were reset.
        dropped: bytes that came for others and were not shown to the core, until `refund` gives them back.
        sent: the highest stream whose request was handed to the socket.
        touched: streams that something came for, 0 where it was for all; whoever looks clears it.
    """

    __slots__ = (
        "_raw",
        "_rest",
        "answered",
        "dropped",
        "goodbye",
        "limit",
        "open",
        "resets",
        "sent",
        "touched",
    )

    def __init__(self) -> None:
        self.limit: int | None = None
        self.goodbye: Goodbye | None = None
        self.open: dict[int, int | None] = {}
        self.answered: set[int] = set()
        self.resets = 0
        self.dropped = 0
        self.touched: set[int] = set()
        self.sent = 0
        self._rest = bytearray()
        self._raw = False

    def received(self, data: bytes, /) -> bytes:
        """What the core is to see of bytes that came: whole frames, which is how it takes them anyway."""
        if self._raw:
            return data
        rest = self._rest
        rest += data
        at = kept = 0
        found: list[bytes] = []
        while len(rest) - at >= _HEAD:
            size, kind = int.from_bytes(rest[at : at + 3]), rest[at + 3]
            if size > _LARGEST:  # an error that the core will tell
                self._raw, at = True, len(rest)
                break
            end = at + _HEAD + size
            if end > len(rest):
                break
            stream = int.from_bytes(rest[at + 5 : at + _HEAD]) & 0x7FFFFFFF
            self.touched.add(stream)
            if kind == _HEADERS and stream in self.open:
                self.answered.add(stream)
            if kind in _LOOKED_AT:
                frame = bytes(rest[at:end])
                shown = self._heard(kind, frame)
                if shown is not frame:
                    found += (bytes(rest[kept:at]), shown)
                    kept = end
            at = end
        found.append(bytes(rest[kept:at]))
        del rest[:at]
        return found[0] if len(found) == 1 else b"".join(found)

    def _heard(self, kind: int, frame: bytes) -> bytes:
        stream, payload = int.from_bytes(frame[5:_HEAD]) & 0x7FFFFFFF, frame[_HEAD:]
        if kind == _DATA:
            if stream in self.open:
                return frame
            # Nobody will read it, and so the core would never give the room back that it takes of all others.
            self.dropped += len(payload)
            return b""
        if kind == _RST_STREAM:
            # The first one counts: what comes later for what was on its way says only that the stream is closed.
            if len(payload) == 4 and self.open.get(stream, 0) is None:
                self.open[stream] = int.from_bytes(payload)
                self.resets += 1
            return frame
        if stream or (kind == _GOAWAY and len(payload) < 8):
            return frame  # an error that the core will tell
        if kind == _GOAWAY:
            self.goodbye = Goodbye(int.from_bytes(payload[:4]) & 0x7FFFFFFF, int.from_bytes(payload[4:8]))
            return b""
        return frame if frame[4] & _ACK or len(payload) % 6 else self._settings(frame, payload)

    def _settings(self, frame: bytes, payload: bytes) -> bytes:
        others = [payload[i : i + 6] for i in range(0, len(payload), 6)]
        limits = [each for each in others if int.from_bytes(each[:2]) == _MAX_CONCURRENT_STREAMS]
        first = self.limit is None
        if limits:
            self.limit = min(MOST, int.from_bytes(limits[-1][2:]))
        elif first:
            self.limit = MOST
        others = [each for each in others if each not in limits]
        if first:
            others.append(_MAX_CONCURRENT_STREAMS.to_bytes(2) + MOST.to_bytes(4))
        return (6 * len(others)).to_bytes(3) + frame[3:_HEAD] + b"".join(others)

    def close(self, stream: int, /) -> int | None:
        """Its request is over: the code of its first reset."""
        self.answered.discard(stream)
        return self.open.pop(stream, None)

    def refund(self) -> bytes:
        """What gives the peer back the room that went for nothing (WINDOW_UPDATE)."""
        dropped, self.dropped = self.dropped, 0
        return (
            b""
            if dropped == 0
            else (4).to_bytes(3) + bytes([_WINDOW_UPDATE]) + bytes(5) + dropped.to_bytes(4)
        )

    def sends(self, data: bytes, /) -> None:
        """Whole frames of the core's are handed to the socket."""
        for kind, stream in _parts(data):
            if kind == _HEADERS:
                self.sent = max(self.sent, stream)


def asks(data: bytes, /) -> bool:
    """Whether frames of the core's have a part of a request in them, and not only acknowledge what came."""
    return any(kind in (_DATA, _HEADERS) for kind, _ in _parts(data))


def _parts(data: bytes) -> Iterator[tuple[int, int]]:
    at, end = len(_PREFACE) if data.startswith(_PREFACE) else 0, len(data)
    while end - at >= _HEAD:
        yield data[at + 3], int.from_bytes(data[at + 5 : at + _HEAD]) & 0x7FFFFFFF
        at += _HEAD + int.from_bytes(data[at : at + 3])


NOTHING = bytes([0, 0, 0, 0xFF, 0, 0, 0, 0, 0])
"""A frame of no known type, which is ignored (RFC 9113 5.5)."""


def reset_frame(stream: int, /) -> bytes:
    """What tells the peer that nobody waits for the answer any more."""
    return (4).to_bytes(3) + bytes([_RST_STREAM, 0]) + stream.to_bytes(4) + CANCEL.to_bytes(4)
