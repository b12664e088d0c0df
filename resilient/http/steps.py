"""What both transports do alike for one logical call: everything but the sending.

What a request's state decides stands in `logical`, what an answer means in `answers`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..balance.endpoint import PENALTY
from ..balance.endpoints import Endpoints, Fixed
from ..core import tracing
from ..core.call import Call
from ..core.errors import TimedOut
from ..core.forks import tell_after_fork
from ..core.outcome import IGNORED, SUCCESS, Evidence, Unfinished, attach
from ..core.pipeline import Pipeline
from ..core.policy import Site
from ..policies.retry.state import MARK
from . import answers
from .attempt import HTTP_1_1, Attempt, failure, stale, unreachable, wants_http1
from .body import ResponseBody
from .hints import Finding
from .keyed import attributes
from .logical import STATE, Answered, Dependency, Logical

Places = Endpoints[Any] | Fixed[Any]

FIRST_ANSWER = 5.0
"""Seconds: the longest that a call waits until anything is known of its Service."""
MOST_OPERATIONS = 256
"""Names of operations that a transport keeps its policies bound for."""
MOST_TRIED = 10
"""Endpoints that a call has tried after which it does not move to another at once: where ten refuse, the eleventh would
too, and a thousand of them take seconds of CPU. Retries still go to others."""


class Base:
    """What both transports share: everything but the sending.

    Args:
        dependency: what is called, and under which policies.
        locate: finds out where it is; asked with the first request, when everything is configured.
        outside: sends requests to other authorities (a redirect's), with the deadline alone.
        way: how it sends, in words.
    """

    def __init__(
        self, dependency: Dependency, locate: Callable[[], Places], outside: Any, way: str = ""
    ) -> None:
        self.way = way
        self.dependency = dependency
        self.outside = outside
        self._locate = locate
        self._places: Places | None = None
        self._lock = threading.RLock()  # held while they are located
        self._runs: dict[
            str, Callable[[Any], Any]
        ] = {}  # by operation; two threads may bind one twice, no more
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()

    @property
    def known_places(self) -> Places | None:
        """Where the dependency is, if that was asked already."""
        return self._places

    @property
    def endpoints(self) -> Places:
        """Where the dependency is."""
        places = self._places
        if places is None:
            with self._lock:
                if self._places is None:
                    found = self._locate()
                    if self._places is None:  # a signal handler's call may have come between
                        self._places = found
                places = self._places
        return places

    @property
    def pipeline(self) -> Pipeline:
        """The policies."""
        return self.dependency.pipeline

    def _site(self, operation: str, function: Callable[..., Any]) -> Site:
        dependency = self.dependency
        named = self.pipeline.name is not None
        site = Site(dependency.name, operation, dependency.clock, function, named, repeatable=_repeatable)
        for policy in self.pipeline.policies:
            policy.adopt(site)
        return site

    def _bound(
        self, operation: str, bind: Callable[..., Callable[[Any], Any]], send: Callable[..., Any]
    ) -> Callable[[Any], Any]:
        """The policies around the sending, for an operation that is new; kept unless there are too many."""
        run = bind(send, self._site(operation, send))
        if len(self._runs) < MOST_OPERATIONS:
            self._runs[operation] = run
        return run

    def _elsewhere(self, request: Any, call: Call, logical: Logical) -> Attempt:
        """Begin an attempt at another authority: it is seen here, and told nothing."""
        clock = self.dependency.clock
        logical.begin_elsewhere()
        attempt = logical.attempt = Attempt(call.deadline, clock=clock.monotonic)
        attempt.began = clock.monotonic()
        attempt.late = partial(self.dependency.ran_out, request=request, logical=logical)
        tracer = tracing.TRACER
        if tracer is not None:
            attempt.span = tracer.begin(request.method, request.url, [], logical.attempts - 1)
        return attempt

    def _failed_elsewhere(
        self, exc: BaseException, attempt: Attempt, request: Any, logical: Logical
    ) -> BaseException:
        """It is not tried again there; but what may have happened is told as of our own. What the caller gets to see
        in place of ``exc``; or ``exc`` itself."""
        found = failure(exc, attempt, foreign=self.outside.foreign)
        logical.ended(found.evidence)
        if attempt.span is not None:
            attempt.span.end(error=exc)
        if not isinstance(exc, Exception):
            attach(exc, evidence=found.evidence)
            return exc
        attach(exc, evidence=found.evidence, transient=found.transient, verdict=found.verdict)
        return self.dependency.ended(exc, request, logical)

    def _answered_elsewhere(self, response: Any, attempt: Attempt, request: Any, logical: Logical) -> Any:
        if attempt.span is not None:
            attempt.span.end(status=response.status_code)
        logical.hop_ended(request, response)
        return response

    def _try(self, request: Any, logical: Logical, call: Call, endpoints: Places) -> Attempt:
        """Begin an attempt, if the deadline leaves time for it."""
        dependency = self.dependency
        now = dependency.clock.monotonic()
        if call.deadline is not None and call.deadline <= now:
            raise dependency.no_time_left()
        attempt = Attempt(
            call.deadline,
            clock=dependency.clock.monotonic,
            connect_timeout=dependency.connect_timeout,
            headers=dependency.own_headers(call, now),
            fresh=logical.fresh,
            body=logical.body,
        )
        attempt.began = now
        logical.attempt = attempt
        attempt.permit = endpoints.pick(logical.tried, now, attempt)
        logical.begin_attempt(attempt.endpoint)
        tracer = tracing.TRACER
        if tracer is not None:
            attempt.span = span = tracer.begin(
                request.method, request.url, attempt.headers, logical.attempts - 1
            )
            if span is not None and span.recording:
                of_many = isinstance(endpoints, Endpoints)
                span.note(attributes(dependency, logical, attempt.endpoint.address if of_many else None))
        return attempt

    def _patience(self, call: Call) -> float:
        """Seconds that a call waits for the first answer of the nameservers: a little less than it has, so that the
        error says what it waited for."""
        if call.deadline is None:
            return FIRST_ANSWER
        left = call.deadline - self.dependency.clock.monotonic()
        return max(0.0, min(FIRST_ANSWER, left - min(0.05, left / 10)))

    def _failed(self, exc: BaseException, attempt: Attempt, request: Any, logical: Logical) -> bool:
        """The attempt failed: note what it proves. True: send again at once, on a fresh socket or
        elsewhere."""
        found = failure(exc, attempt, foreign=attempt.endpoint.exchange.foreign)
        logical.ended(found.evidence)
        # What is no Exception is a cancellation; where the attempt's time is over, it is that of our own time-out.
        seen = (
            exc
            if isinstance(exc, Exception) or not attempt.overdue()
            else TimedOut("as policies will see it")
        )
        self._heard(attempt, found, seen)
        self._left(attempt)
        if attempt.span is not None:
            attempt.span.end(error=exc)
        spent = attempt.body is not None and attempt.body.started and not attempt.body.replayable
        if not isinstance(exc, Exception):
            # What ended it may be our own time-out, which keeps the report.
            attach(exc, evidence=found.evidence, why_not_retried="body" if spent else None)
            return False
        attach(
            exc,
            evidence=found.evidence,
            attempts=logical.attempts,
            endpoint=logical.address,
            transient=found.transient,
            verdict=found.verdict,
            why_not_retried="body" if spent and found.transient else None,
        )
        if spent:
            return False
        if found.transient and stale(exc, attempt) and logical.repeatable and not attempt.fresh:
            # The peer closed a kept connection while we took it up: the socket's fault (RFC 9110 9.2.2).
            logical.fresh = True if attempt.stream is None else attempt.stream.connection
            logical.tried.remove(attempt.endpoint)
            return True
        endpoints = self.endpoints
        if attempt.stream is not None and not attempt.fresh and found.transient:
            again = self._on_another_connection(exc, attempt, found, logical)
            if again:
                logical.fresh = again
                logical.tried.remove(attempt.endpoint)
                return True
        if not isinstance(endpoints, Endpoints) or not found.transient:
            return False
        if found.evidence is Evidence.NOT_SENT and unreachable(exc):
            endpoints.connect_failed(attempt.endpoint)
        return (
            found.evidence in (Evidence.NOT_SENT, Evidence.REFUSED)
            and len(logical.tried) < MOST_TRIED
            and endpoints.untried(logical.tried)
        )

    def _on_another_connection(
        self, exc: BaseException, attempt: Attempt, found: Finding, logical: Logical
    ) -> Any:
        """What a shared connection did not take is sent again on another: which not to use; None: it is not."""
        if wants_http1(exc, attempt):
            return HTTP_1_1
        # It reached nobody, and where there is no other endpoint another connection may.
        reached_nobody = found.evidence is Evidence.REFUSED or (
            found.evidence is Evidence.NOT_SENT and attempt.reused
        )
        again = reached_nobody and not self.endpoints.untried(logical.tried)
        return attempt.stream.connection if again else None

    def _answered(self, request: Any, response: Any, attempt: Attempt, logical: Logical) -> Any:
        """An answer came: the result of the attempt, or `Answered` where policies must know of it."""
        status, found = response.status_code, None
        if status >= 400:
            found = answers.look(self.dependency, request, response, logical)
        logical.ended(Evidence.ANSWERED if found is None else found.evidence)
        stream, unfinished, error = response.stream, None, None
        if isinstance(stream, ResponseBody):
            unfinished = Unfinished(response, stream)
            attempt.late = partial(self.dependency.ran_out, request=request, logical=logical)
        if found is not None:
            error = self._as_failure(response, unfinished, found, logical)
        if attempt.permit is not None:  # it is one of several
            self._heard(attempt, found, error)
        if attempt.span is not None:
            answers.tell(self.dependency, request, response, found, attempt.span)
        if unfinished is not None:
            unfinished.on_end(lambda exc: self._left(attempt))  # it loads the endpoint until then
            stream.on_end = unfinished.end
        elif attempt.permit is not None:
            self._left(attempt)
        if error is not None:
            raise error
        logical.response = response
        return unfinished or response

    def _as_failure(
        self, response: Any, unfinished: Unfinished[Any] | None, found: Finding, logical: Logical
    ) -> Answered:
        if found.evidence is Evidence.ANSWERED and found.key is None:
            logical.may_have_happened()  # a failure says nothing of what was done before it
        error = Answered(response, unfinished, found.key)
        spent = logical.body is not None and logical.body.started and not logical.body.replayable
        attach(
            error,
            evidence=found.evidence,
            attempts=logical.attempts,
            endpoint=logical.address,
            retry_after=found.retry_after,
            transient=found.transient,
            verdict=found.verdict,
            why_not_retried=found.why_not or ("body" if spent and found.transient else None),
            replayed=found.replayed,
        )
        return error

    def _leaves(self) -> Iterable[Any]:
        """All that sends, each once: a transport of the user's stands for every place."""
        places = self._places  # where nothing was sent yet, nothing is open
        leaves = [*(endpoint.exchange for endpoint in places or ()), self.outside]
        return {id(leaf): leaf for leaf in leaves}.values()

    def _heard(self, attempt: Attempt, found: Finding | None, exc: BaseException | None) -> None:
        """The endpoint learns how it went: ``found`` and ``exc`` are None where all is well."""
        endpoints = self.endpoints
        if isinstance(endpoints, Endpoints):
            now = self.dependency.clock.monotonic()
            verdict, penalty = SUCCESS, 0.0
            if found is not None:
                given_up = not isinstance(exc, Exception)
                verdict = IGNORED if given_up or endpoints.ignores(exc) else found.verdict
                if (
                    found.quota is None and found.key is None
                ):  # else it is the service's, and not the endpoint's
                    penalty = found.retry_after or (PENALTY if found.evidence is Evidence.DECLINED else 0.0)
            # Without the time that it took to connect: that is not paid again.
            latency = now - (attempt.sent_at or attempt.began)
            attempt.endpoint.heard(attempt.permit, verdict, latency, now, penalty)

    def _left(self, attempt: Attempt | None) -> None:
        """It is not in flight any more; said again where an exception may have come between (a signal handler's)."""
        if attempt is not None and attempt.endpoint is not None:
            attempt.endpoint.leave(attempt)

    def _returned(self, request: Any, result: Any, logical: Logical) -> Any:
        response = result.result if result.__class__ is Unfinished else result
        if response is logical.response:
            response.extensions[STATE] = logical.good_report()
            if self.dependency.reads:
                answers.look_at_good(self.dependency, request, response)
        else:
            response = self.dependency.stood_in(response, logical)
        logical.hop_ended(request, response)
        return response

    def _gave_answer(self, request: Any, answered: Answered, logical: Logical) -> Any:
        """No policy made anything better of an error answer: it is the result; or the error that it is, where it speaks
        of the idempotency key."""
        response = answered.response
        report = answered.__dict__[STATE]
        response.extensions[STATE] = report = logical.report(
            retry_after=report.retry_after,
            why_not_retried=report.why_not_retried,
            transient=report.transient,
            verdict=report.verdict,
            replayed=report.replayed,
        )
        if answered.key is not None:
            error = answers.key_error(self.dependency, answered.key, request, response, logical, report)
            if error is not None:
                return error
        mark = answered.__dict__.get(MARK)
        if mark is not None and report.why_not_retried != "not_transient":
            response.extensions[MARK] = mark
        logical.hop_ended(request, response)
        return response


def _repeatable(request: Any) -> bool:
    """Whether the request may be sent again after it may have happened; the retry asks."""
    logical: Logical = request.extensions[STATE]
    return logical.repeatable
