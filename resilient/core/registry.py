"""Live objects by name: the only global that holds any.

Pipelines are held weakly: they live as long as the functions that they decorate. A name may have several (a
sync and an async client of one dependency); budgets are shared by name, because the budget is the
dependency's."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .budget import Budget
from .forks import tell_after_fork

if TYPE_CHECKING:
    from .pipeline import Pipeline


class Located(Protocol):
    """The endpoints of a dependency, as whoever looks at all of them sees them."""

    dependency: str


class Registry:
    """What exists in this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a collector run inside may call back into it
        # In the order in which they were made; guarded by _lock
        self._pipelines: weakref.WeakKeyDictionary[Pipeline, None] = weakref.WeakKeyDictionary()
        self._budgets: weakref.WeakValueDictionary[str, Budget] = (
            weakref.WeakValueDictionary()
        )  # guarded by _lock
        self._follow: Callable[[Pipeline], None] | None = None  # guarded by _lock
        self._located: weakref.WeakSet[Located] = weakref.WeakSet()  # guarded by _lock

    def add(self, pipeline: Pipeline, /) -> None:
        with self._lock:
            self._pipelines[pipeline] = None
            follow = self._follow
        if follow is not None:
            follow(pipeline)

    def follow(self, follow: Callable[[Pipeline], None] | None, /) -> None:
        """Have every further pipeline told to ``follow``."""
        with self._lock:
            self._follow = follow

    def pipelines(self, name: str | None = None, /) -> list[Pipeline]:
        """All named pipelines, or those of one name, in the order in which they were made."""
        with self._lock:
            found = list(self._pipelines)
        return [each for each in found if name is None or each.name == name]

    def add_endpoints(self, located: Located, /) -> None:
        with self._lock:
            self._located.add(located)

    def endpoints(self) -> list[Any]:
        """The sets of endpoints that are balanced."""
        with self._lock:
            return list(self._located)

    def budget(self, name: str, /) -> Budget:
        """The budget of a dependency; made with the defaults where there is none."""
        with self._lock:
            found = self._budgets.get(name)
            if found is None:
                found = self._budgets[name] = Budget()
            return found

    def set_budget(self, name: str, budget: Budget, /) -> None:
        """Make ``budget`` the one that pipelines of this name take, from the next function that they decorate
        on."""
        with self._lock:
            self._budgets[name] = budget

    def after_fork(self) -> None:
        self._lock = threading.RLock()


REGISTRY = Registry()
tell_after_fork(REGISTRY)
