"""Spans of HTTP attempts, the trace context on the wire, and events on the caller's span."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import httpx
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.trace import SpanKind, StatusCode

import resilient.httpx
from resilient import Bulkhead, CircuitBreaker, CircuitOpen, Pipeline, Retry
from resilient.testing import Origin

from .collected import collecting


def test_every_attempt_has_a_span_and_the_server_sees_it_as_its_parent() -> None:
    with (
        collecting() as seen,
        Origin() as origin,
        resilient.httpx.client("bank", base_url=origin.url) as client,
    ):
        origin.script(503, 200)
        with seen.tracers.get_tracer("t").start_as_current_span("order"):
            assert (
                client.get("/charges/7?card=a4111b", headers={"authorization": "Bearer s3cret"}).status_code
                == 200
            )
        first, second, order = seen.spans()
        assert [first.name, second.name, first.kind] == ["GET", "GET", SpanKind.CLIENT]
        assert first.parent.span_id == second.parent.span_id == order.context.span_id
        parents = [request.header("traceparent") for request in origin.requests]
        assert parents == [
            f"00-{order.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"
            for span in (first, second)
        ]
        port = int(origin.url.rpartition(":")[2])
        assert dict(first.attributes) == {
            "http.request.method": "GET",
            "server.address": "127.0.0.1",
            "server.port": port,
            "url.full": f"{origin.url}/charges/7",
            "http.response.status_code": 503,
            "error.type": "503",
            "network.protocol.version": "1.1",
            "resilient.dependency": "bank",
        }
        assert first.status.status_code is StatusCode.ERROR
        assert second.attributes["http.request.resend_count"] == 1
        assert second.status.status_code is StatusCode.UNSET
        assert "a4111b" not in str(seen.spans()[0].to_json())
        assert seen.one("http.client.request.duration", error_type="503")[0] == 1
        ok = [at for at, _ in seen.points("http.client.request.duration") if "error.type" not in at]
        assert ok == [
            {
                "http.request.method": "GET",
                "server.address": "127.0.0.1",
                "server.port": port,
                "http.response.status_code": 200,
            }
        ]
        assert (
            seen.one("resilient.call.duration", dependency="bank", operation="GET", outcome="success")[0] == 1
        )


def test_a_failed_connection_is_an_error_of_its_class() -> None:
    with collecting() as seen, Origin() as origin:
        origin.refuse()
        pipeline = Pipeline(Bulkhead(1), name="bank")
        client = resilient.httpx.client("bank", base_url=origin.url, policies=pipeline)
        with client, pytest.raises(httpx.ConnectError):
            client.request("BREW", "/")
        (span,) = seen.spans()
        assert span.name == "HTTP"
        assert span.attributes["http.request.method"] == "_OTHER"
        assert span.attributes["http.request.method_original"] == "BREW"
        assert span.attributes["error.type"] == "ConnectError"


def test_rare_events_stand_on_the_callers_span() -> None:
    def down() -> None:
        raise ConnectionError

    with collecting() as seen:
        pipeline = Pipeline(Retry(2, wait=0), CircuitBreaker(consecutive=2), name="bank")
        with seen.tracers.get_tracer("t").start_as_current_span("order"):
            with pytest.raises(ConnectionError):
                pipeline.call(down)
            with pytest.raises(CircuitOpen):
                pipeline.call(down)
        (span,) = seen.spans()
        events = {event.name: dict(event.attributes) for event in span.events}
        assert set(events) == {
            "resilient.retry.scheduled",
            "resilient.retry.exhausted",
            "resilient.breaker.transition",
            "resilient.rejected",
        }
        assert events["resilient.breaker.transition"]["resilient.trigger"] == "consecutive"
        assert events["resilient.rejected"]["resilient.by"] == "breaker"


def test_baggage_goes_along_without_any_span() -> None:
    with collecting(), Origin() as origin, resilient.httpx.client("bank", base_url=origin.url) as client:
        token = context.attach(baggage.set_baggage("tenant", "t7"))
        try:
            client.get("/")
        finally:
            context.detach(token)
        assert origin.requests[0].header("baggage") == "tenant=t7"


def test_without_an_sdk_the_callers_context_is_handed_on_and_nothing_listens() -> None:
    """In a process of its own: the global providers can be set once."""
    run_alone(
        """
        from resilient.core.events import RUNTIME
        with Origin() as origin, resilient.httpx.client("bank", base_url=origin.url) as client:
            client.get("/")
            assert RUNTIME.listeners == ()
            parent = trace.NonRecordingSpan(trace.SpanContext(7, 8, True, trace.TraceFlags(1)))
            with trace.use_span(parent):
                client.get("/")
        first, second = origin.requests
        assert first.header("traceparent") is None
        assert second.header("traceparent") == f"00-{7:032x}-{8:016x}-01"
        """
    )


@pytest.mark.parametrize("kind", ["before", "after"])
def test_an_sdk_is_found_whether_it_was_set_up_before_the_client_or_after(kind: str) -> None:
    run_alone(
        f"""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from resilient.telemetry import attach

        reader = InMemoryMetricReader()
        attach._LOOK_EVERY = 0.0  # looks at every attempt
        if {kind!r} == "before":
            metrics.set_meter_provider(MeterProvider([reader]))
        with Origin() as origin, resilient.httpx.client("bank", base_url=origin.url) as client:
            client.get("/")
            if {kind!r} == "after":
                metrics.set_meter_provider(MeterProvider([reader]))
            client.get("/")
            client.get("/")
        data = reader.get_metrics_data()
        names = {{m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}}
        assert {{"resilient.call.duration", "http.client.request.duration", "resilient.breaker.state"}} <= names, names
        """
    )


def run_alone(code: str) -> None:
    head = "import resilient.httpx\nfrom opentelemetry import metrics, trace\nfrom resilient.testing import Origin\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_failure_in_telemetry_never_reaches_the_call(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(trace.Tracer):
        def start_span(self, *args: object, **kwargs: object) -> trace.Span:
            raise RuntimeError("telemetry is broken")

        def start_as_current_span(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            raise RuntimeError("telemetry is broken")

    class Provider(trace.TracerProvider):
        def get_tracer(self, *args: object, **kwargs: object) -> trace.Tracer:
            return Broken()

    stop = resilient.instrument(tracer_provider=Provider())
    try:
        with Origin() as origin, resilient.httpx.client("bank", base_url=origin.url) as client:
            assert [client.get("/").status_code for _ in range(3)] == [200, 200, 200]
    finally:
        stop()
    told = [record for record in caplog.records if "a listener failed" in record.getMessage()]
    assert len(told) == 1
