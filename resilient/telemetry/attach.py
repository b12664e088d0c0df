"""Attaching telemetry to the events of the policies: once per process, and again with other providers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import TracerProvider, get_tracer

from ..core import tracing
from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.events import subscribe
from ..core.forks import tell_after_fork
from .logs import EventLog
from .metrics import Metrics
from .spans import Attempts, span_events

_SCOPE = "resilient"


class _Attached:
    """What is attached now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detach: Callable[[], None] | None = None  # guarded by _lock

    def attach(self, make: Callable[[], Callable[[], None]], again: bool) -> None:
        with self._lock:
            if self._detach is not None:
                if not again:
                    return
                self._detach()
            self._detach = make()

    def detach(self) -> None:
        with self._lock:
            if self._detach is not None:
                self._detach()
                self._detach = None

    def after_fork(self) -> None:
        self._lock = threading.Lock()


_ATTACHED = _Attached()
tell_after_fork(_ATTACHED)


def instrument(
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Callable[[], None]:
    """Have metrics, spans and log records made of what the policies do; returns the function that ends it.

    The clients of this library call it; code that only decorates functions calls it once, at its start. The
    order of this call and of setting up the OpenTelemetry SDK does not matter. Without an SDK nothing is
    recorded, at the cost of a few microseconds a call.

    Args:
        meter_provider: where metrics go; None: the global one.
        tracer_provider: where the spans of HTTP attempts go; None: the global one.
        clock: where the log takes the time from to write no more than one line a second of a kind.

    Calling it again does nothing, unless a provider is given: that replaces what was attached. Thread-safe.
    A failure in telemetry is logged once and never reaches a call.

    Example:
        >>> stop = instrument()
        >>> stop()
    """

    def make() -> Callable[[], None]:
        metrics = Metrics(get_meter(_SCOPE, meter_provider=meter_provider))
        stops = [subscribe(each) for each in (metrics, span_events, EventLog(clock))]
        tracing.TRACER = Attempts(get_tracer(_SCOPE, tracer_provider=tracer_provider), metrics.attempt)

        def detach() -> None:
            tracing.TRACER = None
            metrics.end()
            for stop in stops:
                stop()

        return detach

    _ATTACHED.attach(make, again=meter_provider is not None or tracer_provider is not None)
    return _ATTACHED.detach
