"""One request over one endpoint: take a connection, send, give it back. The sync and the async driver differ
in ``await`` alone.

There is no shield and no inner task: whatever interrupts a driver, the connection is either idle and kept, or
killed without suspending."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ..core.errors import TimedOut
from .attempt import Attempt
from .binding import Binding
from .pool import Pool

SMALL = 65_536
"""Bytes: a body that is announced to be no larger is read inside the attempt, so that one that breaks is a
failed attempt."""


class _NoBody:
    """The body of a request that has none. The SDK's is an empty piece, which costs the core as much as any other."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        return
        yield


NO_BODY = _NoBody()


class Base:
    """What both exchanges share.

    Args:
        binding: the SDK.
        pool: the connections.
        origin: the core's origin of the URL.
        traced: whether the core's trace events tell what was sent: the first bytes may be others than the request's.
    """

    foreign = False
    """Whether somebody else's code does the sending."""

    def __init__(self, binding: Binding, pool: Any, origin: Any, *, traced: bool) -> None:
        self.binding = binding
        self.pool = pool
        self._traced = traced
        self._in_memory = binding.sdk.ByteStream
        self._origin = origin

    def retire(self) -> None:
        """The endpoint went: idle connections are closed now, the others as their calls end. From any thread."""
        self.pool.drain()

    def _request(self, request: Any, attempt: Attempt, trace: Any) -> Any:
        given, binding = request.extensions, self.binding
        path = given.get("target", request.url.raw_path)
        body = request.stream if attempt.body is None else attempt.body
        if body.__class__ is self._in_memory and not next(iter(body)):
            body = NO_BODY
        return binding.request(
            request.method.encode("ascii"),
            binding.target(self._origin, path),
            [*request.headers.raw, *attempt.headers],
            body,
            attempt.extensions(given, trace if self._traced or "trace" in given else None),
        )

    def error(self, exc: BaseException, attempt: Attempt, request: Any) -> Exception | None:
        """What to raise in place of an error of the core's; a time-out at the deadline is ours."""
        if isinstance(exc, self.binding.core.TimeoutException) and attempt.overdue():
            error = TimedOut("the attempt ran out of time while it waited for the network")
            error.__cause__ = exc
            return error
        return self.binding.sdk_error(exc, request)

    def body_error(self, exc: BaseException, attempt: Attempt, request: Any) -> Exception | None:
        """As `error`, for a body that is read after the call: no policy makes it the SDK's any more."""
        error = self.error(exc, attempt, request)
        if isinstance(error, TimedOut) and attempt.late is not None:
            attempt.late(error)
        return None if error is None else self.binding.own_error(error, request)


def is_small(request: Any, status: int, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body of an answer is announced to be small."""
    if request.method == "HEAD" or status in (204, 304):
        return True
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length":
            return bool(value.isdigit() and len(value) < 7 and int(value) <= SMALL)
    return False


class SyncExchange(Base):
    """Sends requests from threads."""

    def __init__(
        self, binding: Binding, factory: Any, origin: Any, *, tunnelled: bool, **settings: Any
    ) -> None:
        pool = Pool(lambda: factory.create_connection(origin), sync=True, **settings)
        super().__init__(binding, pool, origin, traced=tunnelled)

    def send(self, request: Any, attempt: Attempt) -> Any:
        """One request; its response, read if it is small.

        Raises:
            the SDK's errors, and `TimedOut`; the connection is given back or killed by then.
        """
        clock, pool = attempt.clock, self.pool
        connection = pool.take(clock(), fresh=attempt.fresh)
        attempt.reused = connection.uses > 1
        try:
            try:
                response = connection.core.handle_request(self._request(request, attempt, attempt.trace))
            finally:
                if attempt.kill is not None:  # the connection was made just now
                    connection.kill = attempt.kill
            if is_small(request, response.status, response.headers):
                stream = self.binding.sdk.ByteStream(b"".join(response.stream))
                response.stream.close()
                pool.give(connection, clock())
            else:
                stream = self.binding.sync_body(
                    response.stream,
                    attempt,
                    lambda exc: self.body_error(exc, attempt, request),
                    lambda: pool.give(connection, clock()),
                )
        except BaseException as exc:
            pool.give(connection, clock())
            error = self.error(exc, attempt, request) if isinstance(exc, Exception) else None
            if error is None:
                raise
            raise error from exc
        return self.binding.sdk.Response(
            response.status, headers=response.headers, stream=stream, extensions=response.extensions
        )

    def close(self) -> None:
        self.pool.close()


class AsyncExchange(Base):
    """Sends requests from tasks."""

    def __init__(
        self, binding: Binding, factory: Any, origin: Any, *, tunnelled: bool, **settings: Any
    ) -> None:
        pool = Pool(lambda: factory.create_connection(origin), sync=False, **settings)
        super().__init__(binding, pool, origin, traced=tunnelled)

    async def send(self, request: Any, attempt: Attempt) -> Any:
        """As `SyncExchange.send`."""
        from ..core.loops import running_loop

        clock, pool = attempt.clock, self.pool
        connection = pool.take(clock(), running_loop() or trio_run(), fresh=attempt.fresh)
        attempt.reused = connection.uses > 1
        try:
            try:
                response = await connection.core.handle_async_request(
                    self._request(request, attempt, attempt.atrace)
                )
            finally:
                if attempt.kill is not None:  # the connection was made just now
                    connection.kill = attempt.kill
            if is_small(request, response.status, response.headers):
                stream = self.binding.sdk.ByteStream(b"".join([chunk async for chunk in response.stream]))
                await response.stream.aclose()
                pool.give(connection, clock())
            else:
                stream = self.binding.async_body(
                    response.stream,
                    attempt,
                    lambda exc: self.body_error(exc, attempt, request),
                    lambda: pool.give(connection, clock()),
                )
        except BaseException as exc:
            pool.give(connection, clock())
            error = self.error(exc, attempt, request) if isinstance(exc, Exception) else None
            if error is None:
                raise
            raise error from exc
        return self.binding.sdk.Response(
            response.status, headers=response.headers, stream=stream, extensions=response.extensions
        )

    def close(self) -> None:
        self.pool.close()

    async def aclose(self) -> None:
        self.pool.close()


class TrioRun:
    """One ``trio.run``, as the event loop that its connections belong to."""

    def __init__(self, trio: Any) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._finished: type[RuntimeError] = trio.RunFinishedError
        self.call_soon_threadsafe: Callable[[Callable[[], None]], None] = self._token.run_sync_soon

    def is_closed(self) -> bool:
        try:
            self.call_soon_threadsafe(_nothing)
        except self._finished:
            return True
        return False


def trio_run() -> TrioRun:
    """That of the caller."""
    trio: Any = sys.modules["trio"]
    run: TrioRun
    global _OF_RUN
    if _OF_RUN is None:
        _OF_RUN = trio.lowlevel.RunVar("resilient")
    try:
        run = _OF_RUN.get()
    except LookupError:
        run = TrioRun(trio)
        _OF_RUN.set(run)
    return run


_OF_RUN: Any = None


def _nothing() -> None:
    """Only to be asked for."""
