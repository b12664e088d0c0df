"""Istio's ``DestinationRule`` and ``VirtualService``, as far as they say how a service is called."""

from __future__ import annotations

from ..core.options import parse_duration
from .imported import Given, Made, Reader

_PENDING = "1s"
"""How long a call waits in the queue: Envoy has no limit but the call's time-out."""
_LONGEST_EJECTION = 300.0
"""Seconds; Envoy's default."""


def _target(given: Given, key: str, host: str, made: Made) -> str | None:
    """The dependency that a host is: named like the Service."""
    name, _, rest = host.partition(".")
    if not name or name == "*":
        given.remark(key, f"{host!r} is not expressed: a dependency has a name")
        return None
    other = made.begin(name, rest.partition(".")[0])
    if other is not None:
        said = f"{host!r} is not expressed: {name} is that of the namespace {other}; write it by hand, by another name"
        given.remark(key, said)
        return None
    return name


def _say(given: Given, key: str, made: Made, name: str, leaf: str, value: object) -> None:
    why = made.say(name, leaf, value)
    if why is not None:
        given.remark(key, why)


def destination_rule(given: Given, made: Made) -> None:
    """Its traffic policy for the whole host; ports and subsets are reported."""
    spec = given.open("spec")
    host = spec.text("host")
    name = None if host is None else _target(spec, "host", host, made)
    if name is None:
        return
    policy = spec.open("trafficPolicy")
    pool = policy.open("connectionPool")
    _in_flight(pool, name, made)
    tcp = pool.open("tcp")
    if "connectTimeout" in tcp:
        tcp.remark("connectTimeout", "said in code: standard(..., connect_timeout=)")
    _ejection(policy.open("outlierDetection"), name, made)
    budget = policy.open("retryBudget")
    percent = budget.number("percent")
    if percent is not None:
        _say(budget, "percent", made, name, "retry.budget.ratio", percent / 100)


def _in_flight(pool: Given, name: str, made: Made) -> None:
    http, tcp = pool.open("http"), pool.open("tcp")
    if "http2MaxRequests" in http:
        _say(http, "http2MaxRequests", made, name, "bulkhead.limit", http.whole("http2MaxRequests"))
    elif "maxConnections" in tcp:  # over HTTP/1.1 a request each
        _say(tcp, "maxConnections", made, name, "bulkhead.limit", tcp.whole("maxConnections"))
    pending = http.whole("http1MaxPendingRequests")
    if pending:
        _say(http, "http1MaxPendingRequests", made, name, "bulkhead.queue", pending)
        if "queue" in made.targets[name].get("bulkhead", {}):
            made.say(name, "bulkhead.max_wait", _PENDING)
            http.remark(
                "http1MaxPendingRequests", f"a queue needs a time too: max_wait {_PENDING} is written"
            )


def _ejection(given: Given, name: str, made: Made) -> None:
    counts = {
        key: count
        for key in ("consecutive5xxErrors", "consecutiveGatewayErrors", "consecutiveLocalOriginFailures")
        if (count := given.whole(key)) is not None
    }
    for key in [key for key, count in counts.items() if count == 0]:
        given.remark(key, "0 turns it off there; here the breaker keeps its rules")
        del counts[key]
    if counts:
        key = min(counts, key=lambda each: counts[each])
        _say(given, key, made, name, "breaker.consecutive", counts[key])
        for other in counts.keys() - {key}:
            given.remark(other, f"one count holds for all failures: that of {key}")
    base = given.duration("baseEjectionTime")
    if base is not None:
        _say(given, "baseEjectionTime", made, name, "breaker.open_for", base)
        longest = base if parse_duration(base) > _LONGEST_EJECTION else f"{_LONGEST_EJECTION:g}s"
        made.say(name, "breaker.max_open", longest)


def virtual_service(given: Given, made: Made) -> None:
    """What it says of all requests to its hosts; routes that match some are reported."""
    spec = given.open("spec")
    hosts = spec.texts("hosts")
    routes = spec.each("http")
    general = [route for route in routes if "match" not in route]
    for host in hosts:
        name = _target(spec, "hosts", host, made)
        if name is not None and general:
            _route(general[-1], name, made)
    for route in routes:
        route.take("name")
        route.take("route")  # where to: that is the client's base_url


def _route(route: Given, name: str, made: Made) -> None:
    retries = route.open("retries")
    total, attempt = route.duration("timeout"), retries.duration("perTryTimeout")
    _say(route, "timeout", made, name, "timeout.total", total)
    if total is not None and attempt is not None and parse_duration(attempt) >= parse_duration(total):
        retries.remark("perTryTimeout", "left out: an attempt's time-out must be less than the whole call's")
    else:
        _say(retries, "perTryTimeout", made, name, "timeout.attempt", attempt)
    count = retries.whole("attempts")
    if count is not None:  # those after the first
        _say(retries, "attempts", made, name, "retry.attempts", count + 1)
    base = retries.duration("backoff")
    if base is not None:
        _say(retries, "backoff", made, name, "retry.wait.base", base)
        cap = max(1.0, 10 * parse_duration(base))  # Envoy's: ten times the base
        made.say(name, "retry.wait.cap", f"{min(cap, 86_400.0):g}s")
    if "retryOn" in retries:
        retries.remark(
            "retryOn", "not expressed: what may be repeated is known per request, by evidence and method"
        )


READERS: dict[str, Reader] = {"DestinationRule": destination_rule, "VirtualService": virtual_service}
