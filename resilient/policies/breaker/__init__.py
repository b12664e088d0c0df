"""Circuit breaker: a callee that is failing or slow is left alone, and tried again by a few bounded
probes."""

from .options import CircuitBreakerOptions
from .policy import CircuitBreaker

__all__ = ["CircuitBreaker", "CircuitBreakerOptions"]
