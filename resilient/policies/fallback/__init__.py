"""Fallback: something to go on with where the call gives nothing."""

from .options import FallbackOptions
from .policy import Fallback

__all__ = ["Fallback", "FallbackOptions"]
