"""Signs of overload in this process, by which the level of degradation may move by itself.

Those of the container, not of the node: a load average inside of one tells of the neighbours."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.errors import ConfigError
from ..core.events import RUNTIME, CallFinished, Event, Rejection
from ..core.forks import tell_after_fork
from ..core.log import ERROR, write

if TYPE_CHECKING:
    import asyncio

EVENT_LOOP_LAG, REJECTION_RATIO, CPU_THROTTLED = "eventLoopLag", "rejectionRatio", "cpuThrottled"

CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")
"""Where Linux tells a container how often its quota stopped it (cgroup v2)."""

_WINDOW = 10.0
"""Seconds over which shares are taken."""
_FEW = 20
"""Calls within that, below which a share means nothing."""

Read = Callable[[], float | None]


class EventLoopLag:
    """How long callbacks of the watched loops wait for their turn: the longest, in seconds.

    A callback is put into each loop from outside at every reading; one that has not come back yet counts with its age,
    so that a loop which hangs is seen while it hangs.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()  # guarded by _lock
        self._sent: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, float] = (
            weakref.WeakKeyDictionary()
        )  # guarded by _lock
        self._worst: float | None = None  # since the last reading; guarded by _lock

    def after_fork(self) -> None:
        self._lock = threading.RLock()
        self._loops, self._sent = weakref.WeakSet(), weakref.WeakKeyDictionary()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._loops.add(loop)

    def read(self) -> float | None:
        now = self._clock.monotonic()
        with self._lock:
            for loop in [*self._loops]:
                if loop.is_closed():
                    self._loops.discard(loop)
                elif loop not in self._sent:
                    self._sent[loop] = now
                    try:
                        loop.call_soon_threadsafe(self._arrived, weakref.ref(loop), now)
                    except RuntimeError:  # it was closed just now
                        self._loops.discard(loop)
                        self._sent.pop(loop, None)
                else:
                    self._worst = max(self._worst or 0.0, now - self._sent[loop])
            worst, self._worst = self._worst, None
        return worst

    def _arrived(self, loop: weakref.ref[asyncio.AbstractEventLoop], sent: float) -> None:
        with self._lock:
            found = loop()
            if found is not None and self._sent.pop(found, None) is not None:
                self._worst = max(self._worst or 0.0, self._clock.monotonic() - sent)


class RejectionRatio:
    """The share of calls that policies of this process turned away, over ten seconds; 0 where calls are few.

    It listens to events while it is asked for, so calls take the watched path then.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls = self._rejections = 0  # counted without a lock: a share needs no exactness
        self._readings: deque[tuple[float, int, int]] = deque()

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, CallFinished):
            self._calls += 1
        elif isinstance(event, Rejection) and event.by != "degradation":
            self._rejections += 1

    def read(self) -> float | None:
        if self not in RUNTIME.listeners:
            RUNTIME.change(add=self)
        now = self._clock.monotonic()
        self._readings.append((now, self._calls, self._rejections))
        while now - self._readings[0][0] > _WINDOW:
            self._readings.popleft()
        _, calls, rejections = self._readings[0]
        calls = self._calls - calls
        return (self._rejections - rejections) / calls if calls >= _FEW else 0.0

    def rest(self) -> None:
        """Nobody asks any more."""
        if self in RUNTIME.listeners:
            RUNTIME.change(remove=self)
            self._readings.clear()


class CpuThrottled:
    """The share of scheduling periods, over ten seconds, in which the quota of CPU stopped this container."""

    def __init__(self, clock: Clock, path: Path) -> None:
        self._clock = clock
        self._path = path
        self._readings: deque[tuple[float, int, int]] = deque()

    def read(self) -> float | None:
        try:
            lines = self._path.read_text(encoding="ascii", errors="replace")[:4_096].splitlines()
            said = dict(line.split(" ", 1) for line in lines if " " in line)
            periods, throttled = int(said["nr_periods"]), int(said["nr_throttled"])
        except (OSError, KeyError, ValueError):
            return None  # no Linux, no cgroup v2, or no quota
        now = self._clock.monotonic()
        self._readings.append((now, periods, throttled))
        while now - self._readings[0][0] > _WINDOW:
            self._readings.popleft()
        _, before, stopped = self._readings[0]
        return (throttled - stopped) / (periods - before) if periods > before else 0.0


class Signals:
    """Those of a process. Thread-safe.

    Args:
        clock: where time comes from.
        cpu_stat: where a container's quota is told of.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, cpu_stat: Path = CPU_STAT) -> None:
        self.lag = EventLoopLag(clock)
        self._rejections = RejectionRatio(clock)
        self._read: dict[str, Read] = {
            EVENT_LOOP_LAG: self.lag.read,
            REJECTION_RATIO: self._rejections.read,
            CPU_THROTTLED: CpuThrottled(clock, cpu_stat).read,
        }
        self._own = frozenset(self._read)
        self._failed: set[str] = set()  # told of in the log, and not well since
        tell_after_fork(self)

    def after_fork(self) -> None:
        self.lag.after_fork()

    def add(self, name: str, read: Read, /) -> None:
        """Another one; in place of one of that name.

        Raises:
            ConfigError: it is one of ours, or no function.
        """
        if not isinstance(name, str) or not name.strip() or not callable(read):
            raise ConfigError(
                f"signal: {name!r}, {read!r} must be a name and a function; write signal('queue', read)"
            )
        if name in self._own:
            raise ConfigError(f"signal: {name!r} is measured already; write another name")
        self._read[name] = read

    def readings(self, names: Iterable[str], /) -> dict[str, float]:
        """What those of these names say now; one that fails or has nothing to say is left out."""
        found: dict[str, float] = {}
        for name in names:
            read = self._read.get(name)
            if read is None:
                continue
            try:
                value = read()
            except Exception:
                if name not in self._failed:
                    self._failed.add(name)
                    write(ERROR, f"config: the signal {name} failed, and counts as not known", exc_info=True)
                continue
            self._failed.discard(name)
            if value is not None:
                found[name] = value
        if REJECTION_RATIO not in names:
            self._rejections.rest()
        return found


SIGNALS = Signals()


def signal(name: str, read: Callable[[], float | None], /) -> None:
    """A sign of overload of your own, for ``degradation.auto.signals`` of the document.

    Args:
        name: as the document names it.
        read: gives the reading, or None where there is none now. It is called once a second in the thread that looks at
            the document, and must not wait.

    Raises:
        ConfigError: it has no name, is no function, or the name is one of ours.

    Thread-safe.

    Example:
        >>> from resilient.config import signal
        >>> jobs: list[str] = []
        >>> signal("queueLength", lambda: float(len(jobs)))
    """
    SIGNALS.add(name, read)


def watch_loop(loop: asyncio.AbstractEventLoop | None = None, /) -> None:
    """Have ``eventLoopLag`` measure a loop: the running one, if none is given. Call it where a service begins.

    It costs the loop one callback a second, and only while a document asks for that signal.

    Raises:
        ConfigError: there is none.

    Thread-safe.

    Example:
        >>> import asyncio
        >>> from resilient.config import watch_loop
        >>> async def service() -> None:
        ...     watch_loop()
        >>> asyncio.run(service())
    """
    if loop is None:
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "watch_loop: no event loop runs here; call it in async code, or give one"
            ) from None
    SIGNALS.lag.watch(loop)
