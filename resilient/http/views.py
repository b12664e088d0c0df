"""Requests and answers of other SDKs, as the logic of a call sees them.

It was written against httpx's. These have the few attributes that it asks for, over the objects of an SDK that has
others: headers are the SDK's own, so what is written here is sent."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Url:
    """The parts of an absolute URL; the port is None where it goes without saying."""

    __slots__ = ("_text", "host", "netloc", "path", "port", "scheme")

    def __init__(self, text: str) -> None:
        parts = urlsplit(text)
        self._text = text
        self.scheme = parts.scheme
        self.host = parts.hostname or ""
        self.port = None if parts.port == _DEFAULT_PORTS.get(parts.scheme) else parts.port
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.netloc = (shown if self.port is None else f"{shown}:{self.port}").encode()
        self.path = parts.path or "/"

    def __str__(self) -> str:
        return self._text


class RequestView:
    """A request of an SDK's.

    Args:
        method, url, headers, body: its own.
        extensions: where the state of the call is.

    Attributes:
        given: the request itself, while it is sent.
        how: what its SDK says of the sending.
        stream: its body.
    """

    __slots__ = ("extensions", "given", "headers", "how", "method", "stream", "url")

    def __init__(
        self, method: str, url: Url, headers: MutableMapping[str, str], body: Any, extensions: dict[str, Any]
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.stream = body
        self.extensions = extensions
        self.given: Any = None
        self.how: Any = None


class ResponseView:
    """An answer of an SDK's.

    Args:
        given: the answer itself.
        status_code, headers: its own.
        stream: its body: a `ResponseBody` while it is still arriving, the bytes where they are known, else None.
        version: of the protocol, such as ``b"HTTP/1.1"``.
    """

    __slots__ = (
        "__weakref__",
        "extensions",
        "given",
        "headers",
        "next_request",
        "request",
        "status_code",
        "stream",
    )

    def __init__(self, given: Any, status_code: int, headers: Any, stream: Any, version: bytes) -> None:
        self.given = given
        self.status_code = status_code
        self.headers = headers
        self.stream = stream
        self.extensions: dict[str, Any] = {"http_version": version}
        self.next_request: Any = None
