"""Retry: another attempt, where that is safe, useful and affordable."""

from .block import Attempt
from .options import RetryOptions
from .policy import Retry

__all__ = ["Attempt", "Retry", "RetryOptions"]
