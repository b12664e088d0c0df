"""Timeout and deadline: how long an attempt, or the whole call, may take."""

from .options import TimeoutOptions
from .policy import Timeout

__all__ = ["Timeout", "TimeoutOptions"]
