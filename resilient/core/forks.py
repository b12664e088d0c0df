"""What a forked child must make anew.

A lock that another thread held at the fork stays locked in the child for ever, and the calls in flight in the
parent are not in flight in the child. Objects with either register here (weakly) and are told after a fork.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    def after_fork(self) -> None:
        """Remake locks and forget what is in flight. Runs in the child, alone."""
        ...


_objects: weakref.WeakSet[Forkable] = weakref.WeakSet()


def tell_after_fork(obj: Forkable, /) -> None:
    """Call ``obj.after_fork()`` in every child that is forked while ``obj`` is alive."""
    _objects.add(obj)


def _in_child() -> None:
    from .events import RUNTIME

    RUNTIME.remake_lock()
    for obj in list(_objects):
        obj.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
