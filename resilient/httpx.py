"""Resilient clients for httpx: plain ``httpx.Client`` and ``httpx.AsyncClient``, with every policy inside.

Example:
    >>> import resilient.httpx
    >>> with resilient.httpx.client("payments", base_url="http://payments.shop.svc") as client:
    ...     type(client).__module__
    'httpx'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpcore
import httpx

from .core.clock import Clock
from .core.policy import Policy
from .http.assembly import arguments, parts, wrapped
from .http.binding import Binding
from .http.body import buffered, made_anew
from .http.describe import describe as _describe
from .http.options import RequestOptions
from .http.profiles import Profile, Signal
from .http.transport import AsyncTransport as _AsyncDriver
from .http.transport import SyncTransport as _SyncDriver
from .telemetry import instrument_when_useful

__all__ = [
    "AsyncTransport",
    "Profile",
    "RequestOptions",
    "Signal",
    "Transport",
    "async_client",
    "buffered",
    "client",
    "describe",
    "made_anew",
    "wrap",
]

BINDING = Binding(__name__, httpx, httpcore)


class Transport(_SyncDriver, httpx.BaseTransport):
    """A sync transport with policies, for ``httpx.Client(transport=...)``.

    Args:
        name: of the dependency, in errors, events and metrics.
        base_url: the service; requests to another authority (a redirect's) pass with the deadline alone.
        policies: a pipeline; None: `standard(name)`.
        port: name of the Service's port, such as ``"http"``: in a cluster it is looked up by SRV, and gives the port to
            dial; URL and Host stay. Elsewhere it is without effect.
        endpoints: addresses, ``host:port``, to dial in place of the URL's own; URL, Host and certificate name
        stay.
        profile: what the service does with idempotency keys: ``"none"``, ``"unknown"``, ``"supported"``,
            ``"required"`` or a `Profile`.
        clock: where time comes from.
        transport: where requests go in place of our connections: Mock, WSGI, your own.
        **options: verify, cert, trust_env, limits, proxy, uds, local_address, socket_options: as
            ``httpx.HTTPTransport`` takes them.

    Raises:
        PolicyError: arguments that contradict each other or mean nothing.

    Thread-safe. Opens no socket before the first request.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: httpx.URL | str,
        policies: Policy | None = None,
        port: str | None = None,
        endpoints: Sequence[str] = (),
        profile: Profile | str = "unknown",
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
        **options: Any,
    ) -> None:
        instrument_when_useful()
        given = (name, base_url, policies, port, endpoints, profile, clock, transport, options)
        super().__init__(*parts(BINDING, *given, asynchronous=False))


class AsyncTransport(_AsyncDriver, httpx.AsyncBaseTransport):
    """An async transport with policies, for ``httpx.AsyncClient(transport=...)``; asyncio, uvloop and trio.

    Arguments as `Transport`, and ``http2`` and ``http1`` as ``httpx.AsyncHTTPTransport`` takes them.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: httpx.URL | str,
        policies: Policy | None = None,
        port: str | None = None,
        endpoints: Sequence[str] = (),
        profile: Profile | str = "unknown",
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,
    ) -> None:
        instrument_when_useful()
        given = (name, base_url, policies, port, endpoints, profile, clock, transport, options)
        super().__init__(*parts(BINDING, *given, asynchronous=True))


def client(
    name: str,
    *,
    base_url: httpx.URL | str,
    policies: Policy | None = None,
    port: str | None = None,
    endpoints: Sequence[str] = (),
    profile: Profile | str = "unknown",
    clock: Clock | None = None,
    **options: Any,
) -> httpx.Client:
    """A plain ``httpx.Client`` whose requests to ``base_url`` run under policies.

    Args:
        name: of the dependency.
        base_url: the service.
        policies: a pipeline; None: `standard(name)`.
        port: name of the Service's port; see `Transport`.
        endpoints: addresses to dial; see `Transport`.
        profile: what the service does with idempotency keys; see `Transport`.
        clock: where time comes from.
        **options: whatever ``httpx.Client`` takes. ``transport=`` is wrapped; proxies of the environment are
            used as httpx uses them.

    Raises:
        PolicyError: arguments that contradict each other or mean nothing.

    Example:
        >>> import httpx, resilient.httpx
        >>> bank = httpx.MockTransport(lambda request: httpx.Response(201))
        >>> with resilient.httpx.client("bank", base_url="http://bank.svc", transport=bank) as client:
        ...     client.post("/charges", json={"cents": 995}).status_code
        201
    """
    given = (name, base_url, policies, port, endpoints, profile, clock, options)
    return httpx.Client(**arguments(BINDING, Transport, *given))


def async_client(
    name: str,
    *,
    base_url: httpx.URL | str,
    policies: Policy | None = None,
    port: str | None = None,
    endpoints: Sequence[str] = (),
    profile: Profile | str = "unknown",
    clock: Clock | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """A plain ``httpx.AsyncClient`` whose requests to ``base_url`` run under policies. Arguments as
    `client`."""
    given = (name, base_url, policies, port, endpoints, profile, clock, options)
    return httpx.AsyncClient(**arguments(BINDING, AsyncTransport, *given))


def wrap(
    target: Any,
    name: str,
    *,
    base_url: httpx.URL | str | None = None,
    policies: Policy | None = None,
    profile: Profile | str = "unknown",
    clock: Clock | None = None,
) -> Any:
    """Policies around a transport or a client that you have.

    Args:
        target: a transport (Mock, ASGI, WSGI, your own): gives a `Transport`, or an `AsyncTransport` where it is async
            only. Or a client, before its first request and not entered yet: its transports, those of its proxies too,
            are replaced by ours around them, and it is given back.
        base_url: as for `Transport`; None: the client's own.
        name, policies, profile, clock: as for `Transport`.

    Raises:
        PolicyError: arguments that mean nothing; a client that is resilient already.

    Connections stay those of ``target``. What was sent is known from httpcore's trace events where the transport has
    them, else from the class of its errors.

    Example:
        >>> import httpx, resilient.httpx
        >>> plain = httpx.Client(base_url="http://payments.svc")
        >>> resilient.httpx.wrap(plain, "payments") is plain
        True
    """
    given: dict[str, Any] = {"policies": policies, "profile": profile, "clock": clock}
    return wrapped(BINDING, (Transport, AsyncTransport), target, name, base_url, **given)


def describe(client: httpx.Client | httpx.AsyncClient, /) -> str:
    """What a client is protected by, for people: its policies with every number, where it sends and how, what it does
    with idempotency keys, what is not protected. Asks nobody and changes nothing; thread-safe.

    Raises:
        PolicyError: this is no client.

    Example:
        >>> import resilient.httpx
        >>> with resilient.httpx.client("payments", base_url="http://payments.shop.svc") as client:
        ...     print(describe(client))  # doctest: +ELLIPSIS
        payments: http://payments.shop.svc
          policies   Timeout(total 10 s) -> Retry(3 attempts, ...)...
          sends      HTTP/1.1
          to         found out with the first request
          keys       Idempotency-Key on POST and PATCH: not known to be honoured, these are not repeated
          is told    deadline, attempt and criticality
          elsewhere  (a redirect to another authority) the deadline alone
    """
    return _describe(httpx, client)
