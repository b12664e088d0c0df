"""How interceptors and channels are put together from their arguments."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

import grpc
import grpc.aio

from ..config.center import CENTER
from ..core.clock import Clock
from ..core.errors import PolicyError
from ..core.pipeline import Pipeline, is_async
from ..core.policy import Policy
from ..http.logical import is_ours
from ..http.profiles import Profile, profile_of
from ..policies.fallback import Fallback
from ..policies.retry import Retry
from ..policies.timeout import Timeout
from ..presets import standard
from .errors import StatusError
from .logical import Dependency

Idempotent = Collection[str] | Callable[[str], bool]

_METHOD = re.compile(r"/[^/\s]+/[^/\s]+")
_NO_SIDE_EFFECTS, _IDEMPOTENT = 1, 2  # of google.protobuf.MethodOptions.IdempotencyLevel

_SCHEMES = re.compile(r"(dns|ipv4|ipv6|passthrough|unix|unix-abstract|vsock|xds):(//[^/]*/)?(.*)")
_OF_HTTP = ("in_progress", "reused", "missing", "window", "quota")
"""Fields of a profile that are about statuses and headers of HTTP, or need more than gRPC tells."""


def depend(
    name: str,
    target: str | None,
    policies: Policy | None,
    profile: Profile | str,
    idempotent: Idempotent,
    clock: Clock | None,
    *,
    asynchronous: bool,
) -> Dependency:
    """What an interceptor's arguments say of the service.

    Raises:
        PolicyError: they contradict each other, or mean nothing.
    """
    if not isinstance(name, str) or not name:
        raise PolicyError(f"interceptor: name={name!r} must name the dependency; write 'payments'")
    if target is not None and (not isinstance(target, str) or not target):
        raise PolicyError(
            f"interceptor: target={target!r} must be what the channel goes to; write 'payments.shop.svc:50051'"
        )
    if policies is None:
        pipeline: Pipeline = standard(name) if clock is None else standard(name, clock=clock)
    else:
        CENTER.enlist()
        pipeline = policies if isinstance(policies, Pipeline) else Pipeline(policies)
        if pipeline.name not in (None, name):
            raise PolicyError(
                f"interceptor: policies= are those of {pipeline.name!r}, and this is {name!r}: budget and metrics "
                "would go under two names; give both the same, or the pipeline none"
            )
        if pipeline.name is None:
            pipeline = Pipeline(pipeline, name=name, clock=pipeline.clock if clock is None else clock)
        if clock is not None and clock is not pipeline.clock:
            raise PolicyError(
                "interceptor: clock= differs from the clock of policies=; give it to the pipeline alone"
            )
    known = profile_of(profile)
    _check_profile(known)
    for policy in pipeline:
        _check_policy(policy, known, asynchronous)
    return Dependency(
        name,
        pipeline,
        known,
        reader_of(idempotent),
        target is not None and is_ours(host_of(target)),
        grpc.aio.AioRpcError if asynchronous else StatusError,
        grpc.aio.Metadata if asynchronous else _tuple,
    )


def _tuple(*metadata: Any) -> tuple[Any, ...]:
    return metadata


def host_of(target: str, /) -> str:
    """The host in a gRPC target; that of a socket of this machine is ``localhost``."""
    found = _SCHEMES.fullmatch(target)
    if found is not None:
        if found[1] in ("unix", "unix-abstract"):
            return "localhost"
        target = found[3]
    host = target.split(",")[0]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _check_profile(profile: Profile) -> None:
    for field in _OF_HTTP:
        if getattr(profile, field) is not None:
            raise PolicyError(
                f"interceptor: profile= has {field}=, which is said by statuses and headers of HTTP; leave it out: "
                "Profile(honours=True)"
            )
    if profile.header.lower().endswith("-bin") or profile.header.lower().startswith("grpc-"):
        raise PolicyError(
            f"interceptor: profile= has header={profile.header!r}, a name that gRPC keeps for itself or for bytes; "
            "write header='idempotency-key'"
        )


def _check_policy(policy: Policy, profile: Profile, asynchronous: bool) -> None:
    """What would be wrong at the first call is said when the interceptor is built."""
    if isinstance(policy, Fallback):
        fallback = policy.options.fallback
        if not asynchronous and callable(fallback) and is_async(fallback):
            raise PolicyError(
                f"interceptor: policies= has {policy}, which is async, and the channel is not; write a sync fallback"
            )
    elif isinstance(policy, Timeout) and policy.options.walk_away:
        raise PolicyError(
            "interceptor: policies= has Timeout(walk_away=True), which is for functions that cannot be stopped; leave "
            "it out: gRPC ends a call in time"
        )
    elif isinstance(policy, Retry) and policy.options.idempotency_key is not None and not profile.sends:
        raise PolicyError(
            "interceptor: policies= has Retry(idempotency_key=), and this profile sends no key; leave it out, or write "
            "profile='unknown'"
        )
    elif isinstance(policy, Retry) and policy.options.idempotent:
        raise PolicyError(
            "interceptor: policies= has Retry(idempotent=True), and which methods may be repeated is said by "
            "idempotent= of the interceptor; leave it out, and write idempotent={'/shop.Catalog/Get'}"
        )


def reader_of(idempotent: Any, /) -> Callable[[str], bool]:
    """Tells of a method, by its full name, whether it may be repeated: by the caller's word or by that of its proto.

    Raises:
        PolicyError: that is neither names of methods nor a function.
    """
    if callable(idempotent):
        return lambda method: bool(idempotent(method)) or _says_proto(method)
    if isinstance(idempotent, str) or not isinstance(idempotent, Collection):
        raise PolicyError(
            f"interceptor: idempotent={idempotent!r} must be the full names of methods, or a function of such a name; "
            "write idempotent={'/shop.Catalog/Get'}"
        )
    for method in idempotent:
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise PolicyError(
                f"interceptor: idempotent= has {method!r}, which is no full name of a method; write "
                "'/package.Service/Method'"
            )
    names = frozenset(idempotent)
    return lambda method: method in names or _says_proto(method)


def _says_proto(method: str) -> bool:
    """``option idempotency_level`` of a method whose generated code is loaded."""
    pool: Any = sys.modules.get("google.protobuf.descriptor_pool")
    if pool is None:
        return False
    try:
        found = pool.Default().FindMethodByName(method[1:].replace("/", "."))
    except KeyError:
        return False
    return found.GetOptions().idempotency_level in (_NO_SIDE_EFFECTS, _IDEMPOTENT)


def options_of(target: str, options: Sequence[tuple[str, Any]], /) -> tuple[tuple[str, Any], ...]:
    """The options of a channel. Retries of gRPC's own beside ours multiply, and what they did nobody sees: those that
    are asked for are refused, those that a resolver may bring are switched off.

    Raises:
        PolicyError: there is a policy for them in the options.
    """
    given = dict(options)
    if given.get("grpc.enable_retries") == 0:
        return tuple(options)
    try:
        config = json.loads(given.get("grpc.service_config", "{}"))
        methods = config.get("methodConfig", ())
        own = [each for each in methods if "retryPolicy" in each or "hedgingPolicy" in each]
    except (ValueError, TypeError, AttributeError):
        own = []  # gRPC says best itself what is wrong with it
    if own:
        raise PolicyError(
            "channel: options= has a grpc.service_config with a retryPolicy or hedgingPolicy, and the calls are "
            "retried here: 3 x 3 attempts, and no proof that nothing was sent; take it out"
        )
    if target.startswith("xds:") or given.get("grpc.service_config_disable_resolution") == 0:
        # Only here: it takes with it the attempt that gRPC makes again of what a server provably did not look at.
        return (*options, ("grpc.enable_retries", 0))
    return tuple(options)
