"""What a person sets in this process, for a time: above all else, and gone after a restart. A number of a policy, the
variant of a feature, the level.

They end by the clock, in the refresher's thread."""

from __future__ import annotations

import difflib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.errors import ConfigError
from ..core.events import RUNTIME, emit
from ..core.log import WARNING, write
from ..core.options import Rule
from ..discovery.dns import Steps
from ..flags.state import STATE
from .degrading import DEGRADING, Degrading, Laid
from .events import ConfigOverridden
from .leaves import Duration, Leaf, flat_leaves, value_of
from .live import Live
from .numbers import find_leaf
from .records import OVERRIDE, OVERRIDE_ENDED, Change, Difference, History
from .switches import FLAGS, LEVEL_KEY, PLANS, is_switch

if TYPE_CHECKING:
    from ..discovery.refresher import Refresher

TTL = Rule(above=0, high=86_400, unit="seconds")
"""Of what a person sets for a time."""
LONGEST_REASON = 200


@dataclass(frozen=True, eq=False)
class Override:
    """What a person set. As a block, ``with``, it ends with the block.

    Attributes:
        key: such as ``payments.retry.attempts``, ``flags.search`` or ``degradation.level``.
        value: a number as the code has it, seconds as a float; the name of a variant; the number of the level.
        reason: as the person said.
        until: when it ends, in seconds since the epoch.
    """

    key: str
    value: Any
    reason: str
    until: float
    ends: float = field(repr=False)
    store: Overrides = field(repr=False)

    def end(self) -> None:
        """Take it back now. Again, or after its time, this does nothing."""
        self.store.end(self)

    def __enter__(self) -> Override:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


class Overrides:
    """Those of a process. Thread-safe.

    Args:
        live: brings the pipelines to them.
        history: is told of each.
        refresher: has them end in time.
        clock: where time comes from.
        ended: called where the refresher may have ended, so that somebody starts it again.
        degrading: brings the flags to them.

    Attributes:
        asleep: for the refresher.
    """

    def __init__(
        self,
        live: Live,
        history: History,
        refresher: Refresher,
        clock: Clock = SYSTEM_CLOCK,
        ended: Callable[[], None] = lambda: None,
        degrading: Degrading = DEGRADING,
    ) -> None:
        self.asleep = True
        self._degrading = degrading
        self._live = live
        self._history = history
        self._refresher = refresher
        self._clock = clock
        self._ended = ended
        self._lock = threading.RLock()
        self._all: tuple[Override, ...] = ()  # in the order in which they were set; guarded by _lock
        self._switches: Laid = {}  # those of features and the level; replaced under _lock

    def after_fork(self) -> None:
        """In a child no thread ends them: the first call starts one."""
        self._lock = threading.RLock()
        self.asleep = True

    @property
    def all(self) -> tuple[Override, ...]:
        """Those in force, in the order in which they were set; of two of a key the last one holds."""
        with self._lock:
            return self._all

    def put(self, key: str, value: Any, ttl: float, reason: str) -> Override:
        """Set a number, a feature or the level.

        Raises:
            ConfigError: there is no such thing here, it cannot have that value, or it would not end.
        """
        made = self._switch(key, value) if is_switch(key) else self._number(key, value)
        if not TTL.allows(ttl):
            raise ConfigError(f"override: ttl={ttl!r} must be {TTL}; write ttl=600.0")
        reason = reason_of("override", reason)
        until, ends = self._clock.time() + ttl, self._clock.monotonic() + ttl
        override = Override(key, made, reason, until, ends, self)
        self._change(lambda all_: (*all_, override))
        why = self._refresher.watch(self) if self.asleep else ""
        if why:
            self._change(lambda all_: tuple(each for each in all_ if each is not override))
            raise ConfigError(f"override: {key} would not end, as no thread can be started: {why}")
        self._refresher.wake()
        self._tell(override, ttl, self._refresh(), ended=False)
        return override

    def _number(self, key: str, value: Any) -> Any:
        name, leaf = find_leaf(key, "override")
        made = checked(key, flat_leaves()[leaf], value)
        self._live.try_override(name, leaf, made)
        return made

    @staticmethod
    def _switch(key: str, value: Any) -> Any:
        flags, name = STATE.flags, key.removeprefix(FLAGS)
        if key.startswith(PLANS):
            raise ConfigError(f"override: {key} is switched in the emergency document, for all processes")
        if not STATE.ready:
            raise ConfigError(f"override: {key}: no flags are in force in this process")
        if key == LEVEL_KEY:
            level = flags.levels.index(value) if value in flags.levels else value
            if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level < len(flags.levels):
                levels = " or ".join(f"{i} ({each})" for i, each in enumerate(flags.levels))
                raise ConfigError(f"override: {key}: there is no level {value!r}; write {levels}")
            return level
        flag = flags.flags.get(name)
        if flag is None:
            close = difflib.get_close_matches(name, flags.flags, 1)
            there = f"did you mean {FLAGS}{close[0]}?" if close else "see the flags of the document"
            raise ConfigError(f"override: {key} is no feature of the flags in force; {there}")
        if flag.protected:
            raise ConfigError(f"override: {key} is protected, and stays what it is")
        if value not in flag.variants:
            raise ConfigError(
                f"override: {key}: {value!r} is no variant of it; write one of {', '.join(flag.variants)}"
            )
        return value

    def _refresh(self) -> tuple[Difference, ...]:
        """Bring all to what holds now; what changed."""
        return (*self._live.refresh(), *self._degrading.lay_over(lambda: self._switches))

    def end(self, override: Override) -> None:
        """Take one back."""
        if self._change(lambda all_: tuple(each for each in all_ if each is not override)):
            ttl = max(0.0, override.ends - self._clock.monotonic())
            self._tell(override, ttl, self._refresh(), ended=True)

    def _change(self, change: Callable[[tuple[Override, ...]], tuple[Override, ...]]) -> bool:
        with self._lock:
            before, self._all = self._all, change(self._all)
            found: dict[str, dict[str, tuple[Any, str]]] = {}
            switches: dict[str, tuple[Any, str]] = {}
            for each in self._all:
                until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.until))
                said = each.value, f"{each.reason}, until {until}"
                if is_switch(each.key):
                    switches[each.key] = said
                else:
                    name, leaf = find_leaf(each.key)
                    found.setdefault(name, {})[leaf] = said
            self._switches = switches
            self._live.lay_over(found)
            return self._all != before

    def _tell(
        self, override: Override, ttl: float, differences: tuple[Difference, ...], *, ended: bool
    ) -> None:
        name, _, leaf = override.key.partition(".")
        if not is_switch(override.key):
            name, leaf = find_leaf(override.key)
        said = f"config: the override {override.key}={override.value!r} ({override.reason})"
        self._history.add(
            Change(
                OVERRIDE_ENDED if ended else OVERRIDE,
                self._clock.time(),
                override.key,
                reason=override.reason,
                differences=differences,
                count=len(differences),
            )
        )
        event = ConfigOverridden(
            name, leaf, value=str(override.value), reason=override.reason, ttl=ttl, ended=ended
        )
        said = f"{said} has ended" if ended else f"{said} is in force for {ttl:g} s"
        write(WARNING, said, extra=event.attributes())
        if RUNTIME.listeners:
            emit(event)

    # ---------------------------------------------------------------------------------------- for the refresher
    @property
    def due(self) -> float:
        """When the next one ends."""
        return min((each.ends for each in self.all), default=float("inf"))

    def begin(self) -> Steps[Any]:
        """End those whose time is over; there is nobody to ask."""
        now = self._clock.monotonic()
        for each in self.all:
            if each.ends <= now:
                self.end(each)
        if not self.all:
            self._refresher.forget(self)
        return None
        yield  # as those do that ask nameservers

    def finish(self, answer: Any, /) -> None:
        """Nothing was asked."""

    def broke(self, exc: BaseException, /) -> None:
        """The refresher may have ended: the next call starts another."""
        self._ended()


def checked(key: str, leaf: Leaf, value: Any, /) -> Any:
    """A value of a leaf, written as the code writes it.

    Raises:
        ConfigError: it is none.
    """
    if leaf.type in (Duration, Duration | None):
        if leaf.rule is None or not leaf.rule.allows(value):
            raise ConfigError(f"override: {key}: {value!r} must be {leaf.rule}")
        return None if value is None else float(value)
    try:
        return value_of(leaf, value)
    except ValueError as exc:
        raise ConfigError(f"override: {key}: {exc}") from None
    except TypeError:  # nothing that a document could have
        raise ConfigError(f"override: {key}: {value!r} must be {leaf.wanted}") from None


def reason_of(what: str, reason: str, /) -> str:
    """The reason that a person gives.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(reason, str) or not reason.strip() or not reason.isprintable():
        raise ConfigError(
            f"{what}: reason={reason!r} must say why, for those who find it; write reason='INC-12'"
        )
    return reason[:LONGEST_REASON]
