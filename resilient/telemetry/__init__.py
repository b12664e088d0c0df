"""Metrics, spans and log records of what the policies do, through the OpenTelemetry API."""

from .attach import instrument

__all__ = ["instrument"]
