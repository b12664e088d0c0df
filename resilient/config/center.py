"""The config center of the process: which directory is followed, and what came of it.

Light to import: the parts that read documents are loaded when the first call is made."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.clock import SYSTEM_CLOCK
from ..core.errors import ConfigError
from ..core.events import RUNTIME
from ..core.forks import tell_after_fork
from ..core.options import Rule
from ..core.registry import REGISTRY
from .followed import Followed
from .records import Change, History

if TYPE_CHECKING:
    from .explanation import Explanation
    from .feed import Status
    from .live import Live
    from .loader import Loader
    from .overrides import Overrides
    from .section import Section

_STEERING = 10.0
"""Seconds that the thread which looks may take until it does what a person wants."""

_TIMEOUT = Rule(above=0, high=86_400, unit="seconds")


PREFIX = "RESILIENT__"
"""Of variables that set numbers: ``RESILIENT__PAYMENTS__RETRY__ATTEMPTS=2``."""


class Center:
    """Follows one config document, and one for emergencies. Thread-safe; nothing is started before the first call of a
    pipeline.

    Attributes:
        history: what became of them.
    """

    def __init__(self) -> None:
        self.history = History()
        self._lock = threading.RLock()
        self._configured = Followed()  # guarded by _lock
        self._loader: Loader | None = None  # guarded by _lock
        self._loads: Followed | None = None  # what the loader does; guarded by _lock
        self._live: Live | None = None  # guarded by _lock
        self._overrides: Overrides | None = None  # guarded by _lock
        self._variables: dict[str, str] | None = (
            None  # those of the environment that were read; guarded by _lock
        )
        self._again_at = float("-inf")  # when to try to start once more, where that failed
        tell_after_fork(self)

    def after_fork(self) -> None:
        """In a child no thread looks: the first call starts one."""
        self._lock = threading.RLock()
        if self._loader is not None:
            self._loader.after_fork()
        if self._overrides is not None:
            self._overrides.after_fork()
        self.arm()

    @property
    def followed(self) -> Followed:
        """As configured, else as the environment says."""
        with self._lock:
            configured = self._configured
        return configured.else_environment()

    def use(self, followed: Followed, /) -> None:
        """Follow these from the next call on; where nothing is said: the environment's, or none.

        Raises:
            ConfigError: a variable of the environment that sets no number.
        """
        self._heed(_variables())
        with self._lock:
            self._configured = followed
            loader = self._loader
            if self._loads == self.followed:
                if loader is not None:
                    loader.failed = False  # it is not required any more, or that is seen anew
                loader = None
            else:
                self._loader = self._loads = None
        if loader is not None:
            from ..discovery.refresher import REFRESHER

            loader.drop()
            REFRESHER.forget(loader)
            REFRESHER.wake()  # where that was all, its thread ends
            self._let_go()
        self.arm()

    def enlist(self) -> None:
        """A pipeline was made that follows the document and the environment.

        Raises:
            ConfigError: a variable of the environment that sets no number.
        """
        if self._variables is None:
            self._heed(_variables())
        self.arm()

    def _heed(self, variables: dict[str, str]) -> None:
        """Take the numbers that the environment has. Most have none: then nothing is imported."""
        with self._lock:
            known = self._variables or {}
        if variables != known:
            from .environment import read_environment

            environment = read_environment(variables)
            live, _ = self._prepare()
            live.heed(environment)
        with self._lock:
            self._variables = variables

    def _let_go(self) -> None:
        """Documents are not followed any more; where there are no others, all goes back to what the code says."""
        with self._lock:
            live = self._live
        if not self.followed.anything and live is not None:
            from .sections import SECTIONS

            live.release()
            for section in SECTIONS:
                section.publish(section.nothing)

    def arm(self) -> None:
        """Have the first call start the looking."""
        with self._lock:
            waiting = self._loader is None or self._loader.asleep
            ending = self._sleeping() is not None
        if ending or (waiting and self.followed.anything):
            RUNTIME.change(pending=self.first_call)

    def _sleeping(self) -> Overrides | None:
        """Overrides that nobody would end: this process is a child, or the thread ended. Under the lock."""
        found = self._overrides
        return found if found is not None and found.asleep and found.all else None

    def first_call(self) -> None:
        """A pipeline is called: start, unless that has just failed."""
        if SYSTEM_CLOCK.monotonic() < self._again_at:
            self.arm()
            return
        with self._lock:
            overrides = self._sleeping()
        if overrides is not None:
            from ..discovery.refresher import REFRESHER

            if REFRESHER.watch(overrides):
                self._again_at = SYSTEM_CLOCK.monotonic() + 1.0
                self.arm()
        self.start()

    def start(self) -> Loader | None:
        """Look from now on, in the refresher's thread; None where there is nothing to look for.

        Where no thread can be started, the loader stays asleep, and calls try again, once a second.
        """
        if not self.followed.anything:
            return None
        from ..discovery.refresher import REFRESHER
        from .loader import Loader

        with self._lock:
            followed = self.followed  # configure() may have been called meanwhile
            if not followed.anything:
                return None
            loader = self._loader
            if loader is None or self._loads != followed:
                if loader is not None:  # the environment says another one
                    loader.drop()
                loader = self._loader = Loader(
                    followed.directory,
                    self._prepare,
                    ended=self.arm,
                    undo=self._let_go,
                    emergency=followed.emergency,
                    bundled=followed.bundled,
                    cache=followed.cache,
                    source=followed.source,
                    history=self.history,
                )
                self._loads = followed
        if loader.asleep and REFRESHER.watch(loader):
            self._again_at = SYSTEM_CLOCK.monotonic() + 1.0
            self.arm()
        return loader

    def _prepare(self) -> tuple[Live, Sequence[Section]]:
        from .degrading import DEGRADING
        from .live import Live
        from .sections import SECTIONS

        with self._lock:
            live = self._live = self._live or Live()
        REGISTRY.follow(live.follow)
        DEGRADING.follow(live.use_plans, self.history)
        return live, SECTIONS

    def load(self, timeout: float) -> Status:
        loader = self.start()
        if loader is None:
            raise ConfigError(
                "there is no directory to load; write configure(directory='/etc/resilient'), "
                "or set RESILIENT_CONFIG_DIR"
            )
        if loader.asleep and not loader.dropped:
            loader.look_here()  # no thread can be started
        else:
            self._wait_for_look(loader, timeout)
        status = loader.status
        if loader.dropped:
            raise ConfigError(f"{loader} is not followed any more: configure() was called meanwhile")
        if status.problem is not None:
            raise copy(status.problem)  # it is held, and may be raised again
        if status.state == "not_ready" and loader.has_document:
            raise ConfigError(f"{loader} changes faster than it can be read")
        return status

    def _wait_for_look(self, loader: Loader, timeout: float) -> None:
        from ..discovery.refresher import REFRESHER

        until = SYSTEM_CLOCK.monotonic() + timeout
        if loader.pushed is not None and not loader.pushed.answered.wait(timeout):
            raise ConfigError(f"{loader} has not answered within {timeout:g} s")
        with self._lock:
            looked = loader.look_now()
        REFRESHER.wake()
        if not loader.dropped and not looked.wait(max(0.0, until - SYSTEM_CLOCK.monotonic())):
            raise ConfigError(f"{loader} could not be read within {timeout:g} s")

    def require(self, timeout: float) -> None:
        """Read now, and see that something is in force, also what stands in for the document.

        Raises:
            ConfigError: nothing is.
        """
        why: ConfigError | None = None
        try:
            self.load(timeout)
        except ConfigError as exc:
            why = exc
        status = self.status()
        if status.generation:
            return
        with self._lock:
            if self._loader is not None:
                self._loader.failed = True
        raise ConfigError(
            f"configure: required=True, and no config document is in force: {why or 'none is named'}; mend it, or give "
            "one that stands in: configure(..., bundled='/app/resilience.json')"
        ) from why

    def status(self) -> Status:
        from .feed import Status

        with self._lock:
            loader, overrides = self._loader, self._overrides
        status = Status() if loader is None else loader.status
        if status.generation:
            from .degrading import DEGRADING

            status = replace(status, plans=DEGRADING.plans, restoring=tuple(DEGRADING.restoring))
        return replace(status, overrides=overrides.all) if overrides is not None else status

    @property
    def overrides(self) -> Overrides:
        """Those of this process."""
        from ..discovery.refresher import REFRESHER
        from .overrides import Overrides

        live, _ = self._prepare()
        with self._lock:
            if self._overrides is None:
                self._overrides = Overrides(live, self.history, REFRESHER, ended=self.arm)
            return self._overrides

    @property
    def emergency_values(self) -> int | None:
        """How many values the emergency document has in force; None where none was ever good."""
        with self._lock:
            loader = self._loader
        snapshot = None if loader is None else loader.snapshot
        if snapshot is None or snapshot.emergency is None:
            return None
        said = snapshot.emergency
        return said.values if snapshot.waits is None else said.values - len(said.over)

    def steer(self, what: str, action: Callable[[Loader], None]) -> Status:
        """Have the thread that looks do something, and wait for it.

        Raises:
            ConfigError: it could not be done, or not in time.
        """
        loader = self.start()
        if loader is None or loader.snapshot is None or not loader.status.generation:
            raise ConfigError(
                f"{what}: no config document is in force in this process; see resilient.config.status()"
            )
        from ..discovery.refresher import REFRESHER

        order = loader.order(lambda: action(loader))
        until = SYSTEM_CLOCK.monotonic() + _STEERING
        REFRESHER.wake()
        while not order.done.wait(0.01 if loader.asleep else _STEERING):
            if SYSTEM_CLOCK.monotonic() >= until:
                order.withdraw()
                raise ConfigError(f"{what}: {loader} could not be looked at within {_STEERING:g} s")
            loader.look_here()  # no thread can be started
        if order.error is not None:
            raise order.error
        return self.status()

    def explain(self, key: str) -> Explanation:
        from .live import Live
        from .numbers import DOCUMENT

        with self._lock:
            live = self._live
        found = (live or Live()).explain(key)
        pin = self.status().pinned
        return replace(found, pinned=pin.reason) if pin is not None and found.layer == DOCUMENT else found


def _variables() -> dict[str, str]:
    """Those of the environment that set numbers."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


CENTER = Center()


def load(*, timeout: float = 10.0) -> Status:
    """Read the config document now, and wait until it is in force: for services that must not begin without it, and for
    processes that can start no thread, which see a change when they call this.

    Args:
        timeout: seconds to wait for the thread that reads it, more than 0.

    Raises:
        DocumentError: the document is refused; the last good one, or the numbers of the code, stay in force.
        ConfigError: there is no directory, no document in it, it could not be read in time, or that is no time.

    Blocks the calling thread: call it before an event loop runs. Thread-safe.
    """
    if not _TIMEOUT.allows(timeout):
        raise ConfigError(f"load: timeout={timeout!r} must be {_TIMEOUT}; write load(timeout=10.0)")
    return CENTER.load(timeout)


def status() -> Status:
    """How the config document stands: for readiness checks and dashboards. Never raises; thread-safe."""
    return CENTER.status()


def explain(key: str, /) -> Explanation:
    """Why a number, a feature or the level is what it is.

    Args:
        key: name of the dependency and of the number, such as ``payments.retry.attempts``; a feature, such as
            ``flags.search``; or ``degradation.level``.

    Raises:
        ConfigError: there is no such number or feature, or nothing of that name.

    Example:
        >>> from resilient import standard
        >>> from resilient.config import explain
        >>> pipeline = standard("ledger", attempts=2)
        >>> print(explain("ledger.retry.attempts"))
        ledger.retry.attempts = 2 (from the code)
    """
    return CENTER.explain(key)


def history() -> tuple[Change, ...]:
    """What became of the configuration of this process: the last fifty changes, the oldest first.

    One for each document that was applied or refused. Never raises; thread-safe.
    """
    return CENTER.history.changes()
