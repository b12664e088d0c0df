"""The drivers of admission policies: neighbouring gates share one frame.

Each driver reads the clock once before the call and once after it, and asks every gate in order; when one
says no, those before it take their permits back. Up to three gates, none of which selects by arguments or
judges results, share one written-out frame; everything else goes through `Admission`, which is also the block
form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import CoroutineType
from typing import Any

from .call import CURRENT
from .clock import Clock
from .errors import PolicyError, Rejected
from .events import RUNTIME, Rejection, Waited, emit
from .outcome import FAILURE, IGNORED, SUCCESS, Discarded, Unfinished, Verdict
from .policy import Gate, Site, Wait

Gates = tuple[Gate[Any], ...]


def bind_row(gates: Gates, inner: Callable[..., Any], site: Site, /) -> Callable[..., Any]:
    """The sync driver of neighbouring gates."""
    return (_bind_short if _is_short(gates) else _bind_general)(gates, inner, site)


def abind_row(
    gates: Gates, inner: Callable[..., Awaitable[Any]], site: Site, /
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The async driver of neighbouring gates."""
    return (_abind_short if _is_short(gates) else _abind_general)(gates, inner, site)


def _is_short(gates: Gates) -> bool:
    return len(gates) <= 3 and not any(gate.selects or gate.judges_results for gate in gates)


def _hooks(gates: Gates) -> tuple[Any, ...]:
    """Three gates, their admit and their record; None where there is no gate, or it does not learn."""
    padded = (*gates, None, None)[:3]
    admits = (gate.admit if gate is not None else None for gate in padded)
    records = (gate.record if gate is not None and _learns(gate) else None for gate in padded)
    return (*padded, *admits, *records)


def _learns(gate: Gate[Any]) -> bool:
    return type(gate).record is not Gate.record


_ABSENT: Any = object()
"""In place of the permit of a gate that was not passed."""


# -------------------------------------------------------------------------------------------- the common case
# Written out for three gates: a loop over them costs half as much again. The two drivers differ in `await`
# alone.
def _bind_short(gates: Gates, inner: Callable[..., Any], site: Site) -> Callable[..., Any]:
    first, second, third, admit1, admit2, admit3, record1, record2, record3 = _hooks(gates)
    clock, monotonic, runtime, watched = site.clock, site.clock.monotonic, RUNTIME, site.watched

    def call(*args: Any, **kwargs: Any) -> Any:
        if watched is not None and runtime.attention:
            return watched(*args, **kwargs)
        permit1 = permit2 = permit3 = _ABSENT
        now = monotonic()
        try:
            permit1 = admit1(now)
            if permit1.__class__ is Wait:
                permit1, now = wait(first, permit1, now, clock, site)
            if admit2 is not None:
                permit2 = admit2(now)
                if permit2.__class__ is Wait:
                    permit2, now = wait(second, permit2, now, clock, site)
                if admit3 is not None:
                    permit3 = admit3(now)
                    if permit3.__class__ is Wait:
                        permit3, now = wait(third, permit3, now, clock, site)
        except BaseException as exc:
            if permit1 is _ABSENT:  # the first said no: nobody has anything to take back
                rejected(exc, site)
            else:
                turned_away(gates, (permit1, permit2, permit3), exc, clock, site)
            raise
        try:
            result = inner(*args, **kwargs)
        except BaseException as exc:
            failed(gates, (permit1, permit2, permit3), exc, now, clock)
            raise
        kind = result.__class__
        if kind is Unfinished or kind is CoroutineType:
            return finish_special(result, gates, (permit1, permit2, permit3), now, clock, site)
        end = monotonic()
        latency, told = end - now, 2
        try:
            if record3 is not None:
                record3(permit3, SUCCESS, latency, end)
            told = 1
            if record2 is not None:
                record2(permit2, SUCCESS, latency, end)
            told = 0
            if record1 is not None:
                record1(permit1, SUCCESS, latency, end)
        except BaseException:  # a gate of the user's does not keep those further out from their permits
            succeeded(gates[:told], (permit1, permit2), result, now, clock)
            raise
        return result

    return call


def _abind_short(
    gates: Gates, inner: Callable[..., Awaitable[Any]], site: Site
) -> Callable[..., Coroutine[Any, Any, Any]]:
    first, second, third, admit1, admit2, admit3, record1, record2, record3 = _hooks(gates)
    clock, monotonic, runtime, watched = site.clock, site.clock.monotonic, RUNTIME, site.watched

    async def call(*args: Any, **kwargs: Any) -> Any:
        if watched is not None and runtime.attention:
            return await watched(*args, **kwargs)
        permit1 = permit2 = permit3 = _ABSENT
        now = monotonic()
        try:
            permit1 = admit1(now)
            if permit1.__class__ is Wait:
                permit1, now = await await_(first, permit1, now, clock, site)
            if admit2 is not None:
                permit2 = admit2(now)
                if permit2.__class__ is Wait:
                    permit2, now = await await_(second, permit2, now, clock, site)
                if admit3 is not None:
                    permit3 = admit3(now)
                    if permit3.__class__ is Wait:
                        permit3, now = await await_(third, permit3, now, clock, site)
        except BaseException as exc:
            if permit1 is _ABSENT:  # the first said no: nobody has anything to take back
                rejected(exc, site)
            else:
                turned_away(gates, (permit1, permit2, permit3), exc, clock, site)
            raise
        try:
            result = await inner(*args, **kwargs)
        except BaseException as exc:
            failed(gates, (permit1, permit2, permit3), exc, now, clock)
            raise
        kind = result.__class__
        if kind is Unfinished or kind is CoroutineType:
            return finish_special(result, gates, (permit1, permit2, permit3), now, clock, site)
        end = monotonic()
        latency, told = end - now, 2
        try:
            if record3 is not None:
                record3(permit3, SUCCESS, latency, end)
            told = 1
            if record2 is not None:
                record2(permit2, SUCCESS, latency, end)
            told = 0
            if record1 is not None:
                record1(permit1, SUCCESS, latency, end)
        except BaseException:  # a gate of the user's does not keep those further out from their permits
            succeeded(gates[:told], (permit1, permit2), result, now, clock)
            raise
        return result

    return call


# --------------------------------------------------------------------------------------------------- the rest
def _bind_general(gates: Gates, inner: Callable[..., Any], site: Site) -> Callable[..., Any]:
    runtime, watched = RUNTIME, site.watched

    def call(*args: Any, **kwargs: Any) -> Any:
        if watched is not None and runtime.attention:
            return watched(*args, **kwargs)
        admission = Admission(_selected(gates, args, kwargs, site), site.clock, site)
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
        if watched is not None and runtime.attention:
            return await watched(*args, **kwargs)
        admission = Admission(_selected(gates, args, kwargs, site), site.clock, site)
        await admission.aenter()
        try:
            result = await inner(*args, **kwargs)
        except BaseException as exc:
            admission.leave(exc)
            raise
        return admission.returned(result)

    return call


def _selected(gates: Gates, args: tuple[Any, ...], kwargs: dict[str, Any], site: Site) -> Gates:
    """The gates for a call with these arguments."""
    try:
        return tuple([gate.select(args, kwargs) for gate in gates])
    except Rejected as exc:
        rejected(exc, site)
        raise


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
            turned_away(self.gates, self.permits, exc, self.clock, self.site)
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
            turned_away(self.gates, self.permits, exc, self.clock, self.site)
            raise

    def leave(self, exc: BaseException | None, result: Any = None) -> None:
        """The call is over."""
        if exc is not None:
            failed(self.gates, self.permits, exc, self.now, self.clock)
        else:
            succeeded(self.gates, self.permits, result, self.now, self.clock)

    def returned(self, result: Any) -> Any:
        kind = result.__class__
        if kind is Unfinished or kind is CoroutineType:
            return finish_special(result, self.gates, self.permits, self.now, self.clock, self.site)
        succeeded(self.gates, self.permits, result, self.now, self.clock)
        return result


# ------------------------------------------------------------------------------------------------- slow parts
def verdict_of(gate: Gate[Any], exc: BaseException) -> Verdict:
    return gate.judge(None, exc) if isinstance(exc, Exception) else IGNORED


def failed(gates: Gates, permits: Sequence[Any], exc: BaseException, now: float, clock: Clock) -> None:
    """Every gate hears its own verdict on the failure, the innermost first."""
    end = clock.monotonic()
    held = exc.unfinished if isinstance(exc, Discarded) else None
    if held is None:
        _told(gates, permits, None, exc, end - now, end)
        return
    # The answer is a failure and still arrives: permits are held until it ends, in whatever way.
    held.on_end(lambda broken: _told(gates, permits, None, exc, end - now + held.waited(), clock.monotonic()))


def succeeded(gates: Gates, permits: Sequence[Any], result: Any, now: float, clock: Clock) -> None:
    """Every gate hears its own verdict on the result, the innermost first."""
    end = clock.monotonic()
    _told(gates, permits, result, None, end - now, end)


def _told(
    gates: Gates, permits: Sequence[Any], result: Any, exc: BaseException | None, latency: float, end: float
) -> None:
    cut = exc is not None and not isinstance(exc, Exception) and _is_cut(exc, end)
    broken: BaseException | None = None
    for i in range(len(gates) - 1, -1, -1):
        gate, verdict = gates[i], SUCCESS
        try:
            if exc is not None:
                verdict = FAILURE if cut else verdict_of(gate, exc)
            elif gate.judges_results:
                verdict = gate.judge(result, None)
        except BaseException as error:  # as a predicate of the user's may: the permit comes back all the same
            broken, verdict = broken or error, IGNORED
        try:
            gate.record(permits[i], verdict, latency, end)
        except BaseException as error:  # nor does a gate of the user's keep those further out from theirs
            broken = broken or error
    if broken is not None:
        raise broken


def _is_cut(exc: BaseException, end: float) -> bool:
    """Whether a cancellation comes from a time-out of ours further out: then the callee was too slow."""
    deadline = CURRENT.get().deadline
    return type(exc).__name__ in ("CancelledError", "Cancelled") and deadline is not None and end >= deadline


def turned_away(
    gates: Gates, permits: Sequence[Any], exc: BaseException, clock: Clock, site: Site | None
) -> None:
    """The call will not run: the gates that had let it in take their permits back, the innermost first."""
    now = clock.monotonic()
    broken: BaseException | None = None
    for gate, permit in reversed(list(zip(gates, permits, strict=False))):
        if permit is _ABSENT or permit.__class__ is Wait:  # a wait was settled or abandoned where it was made
            continue
        try:
            gate.cancel(permit, now)
        except BaseException as error:
            broken = broken or error
    if broken is not None:
        raise broken
    rejected(exc, site)


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
    result: Any, gates: Gates, permits: Sequence[Any], now: float, clock: Clock, site: Site | None
) -> Any:
    """A result that is not over, or is none: an open stream, or a coroutine that nobody awaited."""
    if isinstance(result, Unfinished):
        head = clock.monotonic() - now

        def end(exc: BaseException | None) -> None:
            done = None if exc is not None else result.result
            _told(gates, permits, done, exc, head + result.waited(), clock.monotonic())

        result.on_end(end)
        return result
    error = refuse_coroutine(result, site)
    failed(gates, permits, error, now, clock)
    raise error


def refuse_coroutine(result: Any, site: Site | None) -> PolicyError:
    result.close()
    name = site.operation if site else "the function"
    return PolicyError(
        f"{name} is a plain `def` that returned a coroutine, so it would be counted before it ran; "
        "write `async def`, or decorate the coroutine function itself"
    )


def wait(
    gate: Gate[Any], waiting: Wait[Any], now: float, clock: Clock, site: Site | None
) -> tuple[Any, float]:
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


async def await_(
    gate: Gate[Any], waiting: Wait[Any], now: float, clock: Clock, site: Site | None
) -> tuple[Any, float]:
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
