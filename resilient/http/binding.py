"""The one place that knows which SDK it is: an httpx-like module and the core beneath it.

Everything else of the HTTP layer is handed a `Binding`. Errors are matched by name, so that a fork of the SDK
with the same names binds by one line."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..core.errors import PolicyError
from .body import AsyncBody, RequestBody, SyncBody
from .faces import Faces

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


class Binding(Faces):
    """An SDK and its core.

    Args:
        home: the module of ours that binds it, such as ``resilient.httpx``; it has this object as
        ``BINDING``.
        sdk: the httpx-like module.
        core: the httpcore-like module beneath it.
        networks: whether the SDK reads networks, such as ``10.0.0.0/8``, in ``NO_PROXY``.
    """

    def __init__(self, home: str, sdk: Any, core: Any, *, networks: bool = False) -> None:
        super().__init__(
            home,
            error=sdk.RequestError,
            timeout=sdk.TimeoutException,
            transport=sdk.TransportError,
            answer=sdk.HTTPStatusError,
            on_the_way=(sdk.TransportError,),
            unset={"_request": None, "response": None},
            builds="client.build_request(...)",
            response="httpx.Response(200, json=[])",
        )
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

    def content(self, response: Any) -> bytes | None:
        sdk, stream = self.sdk, response.stream
        if not isinstance(stream, sdk.ByteStream):
            return None
        try:
            content: bytes = sdk.Response(
                response.status_code, headers=response.headers, stream=stream
            ).read()
        except sdk.DecodingError:
            return None
        return content

    def taken(self, given: Any) -> Any:
        return given if isinstance(given, self.sdk.Response) else None

    def show(self, error: Any, request: Any, response: Any = None) -> None:
        error.request = request
        if response is None:
            return
        if isinstance(response.stream, self.sdk.ByteStream):
            with suppress(self.sdk.DecodingError):  # what it says is known by now
                response.read()
        response.request, error.response = request, response

    def sdk_error(self, exc: BaseException, request: Any) -> Exception | None:
        """The SDK's error for one of the core's; None where it is none."""
        for cls in type(exc).__mro__:
            to = self._errors.get(cls)
            if to is not None:
                error: Exception = to(str(exc), request=request)
                error.__cause__ = exc
                return error
        return None


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
