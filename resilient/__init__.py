"""Outbound calls that survive what the network, the callee and the operators do to them.

The public names; each is imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; `typing` is dearer to import than all that stands here
if TYPE_CHECKING:
    from . import aiohttp as aiohttp
    from . import grpc as grpc
    from . import httpx as httpx
    from . import httpx2 as httpx2
    from . import openfeature as openfeature
    from . import requests as requests
    from .config.features import degradable as degradable
    from .config.features import features as features
    from .config.settings import configure as configure
    from .core.backoff import Backoff as Backoff
    from .core.backoff import backoff as backoff
    from .core.budget import Budget as Budget
    from .core.call import Call as Call
    from .core.call import Criticality as Criticality
    from .core.call import criticality as criticality
    from .core.call import current_call as current_call
    from .core.call import deadline as deadline
    from .core.clock import Clock as Clock
    from .core.errors import BulkheadFull as BulkheadFull
    from .core.errors import CircuitOpen as CircuitOpen
    from .core.errors import ConfigError as ConfigError
    from .core.errors import DeadlineExceeded as DeadlineExceeded
    from .core.errors import DocumentError as DocumentError
    from .core.errors import FeatureDisabled as FeatureDisabled
    from .core.errors import IdempotencyError as IdempotencyError
    from .core.errors import InProgress as InProgress
    from .core.errors import KeyRequired as KeyRequired
    from .core.errors import KeyReused as KeyReused
    from .core.errors import NoEndpoints as NoEndpoints
    from .core.errors import OutcomeUnknown as OutcomeUnknown
    from .core.errors import PolicyError as PolicyError
    from .core.errors import RateLimited as RateLimited
    from .core.errors import Rejected as Rejected
    from .core.errors import ResilientError as ResilientError
    from .core.errors import TimedOut as TimedOut
    from .core.errors import WindowExceeded as WindowExceeded
    from .core.events import Event as Event
    from .core.events import is_active as is_active
    from .core.events import set_active as set_active
    from .core.events import subscribe as subscribe
    from .core.outcome import Evidence as Evidence
    from .core.outcome import Report as Report
    from .core.outcome import Verdict as Verdict
    from .core.outcome import report_of as report_of
    from .core.pipeline import Pipeline as Pipeline
    from .core.pipeline import PolicyWarning as PolicyWarning
    from .core.policy import Gate as Gate
    from .core.policy import Policy as Policy
    from .core.policy import Site as Site
    from .core.policy import Wait as Wait
    from .core.when import ANY_ERROR as ANY_ERROR
    from .core.when import TRANSIENT as TRANSIENT
    from .core.when import When as When
    from .dependency import outbound as outbound
    from .discovery.options import Dns as Dns
    from .policies.breaker import CircuitBreaker as CircuitBreaker
    from .policies.bulkhead import Bulkhead as Bulkhead
    from .policies.fallback import Fallback as Fallback
    from .policies.ratelimit import RateLimit as RateLimit
    from .policies.retry import Retry as Retry
    from .policies.timeout import Timeout as Timeout
    from .presets import standard as standard
    from .telemetry import instrument as instrument

_HOMES = {
    "config.features": ("degradable", "features"),
    "config.settings": ("configure",),
    "core.backoff": ("Backoff", "backoff"),
    "core.budget": ("Budget",),
    "core.call": ("Call", "Criticality", "criticality", "current_call", "deadline"),
    "core.clock": ("Clock",),
    "core.errors": (
        "BulkheadFull",
        "CircuitOpen",
        "ConfigError",
        "DeadlineExceeded",
        "DocumentError",
        "FeatureDisabled",
        "IdempotencyError",
        "InProgress",
        "KeyRequired",
        "KeyReused",
        "NoEndpoints",
        "OutcomeUnknown",
        "PolicyError",
        "RateLimited",
        "Rejected",
        "ResilientError",
        "TimedOut",
        "WindowExceeded",
    ),
    "core.events": ("Event", "is_active", "set_active", "subscribe"),
    "core.outcome": ("Evidence", "Report", "Verdict", "report_of"),
    "core.pipeline": ("Pipeline", "PolicyWarning"),
    "core.policy": ("Gate", "Policy", "Site", "Wait"),
    "core.when": ("ANY_ERROR", "TRANSIENT", "When"),
    "discovery.options": ("Dns",),
    "policies.breaker": ("CircuitBreaker",),
    "policies.bulkhead": ("Bulkhead",),
    "policies.fallback": ("Fallback",),
    "policies.ratelimit": ("RateLimit",),
    "policies.retry": ("Retry",),
    "policies.timeout": ("Timeout",),
    "dependency": ("outbound",),
    "presets": ("standard",),
    "telemetry": ("instrument",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

_BINDINGS = ("aiohttp", "grpc", "httpx", "httpx2", "openfeature", "requests")
__all__ = sorted(_HOME)  # without the bindings: `from resilient import *` must not hide the SDK


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _BINDINGS:
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("." + _HOME[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, *_BINDINGS]
