"""A test kit for users of this library: time that tests move, an origin that misbehaves, events collected.

Not imported by ``import resilient``; needs nothing but the standard library (`Origin` with ``tls=True``:
trustme, with ``http2=True``: h2; `Nameserver`: dnslib). The pytest fixtures stand in `resilient.testing.plugin`.
Names are imported when first used.

Example:
    >>> from resilient import Pipeline, Retry
    >>> from resilient.testing import ManualClock, capture_events
    >>> clock = ManualClock()
    >>> answers = iter([ConnectionError("reset"), ConnectionError("reset"), "done"])
    >>> @Pipeline(Retry(attempts=3), name="catalog", clock=clock)
    ... def fetch():
    ...     answer = next(answers)
    ...     if isinstance(answer, Exception):
    ...         raise answer
    ...     return answer
    >>> with capture_events() as seen:
    ...     fetch()
    'done'
    >>> len(clock.sleeps), len(seen.named("resilient.retry.scheduled"))
    (2, 2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .behaviours import Behaviour as Behaviour
    from .behaviours import answer as answer
    from .behaviours import by_handler as by_handler
    from .behaviours import close_without_answer as close_without_answer
    from .behaviours import die as die
    from .behaviours import drip_body as drip_body
    from .behaviours import drip_head as drip_head
    from .behaviours import enhance_your_calm as enhance_your_calm
    from .behaviours import garbage as garbage
    from .behaviours import goaway as goaway
    from .behaviours import hang as hang
    from .behaviours import http_1_1_required as http_1_1_required
    from .behaviours import ignore_continue as ignore_continue
    from .behaviours import lose_connection as lose_connection
    from .behaviours import refused_stream as refused_stream
    from .behaviours import reset_after_effect as reset_after_effect
    from .behaviours import reset_before_effect as reset_before_effect
    from .behaviours import reset_before_request as reset_before_request
    from .behaviours import reset_mid_body as reset_mid_body
    from .behaviours import reset_mid_head as reset_mid_head
    from .behaviours import reset_on_accept as reset_on_accept
    from .behaviours import reset_stream as reset_stream
    from .behaviours import retry_later as retry_later
    from .behaviours import slow as slow
    from .behaviours import stale as stale
    from .behaviours import stall_upload as stall_upload
    from .behaviours import truncated as truncated
    from .behaviours import wrong_length as wrong_length
    from .clock import ManualClock as ManualClock
    from .events import CapturedEvents as CapturedEvents
    from .events import capture_events as capture_events
    from .exchange import Exchange as Exchange
    from .exchange import Request as Request
    from .flags import feature_flags as feature_flags
    from .loop import DeadlockError as DeadlockError
    from .loop import VirtualTimeLoop as VirtualTimeLoop
    from .nameserver import Nameserver as Nameserver
    from .origin import Origin as Origin
    from .volume import KubeletVolume as KubeletVolume

_HOMES = {
    "behaviours": (
        "Behaviour",
        "answer",
        "by_handler",
        "close_without_answer",
        "die",
        "drip_body",
        "drip_head",
        "enhance_your_calm",
        "garbage",
        "goaway",
        "hang",
        "http_1_1_required",
        "ignore_continue",
        "lose_connection",
        "refused_stream",
        "reset_after_effect",
        "reset_before_effect",
        "reset_before_request",
        "reset_mid_body",
        "reset_mid_head",
        "reset_on_accept",
        "reset_stream",
        "retry_later",
        "slow",
        "stale",
        "stall_upload",
        "truncated",
        "wrong_length",
    ),
    "clock": ("ManualClock",),
    "events": ("CapturedEvents", "capture_events"),
    "exchange": ("Exchange", "Request"),
    "flags": ("feature_flags",),
    "loop": ("DeadlockError", "VirtualTimeLoop"),
    "nameserver": ("Nameserver",),
    "origin": ("Origin",),
    "volume": ("KubeletVolume",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("." + _HOME[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__
