"""Metrics, spans and log records of what the policies do, through the OpenTelemetry API."""

from .attach import instrument, instrument_when_useful
from .evaluations import flag_evaluations

__all__ = ["flag_evaluations", "instrument", "instrument_when_useful"]
