"""The drivers of admission policies: neighbouring gates run as one loop in one frame.

Each driver reads the clock once before the call and once after it, and asks every gate in order; a gate that says no gives
back what the gates before it gave. The common case (no gate selects by arguments or judges results) has a frame of its own,
for one gate and for several; everything else goes through `Admission`, which is also the block form.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from .call import CURRENT
from .clock import SYSTEM_CLOCK, Clock
from .errors import PolicyError, Rejected
from .events import RUNTIME, Rejection, Waited, emit
from .outcome import IGNORED, SPECIAL_RESULTS, SUCCESS, Unfinished, Verdict
from .policy import Gate, Site, Wait

T = TypeVar("T")
Gates = tuple[Gate[Any], ...]


def bind_row(gates: Gates, inner: Callable[..., Any], site: Site, /) -> Callable[..., Any]:
    """The sync driver of neighbouring gates."""
    if any(_asks_more(gate) for gate in gates):
        return _bind_general(gates, inner, site)
    return _bind_lone(gates[0], inner, site) if len(gates) == 1 else _bind_several(gates, inner, site)


def abind_row(
    gates: Gates, inner: Callable[..., Awaitable[Any]], site: Site, /
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The async driver of neighbouring gates."""
    if any(_asks_more(gate) for gate in gates):
        return _abind_general(gates, inner, site)
    return _abind_lone(gates[0], inner, site) if len(gates) == 1 else _abind_several(gates, inner, site)


def _asks_more(gate: Gate[Any]) -> bool:
    return gate.selects or gate.judges_results


def _learns(gate: Gate[Any]) -> bool:
    return type(gate).record is not Gate.record


# ---------------------------------------------------------------------------------------------------- common case, sync
def _bind_lone(gate: Gate[Any], inner: Callable[..., Any], site: Site) -> Callable[..., Any]:
    admit, record, monotonic = gate.admit, gate.record, site.clock.monotonic
    runtime, watched, learns = RUNTIME, site.watched, _learns(gate)

    def call(*args: Any, **kwargs: Any) -> Any:
        if runtime.attention and watched is not None:
            return watched(*args, **kwargs)
        now = monotonic()
        try:
            permit = admit(now)
            if permit.__class__ is Wait:
                permit, now = wait(gate, permit, now, site.clock, site)
        except Rejected as exc:
            rejected(exc, site)
            raise
        try:
            result = inner(*args, **kwargs)
        except BaseException as exc:
            end = monotonic()
            record(permit, verdict_of(gate, exc), end - now, end)
            raise
        if result.__class__ in SPECIAL_RESULTS:
            return finish_special(result, (gate,), (permit,), now, site)
        if learns:
            end = monotonic()
            record(permit, SUCCESS, end - now, end)
        return result

    return call


def _bind_several(gates: Gates, inner: Callable[..., Any], site: Site) -> Callable[..., Any]:
    admits = tuple(gate.admit for gate in gates)
    learners = tuple((i, gate.record) for i, gate in enumerate(gates) if _learns(gate))[::-1]
    runtime, watched, monotonic = RUNTIME, site.watched, site.clock.monotonic

    def call(*args: Any, **kwargs: Any) -> Any:
        if runtime.attention and watched is not None:
            return watched(*args, **kwargs)
        permits: list[Any] = []
        now = monotonic()
        try:
            for admit in admits:
                permit = admit(now)
                if permit.__class__ is Wait:
                    permit, now = wait(gates[len(permits)], permit, now, site.clock, site)
                permits.append(permit)
        except BaseException as exc:
            take_back(gates, permits, site)
            rejected(exc, site)
            raise
        try:
            result = inner(*args, **kwargs)
        except BaseException as exc:
            failed(gates, permits, exc, now, site)
            raise
        if result.__class__ in SPECIAL_RESULTS:
            return finish_special(result, gates, permits, now, site)
        end = monotonic()
        latency = end - now
        for i, record in learners:
            record(permits[i], SUCCESS, latency, end)
        return result

    return call


# --------------------------------------------------------------------------------------------------- common case, async
def _abind_lone(
    gate: Gate[Any], inner: Callable[..., Awaitable[Any]], site: Site
) -> Callable[..., Coroutine[Any, Any, Any]]:
    admit, record, monotonic = gate.admit, gate.record, site.clock.monotonic
    runtime, watched, learns = RUNTIME, site.watched, _learns(gate)

    async def call(*args: Any, **kwargs: Any) -> Any:
        if runtime.attention and watched is not None:
            return await watched(*args, **kwargs)
        now = monotonic()
        try:
            permit = admit(now)
            if permit.__class__ is Wait:
                permit, now = await await_(gate, permit, now, site.clock, site)
        except Rejected as exc:
            rejected(exc, site)
            raise
        try:
            result = await inner(*args, **kwargs)
        except BaseException as exc:
            end = monotonic()
            record(permit, verdict_of(gate, exc), end - now, end)
            raise
        if result.__class__ in SPECIAL_RESULTS:
            return finish_special(result, (gate,), (permit,), now, site)
        if learns:
            end = monotonic()
            record(permit, SUCCESS, end - now, end)
        return result

    return call


def _abind_several(
    gates: Gates, inner: Callable[..., Awaitable[Any]], site: Site
) -> Callable[..., Coroutine[Any, Any, Any]]:
    admits = tuple(gate.admit for gate in gates)
    learners = tuple((i, gate.record) for i, gate in enumerate(gates) if _learns(gate))[::-1]
    runtime, watched, monotonic = RUNTIME, site.watched, site.clock.monotonic

    async def call(*args: Any, **kwargs: Any) -> Any:
        if runtime.attention and watched is not None:
            return await watched(*args, **kwargs)
        permits: list[Any] = []
        now = monotonic()
        try:
            for admit in admits:
                permit = admit(now)
                if permit.__class__ is Wait:
                    permit, now = await await_(gates[len(permits)], permit, now, site.clock, site)
                permits.append(permit)
        except BaseException as exc:
            take_back(gates, permits, site)
            rejected(exc, site)
            raise
        try:
            result = await inner(*args, **kwargs)
        except BaseException as exc:
            failed(gates, permits, exc, now, site)
            raise
        if result.__class__ in SPECIAL_RESULTS:
            return finish_special(result, gates, permits, now, site)
        end = monotonic()
        latency = end - now
        for i, record in learners:
            record(permits[i], SUCCESS, latency, end)
        return result

    return call


# ------------------------------------------------------------------------------------------------------------- the rest
def _bind_general(gates: Gates, inner: Callable[..., Any], site: Site) -> Callable[..., Any]:
    runtime, watched = RUNTIME, site.watched

    def call(*args: Any, **kwargs: Any) -> Any:
        if runtime.attention and watched is not None:
            return watched(*args, **kwargs)
        admission = Admission(tuple([gate.select(args, kwargs) for gate in gates]), site.clock, site)
        admission.enter()
        try:
            result = inner(*args, **kwargs)
        except BaseException as exc:
            admission.leave(exc)
            raise
        return admission.returned(result)

    return call


def _abind_general(
    gates: Gates, inner: Callable[..., Awaitable[Any]], site: Site
) -> Callable[..., Coroutine[Any, Any, Any]]:
    runtime, watched = RUNTIME, site.watched

    async def call(*args: Any, **kwargs: Any) -> Any:
        if runtime.attention and watched is not None:
            return await watched(*args, **kwargs)
        admission = Admission(tuple([gate.select(args, kwargs) for gate in gates]), site.clock, site)
        await admission.aenter()
        try:
            result = await inner(*args, **kwargs)
        except BaseException as exc:
            admission.leave(exc)
            raise
        return admission.returned(result)

    return call


class Admission:
    """One passage through some gates, step by step."""

    __slots__ = ("clock", "gates", "now", "permits", "site")

    def __init__(self, gates: Gates, clock: Clock, site: Site | None) -> None:
        self.gates = gates
        self.clock = clock
        self.site = site
        self.permits: list[Any] = []
        self.now = 0.0

    def enter(self) -> None:
        self.now = self.clock.monotonic()
        try:
            for gate in self.gates:
                permit = gate.admit(self.now)
                if permit.__class__ is Wait:
                    permit, self.now = wait(gate, permit, self.now, self.clock, self.site)
                self.permits.append(permit)
        except BaseException as exc:
            self._refused(exc)
            raise

    async def aenter(self) -> None:
        self.now = self.clock.monotonic()
        try:
            for gate in self.gates:
                permit = gate.admit(self.now)
                if permit.__class__ is Wait:
                    permit, self.now = await await_(gate, permit, self.now, self.clock, self.site)
                self.permits.append(permit)
        except BaseException as exc:
            self._refused(exc)
            raise

    def _refused(self, exc: BaseException) -> None:
        take_back(self.gates, self.permits, self.site, self.clock)
        rejected(exc, self.site)

    def leave(self, exc: BaseException | None, result: Any = None) -> None:
        """The call is over; every gate hears its own verdict, the innermost first."""
        end = self.clock.monotonic()
        latency = end - self.now
        for gate, permit in zip(reversed(self.gates), reversed(self.permits), strict=True):
            if exc is not None:
                verdict = verdict_of(gate, exc)
            else:
                verdict = gate.judge(result, None) if gate.judges_results else SUCCESS
            gate.record(permit, verdict, latency, end)

    def returned(self, result: Any) -> Any:
        if result.__class__ in SPECIAL_RESULTS:
            return finish_special(result, self.gates, self.permits, self.now, self.site, self)
        self.leave(None, result)
        return result


class Guard(Generic[T]):
    """Admission through one gate as a block: ``with`` and ``async with``. See `Gate.guard`."""

    __slots__ = ("_admission",)

    def __init__(self, gate: Gate[T], clock: Clock) -> None:
        self._admission = Admission((gate,), clock, None)

    def __enter__(self) -> T:
        admission = self._admission
        if _loop_is_running():
            # A blocking wait would stop the loop, and with it whoever could end the wait.
            admission.now = admission.clock.monotonic()
            gate = admission.gates[0]
            permit = gate.admit(admission.now)
            if permit.__class__ is Wait:
                gate.abandon(permit, admission.now)
                raise PolicyError(
                    f"{gate.kind}.guard(): `with` would have to wait inside a running event loop; write `async with`"
                )
            admission.permits.append(permit)
        else:
            admission.enter()
        return admission.permits[0]  # type: ignore[no-any-return]

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._admission.leave(exc)

    async def __aenter__(self) -> T:
        await self._admission.aenter()
        return self._admission.permits[0]  # type: ignore[no-any-return]

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._admission.leave(exc)


def _loop_is_running() -> bool:
    import sys

    asyncio = sys.modules.get("asyncio")  # not loaded: no loop of it can be running
    return asyncio is not None and asyncio._get_running_loop() is not None


# ----------------------------------------------------------------------------------------------------------- slow parts
def verdict_of(gate: Gate[Any], exc: BaseException) -> Verdict:
    return gate.judge(None, exc) if isinstance(exc, Exception) else IGNORED


def failed(gates: Gates, permits: list[Any], exc: BaseException, now: float, site: Site) -> None:
    end = site.clock.monotonic()
    latency = end - now
    for gate, permit in zip(reversed(gates), reversed(permits), strict=True):
        gate.record(permit, verdict_of(gate, exc), latency, end)


def take_back(gates: Gates, permits: list[Any], site: Site | None, clock: Clock | None = None) -> None:
    """The call will not run: the gates that had let it in take their permits back."""
    now = (clock or (site.clock if site else SYSTEM_CLOCK)).monotonic()
    while permits:
        permit = permits.pop()
        gates[len(permits)].cancel(permit, now)


def rejected(exc: BaseException, site: Site | None) -> None:
    """Tell a rejection whose call it met, and tell the listeners."""
    if not isinstance(exc, Rejected) or site is None:
        return
    if exc.dependency is None:
        exc.dependency, exc.operation = site.dependency, site.operation
    elif exc.operation is None:
        exc.operation = site.operation
    if RUNTIME.listeners:
        emit(Rejection(exc.dependency, exc.operation or site.operation, by=exc.policy, reason=exc.reason))


def finish_special(
    result: Any,
    gates: Gates,
    permits: Any,
    now: float,
    site: Site | None,
    admission: Admission | None = None,
) -> Any:
    """A result that is not over, or is none: an open stream, or a coroutine that nobody awaited."""
    if admission is None:
        assert site is not None
        admission = Admission(gates, site.clock, site)
        admission.permits, admission.now = list(permits), now
    if isinstance(result, Unfinished):
        result.on_end(lambda exc: admission.leave(exc, result.result))
        return result
    error = refuse_coroutine(result, site)
    admission.leave(error)
    raise error


def refuse_coroutine(result: Any, site: Site | None) -> PolicyError:
    result.close()
    name = site.operation if site else "the function"
    return PolicyError(
        f"{name} is a plain `def` that returned a coroutine, so it would be counted before it ran; "
        "write `async def`, or decorate the coroutine function itself"
    )


def wait(gate: Gate[Any], waiting: Wait[Any], now: float, clock: Clock, site: Site | None) -> tuple[Any, float]:
    """Wait in this thread; the permit and the time of its beginning. Nothing stays reserved if it raises."""
    until, early = _end_of(waiting)
    began = now
    permit = None
    if early:
        return gate.settle(waiting, now), now  # which raises: the deadline cannot pay
    try:
        if waiting.ready_at is not None:
            clock.sleep(max(0.0, until - now))
        else:
            import threading

            lock = threading.Lock()
            lock.acquire()
            waiting.wake = lock.release
            if waiting.permit is None:
                clock.acquire(lock, max(0.0, until - now))
    except BaseException:
        gate.abandon(waiting, clock.monotonic())
        raise
    now = _settled_at(clock, waiting)
    try:
        permit = gate.settle(waiting, now)
    finally:
        _waited(gate, now - began, permit is not None, site)
    return permit, now


async def await_(gate: Gate[Any], waiting: Wait[Any], now: float, clock: Clock, site: Site | None) -> tuple[Any, float]:
    """Wait in this task; as `wait`."""
    from . import loops

    until, early = _end_of(waiting)
    began = now
    permit = None
    if early:
        return gate.settle(waiting, now), now
    try:
        if waiting.ready_at is not None:
            await loops.sleep(max(0.0, until - now))
        else:

            def arm(wake: Callable[[], None]) -> bool:
                waiting.wake = wake
                return waiting.permit is None

            await loops.wait_for_wake(arm, max(0.0, until - now))
    except BaseException:
        gate.abandon(waiting, clock.monotonic())
        raise
    now = _settled_at(clock, waiting)
    try:
        permit = gate.settle(waiting, now)
    finally:
        _waited(gate, now - began, permit is not None, site)
    return permit, now


def _end_of(waiting: Wait[Any]) -> tuple[float, bool]:
    """When the wait ends, and whether the deadline cannot pay for it."""
    deadline = CURRENT.get().deadline
    if waiting.ready_at is not None:
        return waiting.ready_at, deadline is not None and waiting.ready_at > deadline
    return (waiting.until if deadline is None else min(waiting.until, deadline)), False


def _settled_at(clock: Clock, waiting: Wait[Any]) -> float:
    # A timer may fire a clock tick early; the wait is over all the same.
    now = clock.monotonic()
    return now if waiting.ready_at is None or now > waiting.ready_at else waiting.ready_at


def _waited(gate: Gate[Any], duration: float, admitted: bool, site: Site | None) -> None:
    if RUNTIME.listeners and site is not None:
        emit(Waited(site.dependency, site.operation, kind=gate.kind, duration=duration, admitted=admitted))
