"""Beside what others put around httpx: respx, pytest-httpx, OpenTelemetry's instrumentation. As the docs say."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx
import respx

import resilient.httpx
from resilient.testing import Origin


def test_respx_answers_in_place_of_the_network() -> None:
    with respx.mock() as mocked:
        route = mocked.get("http://svc.example/").mock(side_effect=[httpx.Response(503), httpx.Response(200)])
        with resilient.httpx.client("svc", base_url="http://svc.example") as client:
            assert client.get("/").extensions["resilient"].attempts == 2
        assert route.call_count == 2


def test_pytest_httpx_answers_behind_the_sdks_own_transport(httpx_mock: Any) -> None:
    for status in (503, 200):
        httpx_mock.add_response(status_code=status)
    with Origin() as origin:
        # It patches the SDK's transport, which ours is not.
        with resilient.httpx.client("svc", base_url=origin.url) as client:
            assert client.get("/").status_code == 200
            assert len(origin.requests) == 1
        own = httpx.HTTPTransport()
        with resilient.httpx.client("svc", base_url=origin.url, transport=own) as client:
            assert client.get("/").extensions["resilient"].attempts == 2
        assert len(origin.requests) == 1


def test_opentelemetrys_instrumentation() -> None:
    # In a process of its own: it patches classes, and a tracer provider is set once.
    code = """
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import resilient.httpx
from resilient.testing import Origin

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


def spans(client):
    origin.script(503)
    assert client.get("/").status_code == 200
    found = [span.instrumentation_scope.name.rpartition(".")[2] for span in exporter.get_finished_spans()]
    exporter.clear()
    return found


with Origin() as origin, resilient.httpx.client("svc", base_url=origin.url) as client:
    HTTPXClientInstrumentor().instrument()
    print(*spans(client))
    HTTPXClientInstrumentor().uninstrument()
    HTTPXClientInstrumentor().instrument_client(client)
    print(*spans(client))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "resilient resilient\nresilient resilient httpx\n", done.stderr
