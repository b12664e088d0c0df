"""Timeout as a policy: the deadline goes down in the Call; async attempts are cancelled, sync ones are
not."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ...core.call import CURRENT, Call, make_call
from ...core.errors import PolicyError, TimedOut
from ...core.events import RUNTIME, CallAbandoned, Rejection, TimeoutOverrun, emit
from ...core.forks import tell_after_fork
from ...core.options import InForce
from ...core.outcome import IGNORED, Evidence, attach
from ...core.policy import Policy, Site
from ...core.rows import refuse_coroutine
from .options import TimeoutOptions
from .state import overdue, was_cut

if TYPE_CHECKING:
    from ...core.loops import Limits

P = ParamSpec("P")
R = TypeVar("R")


class Timeout(Policy):
    """How long the call inside may take.

    Outside a Retry of its pipeline it is the *total*, for all attempts and waits, and raises
    `DeadlineExceeded`; elsewhere it is for one attempt and raises `TimedOut`, which a Retry may retry. An
    earlier deadline of the caller wins, and raises `DeadlineExceeded`.

    Async: the attempt is cancelled; the caller's own cancellation is told apart. Sync: Python cannot stop a
    function, so nothing is interrupted: every wait of ours inside is cut at the deadline (backoff, limiter,
    queue, the HTTP layer), a function that ends late has its result returned, and the overrun is told to
    listeners.

    Args:
        seconds: more than 0.
        walk_away: sync only: run the function in a thread of its own, and leave it behind when its time is
            over. It goes on running; `leaked` counts those that do. For code that can be stopped in no other
            way.

    Raises:
        PolicyError: an option outside its range.

    Thread-safe; one object serves sync and async functions. Under asyncio one timer per loop and duration
    serves all calls.

    Source: gRPC deadlines; Google SRE book, chapter 22.

    Example:
        >>> from resilient import Timeout, current_call
        >>> @Timeout(2.0)
        ... def work() -> bool:
        ...     return current_call().remaining() <= 2.0
        >>> work()
        True
    """

    kind = "timeout"
    watches = True

    def __init__(self, seconds: float = 2.0, *, walk_away: bool = False) -> None:
        self.options = TimeoutOptions(seconds, walk_away)
        self._seconds = InForce(self.options.seconds)
        self._lock = threading.Lock()
        self._leaked = 0  # guarded by _lock
        self._limits: Limits | None = None  # those of the loop that was seen last
        tell_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._leaked = 0  # they run in the parent

    def retune(self, options: TimeoutOptions, now: float, /) -> None:
        self.options = options
        self._seconds.change(options.seconds, now)

    @property
    def seconds(self) -> float:
        """The time-out in seconds."""
        return self.options.seconds

    @property
    def leaked(self) -> int:
        """Functions that were walked away from and still run."""
        return self._leaked

    def check(self, outer: tuple[Policy, ...], inner: tuple[Policy, ...], /) -> None:
        for i, other in enumerate(inner):
            if not isinstance(other, Timeout):
                continue
            if not any(policy.repeats for policy in inner[:i]):
                raise PolicyError(
                    f"Pipeline: Timeout({self.seconds:g}) and Timeout({other.seconds:g}) with no Retry "
                    "between bound the same "
                    "thing; keep one, or put the Retry between them"
                )
            if other.seconds >= self.seconds:
                raise PolicyError(
                    f"Pipeline: the inner Timeout of {other.seconds:g} s is not below the outer one of "
                    f"{self.seconds:g} s, so "
                    f"it never fires; write a smaller one, such as Timeout({self.seconds / 3:.3g})"
                )

    def describe(self, outer: tuple[Policy, ...] = (), inner: tuple[Policy, ...] = (), /) -> str:
        what = "total " if _is_total(inner) else "attempt " if any(p.repeats for p in outer) else ""
        return f"Timeout({what}{self.seconds:g} s{', walk away' if self.options.walk_away else ''})"

    # ------------------------------------------------------------------------------------------------ drivers
    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        seconds, total, monotonic = self._seconds, _is_total(site.inner), site.clock.monotonic
        of_attempt = any(policy.repeats for policy in site.outer)
        get, put = CURRENT.get, CURRENT.set
        runtime, watched = RUNTIME, site.watched
        run = run_inherited = inner
        if self.options.walk_away:
            run = self._in_thread(inner, site, total, False)
            run_inherited = self._in_thread(inner, site, total, True)

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if watched is not None and runtime.attention:
                return watched(*args, **kwargs)  # type: ignore[no-any-return]  # the user's own type
            outer = get()
            limit = seconds.now
            if of_attempt and seconds.before:  # a later attempt has the time that the first one had
                limit = seconds.at(outer.began)
            now = monotonic()
            inherited = outer.deadline
            if inherited is not None and inherited <= now:
                raise _late(limit, total, site)
            deadline = now + limit
            shorter = inherited is not None and inherited <= deadline
            # Set inside the block and put back without a token: a signal handler may raise before what a call
            # returned is kept, and a deadline that stays behind would end every later call of the thread.
            try:
                if shorter:
                    assert inherited is not None
                    deadline = inherited
                    result = run_inherited(*args, **kwargs)
                else:
                    limited = make_call(Call)  # as Call.with_deadline, without its frame
                    limited.deadline = deadline
                    limited.attempt = outer.attempt
                    limited.began = outer.began
                    limited.rest = outer.rest
                    put(limited)
                    result = run(*args, **kwargs)
                if result.__class__ is CoroutineType:
                    raise refuse_coroutine(result, site)
            except TimedOut as exc:
                if total and not shorter and was_cut(exc, deadline, monotonic()):
                    raise overdue(limit, total, False, site, exc) from exc
                raise
            except Exception:
                if runtime.listeners:
                    _tell_overrun(site, limit, deadline)
                raise
            finally:
                put(outer)
            if runtime.listeners:
                _tell_overrun(site, limit, deadline)
            return result

        return call

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        from asyncio import CancelledError

        from ...core.loops import Limits, begin_limit, running_loop

        seconds, total, monotonic = self._seconds, _is_total(site.inner), site.clock.monotonic
        of_attempt = any(policy.repeats for policy in site.outer)
        get, put, reset = CURRENT.get, CURRENT.set, CURRENT.reset
        runtime, watched = RUNTIME, site.watched
        if self.options.walk_away:
            raise PolicyError(
                f"Timeout: walk_away=True is for sync functions; {site.operation} is async and is cancelled "
                "instead; leave "
                "it out"
            )
        limits = self._limits
        if limits is not None and limits.monotonic != monotonic:
            limits = None

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if watched is not None and runtime.attention:
                return await watched(*args, **kwargs)  # type: ignore[no-any-return]  # the user's own type
            nonlocal limits
            outer = get()
            limit = seconds.now
            if of_attempt and seconds.before:
                limit = seconds.at(outer.began)
            now = monotonic()
            inherited = outer.deadline
            if inherited is not None and inherited <= now + limit:
                return await until_inherited(inherited - now, limit, args, kwargs)
            deadline = now + limit
            running = limits.begin(deadline) if limits is not None and limits.duration == limit else None
            if running is None:
                loop = running_loop()
                if loop is None:
                    return await in_trio(limit, limit, False, args, kwargs)
                # Kept for what is bound later too: `acall` binds each time, and is to share the timer.
                limits = self._limits = mine = Limits(loop, limit, monotonic)
                running = mine.begin(deadline)
                assert running is not None
            limited = make_call(Call)  # as Call.with_deadline, without its frame
            limited.deadline = deadline
            limited.attempt = outer.attempt
            limited.began = outer.began
            limited.rest = outer.rest
            token = put(limited)
            try:
                return await inner(*args, **kwargs)
            except CancelledError as exc:
                if running.is_own():
                    raise overdue(limit, total, False, site, exc) from exc
                raise
            except TimedOut as exc:
                if total and was_cut(exc, deadline, monotonic()):
                    raise overdue(limit, total, False, site, exc) from exc
                raise
            finally:
                running.task = None
                if running.expired:
                    running.forget()
                try:
                    reset(token)
                except ValueError:
                    pass  # as `put_back`, without its frame

        async def until_inherited(left: float, limit: float, args: Any, kwargs: Any) -> R:
            # The caller's deadline comes first: it needs a timer of its own, as no two of them last equally
            # long.
            if left <= 0:
                raise _late(limit, total, site)
            loop = running_loop()
            if loop is None:
                return await in_trio(left, limit, True, args, kwargs)
            running, timer = begin_limit(loop, left)
            try:
                return await inner(*args, **kwargs)
            except CancelledError as exc:
                if running.is_own():
                    raise overdue(limit, total, True, site, exc) from exc
                raise
            finally:
                timer.cancel()
                running.task = None
                if running.expired:
                    running.forget()

        async def in_trio(left: float, limit: float, inherited: bool, args: Any, kwargs: Any) -> R:
            import trio

            deadline = monotonic() + left
            token = put(get().with_deadline(deadline))
            try:
                with trio.move_on_after(left):
                    return await inner(*args, **kwargs)
            except TimedOut as exc:
                if total and not inherited and was_cut(exc, deadline, monotonic()):
                    raise overdue(limit, total, False, site, exc) from exc
                raise
            finally:
                reset(token)
            raise overdue(limit, total, inherited, site)

        return call

    def _in_thread(
        self, inner: Callable[..., Any], site: Site, total: bool, inherited: bool
    ) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            box: list[Any] = []
            ended = False  # whoever sets one of the two first decides; guarded by _lock
            left_behind = False
            done = threading.Lock()
            done.acquire()
            context = contextvars.copy_context()
            deadline = CURRENT.get().deadline
            assert deadline is not None

            def work() -> None:
                nonlocal ended
                try:
                    box.append((context.run(inner, *args, **kwargs), None))
                except BaseException as exc:
                    box.append((None, exc))
                with self._lock:
                    ended = True
                    self._leaked -= left_behind
                if left_behind:
                    box.clear()
                done.release()

            threading.Thread(target=work, name=f"resilient-walk-away-{site.operation}", daemon=True).start()
            if not site.clock.acquire(done, max(0.0, deadline - site.clock.monotonic())):
                with self._lock:
                    left_behind = not ended
                    self._leaked += left_behind
                if left_behind:
                    if RUNTIME.listeners:
                        emit(
                            CallAbandoned(
                                site.dependency, site.operation, timeout=self.seconds, leaked=self._leaked
                            )
                        )
                    raise overdue(self.seconds, total, inherited, site)
            result, error = box.pop()
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # its traceback holds this frame
            return result

        return call


def _is_total(inner: tuple[Policy, ...]) -> bool:
    return any(policy.repeats for policy in inner)


def _tell_overrun(site: Site, limit: float, deadline: float) -> None:
    over = site.clock.monotonic() - deadline
    if over > 0:
        emit(TimeoutOverrun(site.dependency, site.operation, timeout=limit, overrun=over))


def _late(limit: float, total: bool, site: Site) -> Exception:
    """The deadline was over before the call: nobody's failure, and nothing was done."""
    if RUNTIME.listeners:
        emit(Rejection(site.dependency, site.operation, by="deadline", reason="the deadline was over"))
    error = overdue(limit, total, True, site)
    attach(error, evidence=Evidence.NOT_SENT, attempts=0, verdict=IGNORED)
    return error
