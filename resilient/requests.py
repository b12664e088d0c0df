"""Resilient sessions for requests: plain ``requests.Session``, with every policy inside.

Example:
    >>> import resilient.requests
    >>> with resilient.requests.session("payments", base_url="http://payments.shop.svc") as session:
    ...     type(session).__module__
    'requests.sessions'
"""

from __future__ import annotations

import copy
import io
import weakref
from collections.abc import Iterator
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, SSLError, UnrewindableBodyError

from .balance.endpoints import Fixed
from .core.clock import Clock
from .core.errors import PolicyError, TimedOut
from .core.policy import Policy
from .discovery.address import Address
from .http.attempt import Attempt
from .http.body import RequestBody, buffered, made_anew
from .http.cut import THREAD, Body, Sending, cut
from .http.exchange import is_small
from .http.faces import Faces
from .http.factory import depend
from .http.logical import STATE
from .http.options import options, said
from .http.profiles import Profile, Signal
from .http.transport import SyncTransport
from .http.views import RequestView, ResponseView, Url
from .telemetry import instrument_when_useful

__all__ = ["Adapter", "Profile", "Signal", "buffered", "made_anew", "options", "session"]

_PORTS = {"http": 80, "https": 443}
_PIECE = 65_536
_VIEW = "_resilient"  # of a prepared request
_CHALLENGES = (401, 407)  # that an auth flow answers within the call


class _Source:
    """The pieces of a request body that is not in memory."""

    def __init__(self, body: Any) -> None:
        self._stream = body

    def __iter__(self) -> Iterator[bytes]:
        body = self._stream
        if not hasattr(body, "read"):
            yield from body
            return
        while piece := body.read(_PIECE):
            yield piece


class _Binding(Faces):
    """What the logic of a call knows of requests."""

    def request_body(self, request: Any) -> RequestBody | None:
        body = request.stream
        if body is None or isinstance(body, (bytes, str)):
            return None
        made = RequestBody(_Source(body))
        made.stream = body  # by which a redirect's is known
        return made

    def content(self, response: Any) -> bytes | None:
        if not isinstance(response.stream, bytes):
            return None
        try:
            content: bytes = response.given.content  # kept: the caller reads it again
        except ContentDecodingError:
            return None
        return content

    def taken(self, given: Any) -> ResponseView | None:
        return _view(given, None) if isinstance(given, requests.Response) else None

    def show(self, error: Any, request: Any, response: Any = None) -> None:
        error.request = request.given
        error.response = None if response is None else response.given


BINDING = _Binding(
    __name__,
    error=requests.RequestException,
    timeout=requests.Timeout,
    transport=requests.RequestException,
    answer=requests.HTTPError,
    on_the_way=(requests.ConnectionError, requests.Timeout, ChunkedEncodingError),
    unset={"request": None, "response": None},
    builds="session.prepare_request(...)",
    response="requests.Response()",
)


def _view(response: requests.Response, stream: Any) -> ResponseView:
    raw = response.raw
    version = b"HTTP/1.0" if getattr(raw, "version", 11) == 10 else b"HTTP/1.1"
    return ResponseView(response, response.status_code, response.headers, stream, version)


class Response(requests.Response):
    """An answer whose body is still arriving: where the deadline cuts it, the error says so."""

    _body: Body

    def iter_content(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return self._told(super().iter_content(*args, **kwargs))

    def _told(self, chunks: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from chunks
        except requests.RequestException as exc:
            error = self._body.error
            if isinstance(error, TimedOut):
                told: Any = error
                told.request = self.request
                raise told from exc
            raise


class _Exchange:
    """Sends by requests' own adapter, over connections of urllib3's that are cut at the deadline.

    Args:
        send: the adapter's.
    """

    foreign = False

    def __init__(self, send: Any) -> None:
        self._send = send

    def send(self, request: RequestView, attempt: Attempt) -> ResponseView:
        given, body = request.given, attempt.body
        sent = given
        if attempt.headers or body is not None:
            sent = copy.copy(given)
            sent.headers = given.headers.copy()
            sent.headers.update((name.decode(), value.decode("latin-1")) for name, value in attempt.headers)
            if body is not None:
                sent.body = body
        outer, THREAD.sending = THREAD.sending, Sending(attempt)
        sending = THREAD.sending
        try:
            if body is not None and body.started and not body.replayable:
                raise UnrewindableBodyError(
                    "the body is an iterator, and was read to send it before; give bytes, a file, or "
                    "made_anew(function), which can be sent again",
                    request=given,
                )
            response = self._send(sent, stream=True, **request.how)
            response.request = given
            return self._answer(request, response, sending)
        except BaseException as exc:
            error = self._raised(exc, sending)
            if isinstance(exc, requests.RequestException):
                exc.request = given
            if error is None:
                raise
            raise error from exc
        finally:
            THREAD.sending = outer

    def _answer(self, request: RequestView, response: Any, sending: Sending) -> ResponseView:
        raw, attempt = response.raw, sending.attempt
        length = response.headers.get("content-length", "").encode("latin-1")
        small = is_small(request, response.status_code, [(b"content-length", length)] if length else [])
        if sending.reader is None:  # it came from no socket: something stands in the adapter's place
            return _view(response, None)
        if small:
            data = _read(raw)
            response.raw = _whole(raw, data, request.method)
            return _view(response, data)
        body = Body(raw, attempt, lambda exc: self._body_error(attempt, request))
        sending.reader.body = body
        response.__class__ = Response
        response._body = body
        return _view(response, body)

    def _raised(self, exc: BaseException, sending: Sending) -> TimedOut | None:
        attempt = sending.attempt
        if not isinstance(exc, BINDING.on_the_way):
            return None
        if not sending.seen and not isinstance(exc, _NOT_SENT):
            attempt.sent = True  # whatever stands in the adapter's place does not say how far it got
        if attempt.overdue():
            return TimedOut("the attempt ran out of time while it waited for the network")
        if attempt.reused and _of_time(exc):
            attempt.received = True  # slow it is, but not closed
        return None

    def _body_error(self, attempt: Attempt, request: RequestView) -> Exception | None:
        if not attempt.overdue():
            return None
        error = TimedOut("the attempt ran out of time while its answer was read")
        if attempt.late is not None:
            attempt.late(error)
        return BINDING.own_error(error, request)

    def close(self) -> None:
        """The adapter closes its connections."""


_NOT_SENT = (requests.ConnectTimeout, requests.exceptions.ProxyError, SSLError)


def _of_time(exc: BaseException) -> bool:
    """Whether it is a time-out of the socket's, which requests calls a broken connection while it sends."""
    cause = exc.args[0] if exc.args else None
    return isinstance(cause, urllib3.exceptions.ProtocolError) and any(
        isinstance(each, TimeoutError) for each in cause.args
    )


def _read(raw: Any) -> bytes:
    """A small body, as it came; its errors are those of requests."""
    try:
        data: bytes = raw.read(decode_content=False)
    except urllib3.exceptions.ProtocolError as exc:
        raise ChunkedEncodingError(exc) from exc
    except urllib3.exceptions.ReadTimeoutError as exc:
        raise requests.ReadTimeout(exc) from exc
    except urllib3.exceptions.SSLError as exc:
        raise SSLError(exc) from exc
    return data


class _Bytes(io.BytesIO):
    """The bytes of a body; closed at its end, as a socket's is."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.tell() == self.getbuffer().nbytes:
            self.close()
        return data

    read1 = read


def _whole(raw: Any, data: bytes, method: str) -> urllib3.HTTPResponse:
    """An answer whose body is there, as one whose body is still to be read."""
    return urllib3.HTTPResponse(
        _Bytes(data),
        headers=raw.headers,
        status=raw.status,
        version=raw.version,
        version_string=raw.version_string,
        reason=raw.reason,
        preload_content=False,
        decode_content=False,
        original_response=raw._original_response,  # the session takes the cookies out of it
        retries=raw.retries,
        request_method=method,
    )


class _Hooks(dict[str, Any]):
    """A prepared request's hooks, which the SDK hands on over redirects and digest authentication; the state of the
    call rides in them.

    Attributes:
        extensions: the state.
        answer: the last one, as the logic of the call sees it.
        response: that answer itself.
    """

    def __init__(self, given: Any) -> None:
        super().__init__(given)
        self.extensions: dict[str, Any] = {}
        self.answer: ResponseView | None = None
        self.response: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class _Kept:
    """What a prepared request keeps of ours; nothing of it survives pickle or a copy."""

    def __init__(self, view: RequestView) -> None:
        self.view = view

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ()


class Adapter(HTTPAdapter):
    """An adapter with policies, for ``requests.Session().mount(...)``.

    Args:
        name: of the dependency, in errors, events and metrics.
        base_url: the service; requests to another authority (a redirect's) pass with the deadline alone.
        policies: a pipeline; None: `standard(name)`.
        profile: what the service does with idempotency keys: ``"none"``, ``"unknown"``, ``"supported"``,
            ``"required"`` or a `Profile`.
        clock: where time comes from.
        **options: pool_connections, pool_maxsize, pool_block: as ``requests.adapters.HTTPAdapter`` takes them.

    Raises:
        PolicyError: arguments that contradict each other or mean nothing.

    Mount it for ``http://`` and ``https://``, as `session` does, so that redirects find it too. Thread-safe. Opens no
    socket before the first request.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        policies: Policy | None = None,
        profile: Profile | str = "unknown",
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        if "max_retries" in options:
            raise PolicyError(
                "Adapter: max_retries= would repeat what the policies know nothing of; leave it out, and write "
                "policies=Pipeline(Timeout(2.0), Retry(3), ...)"
            )
        if not isinstance(base_url, str):
            raise PolicyError(
                f"Adapter: base_url={base_url!r} must be the service's URL; write base_url='http://payments.shop.svc'"
            )
        instrument_when_useful()
        super().__init__(**options)
        url = Url(base_url)
        dependency = depend(BINDING, name, url, policies, profile, clock, None, (), asynchronous=False)
        leaf = _Exchange(lambda request, **how: HTTPAdapter.send(self, request, **how))
        address = Address(url.host, url.port or _PORTS[url.scheme])
        self._driver = SyncTransport(
            dependency, lambda: Fixed(address, leaf), leaf, "HTTP/1.1, by connections of urllib3"
        )

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        cut(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not known:
            cut(manager)
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """One hop of a call, under the policies; arguments as ``HTTPAdapter.send`` takes them."""
        hooks = request.hooks
        if not isinstance(hooks, _Hooks):
            hooks = _Hooks(hooks)
            request.hooks = hooks
        view = self._seen(request, hooks)
        if getattr(view.extensions.get(STATE), "busy", False):
            return self._driver.handle_request(view)  # type: ignore[no-any-return]  # it is refused
        view.given = request
        view.how = {"timeout": timeout, "verify": verify, "cert": cert, "proxies": proxies}
        try:
            answer = self._driver.handle_request(view)
        finally:
            view.given = None
            hooks.answer, hooks.extensions = None, {}
        response: Any = answer.given
        answer.given = None  # the response holds the request, and that what follows
        if response.is_redirect or response.status_code in _CHALLENGES:
            hooks.extensions, hooks.answer, hooks.response = view.extensions, answer, weakref.ref(response)
        response.extensions = answer.extensions
        return response  # type: ignore[no-any-return]

    def _seen(self, request: requests.PreparedRequest, hooks: _Hooks) -> RequestView:
        """The request, as the logic of the call sees it."""
        asked: Any = request
        kept, url = request.__dict__.get(_VIEW), Url(asked.url)
        if kept is None:
            view = RequestView(asked.method, url, asked.headers, asked.body, hooks.extensions)
            request.__dict__[_VIEW] = _Kept(view)
        else:  # it is sent again, and may have been changed
            view = kept.view
            view.method, view.url, view.headers, view.stream = asked.method, url, asked.headers, asked.body
        if kept is not None or not hooks.extensions:
            options = said()
            if options is not None:
                view.extensions = {STATE: options}
        elif hooks.answer is not None:
            response = hooks.response()
            if response is None:
                hooks.answer = None
            elif response.next is request:  # the caller follows the redirect, and not the session
                hooks.answer.next_request = view
        return view

    def __getstate__(self) -> dict[str, Any]:
        raise PolicyError("Adapter: policies have a state of this process; make a session in each process")


def session(
    name: str,
    *,
    base_url: str,
    policies: Policy | None = None,
    profile: Profile | str = "unknown",
    clock: Clock | None = None,
    **options: Any,
) -> requests.Session:
    """A plain ``requests.Session`` whose requests to ``base_url`` run under policies.

    Args:
        name: of the dependency.
        base_url: the service; requests are made with whole URLs, as ever.
        policies: a pipeline; None: `standard(name)`.
        profile: what the service does with idempotency keys; see `Adapter`.
        clock: where time comes from.
        **options: see `Adapter`.

    Raises:
        PolicyError: arguments that contradict each other or mean nothing.

    Example:
        >>> import resilient.requests
        >>> with resilient.requests.session("bank", base_url="http://bank.svc") as session:
        ...     session.get_adapter("http://bank.svc/charges").__class__.__name__
        'Adapter'
    """
    made = requests.Session()
    adapter = Adapter(name, base_url=base_url, policies=policies, profile=profile, clock=clock, **options)
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    return made
