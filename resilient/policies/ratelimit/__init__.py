"""Rate limit: never send more than the callee was tested for."""

from .options import RateLimitOptions
from .policy import RateLimit

__all__ = ["RateLimit", "RateLimitOptions"]
