"""What the process is told from outside: `load`, `status`, `history` and `explain` for the config
document, and what a person does in one process: `override`, `rollback`.

Guide: ``docs/config.md``. Names are imported when they are first used."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .center import explain as explain
    from .center import history as history
    from .center import load as load
    from .center import status as status
    from .control import Pin as Pin
    from .explanation import Explanation as Explanation
    from .feed import Status as Status
    from .overrides import Override as Override
    from .push import Source as Source
    from .records import Change as Change
    from .records import Difference as Difference
    from .signals import signal as signal
    from .signals import watch_loop as watch_loop
    from .steering import override as override
    from .steering import rollback as rollback
    from .steering import unpin as unpin

_HOMES = {
    "center": ("explain", "history", "load", "status"),
    "control": ("Pin",),
    "overrides": ("Override",),
    "signals": ("signal", "watch_loop"),
    "steering": ("override", "rollback", "unpin"),
    "records": ("Change", "Difference"),
    "explanation": ("Explanation",),
    "feed": ("Status",),
    "push": ("Source",),
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
