"""Bodies: which requests can be sent again, and how a response's ends are told.

A response body is the core's stream, given back to the pool when it was read to its end and killed when it
was not. Closing never suspends: nothing can be cancelled in the middle of it."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from ..core.errors import PolicyError, TimedOut
from ..core.outcome import IGNORED, attach

DRAIN_BYTES = 65_536
"""Of an answer that nobody wants: more than that is dearer to read than a new connection is to make."""


class RequestBody:
    """A request body that is not in memory: whether it can be sent again, and whether it was begun.

    It can where what the SDK reads it from is a file that seeks to where it stood, an iterable that can be
    iterated anew (see `made_anew`, `buffered`), or a form whose files do one of these.

    Args:
        stream: the SDK's stream.
    """

    __slots__ = ("_rewind", "_source", "error", "started", "stream")

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.started = False
        self.error: Exception | None = (
            None  # the body's own: raised where the caller makes it, not by the network
        )
        self._rewind = _rewinder(stream)
        source = getattr(stream, "_stream", None)
        self._source = source if isinstance(source, _Buffered) else None

    @property
    def replayable(self) -> bool:
        """Whether it can be sent again, as far as is known now."""
        return self._rewind is not None and (self._source is None or self._source.whole)

    def _begin(self) -> None:
        self.error = None
        if self.started and self._rewind is not None:
            self._rewind()
        self.started = True

    def __iter__(self) -> Iterator[bytes]:
        try:
            self._begin()
            yield from self.stream
        except Exception as exc:
            self.error = exc
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            self._begin()
            async for chunk in self.stream:
                yield chunk
        except Exception as exc:
            self.error = exc
            raise


def _rewinder(stream: Any) -> Callable[[], object] | None:
    """What takes a stream of the SDK's back to its start; None where nothing does."""
    fields = getattr(stream, "fields", None)
    if isinstance(fields, list):  # a form: the SDK takes its files back to their start by itself
        files = [field.file for field in fields if hasattr(field, "file")]
        return _nothing if all(isinstance(each, (str, bytes)) or _seekable(each) for each in files) else None
    source = getattr(stream, "_stream", None)
    if source is None:
        return None
    if _seekable(source):
        start = source.tell()
        return lambda: source.seek(start)
    # An iterator is used up by the first attempt; an iterable makes a new one for each.
    return None if hasattr(source, "__next__") or hasattr(source, "__anext__") else _nothing


_OF_THE_SDK = re.compile(rb"[0-9a-f]{32}")
"""The boundaries that the SDK makes up."""


def pin_boundary(request: Any, key: str, /) -> None:
    """Have a form's boundary follow from the key and from what is in the form, where the SDK made one up: a key stands
    for the same bytes, also in another process, and servers that compare them refuse others. If it followed from the
    key alone, a file of whoever knows the key could end its part, and add others. Files are read for it, as the SDK
    does: in the calling thread or loop. A form that can be read only once keeps the boundary that it has."""
    stream = request.stream
    old = getattr(stream, "boundary", None)
    if not isinstance(old, bytes) or not _OF_THE_SDK.fullmatch(old):
        return
    content_type = request.headers.get("content-type", "")
    if content_type != f"multipart/form-data; boundary={old.decode()}":
        return
    if _rewinder(stream) is None:
        return
    known = hashlib.sha256(key.encode())
    for field in stream.fields:
        for piece in field.render():
            known.update(piece)
    stream.boundary = known.hexdigest()[:32].encode()
    request.headers["content-type"] = f"multipart/form-data; boundary={stream.boundary.decode()}"


def _seekable(source: Any) -> bool:
    try:
        source.tell()
        return bool(source.seekable())
    except (OSError, ValueError, AttributeError):
        return False


def _nothing() -> None:
    """It is at its start."""


class _Made:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._make())


class _AsyncMade:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __aiter__(self) -> AsyncIterator[bytes]:
        made: AsyncIterator[bytes] = self._make().__aiter__()
        return made


def made_anew(
    make: Callable[[], Iterable[bytes]] | Callable[[], AsyncIterable[bytes]], /
) -> Iterable[bytes] | AsyncIterable[bytes]:
    """A request body that ``make`` makes anew for every attempt, for ``content=``.

    Args:
        make: a generator function, or a function that returns an iterable of bytes; for an async client an
            async generator function. Every call must give the same bytes: an idempotency key stands for one
            body.

    Example:
        >>> import resilient.httpx
        >>> def rows():
        ...     yield b"a,1"
        ...     yield b"b,2"
        >>> body = resilient.httpx.made_anew(rows)
        >>> b"".join(body), b"".join(body)
        (b'a,1b,2', b'a,1b,2')
    """
    if not callable(make):
        raise PolicyError(
            f"made_anew: {type(make).__name__} is not a function; write made_anew(lambda: open(path, 'rb')) or give "
            "a generator function, without calling it"
        )
    return _AsyncMade(make) if inspect.isasyncgenfunction(make) else _Made(make)


class _Buffered:
    """What `buffered` gives: remembers what it read, as long as that is little.

    Attributes:
        whole: whether all that was read is there to be sent again.
    """

    def __init__(self, limit: int) -> None:
        self.whole = True
        self._begun = False
        self._limit = limit
        self._kept: list[bytes] = []
        self._size = 0

    def _begin(self) -> list[bytes]:
        """What is there to be sent before the rest."""
        if self._begun and not self.whole:
            raise PolicyError(
                f"buffered: more than limit={self._limit} bytes were read, or the iterator broke off, and it cannot be "
                "sent again; give a larger limit, or a body that can be made anew: made_anew(function)"
            )
        self._begun = True
        return list(self._kept)

    def _keep(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size > self._limit:
            self.whole = False
            self._kept = []
        elif self.whole:
            self._kept.append(chunk)
        return chunk


class _SyncBuffered(_Buffered):
    def __init__(self, source: Iterable[bytes], limit: int) -> None:
        super().__init__(limit)
        self._rest = iter(source)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._begin()
        while True:
            had, self.whole = self.whole, False  # where it breaks off, the rest of it is lost
            try:
                chunk = next(self._rest)
            except StopIteration:
                self.whole = had
                return
            self.whole = had
            yield self._keep(chunk)


class _AsyncBuffered(_Buffered):
    def __init__(self, source: AsyncIterable[bytes], limit: int) -> None:
        super().__init__(limit)
        self._rest = source.__aiter__()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._begin():
            yield chunk
        while True:
            had, self.whole = self.whole, False  # where it is interrupted, the rest of it is lost
            try:
                chunk = await anext(self._rest)
            except StopAsyncIteration:
                self.whole = had
                return
            self.whole = had
            yield self._keep(chunk)


def buffered(
    content: Iterable[bytes] | AsyncIterable[bytes], /, limit: int = 65_536
) -> Iterable[bytes] | AsyncIterable[bytes]:
    """A request body out of an iterator that can be read once, for ``content=``: what is read of it is kept, so that it
    can be sent again as long as that is not too much.

    Args:
        content: a generator or another iterator; an async one for an async client.
        limit: bytes that are kept, 1 or more. A body that proves to be longer is sent once, as without this.

    For one request: a second one would begin where the first one stopped, after what is kept.

    Example:
        >>> import resilient.httpx
        >>> body = resilient.httpx.buffered(piece for piece in (b"a,1", b"b,2"))
        >>> b"".join(body), b"".join(body)
        (b'a,1b,2', b'a,1b,2')
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise PolicyError(f"buffered: limit={limit!r} must be bytes, at least 1; write limit=65_536")
    if isinstance(content, (str, bytes)) or not isinstance(content, (Iterable, AsyncIterable)):
        raise PolicyError(
            f"buffered: {type(content).__name__} is no iterator of pieces; bytes, text and files are given as they are"
        )
    if isinstance(content, AsyncIterable):
        return _AsyncBuffered(content, limit)
    return _SyncBuffered(content, limit)


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
        self._head = attempt.clock() - attempt.began
        self.waited = 0.0  # seconds since, in which the peer let the reader wait
        self.read_to_end = False
        self.on_end: Callable[[BaseException | None], None] | None = None
        self.close_inner: Callable[[], Any] | None = (
            None  # of a transport that closes its streams itself, async
        )
        self.ours = True  # whether each read of the stream ends at the deadline

    def _end(self) -> None:
        """The connection goes back, once; then whoever waits for the end is told."""
        give_back, self._give_back = self._give_back, None
        if give_back is None:
            return
        try:
            give_back()
        finally:
            on_end, self.on_end = self.on_end, None
            if on_end is not None:
                on_end(self._error)

    def _failed(self, exc: BaseException) -> Exception | None:
        self._error = exc
        translated = self._translate(exc) if isinstance(exc, Exception) else None
        if translated is not None:
            self._error = translated
        attempt = self._attempt
        if (
            isinstance(self._error, TimedOut)
            and self._head + self.waited < (attempt.clock() - attempt.began) / 2
        ):
            attach(self._error, verdict=IGNORED)  # it was the reader who took so long
        return translated

    def __del__(self) -> None:
        # Nobody closed it: the connection and the permits are not to be lost with it.
        if self.__dict__.get("_give_back") is not None:
            self._end()


class SyncBody(ResponseBody):
    """A response body of a sync client."""

    def __iter__(self) -> Iterator[bytes]:
        clock = self._attempt.clock
        try:
            began = clock()
            for chunk in self._stream:
                self.waited += clock() - began
                yield chunk
                began = clock()
            self._stream.close()
            self.read_to_end = True
        except GeneratorExit:  # the reader has had enough, and the peer no part in it
            raise
        except BaseException as exc:
            self.waited += clock() - began
            error = self._failed(exc)
            if error is None:
                raise
            raise error from exc

    def close(self) -> None:
        self._end()

    def drain(self, seconds: float) -> None:
        """Read what is left, if it is little and comes soon; then close."""
        left = DRAIN_BYTES if self.ours else -1
        attempt = self._attempt
        attempt.deadline = sooner(attempt, seconds)
        try:
            for chunk in self if left > 0 else ():
                left -= len(chunk)
                if left < 0:
                    break
        except Exception:  # thrown away, whatever it was
            self._error = None
        finally:
            self.close()


class AsyncBody(ResponseBody):
    """A response body of an async client."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        clock = self._attempt.clock
        try:
            began = clock()
            async for chunk in self._stream:
                self.waited += clock() - began
                yield chunk
                began = clock()
            await self._stream.aclose()
            self.read_to_end = True
        except GeneratorExit:
            raise
        except BaseException as exc:
            self.waited += clock() - began
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
        left = DRAIN_BYTES if self.ours else -1
        attempt = self._attempt
        attempt.deadline = sooner(attempt, seconds)
        try:
            if left > 0:
                async for chunk in self:
                    left -= len(chunk)
                    if left < 0:
                        break
        except Exception:  # thrown away, whatever it was
            self._error = None
        finally:
            await self.aclose()


def sooner(attempt: Any, seconds: float) -> float:
    """The deadline of an attempt whose answer nobody wants."""
    until: float = attempt.clock() + seconds
    return until if attempt.deadline is None else min(attempt.deadline, until)
