"""One request over one endpoint where HTTP/2 may be spoken: as `exchange`, on connections that requests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from h2.exceptions import ProtocolError

from ..core.errors import TimedOut
from .alarm import new_alarm
from .attempt import HTTP_1_1, Attempt
from .binding import Binding
from .exchange import AsyncExchange, Base, is_small, trio_run
from .shared import SharedPool, Use

NO_TIME = 0.001
"""Seconds before the deadline in which no connection is opened any more."""


class Http2Exchange(Base):
    """Sends requests from tasks, several on a connection.

    Args:
        factory: a pool of the core's that offers HTTP/2, used to make connections alone.
        http1: makes the exchange for requests that the server wants by HTTP/1.1; None: only HTTP/2 is spoken.
    """

    def __init__(
        self,
        binding: Binding,
        factory: Any,
        origin: Any,
        *,
        http1: Callable[[], AsyncExchange] | None,
        **settings: Any,
    ) -> None:
        # What leaves for a request may be sent by the write of another: only the trace tells.
        super().__init__(
            binding, SharedPool(lambda: factory.create_connection(origin), **settings), origin, traced=True
        )
        self.speaks_http1 = http1 is not None
        self._make_http1 = http1
        self._http1: AsyncExchange | None = None

    async def send(self, request: Any, attempt: Attempt) -> Any:
        """As `AsyncExchange.send`."""
        if attempt.fresh == HTTP_1_1 and self._make_http1 is not None:
            if self._http1 is None:
                self._http1 = self._make_http1()
            return await self._http1.send(request, attempt)
        pool = self.pool
        timeout = request.extensions.get("timeout") or {}
        use = attempt.stream = Use(pool, attempt, timeout.get("read"), timeout.get("write"))
        await self._take(use, timeout.get("connect"))
        connection = use.connection
        attempt.reused = connection.uses > 1
        clean, alarm = False, new_alarm()
        try:
            with alarm:
                use.watched_by(alarm)
                try:
                    response = await connection.core.handle_async_request(
                        self._request(request, attempt, use.trace)
                    )
                finally:
                    if attempt.kill is not None:  # the connection was made just now
                        connection.kill = attempt.kill
                if is_small(request, response.status, response.headers):
                    pieces = []
                    async for piece in response.stream:
                        pieces.append(piece)
                        use.moved()
                    await response.stream.aclose()
                    clean = True
            use.alarm = None
            if alarm.rung:
                raise self._why(use)
            if clean:
                stream = self.binding.sdk.ByteStream(b"".join(pieces))
                self._give(use, clean=True)
            else:
                body = _Pieces(response.stream, use, self._why)
                stream = self.binding.async_body(
                    body,
                    attempt,
                    lambda exc: self.body_error(exc, attempt, request),
                    lambda: self._give(use, clean=body.ended),
                )
        except BaseException as exc:
            use.alarm = None
            if isinstance(exc, Exception) and not alarm.rung:  # the core gave up on it by itself
                attempt.received = attempt.received or use.heard_anything()
                attempt.sent = attempt.sent and use.reached_the_socket()
            use.settle()
            if use.reset is not None:
                attempt.received = True  # its peer's word: no kept connection that was closed meanwhile
            self._give(use, clean=use.stream_id is None or use.reset is not None)
            error = self.error(exc, attempt, request) if isinstance(exc, Exception) else None
            if error is None:
                raise
            raise error from exc
        return self.binding.sdk.Response(
            response.status, headers=response.headers, stream=stream, extensions=response.extensions
        )

    async def _take(self, use: Use, patience: float | None) -> None:
        from ..core.loops import running_loop, wait_for_wake

        attempt, pool = use.attempt, self.pool
        loop, fresh = running_loop() or trio_run(), attempt.fresh
        if pool.take(use, attempt.clock(), loop, fresh=fresh, patient=True):
            return
        limits = [float("inf") if patience is None else patience]
        if attempt.connect_timeout is not None:
            limits.append(attempt.connect_timeout)
        if attempt.deadline is not None:
            limits.append(max(0.0, attempt.deadline - attempt.clock()))
        until, taken = attempt.clock() + min(limits), False
        while not taken:
            failed = pool.failed
            await wait_for_wake(pool.wait_for_one(loop), max(0.0, until - attempt.clock()))
            now = attempt.clock()
            if attempt.deadline is not None and now >= attempt.deadline - NO_TIME:
                raise TimedOut("the attempt ran out of time while it waited for a connection")
            # Where one could not be opened, each tries for itself; else those that found no place wait for the next.
            taken = pool.take(use, now, loop, fresh=fresh, patient=now < until and pool.failed == failed)

    def error(self, exc: BaseException, attempt: Attempt, request: Any) -> Exception | None:
        """As that of every exchange. What the peer does against the rules while a body is read comes out of the core as
        it is."""
        if isinstance(exc, ProtocolError):
            broken: Exception = self.binding.core.RemoteProtocolError(str(exc))
            broken.__cause__, exc = exc, broken
        return super().error(exc, attempt, request)

    def _give(self, use: Use, *, clean: bool) -> None:
        connection = use.connection
        if connection.stream is None:  # HTTP/1.1
            clean = connection.core.is_idle() and not connection.left_over()
        self.pool.give(use, use.attempt.clock(), clean=clean)

    def _why(self, use: Use) -> Exception:
        """What an alarm that rang means."""
        attempt, core = use.attempt, self.binding.core
        code = use.was_reset
        if use.goodbye is not None or code is not None:
            error: Exception = core.RemoteProtocolError(
                use.goodbye or f"the server reset the stream: error code {code}"
            )
            return error
        if not use.timely:
            attempt.deadline = min(
                attempt.deadline, attempt.clock()
            )  # the loop's clock may be a little ahead of it
        error = core.WriteTimeout() if use.writes else core.ReadTimeout()
        return error

    def close(self) -> None:
        self.pool.close()
        if self._http1 is not None:
            self._http1.close()

    def retire(self) -> None:
        super().retire()
        if self._http1 is not None:
            self._http1.retire()

    async def aclose(self) -> None:
        self.close()


class _Pieces:
    """The body of an answer, read under an alarm for each piece.

    Attributes:
        ended: it was read to its end, and the core has nothing left of it.
    """

    def __init__(self, stream: Any, use: Use, why: Callable[[Use], Exception]) -> None:
        self._stream = stream
        self._use = use
        self._why = why
        self.ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        use, pieces = self._use, aiter(self._stream)
        while True:
            piece = None
            with new_alarm() as alarm:
                use.watched_by(alarm)
                piece = await anext(pieces, None)
            use.alarm = None
            if alarm.rung:
                raise self._why(use)
            if piece is None:
                self.ended = True
                return
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
