"""Resilient channels for gRPC: plain channels of ``grpc`` and ``grpc.aio``, with every policy around each RPC.

Example:
    >>> import resilient.grpc
    >>> with resilient.grpc.channel("payments", "payments.shop.svc:50051") as channel:
    ...     charge = channel.unary_unary("/shop.Payments/Charge")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from ..core.clock import Clock
from ..core.policy import Policy
from ..http.profiles import Profile
from ..telemetry import instrument_when_useful
from .aio import KINDS
from .assembly import Idempotent, depend, options_of
from .connection import AsyncConnection, SyncConnection, core_of
from .interceptor import Interceptor
from .logical import Rpc

__all__ = ["Profile", "Rpc", "async_channel", "async_interceptors", "channel", "interceptor"]


def channel(
    name: str,
    target: str,
    *,
    policies: Policy | None = None,
    profile: Profile | str = "unknown",
    idempotent: Idempotent = (),
    clock: Clock | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
) -> grpc.Channel:
    """A channel of ``grpc`` whose RPCs run under policies.

    Args:
        name: of the dependency, in errors, events and metrics.
        target: where it goes, as gRPC writes it: ``"payments.shop.svc:50051"``, ``"dns:///..."``. Services in the
            cluster and on this machine are told the attempt and the criticality.
        policies: a pipeline; None: `standard(name)`.
        profile: what the service does with idempotency keys: ``"none"``, ``"unknown"``, ``"supported"``, ``"required"``
            or a `Profile`. The key is the metadata ``idempotency-key``.
        idempotent: methods that may be repeated after they may have happened: their full names, or a function of such a
            name. Those whose proto says so (``option idempotency_level``) are known where their generated code is
            loaded.
        clock: where time comes from.
        credentials: None: without TLS.
        options, compression: as ``grpc.insecure_channel`` takes them.

    Raises:
        PolicyError: arguments that contradict each other or mean nothing; retries of gRPC's own in ``options``.

    What may not be sent twice is handed to gRPC only when the channel has a connection: only so is it known that
    nothing was sent. All kinds of calls, ``future()`` and ``with_call()`` work as on any channel. Thread-safe; connects
    with the first call.

    Example:
        >>> import resilient.grpc
        >>> lookups = {"/shop.Catalog/Get", "/shop.Catalog/List"}
        >>> with resilient.grpc.channel("catalog", "catalog.shop.svc:50051", idempotent=lookups) as channel:
        ...     get = channel.unary_unary("/shop.Catalog/Get")
    """
    instrument_when_useful()
    dependency = depend(name, target, policies, profile, idempotent, clock, asynchronous=False)
    options = options_of(target, options)
    if credentials is None:
        plain = grpc.insecure_channel(target, options, compression)
    else:
        plain = grpc.secure_channel(target, credentials, options, compression)
    core = core_of(plain)
    dependency.connection = None if core is None else SyncConnection(core)
    return grpc.intercept_channel(plain, Interceptor(dependency))


def async_channel(
    name: str,
    target: str,
    *,
    policies: Policy | None = None,
    profile: Profile | str = "unknown",
    idempotent: Idempotent = (),
    clock: Clock | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
) -> grpc.aio.Channel:
    """A channel of ``grpc.aio`` whose RPCs run under policies.

    Args:
        interceptors: further ones; they stand inside the policies, and see each attempt.

    The other arguments as `channel`.
    """
    instrument_when_useful()
    dependency = depend(name, target, policies, profile, idempotent, clock, asynchronous=True)
    options = options_of(target, options)
    given = [*(kind(dependency) for kind in KINDS), *interceptors]
    if credentials is None:
        made = grpc.aio.insecure_channel(target, options, compression, given)
    else:
        made = grpc.aio.secure_channel(target, credentials, options, compression, given)
    dependency.connection = AsyncConnection(made)
    return made


def interceptor(
    name: str,
    *,
    target: str | None = None,
    policies: Policy | None = None,
    profile: Profile | str = "unknown",
    idempotent: Idempotent = (),
    clock: Clock | None = None,
) -> Interceptor:
    """An interceptor for a channel that you have: ``grpc.intercept_channel(channel, interceptor(...))``.

    Args:
        target: where the channel goes; None: the service is told nothing of ours.
        name, policies, profile, idempotent, clock: as for `channel`.

    Raises:
        PolicyError: arguments that contradict each other or mean nothing.

    An interceptor is not told its channel. So it cannot know that a call was never sent: one that may not be repeated
    is not, even where nothing listens. `channel` knows. A ``retryPolicy`` of gRPC's own must be taken out.

    Example:
        >>> import grpc, resilient.grpc
        >>> plain = grpc.insecure_channel("payments.shop.svc:50051")
        >>> with grpc.intercept_channel(plain, resilient.grpc.interceptor("payments")) as channel:
        ...     charge = channel.unary_unary("/shop.Payments/Charge")
    """
    instrument_when_useful()
    return Interceptor(depend(name, target, policies, profile, idempotent, clock, asynchronous=False))


def async_interceptors(
    name: str,
    *,
    target: str | None = None,
    policies: Policy | None = None,
    profile: Profile | str = "unknown",
    idempotent: Idempotent = (),
    clock: Clock | None = None,
) -> list[grpc.aio.ClientInterceptor]:
    """Interceptors for a channel of ``grpc.aio``, one for each kind of RPC: ``grpc.aio.insecure_channel(target,
    interceptors=async_interceptors(...))``. Arguments as `interceptor`."""
    instrument_when_useful()
    dependency = depend(name, target, policies, profile, idempotent, clock, asynchronous=True)
    return [kind(dependency) for kind in KINDS]
