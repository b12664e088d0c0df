"""The transports: one logical call under its policies, sync and async side by side.

Both drivers are the same but for ``await``. What they decide stands in `logical`, how they send in
`exchange`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..core import tracing
from ..core.call import CURRENT, Call
from ..core.errors import TimedOut
from ..core.outcome import IGNORED, SUCCESS, Evidence, Unfinished, Verdict, attach
from ..core.pipeline import Pipeline
from ..core.policy import Site
from .attempt import Attempt, failure, stale
from .body import ResponseBody
from .endpoints import Endpoints
from .hints import Finding, answer
from .logical import STATE, Answered, Dependency, Logical


class Base:
    """What both transports share: everything but the sending.

    Args:
        dependency: what is called, and under which policies.
        endpoints: where it is.
        outside: sends requests to other authorities (a redirect's), with the deadline alone.
    """

    def __init__(self, dependency: Dependency, endpoints: Endpoints[Any], outside: Any) -> None:
        self.dependency = dependency
        self.endpoints = endpoints
        self.outside = outside
        self._runs: dict[str, Callable[[Any], Any]] = {}  # by method; two threads may bind one twice, no more

    @property
    def pipeline(self) -> Pipeline:
        """The policies."""
        return self.dependency.pipeline

    def _site(self, method: str, function: Callable[..., Any]) -> Site:
        site = Site(
            self.dependency.name, method, self.dependency.clock, function, self.pipeline.name is not None
        )
        for policy in self.pipeline.policies:
            policy.adopt(site)
        return site

    def _try(self, request: Any, logical: Logical, call: Call) -> Attempt:
        """Begin an attempt, if the deadline leaves time for it."""
        dependency = self.dependency
        now = dependency.clock.monotonic()
        if call.deadline is not None and call.deadline <= now:
            raise dependency.no_time_left()
        endpoint, permit = self.endpoints.pick(logical.tried, now)
        logical.begin_attempt(endpoint)
        attempt = Attempt(
            call.deadline,
            clock=dependency.clock.monotonic,
            connect_timeout=dependency.connect_timeout,
            headers=dependency.own_headers(call, now),
            fresh=logical.fresh,
            body=logical.body,
        )
        tracer = tracing.TRACER
        if tracer is not None:
            attempt.span = tracer.begin(request.method, request.url, attempt.headers, logical.attempts - 1)
        attempt.endpoint, attempt.permit, attempt.began = endpoint, permit, now
        return attempt

    def _failed(self, exc: BaseException, attempt: Attempt, request: Any, logical: Logical) -> bool:
        """The attempt failed: note what it proves. True: send again at once, on a fresh socket or
        elsewhere."""
        found = failure(exc, attempt, foreign=attempt.endpoint.exchange.foreign)
        logical.ended(found.evidence)
        self._left(attempt, found.verdict if isinstance(exc, Exception) else IGNORED)
        if attempt.span is not None:
            attempt.span.end(error=exc)
        if not isinstance(exc, Exception):
            attach(
                exc, evidence=found.evidence
            )  # what ended it may be our own time-out, which keeps the report
            return False
        spent = attempt.body is not None and attempt.body.started and not attempt.body.replayable
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
        if stale(exc, attempt) and logical.repeatable and not attempt.fresh:
            # The peer closed a kept connection while we took it up: the socket's fault (RFC 9110 9.2.2).
            logical.fresh = True
            logical.tried.discard(attempt.endpoint)
            return True
        elsewhere = found.evidence in (Evidence.NOT_SENT, Evidence.REFUSED) and found.transient
        return elsewhere and len(self.endpoints) > 1 and self.endpoints.untried(logical.tried)

    def _answered(self, response: Any, attempt: Attempt, logical: Logical) -> Any:
        """An answer came: the result of the attempt, or `Answered` where policies must know of it."""
        found = answer(response.status_code, response.headers, keyed=self.dependency.profile.honours)
        logical.ended(Evidence.ANSWERED if found is None else found.evidence)
        self._left(attempt, SUCCESS if found is None else found.verdict)
        if attempt.span is not None:
            attempt.span.end(status=response.status_code)
        if found is not None:
            raise self._as_failure(response, found, logical)
        logical.response = response
        stream = response.stream
        if isinstance(stream, ResponseBody):
            unfinished = Unfinished(response)
            stream.on_end = unfinished.end
            return unfinished
        return response

    def _as_failure(self, response: Any, found: Finding, logical: Logical) -> Answered:
        error = Answered(response)
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
        )
        return error

    def _leaves(self) -> Iterable[Any]:
        """All that sends, each once: a transport of the user's stands for every place."""
        leaves = [*(endpoint.exchange for endpoint in self.endpoints), self.outside]
        return {id(leaf): leaf for leaf in leaves}.values()

    def _left(self, attempt: Attempt, verdict: Verdict) -> None:
        if len(self.endpoints) > 1:  # one alone is neither compared nor ejected
            now = self.dependency.clock.monotonic()
            attempt.endpoint.leave(attempt.permit, verdict, now - attempt.began, now)

    def _returned(self, result: Any, logical: Logical) -> Any:
        response = result.result if result.__class__ is Unfinished else result
        if response is logical.response:
            response.extensions[STATE] = logical.good_report()
            return response
        return self.dependency.stood_in(response, logical)

    def _gave_answer(self, answered: Answered, logical: Logical) -> Any:
        """No policy made anything better of an error answer: it is the result."""
        response = answered.response
        report = answered.__dict__[STATE]
        response.extensions[STATE] = logical.report(
            retry_after=report.retry_after,
            why_not_retried=report.why_not_retried,
            transient=report.transient,
            verdict=report.verdict,
        )
        return response


class SyncTransport(Base):
    """The sync driver; a binding mixes it with its SDK's ``BaseTransport``."""

    def handle_request(self, request: Any) -> Any:
        dependency = self.dependency
        logical, call = dependency.begin(request)
        if not dependency.owns(request):
            dependency.strip_key(request, logical)
            try:
                return self.outside.send(request, Attempt(call.deadline, clock=dependency.clock.monotonic))
            except TimedOut as exc:
                dependency.ended_elsewhere(exc, request)
                raise
        token = CURRENT.set(dependency.prepare(request, logical, call))
        try:
            return self._returned(self._run(request.method)(request), logical)
        except Answered as answered:
            return self._gave_answer(answered, logical)
        except Exception as exc:
            error = dependency.ended(exc, request, logical, call)
            if error is exc:
                raise
            raise error from exc
        finally:
            CURRENT.reset(token)

    def _run(self, method: str) -> Callable[[Any], Any]:
        run = self._runs.get(method)
        if run is None:
            run = self._runs[method] = self.pipeline.bind(self._send, self._site(method, self._send))
        return run

    def _send(self, request: Any) -> Any:
        """One attempt, as the policies see it; a move to another endpoint is part of it."""
        logical: Logical = request.extensions[STATE]
        call = CURRENT.get()
        while True:
            attempt = self._try(request, logical, call)
            try:
                response = attempt.endpoint.exchange.send(request, attempt)
            except BaseException as exc:
                if self._failed(exc, attempt, request, logical):
                    continue
                raise
            return self._answered(response, attempt, logical)

    def close(self) -> None:
        """Close every connection that is idle; the others when they come back."""
        for leaf in self._leaves():
            leaf.close()


class AsyncTransport(Base):
    """The async driver; a binding mixes it with its SDK's ``AsyncBaseTransport``."""

    async def handle_async_request(self, request: Any) -> Any:
        dependency = self.dependency
        logical, call = dependency.begin(request)
        if not dependency.owns(request):
            dependency.strip_key(request, logical)
            try:
                return await self.outside.send(
                    request, Attempt(call.deadline, clock=dependency.clock.monotonic)
                )
            except TimedOut as exc:
                dependency.ended_elsewhere(exc, request)
                raise
        token = CURRENT.set(dependency.prepare(request, logical, call))
        try:
            return self._returned(await self._run(request.method)(request), logical)
        except Answered as answered:
            return self._gave_answer(answered, logical)
        except Exception as exc:
            error = dependency.ended(exc, request, logical, call)
            if error is exc:
                raise
            raise error from exc
        finally:
            CURRENT.reset(token)

    def _run(self, method: str) -> Callable[[Any], Any]:
        run = self._runs.get(method)
        if run is None:
            run = self._runs[method] = self.pipeline.abind(self._send, self._site(method, self._send))
        return run

    async def _send(self, request: Any) -> Any:
        """As `SyncTransport._send`."""
        logical: Logical = request.extensions[STATE]
        call = CURRENT.get()
        while True:
            attempt = self._try(request, logical, call)
            try:
                response = await attempt.endpoint.exchange.send(request, attempt)
            except BaseException as exc:
                if self._failed(exc, attempt, request, logical):
                    continue
                raise
            return self._answered(response, attempt, logical)

    async def aclose(self) -> None:
        """Close every connection that is idle; the others when they come back."""
        for leaf in self._leaves():
            await leaf.aclose()
