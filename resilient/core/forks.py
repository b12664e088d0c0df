"""What a forked child must make anew.

A lock that another thread held at the fork stays locked in the child for ever, and the calls in flight in the
parent are not in flight in the child. Objects with either register here (weakly) and are told after a fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Protocol


class Forkable(Protocol):
    def after_fork(self) -> None:
        """Remake locks and forget what is in flight. Runs in the child, alone."""
        ...


_objects: weakref.WeakSet[Forkable] = weakref.WeakSet()


def tell_after_fork(obj: Forkable, /) -> None:
    """Call ``obj.after_fork()`` in every child that is forked while ``obj`` is alive."""
    _objects.add(obj)


_loading = threading.RLock()


def load_unforked(load: Callable[[], None], /) -> None:
    """Import modules in a thread of ours, while nobody can fork.

    The import system has a lock per module. One that the thread held at the fork would stay locked in the child, whose
    own import of that module would wait for ever.

    Args:
        load: imports modules, and runs no code of the user's: a fork waits until it is done.
    """
    with _loading:
        load()


def _in_child() -> None:
    from .events import RUNTIME

    RUNTIME.remake_lock()
    for obj in list(_objects):
        obj.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
    os.register_at_fork(
        before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
    )
