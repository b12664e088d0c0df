"""One logical call over gRPC: what the sync and the async side decide alike, without I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import grpc
import grpc.aio

from ..core.call import CURRENT, Call, Criticality
from ..core.errors import DeadlineExceeded, Rejected, ResilientError, TimedOut
from ..core.keys import new_key
from ..core.options import seconds
from ..core.outcome import ERROR_TYPE, FAILURE, IGNORED, Evidence, attach, report_of
from ..core.pipeline import Pipeline
from ..core.policy import Site, verdict_on
from ..http.hints import Finding
from ..http.profiles import Profile
from ..policies.retry.options import RetryOptions
from ..policies.retry.state import key_of
from . import evidence
from .connection import GOOD
from .errors import Face, outcome_unknown, own_error

_ROUNDING = 0.001
"""Seconds that gRPC is given beyond a deadline: so that when its timer fires ours is over too."""
MOST_OPERATIONS = 256
"""Methods that the policies are kept bound for."""
NO_PATIENCE = 5.0
"""Seconds to wait for a connection where neither a deadline nor ``connect_timeout`` says less."""
PATIENCE = 86_400.0
"""The same with ``wait_for_ready``, of which only a deadline is the end; gRPC waits for ever."""


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    """In place of gRPC's own, where an interceptor outside ours gave one that has no ``_replace``."""

    method: str
    timeout: float | None = None
    metadata: Any = None
    credentials: Any = None
    wait_for_ready: bool | None = None
    compression: Any = None


class Rpc:
    """One logical call, and what its attempts came to. Functions of yours that policies ask are given it: ``key=`` and
    ``cost=`` of a limit, ``idempotency_key=``, a fallback.

    Attributes:
        method: its full name, such as ``/shop.Orders/Place``.
        request: the message, or what gives the messages of a request stream.
        metadata: the caller's.
        timeout: the caller's, in seconds; None: none.
    """

    __slots__ = (
        "attempts",
        "began",
        "call",
        "cancelled",
        "continuation",
        "details",
        "evidence",
        "idempotent",
        "key",
        "made_key",
        "maybe_since",
        "metadata",
        "method",
        "one_shot",
        "operation",
        "outer",
        "repeatable",
        "request",
        "response",
        "sent",
        "streams",
        "timeout",
        "unknown",
    )

    def __init__(
        self, continuation: Callable[..., Any], details: Any, request: Any, *, streams: bool
    ) -> None:
        method = details.method
        self.method: str = method.decode() if isinstance(method, bytes) else method
        self.operation = self.method[1:]
        self.request = request
        self.metadata: tuple[tuple[str, str | bytes], ...] = tuple(getattr(details, "metadata", None) or ())
        self.timeout: float | None = getattr(details, "timeout", None)
        self.details = details
        self.continuation = continuation
        self.streams = streams
        # What can be asked for its messages once, like a generator, can be sent once.
        self.one_shot = streams and (hasattr(request, "__next__") or hasattr(request, "__anext__"))
        self.key: str | None = None
        self.made_key = False
        self.idempotent = False
        self.repeatable = False
        self.outer: float | None = None  # the deadline that the caller set
        self.attempts = 0
        self.began = 0.0  # of the attempt
        self.sent = False  # whether an attempt was handed to gRPC
        self.evidence = Evidence.NOT_SENT  # of the last attempt
        self.unknown = False  # whether of an attempt nothing is known
        self.maybe_since: float | None = None  # when the first attempt began that may have happened
        self.call: Any = None  # gRPC's own, of the last attempt
        self.response: Any = None
        self.cancelled = False

    @property
    def spent(self) -> bool:
        """Whether its messages cannot be sent again."""
        return self.one_shot and self.sent

    def ended(self, found: Evidence, *, failed: bool) -> None:
        """The attempt is over."""
        self.evidence = found
        if found is Evidence.UNKNOWN:
            self.unknown = True
        if self.maybe_since is None and (
            found is Evidence.UNKNOWN or (failed and found is Evidence.ANSWERED)
        ):
            self.maybe_since = self.began

    @property
    def weakest(self) -> Evidence:
        """How far the call may have got: no later attempt that failed makes good what is not known of an earlier
        one."""
        if self.unknown:
            return Evidence.UNKNOWN
        earlier = self.maybe_since is not None and self.evidence.proves_nothing_happened
        return Evidence.ANSWERED if earlier else self.evidence


class Dependency:
    """What an interceptor knows of the service.

    Args:
        name: of the dependency.
        pipeline: the policies.
        profile: what the service does with keys.
        repeats: tells of a method whether it may be repeated.
        ours: whether it may be told of attempts and criticality: it is in the cluster, or on this machine.
        face: what the errors of the API are.
        metadata: makes what the API takes as metadata.
    """

    def __init__(
        self,
        name: str,
        pipeline: Pipeline,
        profile: Profile,
        repeats: Callable[[str], bool],
        ours: bool,
        face: Face,
        metadata: Callable[..., Any],
    ) -> None:
        self.name = name
        self.pipeline = pipeline
        self.profile = profile
        self.ours = ours
        self.face = face
        self.clock = pipeline.clock
        self.connection: Any = None
        """That of the channel, where we made it."""
        self._repeats = repeats
        self._metadata = metadata
        self._header = profile.header.lower()
        retry: RetryOptions | None = pipeline["retry"].options if "retry" in pipeline else None
        self._max_attempts = 1 if retry is None else retry.attempts
        self._key_options = retry if retry is not None and retry.idempotency_key is not None else None
        # By operation and kind; two threads may bind one twice, no more.
        self._runs: dict[tuple[str, Any], Callable[[Rpc], Any]] = {}

    def bound(self, rpc: Rpc, send: Callable[[Rpc], Any], bind: Any) -> Callable[[Rpc], Any]:
        """The policies around ``send``.

        Args:
            bind: the pipeline's ``bind`` or ``abind``.
        """
        which = rpc.operation, send
        run = self._runs.get(which)
        if run is None:
            named = self.pipeline.name is not None
            site = Site(self.name, rpc.operation, self.clock, send, named, repeatable=_repeatable)
            for policy in self.pipeline.policies:
                policy.adopt(site)
            run = bind(send, site)
            assert run is not None
            if len(self._runs) < MOST_OPERATIONS:
                self._runs[which] = run
        return run

    # -------------------------------------------------------------------------------------------- before it is sent
    def prepare(self, rpc: Rpc) -> Call:
        """The Call in which it runs: with the caller's time-out and the key."""
        call = CURRENT.get()
        if rpc.timeout is not None:
            call = call.with_deadline(self.clock.monotonic() + rpc.timeout)
        rpc.outer = call.deadline
        rpc.idempotent = self._repeats(rpc.method)
        if self.profile.sends and not rpc.idempotent:
            given = next((value for key, value in rpc.metadata if key == self._header), None)
            if isinstance(given, str):
                rpc.key = given.strip('"')
            else:
                rpc.key, rpc.made_key = self._new_key(rpc, call), True
            call = call.with_key(rpc.key)
        rpc.repeatable = rpc.idempotent or (self.profile.honours and rpc.key is not None)
        return call

    def _new_key(self, rpc: Rpc, call: Call) -> str:
        """The business key where there is one, else the child of the call around it, else one made up."""
        if self._key_options is not None:
            return key_of(self._key_options, self.name, rpc.operation, (rpc,), {})
        return call.child_key(f"{self.name} {rpc.operation}") or new_key()

    def must_be_connected(self, rpc: Rpc) -> bool:
        """Whether it is handed to gRPC only over a connection: where it could not be sent a second time."""
        return self.connection is not None and (rpc.one_shot or not rpc.repeatable)

    def patience(self, rpc: Rpc) -> tuple[float, bool]:
        """Seconds to wait for a connection, and whether failures to connect are waited out (``wait_for_ready``)."""
        deadline, patient = CURRENT.get().deadline, bool(getattr(rpc.details, "wait_for_ready", None))
        most = PATIENCE if patient else self.pipeline.connect_timeout or NO_PATIENCE
        left = most if deadline is None else min(most, deadline - self.clock.monotonic())
        return max(0.0, left), patient

    def begin(self, rpc: Rpc) -> None:
        """An attempt begins, if the deadline leaves time for it."""
        now = self.clock.monotonic()
        deadline = CURRENT.get().deadline
        if deadline is not None and deadline <= now:
            error = DeadlineExceeded("the deadline is over: nothing was sent", dependency=self.name)
            attach(error, evidence=Evidence.NOT_SENT, transient=False, verdict=IGNORED)
            raise error
        rpc.began = now
        rpc.attempts += 1
        rpc.evidence = Evidence.NOT_SENT

    def check(self, state: grpc.ChannelConnectivity) -> None:
        """Raise where there is no connection: nothing was sent."""
        if state in GOOD:
            return
        now, deadline = self.clock.monotonic(), CURRENT.get().deadline
        said = f"the channel has no connection ({state.name}): nothing was sent"
        if deadline is not None and now >= deadline:
            late: Exception = TimedOut(said, dependency=self.name)
            attach(late, evidence=Evidence.NOT_SENT, transient=True, verdict=FAILURE)
            raise late
        error = self.face(grpc.StatusCode.UNAVAILABLE, details=said)
        attach(error, evidence=Evidence.NOT_SENT, transient=True, verdict=FAILURE)
        raise error

    def details(self, rpc: Rpc) -> Any:
        """What gRPC is told of the attempt: the time that is left, and our metadata."""
        call, given = CURRENT.get(), rpc.details
        changes: dict[str, Any] = {}
        if call.deadline is not None:
            changes["timeout"] = call.deadline - self.clock.monotonic() + _ROUNDING
        added = list(self._own_metadata(rpc, call))
        if added:
            changes["metadata"] = self._metadata(*rpc.metadata, *added)
        rpc.sent = True
        replace = getattr(given, "_replace", None)
        if replace is not None:
            return replace(**changes)
        known = {each.name: getattr(given, each.name, None) for each in fields(_Details)}
        return _Details(**{**known, **changes})

    def _own_metadata(self, rpc: Rpc, call: Call) -> Any:
        if rpc.made_key and rpc.key is not None:
            yield self._header, self.profile.on_the_wire(rpc.key)
        if self.ours:
            if call.attempt > 1:
                yield "resilient-attempt", f"{call.attempt}/{max(self._max_attempts, call.attempt)}"
            if call.criticality is not Criticality.CRITICAL:
                yield "resilient-criticality", call.criticality.value

    # --------------------------------------------------------------------------------------------- when it has ended
    def failed(self, exc: Exception, rpc: Rpc) -> Exception:
        """The error of an attempt, with what it proves; or that of its time, where this ran out."""
        if isinstance(exc, grpc.RpcError):
            found = _told(exc)
            deadline = CURRENT.get().deadline
            if self._ran_out(exc, deadline):
                exc, found = self._late(exc, rpc, deadline), Finding(Evidence.UNKNOWN, True, FAILURE)
        else:  # of the caller's side: gRPC's own errors are all of one class
            found = Finding(Evidence.UNKNOWN, False, IGNORED)
        rpc.ended(found.evidence, failed=found.verdict is FAILURE)
        attach(
            exc,
            evidence=found.evidence,
            attempts=rpc.attempts,
            retry_after=found.retry_after,
            transient=found.transient,
            verdict=found.verdict,
            why_not_retried=found.why_not or ("body" if rpc.spent and found.transient else None),
        )
        return exc

    def _ran_out(self, exc: Any, deadline: float | None) -> bool:
        code = exc.code() if callable(getattr(exc, "code", None)) else None
        late = code is grpc.StatusCode.DEADLINE_EXCEEDED
        return late and deadline is not None and self.clock.monotonic() >= deadline

    def _late(self, exc: Exception, rpc: Rpc, deadline: float | None) -> TimedOut:
        assert deadline is not None
        limit = max(0.0, deadline - rpc.began)
        error = TimedOut(f"the attempt took longer than {seconds(round(limit, 3))}", timeout=limit)
        error.dependency, error.operation, error.__cause__ = self.name, rpc.operation, exc
        return error

    def broken(self, exc: Exception, rpc: Rpc, deadline: float | None) -> Exception:
        """The error of a stream that the caller reads: what was delivered cannot be asked for again.

        Args:
            deadline: of the attempt.
        """
        if isinstance(exc, grpc.RpcError):
            found = _told(exc)
            late = self._ran_out(exc, deadline)
            if late:
                found = Finding(Evidence.UNKNOWN, False, FAILURE)
                exc = self._late(exc, rpc, deadline)
            rpc.ended(found.evidence, failed=found.verdict is FAILURE)
            attach(exc, evidence=rpc.weakest, attempts=rpc.attempts, transient=False, verdict=found.verdict)
            attach(exc, why_not_retried="body" if rpc.one_shot else "begun")
            if late:
                self._name_deadline(exc, rpc)
                own_error(exc, self.face)  # type: ignore[arg-type]  # a TimedOut
        return exc

    def ended(self, exc: Exception, rpc: Rpc) -> Exception:
        """What the caller gets to see in place of ``exc``: an error that is also gRPC's; or ``exc`` itself."""
        if report_of(exc) is None:  # neither a retry nor an attempt had a say
            attach(exc, verdict=verdict_on(exc))
        attach(exc, attempts=rpc.attempts, evidence=rpc.weakest)
        self._name_deadline(exc, rpc)
        no_answer = isinstance(exc, grpc.RpcError) and rpc.evidence in (Evidence.UNKNOWN, Evidence.NOT_SENT)
        on_the_way = isinstance(exc, (TimedOut, Rejected)) or no_answer
        if on_the_way and rpc.maybe_since is not None and not rpc.idempotent:
            error = outcome_unknown(
                exc,
                self.face,
                rpc.operation,
                dependency=self.name,
                idempotency_key=rpc.key,
                attempts=rpc.attempts,
                first_sent=self.clock.time() - (self.clock.monotonic() - rpc.maybe_since),
            )
            error.__dict__["resilient"] = report_of(exc)
            return error
        if isinstance(exc, ResilientError):
            exc.dependency = exc.dependency or self.name
            exc.operation = exc.operation or rpc.operation
            return own_error(exc, self.face)
        return exc

    def _name_deadline(self, exc: Exception, rpc: Rpc) -> None:
        """Where it is the caller's own time that ran out, it is no attempt's."""
        over = rpc.outer is not None and self.clock.monotonic() >= rpc.outer
        if over and exc.__class__ is TimedOut:
            exc.__class__ = DeadlineExceeded
            exc.args = ("the deadline that the caller set is over",)


def _told(exc: Any) -> Finding:
    """What an error of gRPC's says; and its status is what it is called by, for its classes are private."""
    if callable(getattr(exc, "code", None)):
        exc.__dict__[ERROR_TYPE] = getattr(exc.code(), "name", "UNKNOWN")
    return evidence.failure(exc)


def _repeatable(rpc: Rpc) -> bool:
    """Whether it may be sent again after it may have happened; the retry asks."""
    return rpc.repeatable
