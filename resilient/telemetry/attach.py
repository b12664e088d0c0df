"""Attaching telemetry to the events of the policies: once per process, and again with other providers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import get_current
from opentelemetry.metrics import MeterProvider, get_meter, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer, get_tracer_provider

from ..core import tracing
from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.events import Event, subscribe
from ..core.forks import tell_after_fork
from .logs import EventLog
from .metrics import Metrics
from .spans import SETTER, Attempt, Attempts, Headers, span_events

_SCOPE = "resilient"
_LOOK_EVERY = 1.0
"""Seconds between two looks for an SDK."""


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

    def await_sdk(self) -> None:
        with self._lock:
            if self._detach is None and tracing.TRACER is None:
                tracing.TRACER = _Doorbell()

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

    The clients of this library see to it by themselves as soon as an OpenTelemetry SDK is set up, before or
    after they are made; code that only decorates functions calls this once, at its start.

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
        log = EventLog(clock)

        def listen(event: Event) -> None:
            metrics(event)
            log(event)
            span_events(event)

        stop = subscribe(listen)
        tracing.TRACER = Attempts(get_tracer(_SCOPE, tracer_provider=tracer_provider), metrics.attempt)

        def detach() -> None:
            tracing.TRACER = None
            metrics.end()
            stop()

        return detach

    _ATTACHED.attach(make, again=meter_provider is not None or tracer_provider is not None)
    return _ATTACHED.detach


def instrument_when_useful() -> None:
    """`instrument` as soon as an SDK is set up; until then nothing is built that nobody would see."""
    if _sdk_is_there():
        instrument()
    else:
        _ATTACHED.await_sdk()


def _sdk_is_there() -> bool:
    """Whether a global provider is anything but the API's own stand-in."""
    for provider in (get_meter_provider(), get_tracer_provider()):
        home = type(provider).__module__
        if not home.startswith("opentelemetry.") or home.startswith("opentelemetry.sdk"):
            return True
    return False


class _Doorbell:
    """In place of `Attempts` while there is no SDK: hands the caller's context on, and looks for one."""

    def __init__(self) -> None:
        self._look_at = 0.0

    def begin(self, method: str, url: Any, headers: Headers, resend_count: int, /) -> Attempt | None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY
            if _sdk_is_there():
                instrument()
                tracer: Any = tracing.TRACER
                if tracer is not None and tracer is not self:
                    found: Attempt | None = tracer.begin(method, url, headers, resend_count)
                    return found
        if get_current():
            propagate.inject(headers, setter=SETTER)
        return None
