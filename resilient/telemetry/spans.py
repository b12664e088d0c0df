"""Spans of HTTP attempts, ``traceparent`` on the wire, and events on the spans that are there.

Instrumentation of an HTTP client usually patches that client's own transport, which is not the one used here;
so the attempt is traced where it is made. Sources: OpenTelemetry semantic conventions for HTTP client spans,
W3C Trace Context."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import Context, get_current
from opentelemetry.propagators.textmap import Setter
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from ..core.events import (
    AttemptFinished,
    CallFinished,
    Event,
    FeatureExecuted,
    FeatureUnknown,
    RetryFinished,
    Waited,
    complain,
)
from ..core.outcome import error_type

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})

_QUIET = frozenset({CallFinished, AttemptFinished, RetryFinished, Waited, FeatureUnknown})
"""What metrics count and a span shows by itself."""

Headers = list[tuple[bytes, bytes]]


def span_events(event: Event, /) -> None:
    """A listener that notes what is rare on the caller's span, where one records."""
    if type(event) in _QUIET or (isinstance(event, FeatureExecuted) and event.path == "normal"):
        return
    span = get_current_span()
    if span.is_recording():
        attributes = event.attributes()
        span.add_event(attributes.pop("event.name"), attributes)


class _IntoHeaders(Setter[Headers]):
    def set(self, carrier: Headers, key: str, value: str) -> None:
        carrier.append((key.encode("ascii"), value.encode("utf-8")))


SETTER = _IntoHeaders()


class Attempts:
    """Traces and times the attempts over HTTP.

    Args:
        tracer: makes their spans.
        record: takes the duration in seconds, the attributes and the context of each.
    """

    def __init__(self, tracer: Tracer, record: Callable[[float, Mapping[str, Any], Any], None]) -> None:
        self._tracer = tracer
        self._record = record

    def begin(self, method: str, url: Any, headers: Headers, resend_count: int, /) -> Attempt | None:
        """An attempt begins; its ``traceparent`` joins ``headers``. None where telemetry itself fails."""
        try:
            return self._begin(method, url, headers, resend_count)
        except Exception:
            complain(self)
            return None

    def _begin(self, method: str, url: Any, headers: Headers, resend_count: int) -> Attempt:
        known = method if method in METHODS else "_OTHER"
        common = {
            "http.request.method": known,
            "server.address": url.host,
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }
        span = self._tracer.start_span(known if known != "_OTHER" else "HTTP", kind=SpanKind.CLIENT)
        if span.is_recording():
            span.set_attributes(common)
            # Without query and user: they hold secrets more often than not.
            span.set_attribute("url.full", f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}")
            if known == "_OTHER":
                span.set_attribute("http.request.method_original", method[:32])
            if resend_count:
                span.set_attribute("http.request.resend_count", resend_count)
        context = get_current()
        if context or span.is_recording():  # else there is nothing to hand on, not even baggage
            context = set_span_in_context(span, context)
            propagate.inject(headers, context=context, setter=SETTER)
        return Attempt(span, context, common, self._record)


class Attempt:
    """One attempt; see `resilient.core.tracing.AttemptSpan`."""

    __slots__ = ("_began", "_common", "_context", "_record", "_span")

    def __init__(
        self,
        span: Span,
        context: Context,
        common: dict[str, Any],
        record: Callable[[float, Mapping[str, Any], Any], None],
    ) -> None:
        self._span = span
        self._context = context
        self._common = common
        self._record = record
        self._began = time.perf_counter()

    @property
    def recording(self) -> bool:
        """Whether its span does."""
        return self._span.is_recording()

    def note(self, attributes: Mapping[str, Any], /) -> None:
        """Further attributes of its span."""
        try:
            self._span.set_attributes(attributes)
        except Exception:
            complain(self._record)

    def end(self, *, status: int | None = None, error: BaseException | None = None) -> None:
        """The attempt is over."""
        try:
            self._end(status, error)
        except Exception:
            complain(self._record)

    def _end(self, status: int | None, error: BaseException | None) -> None:
        common, span = self._common, self._span
        if status is not None:
            common["http.response.status_code"] = status
        kind = None
        if error is not None:
            kind = error_type(error)
        elif status is not None and status >= 400:
            kind = str(status)
        if kind is not None:
            common["error.type"] = kind
        self._record(time.perf_counter() - self._began, common, self._context)
        if span.is_recording():
            if status is not None:
                span.set_attribute("http.response.status_code", status)
            if kind is not None:
                span.set_attribute("error.type", kind)
                span.set_status(Status(StatusCode.ERROR))
        span.end()
