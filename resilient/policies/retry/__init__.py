"""Retry: another attempt, where that is safe, useful and affordable."""

from .options import RetryOptions
from .policy import Attempt, Retry

__all__ = ["Attempt", "Retry", "RetryOptions"]
