"""Bodies: which requests can be sent again, and how a response's ends are told.

A response body is the core's stream, given back to the pool when it was read to its end and killed when it
was not. Closing never suspends: nothing can be cancelled in the middle of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

DRAIN_BYTES = 65_536
"""Of an answer that nobody wants: more than that is dearer to read than a new connection is to make."""


class RequestBody:
    """A request body that is not in memory: whether it can be sent again, and whether it was begun.

    Args:
        stream: the SDK's stream.
        source: what it reads from, where that can be known: something with ``seek`` and ``tell``.
    """

    __slots__ = ("_source", "_start", "replayable", "started", "stream")

    def __init__(self, stream: Any, source: Any = None) -> None:
        self.stream = stream
        self.started = False
        self._source = source
        self._start = 0
        self.replayable = False
        if source is not None:
            try:
                self._start = source.tell()
                self.replayable = bool(source.seekable())
            except (OSError, ValueError, AttributeError):
                self.replayable = False

    def _rewind(self) -> None:
        if self.started and self.replayable:
            self._source.seek(self._start)
        self.started = True

    def __iter__(self) -> Iterator[bytes]:
        self._rewind()
        yield from self.stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._rewind()
        async for chunk in self.stream:
            yield chunk


class ResponseBody:
    """What both response bodies share. A binding mixes them with its SDK's stream classes.

    Args:
        stream: the core's.
        attempt: whose deadline the reading is cut at.
        translate: makes the SDK's error of one of the core's.
        give_back: takes the connection; called once.
    """

    def __init__(
        self,
        stream: Any,
        attempt: Any,
        translate: Callable[[BaseException], Exception | None],
        give_back: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._attempt = attempt
        self._translate = translate
        self._give_back: Callable[[], None] | None = give_back
        self._error: BaseException | None = None
        self.read_to_end = False
        self.on_end: Callable[[BaseException | None], None] | None = None
        self.close_inner: Callable[[], Any] | None = (
            None  # of a transport that closes its streams itself, async
        )

    def _end(self) -> None:
        """The connection goes back, once; then whoever waits for the end is told."""
        give_back, self._give_back = self._give_back, None
        if give_back is None:
            return
        give_back()
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self._error)

    def _failed(self, exc: BaseException) -> Exception | None:
        self._error = exc
        translated = self._translate(exc) if isinstance(exc, Exception) else None
        if translated is not None:
            self._error = translated
        return translated

    def __del__(self) -> None:
        # Nobody closed it: the connection and the permits are not to be lost with it.
        if self.__dict__.get("_give_back") is not None:
            self._error = self._error or GeneratorExit("the response was dropped without being closed")
            self._end()


class SyncBody(ResponseBody):
    """A response body of a sync client."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
            self._stream.close()
            self.read_to_end = True
        except BaseException as exc:
            error = self._failed(exc)
            if error is None:
                raise
            raise error from exc

    def close(self) -> None:
        self._end()

    def drain(self, seconds: float) -> None:
        """Read what is left, if it is little and comes soon; then close."""
        left = DRAIN_BYTES
        attempt = self._attempt
        attempt.deadline = _sooner(attempt, seconds)
        try:
            for chunk in self:
                left -= len(chunk)
                if left < 0:
                    break
        except Exception:  # noqa: S110  (thrown away, whatever it was)
            pass
        finally:
            self.close()


class AsyncBody(ResponseBody):
    """A response body of an async client."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
            await self._stream.aclose()
            self.read_to_end = True
        except BaseException as exc:
            error = self._failed(exc)
            if error is None:
                raise
            raise error from exc

    async def aclose(self) -> None:
        self._end()
        if self.close_inner is not None:
            await self.close_inner()

    async def adrain(self, seconds: float) -> None:
        """Read what is left, if it is little and comes soon; then close."""
        left = DRAIN_BYTES
        attempt = self._attempt
        attempt.deadline = _sooner(attempt, seconds)
        try:
            async for chunk in self:
                left -= len(chunk)
                if left < 0:
                    break
        except Exception:  # noqa: S110  (thrown away, whatever it was)
            pass
        finally:
            await self.aclose()


def _sooner(attempt: Any, seconds: float) -> float:
    until: float = attempt.clock() + seconds
    return until if attempt.deadline is None else min(attempt.deadline, until)
