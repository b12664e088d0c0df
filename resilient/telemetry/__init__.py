"""Metrics, spans and log records of what the policies do, through the OpenTelemetry API."""

from .attach import instrument, instrument_when_useful

__all__ = ["instrument", "instrument_when_useful"]
