"""The one place that knows which SDK it is: an httpx-like module and the core beneath it.

Everything else of the HTTP layer is handed a `Binding`. Errors are matched by name, so that a fork of the SDK
with the same names binds by one line."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from ..core.errors import (
    IdempotencyError,
    InProgress,
    KeyRequired,
    KeyReused,
    OutcomeUnknown,
    PolicyError,
    Rejected,
    ResilientError,
    TimedOut,
    WindowExceeded,
)
from ..core.outcome import Report, report_of
from .body import AsyncBody, RequestBody, SyncBody

_NAMES = (
    "TimeoutException",
    "ConnectTimeout",
    "ReadTimeout",
    "WriteTimeout",
    "PoolTimeout",
    "NetworkError",
    "ConnectError",
    "ReadError",
    "WriteError",
    "ProxyError",
    "UnsupportedProtocol",
    "ProtocolError",
    "LocalProtocolError",
    "RemoteProtocolError",
)


_KEY_ERRORS: dict[str, tuple[type[IdempotencyError], str]] = {
    "in_progress": (
        InProgress,
        "the first request with this key still runs at the service, and may yet happen; ask again later, with the same "
        "key",
    ),
    "reused": (
        KeyReused,
        "the service has seen this key with another request; make the body from stored data, and a new key for a new "
        "intent",
    ),
    "missing": (
        KeyRequired,
        "the service wants an idempotency key, in the header that it knows; see profile=",
    ),
}


class Binding:
    """An SDK and its core.

    Args:
        home: the module of ours that binds it, such as ``resilient.httpx``; it has this object as
        ``BINDING``.
        sdk: the httpx-like module.
        core: the httpcore-like module beneath it.
        networks: whether the SDK reads networks, such as ``10.0.0.0/8``, in ``NO_PROXY``.
    """

    def __init__(self, home: str, sdk: Any, core: Any, *, networks: bool = False) -> None:
        self.home = home
        self.networks = networks
        self.sdk = sdk
        self.core = core
        self._errors: dict[type, type] = {getattr(core, name): getattr(sdk, name) for name in _NAMES}
        self.target: Any = type("Target", (_Target, core.URL), {})
        self.request: Any = type("Request", (_Request, core.Request), {})
        both = (RequestBody, sdk.SyncByteStream, sdk.AsyncByteStream)
        self._request_body: Any = type("RequestBody", both, {})
        self.sync_body: Any = type("SyncBody", (SyncBody, sdk.SyncByteStream), {})
        self.async_body: Any = type("AsyncBody", (AsyncBody, sdk.AsyncByteStream), {})
        self._joined: dict[tuple[type, type], type] = {}

    def url(self, base_url: Any) -> Any:
        """The SDK's URL."""
        if not isinstance(base_url, (str, self.sdk.URL)):
            raise PolicyError(
                f"client: base_url={base_url!r} must be the service's URL; write base_url='http://payments.shop.svc'"
            )
        return self.sdk.URL(base_url)

    def request_body(self, request: Any) -> RequestBody | None:
        """The body of a request that is not in memory; None where it is."""
        try:
            request.content  # noqa: B018  (raises where the body is a stream)
        except self.sdk.RequestNotRead:
            body: RequestBody = self._request_body(request.stream)
            return body
        return None

    def sdk_error(self, exc: BaseException, request: Any) -> Exception | None:
        """The SDK's error for one of the core's; None where it is none."""
        for cls in type(exc).__mro__:
            to = self._errors.get(cls)
            if to is not None:
                error: Exception = to(str(exc), request=request)
                error.__cause__ = exc
                return error
        return None

    def own_error(self, exc: Exception, request: Any) -> Exception:
        """Make an error of ours one of the SDK's too, in place: who catches the SDK's errors catches ours."""
        sdk_error: bool = isinstance(exc, self.sdk.RequestError)
        if sdk_error:
            return exc
        if isinstance(exc, TimedOut):
            face = self.sdk.TimeoutException
        elif isinstance(exc, (Rejected, WindowExceeded)):
            face = self.sdk.TransportError
        else:
            return exc
        taken: Any = exc
        taken.__class__ = self._join(type(exc), face)
        taken.request = request
        return exc

    def outcome_unknown(
        self, exc: Exception, request: Any, done: str | None, /, *, lost_there: bool, **known: Any
    ) -> OutcomeUnknown:
        """The error for a request that may have happened, of the class of the failure too.

        Args:
            done: the method of what a redirect answered, where ``request`` only asked what came of it; None: it is
                ``request`` that may have happened.
            lost_there: whether it was lost at another authority than the client's own.
            **known: its fields.
        """
        if isinstance(exc, self.sdk.RequestError):
            face = type(exc)
        else:
            face = self.sdk.TimeoutException if isinstance(exc, TimedOut) else self.sdk.TransportError
        cls: Any = self._join(OutcomeUnknown, face)
        attempts = known["attempts"]
        what = (
            f"{request.method} was tried {attempts} time{'s' if attempts > 1 else ''} and may have happened"
        )
        if lost_there:
            there = request.url.netloc.decode("ascii", "replace")
            what = f"{request.method} went to another authority, {there}, and may have happened there"
        if done is not None:
            what = f"{done} was answered by a redirect and may have happened, and what that points at failed"
        ask = "look whether it happened before sending it again"
        if known["idempotency_key"] is not None:
            ask += ", or send it with the same .idempotency_key to a server that honours keys"
        error = cls.__new__(cls)
        OutcomeUnknown.__init__(
            error,
            f"{what} ({type(exc).__name__}); {ask}",
            **known,
        )
        error.request = request
        report = report_of(exc)
        if report is not None:
            error.__dict__["resilient"] = report
        unknown: OutcomeUnknown = error
        return unknown

    def key_error(
        self, kind: str, request: Any, response: Any, report: Report, **known: Any
    ) -> IdempotencyError:
        """The error for an answer that speaks of the key, one of the SDK's for answers too.

        Args:
            **known: its fields.
        """
        ours, text = _KEY_ERRORS[kind]
        cls: Any = self._join(ours, self.sdk.HTTPStatusError)
        error = cls.__new__(cls)
        error.args = (f"{text} ({request.method}, status {response.status_code})",)
        error.__dict__.update(known)
        if ours is InProgress:
            error.retry_after = report.retry_after
        if isinstance(response.stream, self.sdk.ByteStream):
            with suppress(self.sdk.DecodingError):  # what it says is known by now
                response.read()
        response.request = request
        error.request, error.response = request, response
        error.__dict__["resilient"] = report
        found: IdempotencyError = error
        return found

    def _join(self, ours: type, face: type) -> type:
        key = (ours, face)
        found = self._joined.get(key)
        if found is None:
            fields = {"__module__": self.home, "__reduce__": _reduce, "_binding": self, "_parts": key}
            found = self._joined[key] = type(ours.__name__, (ours, face), fields)
        return found


class _Target:
    """A URL of the core's at a known origin, which is asked for twice per request."""

    def __init__(self, origin: Any, target: bytes) -> None:
        self.scheme, self.host, self.port = origin.scheme, origin.host, origin.port
        self.target = target
        self.origin = origin

    origin: Any = None  # hides the property that works it out


class _Request:
    """A request of the core's made of parts that need no checking: the SDK has done it."""

    def __init__(
        self, method: bytes, url: Any, headers: Any, stream: Any, extensions: dict[str, Any]
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.stream = stream
        self.extensions = extensions


def _reduce(error: Any) -> tuple[Any, ...]:
    ours, face = error._parts
    fields = {name: value for name, value in error.__dict__.items() if name not in ("_request", "response")}
    return _rebuild, (error._binding.home, ours, face, error.args, fields)


def _rebuild(
    home: str, ours: type, face: type, args: tuple[Any, ...], fields: dict[str, Any]
) -> ResilientError:
    cls = import_module(home).BINDING._join(ours, face)
    error: ResilientError = cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields, _request=None)
    return error
