"""An OpenTelemetry SDK in memory, read the way an exporter reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilient import instrument
from resilient.core.clock import SYSTEM_CLOCK, Clock


class Collected:
    """What was exported so far."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def metrics(self) -> dict[str, Any]:
        """Every metric that has a value, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The attributes of each series of a metric, with its value, or its count and sum."""
        metric = self.metrics().get(name)
        if metric is None:
            return []
        found = []
        for point in metric.data.data_points:
            value = point.value if hasattr(point, "value") else (point.count, point.sum)
            found.append((dict(point.attributes), value))
        return found

    def one(self, name: str, **attributes: Any) -> Any:
        """The value of the only series that has these attributes (``_`` stands for a dot)."""
        wanted = {
            key.replace("_", ".") if key == "error_type" else key: value for key, value in attributes.items()
        }
        found = [value for has, value in self.points(name) if wanted.items() <= has.items()]
        assert len(found) == 1, f"{name}{wanted}: {self.points(name)}"
        return found[0]

    def spans(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())


@contextmanager
def collecting(clock: Clock = SYSTEM_CLOCK) -> Iterator[Collected]:
    """Telemetry attached to an SDK of its own, and taken off afterwards."""
    collected = Collected()
    stop = instrument(meter_provider=collected.meters, tracer_provider=collected.tracers, clock=clock)
    try:
        yield collected
    finally:
        stop()
        collected.meters.shutdown()
        collected.tracers.shutdown()
