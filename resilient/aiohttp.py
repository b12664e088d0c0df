"""Resilient sessions for aiohttp: plain ``aiohttp.ClientSession``, with every policy inside.

Example:
    >>> import asyncio
    >>> import resilient.aiohttp
    >>> async def main():
    ...     async with resilient.aiohttp.session("payments", base_url="http://payments.shop.svc") as session:
    ...         return type(session).__module__
    >>> asyncio.run(main())
    'aiohttp.client'
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp.payload import BytesPayload

from .balance.endpoints import Fixed
from .core.clock import Clock
from .core.errors import DeadlineExceeded, PolicyError, TimedOut
from .core.loops import within
from .core.policy import Policy
from .discovery.address import Address
from .http.attempt import Attempt
from .http.body import ResponseBody, buffered, made_anew
from .http.exchange import is_small
from .http.faces import Faces
from .http.factory import depend
from .http.logical import STATE
from .http.options import options, said
from .http.pool import MAX_IDLE
from .http.profiles import Profile, Signal
from .http.transport import AsyncTransport
from .http.views import RequestView, ResponseView, Url
from .telemetry import instrument_when_useful

__all__ = ["Profile", "Signal", "buffered", "made_anew", "options", "session"]

_PORTS = {"http": 80, "https": 443}
_TOTAL = 300.0
"""Seconds: aiohttp's own limit for a whole call, where nobody says another."""


class _RequestBody:
    """A request body that is not in memory: whether it can be sent again, and whether it was begun."""

    def __init__(self, stream: Any, source: Any) -> None:
        self.stream = stream
        self.source = source if hasattr(source, "__aiter__") and not hasattr(source, "__anext__") else None
        self.started = False
        self.error: Exception | None = None

    @property
    def replayable(self) -> bool:
        """Whether it can be sent again, as far as is known now."""
        if self.source is not None:
            return bool(getattr(self.source, "whole", True))
        return not (self.started and self.stream.consumed)


class _Binding(Faces):
    """What the logic of a call knows of aiohttp."""

    def request_body(self, request: Any) -> _RequestBody | None:
        body = request.stream
        if not body or isinstance(body, BytesPayload):
            return None
        return _RequestBody(body, request.given.source)

    def content(self, response: Any) -> bytes | None:
        return response.stream if isinstance(response.stream, bytes) else None

    def taken(self, given: Any) -> ResponseView | None:
        return _view(given, None) if isinstance(given, aiohttp.ClientResponse) else None

    def show(self, error: Any, request: Any, response: Any = None) -> None:
        if response is None:
            return
        answer: aiohttp.ClientResponse = response.given
        error.request_info, error.history, error.response = answer.request_info, answer.history, answer
        error.status, error.message, error.headers = answer.status, answer.reason or "", answer.headers

    def face(self, exc: Exception) -> type[Exception]:
        # Of the classes above its own, one that needs no more than a message.
        for face in _FACES:
            if isinstance(exc, face):
                return face
        return self._timeout if isinstance(exc, TimedOut) else self._transport


_FACES = (
    aiohttp.ServerTimeoutError,
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientOSError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientConnectionError,
)

BINDING = _Binding(
    __name__,
    error=aiohttp.ClientError,
    timeout=aiohttp.ServerTimeoutError,
    transport=aiohttp.ClientConnectionError,
    answer=aiohttp.ClientResponseError,
    on_the_way=(aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, aiohttp.ClientResponseError),
    unset={"request_info": None, "history": (), "headers": None, "response": None},
    builds="session.request(...)",
    response="spare.get('http://...')",
)


def _view(response: Any, stream: Any) -> ResponseView:
    version = response.version
    text = b"HTTP/1.1" if version is None else f"HTTP/{version.major}.{version.minor}".encode()
    return ResponseView(response, response.status, response.headers, stream, text)


class _Call:
    """One call of a session's: its first request, and those that redirects make of it.

    Attributes:
        extensions: the state.
        views: its requests, as the logic of the call sees them.
        answer: the last answer, likewise.
        failed: what it ended with, and the request that did.
    """

    def __init__(self, traces: Any) -> None:
        self.traces = traces
        self.extensions: dict[str, Any] = {}
        self.views: list[RequestView] = []
        self.answer: ResponseView | None = None
        self.failed: tuple[Exception, RequestView] | None = None


_CALLS: weakref.WeakValueDictionary[int, _Call] = weakref.WeakValueDictionary()
"""By the id of the list of traces that all requests of a call have in common, which is all that they have."""


class _Used(Exception):
    """The connection was used before, and a fresh one is wanted."""


class _Request(aiohttp.ClientRequest):
    """A request that knows its call, and tells its attempt what is sent of it, and on which connection."""

    def __init__(self, *args: Any, traces: Any = None, data: Any = None, **options: Any) -> None:
        traces = [] if traces is None else traces
        super().__init__(*args, traces=traces, data=data, **options)
        call = _CALLS.get(id(traces))
        if call is None:
            call = _CALLS[id(traces)] = _Call(traces)
        self.call = call
        self.source = data
        self.view: RequestView | None = None
        self.attempt: Attempt | None = None
        self.transport: Any = None  # what it was sent on, until it is answered

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        attempt = self.attempt
        if attempt is not None:
            protocol = conn.protocol
            attempt.reused = protocol in _USED
            if attempt.fresh and attempt.reused:
                raise _Used
            _USED.add(protocol)
            attempt.sends()
            if attempt.body is not None:
                attempt.body.started = True
            self.transport = conn.transport
        return await super().send(conn)


_USED: weakref.WeakSet[Any] = weakref.WeakSet()
"""Connections that a request was sent on."""


class _Body(ResponseBody):
    """The body of an answer that is still arriving: ends with its connection, and at the deadline."""

    def __init__(self, response: Any, attempt: Attempt, request: RequestView) -> None:
        super().__init__(weakref.ref(response), attempt, lambda exc: None, _nothing)
        self._request = request
        self._timer: Any = None
        connection = response.connection
        connection.add_callback(self._over)
        if attempt.deadline is not None:
            left = max(0.0, attempt.deadline - attempt.clock())
            # A timer may come early, by the resolution of its clock; and then nothing would have run out.
            self._timer = asyncio.get_running_loop().call_later(left + 0.001, self._late)

    def _late(self) -> None:
        error: Exception = TimedOut("the attempt ran out of time while its answer was read")
        if self._attempt.late is not None:
            self._attempt.late(error)
        error = BINDING.own_error(error, self._request)
        self._failed(error)
        response = self._stream()
        if response is not None:
            response.content.set_exception(error)
            response.close()

    def _over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        response = self._stream()
        broken = None if response is None else response.content.exception()
        if self._error is None and broken is not None and type(broken) is not aiohttp.ClientConnectionError:
            self._failed(broken)  # that class alone says that it was closed here
        self._end()

    async def adrain(self, seconds: float) -> None:
        """Wait for what is left, if it is little and comes soon; then close."""
        response = self._stream()
        try:
            with suppress(Exception):  # thrown away, whatever it was
                await _arrived(response, seconds)
        finally:
            response.release()


def _nothing() -> None:
    """The connector takes its connections back by itself."""


async def _arrived(response: Any, seconds: float | None) -> None:
    """Wait until the body is there; it stays where it is."""
    content = response.content
    if content.exception() is not None:
        raise content.exception()
    await within(seconds, content.wait_eof)


class _Exchange:
    """Sends by what the session does with a request.

    Args:
        reads: whether answers that are errors are read, because the profile has texts to look for.
    """

    foreign = False

    def __init__(self, reads: bool) -> None:
        self._reads = reads

    async def send(self, request: RequestView, attempt: Attempt) -> ResponseView:
        given, handler = request.given, request.how
        body = attempt.body
        if body is not None and body.started and body.source is not None:
            await given.update_body(body.source)
        for name, value in attempt.headers:
            given.headers[name.decode()] = value.decode("latin-1")
        given.attempt = attempt
        try:
            response = await within(_left(attempt), _sent, handler, given)
            given.transport = None
            try:
                return await within(_left(attempt), self._answer, request, response, attempt)
            except BaseException:
                response.close()
                raise
        except BaseException as exc:
            if given.transport is not None:
                # aiohttp closes in order, and waits for ever for a peer that does not take the rest of an upload.
                given.transport.abort()
            error = _raised(exc, attempt)
            if error is None:
                raise
            raise error from exc
        finally:
            given.attempt = given.transport = None

    async def _answer(self, request: RequestView, response: Any, attempt: Attempt) -> ResponseView:
        attempt.received = True
        content = response.content
        if response.status == 101:  # a web socket, which is no answer that ends
            return _view(response, None)
        if self._reads and response.status >= 400 and _is_small(request, response):
            return _view(response, await response.read())
        if not content.is_eof() and _is_small(request, response) and _fits(response):
            await _arrived(response, None)
        if response.connection is None:
            return _view(response, None)
        return _view(response, _Body(response, attempt, request))

    async def aclose(self) -> None:
        """The session closes its connections."""


async def _sent(handler: Callable[[Any], Awaitable[Any]], given: _Request) -> Any:
    while True:
        try:
            return await handler(given)
        except _Used:  # it is closed now; the next one may be as old
            continue


def _raised(exc: BaseException, attempt: Attempt) -> Exception | None:
    """What to raise in place of an error of aiohttp's."""
    if isinstance(exc, TimeoutError) and attempt.overdue():
        return TimedOut("the attempt ran out of time while it waited for the network")
    if type(exc) is TimeoutError:
        return DeadlineExceeded("the session's own total time-out is over")
    if isinstance(exc, aiohttp.ServerDisconnectedError) and not isinstance(exc.message, str):
        attempt.received = True  # a part of the head
    cause = exc.__cause__
    if (
        type(exc) is aiohttp.ClientConnectionError
        and isinstance(cause, Exception)
        and attempt.body is not None
    ):
        attempt.body.error = cause  # the caller's body, which is all that aiohttp wraps so
    return None


def _is_small(request: RequestView, response: Any) -> bool:
    length = response.headers.get("Content-Length")
    return is_small(
        request, response.status, [] if length is None else [(b"content-length", length.encode())]
    )


def _fits(response: Any) -> bool:
    """Whether the body waits in the reader's buffer as it is; how long one is that is packed nobody knows."""
    length = int(response.headers.get("Content-Length", 0))
    return (
        "Content-Encoding" not in response.headers and length <= response.content.get_read_buffer_limits()[1]
    )


def _left(attempt: Attempt) -> float | None:
    return None if attempt.deadline is None else max(0.0, attempt.deadline - attempt.clock())


class _Middleware:
    """The policies, around what sends: the innermost of a session's middlewares.

    Args:
        driver: runs a call.
    """

    def __init__(self, driver: AsyncTransport) -> None:
        self.driver = driver

    async def __call__(self, request: Any, handler: Any) -> aiohttp.ClientResponse:
        call: _Call = request.call
        view = request.view
        if view is None:
            if call.failed is not None:
                # The session itself sends again what is idempotent and met a broken connection; that is done already.
                raise call.failed[0]
            view = RequestView(
                request.method, Url(str(request.url)), request.headers, request.body, call.extensions
            )
            request.view = view
            call.views.append(view)
            if not call.extensions:
                asked = said()
                if asked is not None:
                    view.extensions = {STATE: asked}
        view.given, view.how = request, handler
        try:
            answer = await self.driver.handle_async_request(view)
        except Exception as exc:
            call.failed = exc, view
            raise
        finally:
            view.given = view.how = None
            call.extensions = view.extensions
        response = answer.given
        answer.given, call.answer = None, answer
        response.extensions = answer.extensions
        return response  # type: ignore[no-any-return]


def session(
    name: str,
    *,
    base_url: str,
    policies: Policy | None = None,
    profile: Profile | str = "unknown",
    clock: Clock | None = None,
    **options: Any,
) -> aiohttp.ClientSession:
    """A plain ``aiohttp.ClientSession`` whose requests to ``base_url`` run under policies.

    Args:
        name: of the dependency, in errors, events and metrics.
        base_url: the service; requests to another authority (a redirect's) pass with the deadline alone.
        policies: a pipeline; None: `standard(name)`.
        profile: what the service does with idempotency keys: ``"none"``, ``"unknown"``, ``"supported"``,
            ``"required"`` or a `Profile`.
        clock: where time comes from.
        **options: whatever ``aiohttp.ClientSession`` takes but ``request_class``. Middlewares of yours are outside the
            policies, as auth has to be. Without ``connector=`` connections are not limited, which is a bulkhead's
            work, and are kept for 4 s; without ``timeout=`` connecting takes as long as ``policies`` allow.

    Raises:
        PolicyError: arguments that contradict each other or mean nothing.

    Made where the loop runs, as aiohttp wants it; for the tasks of that loop.
    """
    if "request_class" in options:
        raise PolicyError("session: request_class= is ours, which tells what was sent; leave it out")
    if not isinstance(base_url, str):
        raise PolicyError(
            f"session: base_url={base_url!r} must be the service's URL; write base_url='http://payments.shop.svc'"
        )
    instrument_when_useful()
    url = Url(base_url)
    dependency = depend(BINDING, name, url, policies, profile, clock, None, (), asynchronous=True)
    known = dependency.profile
    signals = (known.in_progress, known.reused, known.missing)
    leaf = _Exchange(any(signal is not None and signal.text is not None for signal in signals))
    address = Address(url.host, url.port or _PORTS[url.scheme])
    driver = AsyncTransport(
        dependency, lambda: Fixed(address, leaf), leaf, "HTTP/1.1, by aiohttp's connector"
    )
    given = {"connector": None, "timeout": None, "middlewares": (), **options}
    if given["connector"] is None:
        given["connector"] = aiohttp.TCPConnector(limit=0, keepalive_timeout=MAX_IDLE)
    if given["timeout"] is None:
        given["timeout"] = aiohttp.ClientTimeout(total=_TOTAL, sock_connect=dependency.connect_timeout)
    given["middlewares"] = (*given["middlewares"], _Middleware(driver))
    return aiohttp.ClientSession(base_url, request_class=_Request, **given)
