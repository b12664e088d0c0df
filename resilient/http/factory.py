"""How transports and clients are put together from what the SDK's own constructors take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..balance.endpoints import Endpoints, Fixed
from ..config.center import CENTER
from ..config.settings import SETTINGS
from ..core.clock import Clock
from ..core.errors import PolicyError
from ..core.forks import tell_after_fork
from ..core.options import seconds
from ..core.pipeline import Pipeline, is_async
from ..core.policy import Policy
from ..discovery.address import Address, parse_address
from ..discovery.options import is_port_name
from ..discovery.refresher import SERVICES
from ..discovery.service import Service
from ..discovery.source import Source, Static
from ..policies.breaker import CircuitBreaker
from ..policies.fallback import Fallback
from ..policies.retry import Retry
from ..policies.timeout import Timeout
from ..presets import standard
from .attempt import Attempt
from .binding import Binding
from .environment import environment_proxies
from .faces import Faces
from .logical import Dependency, is_ours
from .profiles import Profile, profile_of
from .protocols import check_protocols
from .steps import Places

_DEFAULT_PORTS = {"http": 80, "https": 443}

ORIGINS_OUTSIDE = 32
"""Other authorities (of redirects) that connections are kept for."""


class Outside:
    """Sends what a redirect leads elsewhere: no policies, no headers of ours; the deadline holds.

    Args:
        make: makes the exchange for an origin.
    """

    foreign = False

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._lock = threading.RLock()
        self._exchanges: dict[tuple[str, str, int | None], Any] = {}  # guarded by _lock
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    def send(self, request: Any, attempt: Attempt) -> Any:
        url = request.url
        key = (url.scheme, url.host, url.port)
        closing = None
        with self._lock:
            exchange = self._exchanges.pop(key, None)
            if exchange is None:
                exchange = self._make(url)
                if len(self._exchanges) >= ORIGINS_OUTSIDE:
                    closing = self._exchanges.pop(next(iter(self._exchanges)))
            self._exchanges[key] = exchange  # the one used last is last
        if closing is not None:
            closing.close()
        return exchange.send(request, attempt)

    async def aclose(self) -> None:
        """As `close`, for async clients; nothing here suspends."""
        self.close()

    def close(self) -> None:
        with self._lock:
            exchanges, self._exchanges = list(self._exchanges.values()), {}
        for exchange in exchanges:
            exchange.close()


class Wiring:
    """What all exchanges of one client share: TLS, proxy, local address, pool settings."""

    def __init__(
        self,
        binding: Binding,
        *,
        asynchronous: bool,
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: Any = None,
        proxy: Any = None,
        uds: str | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
        ssl_context: Any = None,
    ) -> None:
        check_protocols(http1, http2, asynchronous=asynchronous)
        self.binding = binding
        self.asynchronous = asynchronous
        # Made once: it takes 25 ms.
        self._make_context = partial(
            binding.sdk.create_ssl_context, verify=verify, cert=cert, trust_env=trust_env
        )
        self.ssl_context = ssl_context or self._make_context()
        self._http1, self._shared = http1, _sharing_drivers() if http2 else None
        self.proxy = None if proxy is None else _core_proxy(binding, proxy)
        self.dials_elsewhere = uds is not None
        self._kind, self._backend = _drivers(asynchronous)
        self._options = {"uds": uds, "local_address": local_address, "socket_options": socket_options}
        self._pool: dict[str, Any] = {}
        if limits is not None:
            never = limits.keepalive_expiry is None
            self._pool["max_idle"] = float("inf") if never else limits.keepalive_expiry
            if limits.max_keepalive_connections is not None:
                self._pool["keep"] = limits.max_keepalive_connections

    def __str__(self) -> str:
        first = ["HTTP/1.1"] if self._http1 else []
        spoken = " and ".join(first + ["HTTP/2"] * (self._shared is not None))
        if self.proxy is not None:
            place = self.proxy.url
            scheme, host = place.scheme.decode(), place.host.decode()
            return (
                f"{spoken}, by the proxy {scheme}://{host}:{place.port or _DEFAULT_PORTS.get(scheme, 1080)}"
            )
        return f"{spoken}, by the unix socket {self._options['uds']}" if self.dials_elsewhere else spoken

    def exchange(self, url: Any, pin: tuple[str, int] | None = None) -> Any:
        """What sends to the URL's origin, dialling ``pin`` where one is given."""
        if self._shared is not None:
            return self._shared_exchange(url, pin, *self._shared)
        core, tunnelled = self.binding.core, self.proxy is not None
        pin = None if tunnelled else pin
        if self.asynchronous:
            factory = self._factory(self._backend(core, pin), self.ssl_context)
        else:
            factory = self._factory(self._backend(core, pin, tunnelled=tunnelled), self.ssl_context)
        return self._kind(self.binding, factory, self._origin(url), tunnelled=tunnelled, **self._pool)

    def _shared_exchange(self, url: Any, pin: tuple[str, int] | None, kind: Any, backend: Any) -> Any:
        core, tunnelled = self.binding.core, self.proxy is not None
        pin = None if tunnelled else pin

        def without() -> Any:
            # The core writes into a context which protocols it offers, and another handshake may be under way.
            factory = self._factory(self._backend(core, pin), self._make_context())
            return self._kind(self.binding, factory, self._origin(url), tunnelled=tunnelled, **self._pool)

        known = not self._http1 and url.scheme == "http"
        factory = self._factory(
            backend(core, pin, known=known), self.ssl_context, http1=self._http1, http2=True
        )
        http1 = without if self._http1 else None
        return kind(self.binding, factory, self._origin(url), http1=http1, **self._pool)

    def _factory(self, backend: Any, ssl_context: Any, **given: Any) -> Any:
        core = self.binding.core
        pool = core.AsyncConnectionPool if self.asynchronous else core.ConnectionPool
        return pool(
            ssl_context=ssl_context, proxy=self.proxy, network_backend=backend, **self._options, **given
        )

    def _origin(self, url: Any) -> Any:
        return self.binding.core.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/"
        ).origin

    def elsewhere(self, url: Any) -> Any:
        """What sends where a redirect leads. A Service of the cluster is dialled by its absolute name: the search list
        would lead one that does not exist to a stranger.

        Raises:
            the SDK's ``UnsupportedProtocol``: it is neither http nor https.
        """
        if url.scheme not in _DEFAULT_PORTS:
            what = f"has an unsupported protocol '{url.scheme}://'" if url.scheme else "has no protocol"
            raise self.binding.sdk.UnsupportedProtocol(
                f"Request URL {what}; only http:// and https:// are spoken."
            )
        dns = None if self.proxy is not None or self.dials_elsewhere else SETTINGS.dns
        try:
            name = None if dns is None else dns.absolute(url.host)
        except PolicyError:  # not the caller's own words, but a server's
            name = None
        port = url.port or _DEFAULT_PORTS.get(url.scheme, 0)
        return self.exchange(url, None if name is None else (name, port))


def _drivers(asynchronous: bool) -> tuple[Any, Any]:
    """What sends, and what dials. Imported when a client is made, and not by the thread that finds a new pod: a child
    that is forked meanwhile would wait for the lock of that import for ever."""
    from .exchange import AsyncExchange, SyncExchange

    if asynchronous:
        from .astreams import AsyncBackend

        return AsyncExchange, AsyncBackend
    from .streams import Backend

    return SyncExchange, Backend


def _sharing_drivers() -> tuple[Any, Any]:
    """The same where HTTP/2 is offered."""
    from .http2 import Http2Exchange
    from .multiplexed import MultiplexingBackend

    return Http2Exchange, MultiplexingBackend


def assemble(
    wiring: Wiring, dependency: Dependency, base_url: Any, endpoints: Sequence[str], port: str | None
) -> tuple[Callable[[], Places], Any]:
    """How to find out where a dependency is, and what sends elsewhere."""
    if not isinstance(endpoints, (list, tuple)) or (port is not None and not is_port_name(port)):
        raise PolicyError(_wrong_place(endpoints, port))
    dials_itself = "uds=" if wiring.dials_elsewhere else "proxy=" if wiring.proxy is not None else None
    if endpoints and dials_itself:
        raise PolicyError(
            f"client: endpoints={list(endpoints)} would be without effect beside {dials_itself}, which says where to "
            "dial; leave one of them out"
        )
    addresses = [parse_address(each, field="client: endpoints") for each in endpoints]
    if addresses and port is not None:
        raise PolicyError(f"client: port={port!r} is looked up, and endpoints= is not; leave one of them out")

    def locate() -> Places:
        source: Source | None = Static(addresses) if len(addresses) > 1 else None
        if not addresses and wiring.proxy is None and not wiring.dials_elsewhere:
            source = _in_the_cluster(base_url, port)
            dependency.ours = dependency.ours or source is not None
        if source is None:
            where = addresses[0] if addresses else None
            shown = where or Address(base_url.host, base_url.port or _DEFAULT_PORTS.get(base_url.scheme, 0))
            return Fixed(shown, wiring.exchange(base_url, where))
        breakers = [each for each in dependency.pipeline if isinstance(each, CircuitBreaker)]

        def renew() -> None:
            for breaker in breakers:
                breaker.renew()

        found = Endpoints(
            dependency.name,
            source,
            lambda address: wiring.exchange(base_url, address),
            retire=lambda exchange: exchange.retire(),
            options=breakers[0].options if breakers else None,
            replaced=renew,
            clock=dependency.clock,
        )
        if breakers:
            breakers[0].add_twin(found)
        return found

    return locate, Outside(wiring.elsewhere)


def _wrong_place(endpoints: Any, port: Any) -> str:
    if not isinstance(endpoints, (list, tuple)):
        instead = [endpoints] if isinstance(endpoints, str) else ["10.0.0.7:8080", "10.0.0.8:8080"]
        return f"client: endpoints={endpoints!r} must be a list; write endpoints={instead}"
    return (
        f"client: port={port!r} must be the name of the Service's port, such as 'http'; a number belongs into "
        "base_url, 'http://payments.shop.svc:8080'"
    )


def _in_the_cluster(base_url: Any, port: str | None) -> Service | None:
    """The Service that the URL names, where it is one of the cluster's."""
    dns = SETTINGS.dns
    name = None if dns is None else dns.absolute(base_url.host)
    if dns is None or name is None:
        return None
    number = base_url.port or _DEFAULT_PORTS.get(base_url.scheme, 0)
    return SERVICES.get(name, port or number, dns, verified=base_url.scheme == "https")


def around(leaf: Any) -> tuple[Callable[[], Places], Any]:
    """The same for a transport of the user's: it is where everything goes."""
    return lambda: Fixed(None, leaf), leaf


_CONNECTION_OPTIONS = (
    "verify",
    "cert",
    "http1",
    "http2",
    "proxy",
    "limits",
    "uds",
    "local_address",
    "socket_options",
)
"""What says how to connect; the SDK's client takes the rest."""


def refuse_beside_transport(endpoints: Sequence[str], port: str | None, options: dict[str, Any]) -> None:
    """A transport of the user's connects by itself: options that say how would be without effect."""
    useless = [name for name in _CONNECTION_OPTIONS if name in options]
    useless += ["endpoints"] * bool(endpoints) + ["port"] * (port is not None)
    unknown = options.keys() - {*_CONNECTION_OPTIONS, "trust_env"}
    if unknown:
        raise TypeError(f"client: {', '.join(sorted(unknown))}: there is no such option")
    if useless:
        raise PolicyError(
            f"client: {', '.join(useless)} would be without effect beside transport=; give them to that "
            "transport"
        )


class Given:
    """A client's arguments, sorted: those for the SDK's client, and those that say how to connect."""

    def __init__(
        self, client: dict[str, Any], connection: dict[str, Any], proxies: dict[str, str | None]
    ) -> None:
        self.client = client
        self.connection = connection
        self._proxies = proxies

    def build(
        self, make: Callable[..., Any], policies: Policy | None, clock: Clock | None
    ) -> tuple[Any, dict[str, Any]]:
        """The client's transport and its mounts, which share their policies; ``make`` makes a transport."""
        transport = make(policies=policies, clock=clock, **self.connection)
        shared = {**self.connection, "policies": transport.pipeline}
        mounts: dict[str, Any] = {
            pattern: transport if proxy is None else make(**{**shared, "proxy": proxy})
            for pattern, proxy in self._proxies.items()
        }
        mounts.update(self.client.pop("mounts", None) or {})
        return transport, mounts


def split(binding: Binding, options: dict[str, Any], endpoints: Sequence[str]) -> Given:
    """Sort a client's arguments, and look at the environment's proxies as the SDK would."""
    connection = {name: options[name] for name in _CONNECTION_OPTIONS if name in options}
    client = {name: value for name, value in options.items() if name not in _CONNECTION_OPTIONS}
    trust_env = options.get("trust_env", True)
    if client.get("transport") is not None:
        connection["transport"] = client.pop("transport")
        return Given(client, connection, {})
    client.pop("transport", None)
    connection["trust_env"] = trust_env
    looks = trust_env and not endpoints and connection.get("proxy") is None
    proxies = environment_proxies(binding) if looks else {}
    return Given(client, connection, proxies)


def depend(
    binding: Faces,
    name: str,
    base_url: Any,
    policies: Policy | None,
    profile: Profile | str,
    clock: Clock | None,
    limits: Any,
    endpoints: Sequence[str],
    *,
    asynchronous: bool,
) -> Dependency:
    """What a client's arguments say of the service.

    Raises:
        PolicyError: they contradict each other.
    """
    if not isinstance(name, str) or not name:
        raise PolicyError(f"client: name={name!r} must name the dependency; write client('payments', ...)")
    most = None if limits is None else limits.max_connections
    if policies is None:
        settings: dict[str, Any] = {} if clock is None else {"clock": clock}
        if most is not None:
            settings["concurrency"] = most
        pipeline: Pipeline = standard(name, **settings)
    else:
        CENTER.enlist()
        pipeline = policies if isinstance(policies, Pipeline) else Pipeline(policies)
        if pipeline.name not in (None, name):
            raise PolicyError(
                f"client: policies= are those of {pipeline.name!r}, the client is {name!r}: budget and metrics would "
                "go under two names; give both the same, or the pipeline none"
            )
        if pipeline.name is None:
            pipeline = Pipeline(pipeline, name=name, clock=pipeline.clock if clock is None else clock)
        if clock is not None and clock is not pipeline.clock:
            raise PolicyError(
                "client: clock= differs from the clock of policies=; give it to the pipeline alone"
            )
        bulkhead = pipeline["bulkhead"].options.limit if "bulkhead" in pipeline else None
        if most is not None and (bulkhead is None or bulkhead > most):
            raise PolicyError(
                f"client: limits.max_connections={most} is held by a bulkhead; put Bulkhead({most}) into "
                "policies="
            )
    known = profile_of(profile)
    for policy in pipeline:
        _refuse_in_clients(policy, known, binding.response, asynchronous)
    if base_url.scheme not in ("http", "https") or not base_url.host:
        raise PolicyError(
            f"client: base_url={str(base_url)!r} must be an absolute http or https URL; write "
            "'http://payments.shop.svc'"
        )
    authority = (base_url.scheme, base_url.host, base_url.port)
    found = Dependency(name, binding, authority, pipeline, known, bool(endpoints) or is_ours(base_url.host))
    window = known.window
    if window is not None and (found.total is None or found.total >= window):
        took = (
            "have no time-out around the retries"
            if found.total is None
            else f"may take {seconds(found.total)}"
        )
        raise PolicyError(
            f"client: policies= {took}, and the profile's window={window!r} is how long the service keeps a key: an "
            f"attempt after that would happen again; put a Timeout of less than {seconds(window)} outermost"
        )
    return found


def _refuse_in_clients(policy: Policy, profile: Profile, response: str, asynchronous: bool) -> None:
    """What would be wrong at the first request is said when the client is built."""
    if isinstance(policy, Fallback):
        if not callable(policy.options.fallback):
            raise PolicyError(
                f"client: policies= has {policy}, one value for all calls, and each must get a response of its own; "
                f"write Fallback(lambda request: {response})"
            )
        if not asynchronous and is_async(policy.options.fallback):
            raise PolicyError(
                f"client: policies= has {policy}, which is async, and the client is sync; write a sync fallback, or "
                "async_client(...)"
            )
    elif isinstance(policy, Timeout) and policy.options.walk_away and asynchronous:
        raise PolicyError(
            "client: policies= has Timeout(walk_away=True), which is for sync functions; leave it out: async requests "
            "are cancelled"
        )
    elif isinstance(policy, Retry) and policy.options.idempotency_key is not None and not profile.sends:
        raise PolicyError(
            "client: policies= has Retry(idempotency_key=), and this profile sends no key; leave it out, or write "
            "profile='unknown'"
        )
    elif isinstance(policy, Retry) and policy.options.idempotent:
        raise PolicyError(
            "client: policies= has Retry(idempotent=True), and what may be repeated over HTTP is said by method and "
            "by profile=; leave it out, and write profile='supported' for a service that honours idempotency keys"
        )


def _core_proxy(binding: Binding, proxy: Any) -> Any:
    given = proxy if isinstance(proxy, binding.sdk.Proxy) else binding.sdk.Proxy(url=proxy)
    url = given.url
    return binding.core.Proxy(
        url=binding.core.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        auth=given.raw_auth,
        headers=given.headers.raw,
        ssl_context=given.ssl_context,
    )
