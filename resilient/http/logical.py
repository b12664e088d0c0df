"""One logical call over HTTP: what both drivers decide, without I/O.

A logical call is one ``client.send()``. Its state rides in ``request.extensions["resilient"]``, which the SDK
hands on over redirects and auth flows; so all of these share one deadline and one idempotency key."""

from __future__ import annotations

import functools
import ipaddress
from typing import Any

from ..core.call import CURRENT, Call, Criticality
from ..core.clock import Clock
from ..core.errors import DeadlineExceeded, NoEndpoints, PolicyError, Rejected, ResilientError, TimedOut
from ..core.events import RUNTIME, Rejection, emit
from ..core.keys import new_key
from ..core.outcome import SUCCESS, Discarded, Evidence, Report, attach, report_of
from ..core.pipeline import Pipeline
from ..core.policy import verdict_on
from ..policies.timeout import Timeout
from .binding import Binding
from .profiles import IDEMPOTENT_METHODS, METHODS_WITH_KEY, Profile

STATE = "resilient"
"""The key of the state in ``request.extensions``, and of the report in ``response.extensions``."""


class Logical:
    """The state of one logical call.

    Attributes:
        deadline: of the whole call, over all hops; None before the first one began.
        key: the idempotency key, and whether it was made here (and not by the caller).
        attempts: how many times something was sent, or tried to.
        tried: the endpoints that were, the last one last.
        fresh: whether the next attempt must not use a connection that was used before.
        evidence: how far the last attempt got.
        unknown: whether an attempt may have happened, and nothing is known of it.
        address: the endpoint of the last attempt.
        repeatable: whether the request may be sent again after it may have happened.
        response: the answer of the last attempt that got one.
    """

    __slots__ = (
        "address",
        "attempts",
        "body",
        "deadline",
        "evidence",
        "fresh",
        "key",
        "made_key",
        "repeatable",
        "response",
        "tried",
        "unknown",
    )

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.key: str | None = None
        self.made_key = False
        self.attempts = 0
        self.tried: list[Any] = []
        self.fresh = False
        self.evidence = Evidence.NOT_SENT
        self.unknown = False
        self.address: str | None = None
        self.repeatable = False
        self.body: Any = None
        self.response: Any = None

    def begin_attempt(self, endpoint: Any) -> None:
        """Another attempt, at ``endpoint``."""
        self.attempts += 1
        self.tried.append(endpoint)
        self.address = endpoint.text or None
        self.evidence = Evidence.NOT_SENT

    def ended(self, evidence: Evidence) -> None:
        """The attempt is over."""
        self.evidence = evidence
        if evidence is Evidence.UNKNOWN:
            self.unknown = True

    @property
    def weakest(self) -> Evidence:
        """How far the call may have got: no later attempt that failed makes good what is not known of an earlier
        one."""
        return Evidence.UNKNOWN if self.unknown else self.evidence

    def good_report(self) -> Report:
        """The report on a call that succeeded."""
        return _good_report(self.attempts, self.address)

    def report(self, **known: Any) -> Report:
        """What is known of the call now."""
        return Report(evidence=self.weakest, attempts=self.attempts, endpoint=self.address, **known)


@functools.lru_cache(maxsize=1024)
def _good_report(attempts: int, endpoint: str | None) -> Report:
    """Reports are frozen, and nearly all calls have one of a few."""
    return Report(Evidence.ANSWERED, attempts, endpoint, verdict=SUCCESS)


class Answered(Discarded):
    """An answer that policies are to see as a failure. It becomes the response again when all is said."""

    def __init__(self, response: Any) -> None:
        super().__init__(str(response.status_code))
        self.response = response

    def discard(self, seconds: float, /) -> None:
        drain = getattr(self.response.stream, "drain", None)
        if drain is None:
            self.response.close()
        else:
            drain(seconds)

    async def adiscard(self, seconds: float, /) -> None:
        drain = getattr(self.response.stream, "adrain", None)
        if drain is None:
            await self.response.aclose()
        else:
            await drain(seconds)


class Dependency:
    """What a transport knows of the service it calls.

    Args:
        name: of the dependency.
        binding: the SDK.
        authority: ``(scheme, host, port)`` of the client's own base URL; None: every authority is the
        client's own.
        pipeline: the policies.
        profile: what the service does with keys.
        ours: whether headers of ours may be sent to it: a cluster name or loopback.
    """

    def __init__(
        self,
        name: str,
        binding: Binding,
        authority: tuple[str, str, int | None] | None,
        pipeline: Pipeline,
        profile: Profile,
        ours: bool,
    ) -> None:
        self.name = name
        self.binding = binding
        self.authority = authority
        self.pipeline = pipeline
        self.profile = profile
        self.ours = ours
        self.clock: Clock = pipeline.clock
        self.total = _total(pipeline)
        self.max_attempts: int = pipeline["retry"].options.attempts if "retry" in pipeline else 1
        self.connect_timeout: float | None = getattr(pipeline, "connect_timeout", None)

    def owns(self, request: Any) -> bool:
        """Whether the request goes to the client's own authority, and not somewhere that a redirect points
        to."""
        url = request.url
        return self.authority is None or self.authority == (url.scheme, url.host, url.port)

    def begin(self, request: Any) -> tuple[Logical, Call]:
        """A hop begins: the state of its logical call, and the Call to put in force."""
        call = CURRENT.get()
        logical = request.extensions.get(STATE)
        if logical is None:
            logical = Logical()
            request.extensions = {**request.extensions, STATE: logical}
        elif not isinstance(logical, Logical):
            raise PolicyError(f"request extensions: {STATE!r} is kept for the library; leave it out")
        if logical.deadline is not None:
            call = call.with_deadline(logical.deadline)
        elif self.total is not None:
            logical.deadline = self.clock.monotonic() + self.total
        return logical, call

    def prepare(self, request: Any, logical: Logical, call: Call) -> Call:
        """The key, and whether the request may be repeated."""
        profile, headers = self.profile, request.headers
        if logical.body is None or logical.body.stream is not request.stream:  # a redirect may keep the body
            logical.body = self.binding.request_body(request)
        if request.method in METHODS_WITH_KEY and profile.sends:
            given = headers.get(profile.header)
            if given is not None and not logical.made_key:
                logical.key = given.strip('"')
            elif logical.key is None:
                logical.key = call.child_key(f"{self.name} {request.method} {request.url.path}") or new_key()
                logical.made_key = True
            if logical.made_key:
                headers[profile.header] = profile.on_the_wire(logical.key)
        else:
            self.strip_key(request, logical)
        keyed = profile.honours and logical.key is not None and request.method in METHODS_WITH_KEY
        logical.repeatable = request.method in IDEMPOTENT_METHODS or keyed
        return call.with_repeatable(logical.repeatable)

    def strip_key(self, request: Any, logical: Logical) -> None:
        """A key that was made here does not follow a redirect to GET (303) or to another authority."""
        if logical.made_key and self.profile.header in request.headers:
            del request.headers[self.profile.header]

    def own_headers(self, call: Call, now: float) -> list[tuple[bytes, bytes]]:
        """What we tell services of our own about this attempt; nothing to anybody else.

        Left out where it goes without saying: the first attempt, and the usual criticality. Each header costs
        one percent of a request."""
        headers: list[tuple[bytes, bytes]] = []
        if not self.ours:
            return headers
        attempt = call.attempt
        if attempt > 1:
            headers.append((b"Resilient-Attempt", b"%d/%d" % (attempt, max(self.max_attempts, attempt))))
        if call.deadline is not None:
            left = call.deadline - now
            # A little less than what is left, for the way; relative, so that clocks need not agree.
            left -= 0.005 if left > 0.5 else left / 100
            headers.append((b"Resilient-Timeout-Ms", b"%d" % (left * 1000 if left > 0 else 0)))
        if call.criticality is not Criticality.CRITICAL:
            headers.append((b"Resilient-Criticality", call.criticality.value.encode()))
        return headers

    # ------------------------------------------------------------------------------------------ the end of it
    def ended(self, exc: Exception, request: Any, logical: Logical, outer: Call) -> Exception:
        """What the caller gets to see in place of ``exc``: an error that is also the SDK's; or ``exc``
        itself."""
        binding = self.binding
        if report_of(exc) is None:  # neither a retry nor an attempt had a say
            attach(exc, verdict=verdict_on(exc))
        attach(exc, attempts=logical.attempts, endpoint=logical.address, evidence=logical.weakest)
        if (
            exc.__class__ is TimedOut
            and outer.deadline is not None
            and self.clock.monotonic() >= outer.deadline
        ):
            exc.__class__ = DeadlineExceeded  # what ran out was the caller's own time
        on_the_way = isinstance(exc, (TimedOut, Rejected, binding.sdk.TransportError))
        if on_the_way and logical.unknown and request.method not in IDEMPOTENT_METHODS:
            return binding.outcome_unknown(exc, request, self.name, logical.key, logical.attempts)
        if isinstance(exc, NoEndpoints) and RUNTIME.listeners:
            emit(Rejection(self.name, request.method, by=exc.policy, reason=exc.reason))
        if isinstance(exc, ResilientError):
            exc.dependency = exc.dependency or self.name  # one that the network's streams made knows neither
            exc.operation = exc.operation or request.method
            return binding.own_error(exc, request)
        return exc

    def stood_in(self, response: Any, logical: Logical) -> Any:
        """A policy gave this in place of an answer: it must be one, and its report tells what became of the call."""
        if not isinstance(response, self.binding.sdk.Response):
            raise PolicyError(
                f"Fallback: gave {type(response).__name__} for a request to {self.name}; in a client it must give a "
                "response, made anew for each call; write Fallback(lambda request: httpx.Response(200, json=[]))"
            )
        response.extensions[STATE] = logical.report()
        return response

    def ended_elsewhere(self, exc: TimedOut, request: Any) -> None:
        """The time of the whole call ran out at another authority, where no policy of ours says so."""
        exc.__class__ = DeadlineExceeded
        exc.dependency, exc.operation = self.name, request.method
        self.binding.own_error(exc, request)

    def no_time_left(self) -> DeadlineExceeded:
        error = DeadlineExceeded("the deadline is over: nothing was sent", dependency=self.name)
        attach(error, evidence=Evidence.NOT_SENT, transient=False)
        return error


def _total(pipeline: Pipeline) -> float | None:
    """The seconds of the time-out around the retries."""
    for i, policy in enumerate(pipeline.policies):
        if isinstance(policy, Timeout) and any(inner.repeats for inner in pipeline.policies[i + 1 :]):
            return policy.options.seconds
    return None


def is_ours(host: str) -> bool:
    """Whether a host is in the cluster or on this machine, by its name alone."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    return "." not in host or host.endswith((".svc", ".cluster.local", ".localhost")) or ".svc." in host
