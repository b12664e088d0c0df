"""The face that pybreaker's users know: their listeners and storages, and a real
``pybreaker.CircuitBreaker``.

Ours is the state machine; pybreaker's object follows our transitions through its public API, outside our
lock. Nothing here imports pybreaker before somebody asks for its object or hands in something of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ...core.errors import PolicyError
from ...core.outcome import FAILURE
from .state import CLOSED, DISABLED, FORCED_OPEN, HALF_OPEN, OPEN, Change

if TYPE_CHECKING:
    import pybreaker

    from .policy import CircuitBreaker

_PER_CALL = ("before_call", "success", "failure")
_NEVER = 10**9
_PYBREAKERS = {"closed": CLOSED, "open": OPEN, "half-open": HALF_OPEN}
_SHOWN_AS = {CLOSED: CLOSED, DISABLED: CLOSED, OPEN: OPEN, FORCED_OPEN: OPEN, HALF_OPEN: HALF_OPEN}


class Face:
    """A pybreaker breaker that shows what ours does.

    Args:
        breaker: ours.
        listeners: ``pybreaker.CircuitBreakerListener`` objects.
        storage: a ``pybreaker.CircuitBreakerStorage``, written at transitions; never read on a call.
    """

    def __init__(self, breaker: CircuitBreaker, listeners: tuple[Any, ...], storage: Any) -> None:
        self._breaker = breaker
        self._listeners = listeners
        self._storage = storage
        self._made: dict[str, pybreaker.CircuitBreaker] = {}
        self.per_call = tuple(each for each in listeners if _hears_calls(each))

    @property
    def real(self) -> pybreaker.CircuitBreaker:
        """The pybreaker object; made, and pybreaker imported, at the first use."""
        found = self._made.get("real")
        if found is None:
            import pybreaker

            options = self._breaker.options
            for listener in self._listeners:
                if not isinstance(listener, pybreaker.CircuitBreakerListener):
                    raise PolicyError(
                        f"CircuitBreaker: listeners={listener!r} is no pybreaker.CircuitBreakerListener; "
                        "subclass that, or "
                        "listen to events with resilient.subscribe(...)"
                    )
            made = pybreaker.CircuitBreaker(
                fail_max=_NEVER,  # ours decides when to open
                reset_timeout=options.open_for,
                success_threshold=_NEVER,
                listeners=list(self._listeners),
                name=options.name,
                **({} if self._storage is None else {"state_storage": self._storage}),
            )
            found = self._made.setdefault(
                "real", made
            )  # one atomic step: threads that come at once get the same
        return found

    def follow(self, change: Change) -> None:
        """Make the pybreaker object take the step that ours took."""
        if change.observed or _SHOWN_AS[change.old] == _SHOWN_AS[change.new]:
            return
        self.show(change.new)

    def show(self, state: str) -> None:
        """Bring the pybreaker object into a state of ours."""
        real, shown = self.real, _SHOWN_AS[state]
        if shown == _PYBREAKERS[real.current_state]:
            return
        if shown == OPEN:
            real.open()
        elif shown == HALF_OPEN:
            real.half_open()
        else:
            real.close()

    # Per-call hooks run in the order in which pybreaker runs them: before_call once admitted; failure before
    # the transition that it causes, success after it.
    def before(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for listener in self.per_call:
            listener.before_call(self.real, fn, *args, **kwargs)

    def failed(self, exc: Exception) -> None:
        if self._breaker.judge(None, exc) is FAILURE:
            for listener in self.per_call:
                listener.failure(self.real, exc)

    def succeeded(self) -> None:
        for listener in self.per_call:
            listener.success(self.real)

    def inside(self, inner: Callable[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
        """``inner`` with the hooks that run once the call is admitted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.before(fn, args, kwargs)
            try:
                return inner(*args, **kwargs)
            except Exception as exc:
                self.failed(exc)
                raise

        return call

    def ainside(
        self, inner: Callable[..., Awaitable[Any]], fn: Callable[..., Any]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.before(fn, args, kwargs)
            try:
                return await inner(*args, **kwargs)
            except Exception as exc:
                self.failed(exc)
                raise

        return call


def _hears_calls(listener: Any) -> bool:
    """Whether a listener defines a per-call hook itself; the empty ones of pybreaker's base class do not
    count."""
    for hook in _PER_CALL:
        for cls in type(listener).__mro__:
            if hook in cls.__dict__:
                if cls.__module__.partition(".")[0] != "pybreaker":
                    return True
                break
    return False
