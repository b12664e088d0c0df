"""Bulkhead: a bound on what is in flight, so that one slow callee cannot take every thread and connection."""

from .options import BulkheadOptions
from .policy import Bulkhead

__all__ = ["Bulkhead", "BulkheadOptions"]
