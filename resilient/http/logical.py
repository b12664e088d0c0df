"""One logical call over HTTP: what both drivers decide, without I/O.

A logical call is one ``client.send()``. Its state rides in ``request.extensions["resilient"]``, which the SDK
hands on over redirects and auth flows; so all of these share one deadline and one idempotency key."""

from __future__ import annotations

import functools
import ipaddress
import weakref
from typing import Any, ClassVar

from ..core.call import CURRENT, Call, Criticality
from ..core.clock import Clock
from ..core.errors import (
    DeadlineExceeded,
    NoEndpoints,
    PolicyError,
    Rejected,
    ResilientError,
    TimedOut,
)
from ..core.events import RUNTIME, Rejection, emit
from ..core.keys import new_key
from ..core.options import seconds
from ..core.outcome import IGNORED, SUCCESS, Discarded, Evidence, Report, Unfinished, attach, report_of
from ..core.pipeline import Pipeline
from ..core.policy import verdict_on
from ..policies.ratelimit import RateLimit
from ..policies.retry.options import RetryOptions
from ..policies.retry.state import key_of
from ..policies.timeout import Timeout
from .body import pin_boundary
from .faces import Faces
from .keyed import check_key, first_sent, guard_window, key_sent
from .options import RequestOptions, options_of
from .profiles import IDEMPOTENT_METHODS, METHODS_WITH_KEY, SAFE_METHODS, Profile

STATE = "resilient"
"""The key of the state in ``request.extensions``, and of the report in ``response.extensions``."""

_SEE_OTHER = (301, 302, 303)
"""Redirects after which the SDK asks with GET what came of a request; after 307 and 308 it sends it elsewhere."""


class Logical:
    """The state of one logical call.

    Attributes:
        deadline: of the whole call, over all hops; None before the first one began.
        outer: the caller's own.
        key: the idempotency key.
        made_key: where it comes from, where we put it into the header: ``generated``, ``business``, ``child``, or
            ``caller`` (the request's options); empty where the caller did.
        attempts: how many times something was sent, or tried to.
        tried: the endpoints that were, the last one last.
        fresh: as the next attempt's.
        evidence: how far the last attempt got.
        unknown: whether of an attempt nothing is known.
        maybe_since: when the first attempt began that may have happened, by the clock: nothing is known of it, or it
            was answered by a failure, or by a redirect to what came of it. None: there is none.
        done: the method of a request that was answered so, where it may not be repeated.
        address: the endpoint of the last attempt.
        attempt: the last one, from before it was sent anywhere.
        repeatable: whether the request may be sent again after it may have happened.
        response: the answer of the last attempt that got one, while the hop lasts.
        hops: requests of it that were handed to us, and whether the last was a redirect's.
        busy: whether one of them is being sent.
        options: what the caller said of this request; None: nothing.
    """

    options: ClassVar[RequestOptions | None] = None
    __slots__ = (
        "_challenged",
        "_first",
        "_hop",
        "_redirect",
        "address",
        "attempt",
        "attempts",
        "body",
        "busy",
        "deadline",
        "done",
        "evidence",
        "fresh",
        "hops",
        "key",
        "made_key",
        "maybe_since",
        "outer",
        "redirected",
        "repeatable",
        "response",
        "tried",
        "unknown",
    )

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.outer: float | None = None
        self.key: str | None = None
        self.made_key = ""
        self.attempt: Any = None
        self.attempts = 0
        self.tried: list[Any] = []
        self.fresh: Any = False
        self.evidence = Evidence.NOT_SENT
        self.unknown = False
        self.maybe_since: float | None = None
        self.done: str | None = None
        self.address: str | None = None
        self.repeatable = False
        self.body: Any = None
        self.response: Any = None
        self.hops = 0
        self.redirected = False
        self.busy = False
        self._first = self._hop = 0
        self._redirect: Any = None
        self._challenged: tuple[str, list[tuple[str, str]]] | None = None

    def hop_began(self, request: Any) -> None:
        """A request of the call is handed to us: the first, or that of a redirect or an auth flow."""
        number = id(request)
        if self._first == 0:
            self._first = number
        self.redirected = number != self._first
        self._hop = number
        self.hops += 1

    def hop_ended(self, request: Any, response: Any) -> None:
        """It was answered; remember what tells the call's next hop from another call, and what was done."""
        self.response = None  # the SDK lets the response hold the request, and that holds us
        status = response.status_code
        if status in _SEE_OTHER and request.method not in SAFE_METHODS and self.attempt is not None:
            self.may_have_happened()  # what fails after that is the question what came of it
            if not self.is_idempotent(request):
                self.done = request.method
        if status < 300:
            self._redirect = self._challenged = None
        else:
            self._redirect = weakref.ref(response) if status < 400 else None
            self._challenged = _seen(request) if status >= 400 else None

    def is_over(self, request: Any) -> bool:
        """Whether ``request``, which bears our state, comes from another ``client.send()``.

        A request object comes again when an auth flow answers a refusal, with another URL or other headers than
        before; else it was sent again. The answer whose redirect the SDK follows is in its history by then, and has no
        ``next_request``; where the caller follows it, it has, or is gone."""
        if id(request) in (self._first, self._hop):
            return self._challenged is None or self._challenged == _seen(request)
        if self._redirect is None:
            return self._challenged is None
        response = self._redirect()
        return response is None or response.next_request is request

    def begin_attempt(self, endpoint: Any) -> None:
        """Another attempt, at ``endpoint``."""
        self.attempts += 1
        self.tried.append(endpoint)
        self.address = endpoint.text or None
        self.evidence = Evidence.NOT_SENT

    def begin_elsewhere(self) -> None:
        """Another attempt, at another authority."""
        self.attempts += 1
        self.address, self.evidence = None, Evidence.NOT_SENT

    def ended(self, evidence: Evidence) -> None:
        """The attempt is over."""
        self.evidence = evidence
        if evidence is Evidence.UNKNOWN:
            self.unknown = True
            self.may_have_happened()

    def may_have_happened(self) -> None:
        """The attempt may have."""
        if self.maybe_since is None:
            self.maybe_since = self.attempt.began

    def is_idempotent(self, request: Any) -> bool:
        """Whether repeating is safe by what the request does: the caller's word, else the method's."""
        options = self.options
        if options is not None and options.idempotent is not None:
            return options.idempotent
        return request.method in IDEMPOTENT_METHODS

    @property
    def weakest(self) -> Evidence:
        """How far the call may have got: no later attempt that failed makes good what is not known of an earlier
        one."""
        if self.unknown:
            return Evidence.UNKNOWN
        earlier = self.maybe_since is not None and self.evidence.proves_nothing_happened
        return Evidence.ANSWERED if earlier else self.evidence

    def good_report(self) -> Report:
        """The report on a call that succeeded."""
        return _good_report(self.attempts, self.address)

    def report(self, **known: Any) -> Report:
        """What is known of the call now."""
        return Report(evidence=self.weakest, attempts=self.attempts, endpoint=self.address, **known)


class Asked(Logical):
    """One of whose request the caller said something."""

    __slots__ = ("options",)

    def __init__(self, options: RequestOptions) -> None:
        super().__init__()
        self.options = options  # type: ignore[misc]  # the slot stands before the class's None


def _seen(request: Any) -> tuple[str, list[tuple[str, str]]]:
    """What an auth flow may change of a request."""
    return str(request.url), list(request.headers.items())


@functools.lru_cache(maxsize=1024)
def _good_report(attempts: int, endpoint: str | None) -> Report:
    """Reports are frozen, and nearly all calls have one of a few."""
    return Report(Evidence.ANSWERED, attempts, endpoint, verdict=SUCCESS)


class Answered(Discarded):
    """An answer that policies are to see as a failure. It becomes the response again when all is said."""

    def __init__(self, response: Any, unfinished: Unfinished[Any] | None, key: str | None = None) -> None:
        super().__init__(str(response.status_code), unfinished)
        self.response = response
        self.key = key  # what it says of the idempotency key


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
        binding: Faces,
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
        retry: RetryOptions | None = pipeline["retry"].options if "retry" in pipeline else None
        self.max_attempts = 1 if retry is None else retry.attempts
        self.key_options = retry if retry is not None and retry.idempotency_key is not None else None
        self.connect_timeout = pipeline.connect_timeout
        limits = [each for each in pipeline if isinstance(each, RateLimit) and each.options.key is None]
        self.limit = (
            limits[0] if limits else None
        )  # of one with keys it is not known whose bucket a server speaks of
        self.reads = profile.honours or profile.quota is not None

    def owns(self, request: Any) -> bool:
        """Whether the request goes to the client's own authority, and not somewhere that a redirect points
        to."""
        url = request.url
        return self.authority is None or self.authority == (url.scheme, url.host, url.port)

    def begin(self, request: Any) -> tuple[Logical, Call, bool]:
        """A hop begins: the state of its logical call, the Call to put in force, and whether it goes to the client's
        own authority."""
        call, owned = CURRENT.get(), self.owns(request)
        logical = request.extensions.get(STATE)
        if logical is None:
            logical = Logical()
            request.extensions = {**request.extensions, STATE: logical}
        elif not isinstance(logical, Logical):
            logical = self._asked(options_of(logical), request)
            request.extensions = {**request.extensions, STATE: logical}
        elif logical.busy:
            raise PolicyError(
                f"{request.method} {request.url.path}: the request is being sent already; build one for each call, "
                f"with {self.binding.builds}"
            )
        elif logical.is_over(request):
            self._forget_key(request, logical, made_only=True)
            body, options = logical.body, logical.options
            logical = Logical() if options is None else self._asked(options, request)
            logical.body = body  # it knows where the body began
            request.extensions = {**request.extensions, STATE: logical}
        logical.hop_began(request)
        logical.outer = call.deadline
        if logical.deadline is not None:
            call = call.with_deadline(logical.deadline)
        elif self.total is not None:
            logical.deadline = self.clock.monotonic() + self.total
            if not owned:  # no policy of ours sets it there
                call = call.with_deadline(logical.deadline)
        return logical, call, owned

    def _asked(self, options: RequestOptions, request: Any) -> Asked:
        """The state of a call of which the caller said something."""
        check_key(options, self.profile, request)
        logical, now = Asked(options), self.clock.monotonic()
        if options.deadline is not None:
            logical.deadline = now + min(options.deadline, self.total or options.deadline)
        if options.first_sent is not None:
            logical.unknown = True
            logical.maybe_since = now - max(0.0, self.clock.time() - options.first_sent)
        return logical

    def operation(self, request: Any, logical: Logical) -> str:
        """What events, metrics and errors call it."""
        options = logical.options
        return (None if options is None else options.operation) or str(request.method)

    def prepare(self, request: Any, logical: Logical, call: Call) -> Call:
        """The key, and whether the request may be repeated."""
        profile, headers = self.profile, request.headers
        if logical.body is None or logical.body.stream is not request.stream:  # a redirect may keep the body
            logical.body = self.binding.request_body(request)
        takes_key, asked = request.method in METHODS_WITH_KEY, logical.options
        if asked is not None:
            if asked.criticality is not None:
                call = call.with_criticality(Criticality(asked.criticality))
            takes_key = takes_key or (
                asked.idempotency_key is not None and request.method not in SAFE_METHODS
            )
        if takes_key and profile.sends:
            given = headers.get(profile.header)
            if logical.key is None:
                if given is None:
                    logical.key, logical.made_key = self._new_key(request, logical, call)
                else:
                    logical.key = given.strip('"')
            if logical.made_key or given is None:
                headers[profile.header] = profile.on_the_wire(logical.key)
            if asked is not None:
                guard_window(self, asked, request, logical)
            if logical.body is not None and logical.made_key != "generated":
                pin_boundary(request, logical.key)
            call = call.with_key(logical.key)
        elif logical.made_key or logical.redirected:
            self.strip_key(request, logical)
        logical.repeatable = request.method in IDEMPOTENT_METHODS or (
            takes_key and profile.honours and logical.key is not None
        )
        if asked is not None and asked.idempotent is not None:
            logical.repeatable = asked.idempotent or (takes_key and profile.honours)
        return call

    def _new_key(self, request: Any, logical: Logical, call: Call) -> tuple[str, str]:
        """The caller's or the business key where there is one, else the child of the call around it, else one made up;
        and which of these it is."""
        operation = f"{request.method} {request.url.path}"
        if logical.options is not None and logical.options.idempotency_key is not None:
            return logical.options.idempotency_key, "caller"
        if self.key_options is not None:
            return key_of(self.key_options, self.name, operation, (request,), {}), "business"
        child = call.child_key(f"{self.name} {operation}")
        return (new_key(), "generated") if child is None else (child, "child")

    def strip_key(self, request: Any, logical: Logical) -> None:
        """A key does not follow a redirect to GET (303) or to another authority; one that was made here goes with no
        request that takes none."""
        self._forget_key(request, logical, made_only=not logical.redirected)

    def _forget_key(self, request: Any, logical: Logical, *, made_only: bool) -> None:
        if (logical.made_key or not made_only) and self.profile.header in request.headers:
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
    def ended(self, exc: Exception, request: Any, logical: Logical) -> Exception:
        """What the caller gets to see in place of ``exc``: an error that is also the SDK's; or ``exc``
        itself."""
        binding, owned = self.binding, self.owns(request)
        if report_of(exc) is None:  # neither a retry nor an attempt had a say
            attach(exc, verdict=verdict_on(exc))
        attach(exc, attempts=logical.attempts, endpoint=logical.address, evidence=logical.weakest)
        if isinstance(exc, TimedOut):
            has_deadline = logical.options is not None and logical.options.deadline is not None
            self._say_what_ran_out(exc, logical, unsaid=logical.hops > 1 or has_deadline or not owned)
        on_the_way = isinstance(exc, (TimedOut, Rejected, *binding.on_the_way))
        operation = self.operation(request, logical)
        not_again = logical.done is not None or not logical.is_idempotent(request)
        if on_the_way and logical.maybe_since is not None and not_again:
            lost_there = not owned and logical.done is None and logical.evidence is Evidence.UNKNOWN
            return binding.outcome_unknown(
                exc,
                request,
                logical.done,
                lost_there=lost_there,
                dependency=self.name,
                operation=operation,
                idempotency_key=key_sent(self.profile, request) if lost_there else logical.key,
                attempts=logical.attempts,
                first_sent=first_sent(self, logical),
            )
        if isinstance(exc, NoEndpoints) and RUNTIME.listeners:
            emit(Rejection(self.name, operation, by=exc.policy, reason=exc.reason))
        if isinstance(exc, ResilientError):
            exc.dependency = exc.dependency or self.name  # one that the network's streams made knows neither
            exc.operation = exc.operation or operation
            return binding.own_error(exc, request)
        return exc

    def stood_in(self, given: Any, logical: Logical) -> Any:
        """A policy gave this in place of an answer: it must be one, and its report tells what became of the call."""
        response = self.binding.taken(given)
        if response is None:
            raise PolicyError(
                f"Fallback: gave {type(given).__name__} for a request to {self.name}; in a client it must give a "
                f"response, made anew for each call; write Fallback(lambda request: {self.binding.response})"
            )
        response.extensions[STATE] = logical.report()
        return response

    def ran_out(self, exc: TimedOut, request: Any, logical: Logical) -> None:
        """Time ran out where no policy of ours says so: at another authority, or while the caller read a body."""
        self._say_what_ran_out(exc, logical, unsaid=True)
        exc.dependency, exc.operation = self.name, self.operation(request, logical)

    def _say_what_ran_out(self, exc: TimedOut, logical: Logical, *, unsaid: bool) -> None:
        """The caller's own time, or that of the whole call.

        Args:
            unsaid: whether the total was held by the state of the call, and no policy has said so.
        """
        total, outer, now = logical.deadline, logical.outer, self.clock.monotonic()
        earlier = outer is not None and (total is None or outer < total)
        if unsaid and total is not None and now >= total and not earlier:
            asked = None if logical.options is None else logical.options.deadline
            allowed = [each for each in (self.total, asked) if each is not None]
            exc.args = (f"the whole call took longer than {seconds(min(allowed))}",)
        elif outer is None or now < outer:
            return
        if exc.__class__ is TimedOut:
            exc.__class__ = DeadlineExceeded

    def no_time_left(self) -> DeadlineExceeded:
        error = DeadlineExceeded("the deadline is over: nothing was sent", dependency=self.name)
        attach(error, evidence=Evidence.NOT_SENT, transient=False, verdict=IGNORED)
        return error


def _total(pipeline: Pipeline) -> float | None:
    """The seconds of the time-out around the retries, or of the only one: it bounds redirects and auth flows too."""
    policies = pipeline.policies
    for i, policy in enumerate(policies):
        if isinstance(policy, Timeout) and not any(outer.repeats for outer in policies[:i]):
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
