"""Retry as a policy: two thin drivers around `Story`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

from ...core.backoff import Backoff
from ...core.budget import Budget
from ...core.call import CURRENT, NO_CALL, PLAIN, put_back
from ...core.clock import SYSTEM_CLOCK, Clock
from ...core.errors import PolicyError
from ...core.events import RUNTIME
from ...core.options import InForce
from ...core.outcome import Discarded, Unfinished
from ...core.pipeline import warn
from ...core.policy import Policy, Site
from ...core.registry import REGISTRY
from ...core.rows import refuse_coroutine
from ...core.when import TRANSIENT, When
from .block import Attempts
from .options import RetryOptions
from .state import Story
from .steps import adiscard, discard, is_over, later, now, own_call, tell, too_late
from .strategies import is_strategy, looks_at_results

P = ParamSpec("P")
R = TypeVar("R")


class Retry(Policy):
    """Another attempt after a failure that may pass, where repeating is safe, as long as budget and deadline
    allow.

    Args:
        attempts: how many in all, the first included; 1..100.
        on: which failures: exception classes, predicates, a `When`, or one of tenacity's ``retry_*``.
        wait: how long between attempts: a `backoff`, seconds, or one of tenacity's ``wait_*``.
        stop: one of tenacity's ``stop_*``, on top of ``attempts``.
        budget: a `Budget`; None takes the one of the pipeline's name, or an own one where it has no name.
        idempotent: whether the operation may be repeated after it may have happened. None: yes (you put a
            retry on it). False: only what provably did not happen is repeated.
        idempotency_key: gives, from the call's arguments, a text that names the intent. The key made from it
            is the same on every attempt and in every process (`current_call().idempotency_key`); it makes
            repeating safe.

    Raises:
        PolicyError: an option outside its range.

    What the function raised last is raised itself, with a report (``exc.resilient``) and a note that tells
    the story. Our own rejections and deadlines are raised at once. What a retry inside gave up on is not
    retried again outside. ``Retry-After`` on the report is kept, with jitter on top; above 30 s the call is
    not retried. Every retry is logged at WARNING to ``resilient``.

    Thread-safe; one object serves sync and async functions.

    Sources: gRPC A6 (what may be retried), AWS (full jitter), Finagle and botocore (budget).

    Example:
        >>> from resilient import Retry
        >>> answers = iter([ConnectionError(), "ok"])
        >>> @Retry(attempts=3, wait=0)
        ... def fetch():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> fetch()
        'ok'
    """

    kind = "retry"
    watches = True
    repeats = True

    def __init__(
        self,
        attempts: int = 3,
        *,
        on: Any = TRANSIENT,
        wait: Any = Backoff(),
        stop: Any = None,
        budget: Budget | None = None,
        idempotent: bool | None = None,
        idempotency_key: Callable[..., str] | None = None,
    ) -> None:
        given = RetryOptions(attempts, on, wait, stop, budget, idempotent, idempotency_key)
        self._in_force = InForce(given)
        self._own_budget: Budget | None = None
        self._held: dict[str, Budget] = {}

    @property
    def options(self) -> RetryOptions:
        """What is in force."""
        return self._in_force.now

    def retune(self, options: RetryOptions, now: float, /) -> None:
        self._in_force.change(options, now)

    def budget_for(self, name: str | None, /) -> Budget:
        """The budget in force: the given one, else the dependency's, else this retry's own."""
        if self.options.budget is not None:
            return self.options.budget
        if name is not None:
            # The registry holds it weakly; what is called and not decorated keeps no closure that would hold it.
            budget = self._held[name] = REGISTRY.budget(name)
            return budget
        if self._own_budget is None:
            self._own_budget = Budget()
        return self._own_budget

    def check(self, outer: tuple[Policy, ...], inner: tuple[Policy, ...], /) -> None:
        if any(policy.repeats for policy in inner):
            raise PolicyError(
                "Pipeline: two policies that repeat the call would multiply attempts (3 x 3 = 9); keep one Retry"
            )
        on = self.options.on
        for policy in inner:
            stands_in_for: When | None = getattr(policy, "stands_in_for", None)
            if stands_in_for is not None and (
                stands_in_for.is_all or (isinstance(on, When) and stands_in_for.overlaps(on))
            ):
                raise PolicyError(
                    "Pipeline: a Fallback inside the Retry turns the failures that the Retry waits for into "
                    "results, so it "
                    "never retries; put it outside: Fallback(...), Retry(...)"
                )
        for policy in outer:
            if policy.kind in ("breaker", "ratelimit"):
                warn(
                    f"{type(policy).__name__} stands outside the Retry, so it sees calls, not attempts: a "
                    "retry storm "
                    f"passes it; put it inside: Retry(...), {type(policy).__name__}(...)"
                )
        self._check_time(outer, inner)

    def _check_time(self, outer: tuple[Policy, ...], inner: tuple[Policy, ...]) -> None:
        total = next((p.seconds for p in reversed(outer) if p.kind == "timeout"), None)  # type: ignore[attr-defined]  # a Timeout
        attempt = next((p.seconds for p in inner if p.kind == "timeout"), None)  # type: ignore[attr-defined]  # a Timeout
        wait = self.options.wait
        if total is None or attempt is None or not isinstance(wait, Backoff):
            return
        attempts = self.options.attempts
        worst = attempts * attempt + wait.worst(attempts - 1)
        if worst > total + 1e-9:
            fits = (total - wait.worst(attempts - 1)) / attempts
            instead = (
                f"write Timeout({fits:.3g}) inside, or fewer attempts" if fits > 0 else "write fewer attempts"
            )
            warn(
                f"{attempts} attempts of {attempt:g} s and their backoff take up to {worst:g} s, more than "
                "the deadline "
                f"of {total:g} s: the last ones are cut short; {instead}"
            )

    def describe(self, outer: tuple[Policy, ...] = (), inner: tuple[Policy, ...] = (), /) -> str:
        o = self.options
        on = "transient" if o.on is TRANSIENT else str(o.on)
        wait = str(o.wait) if isinstance(o.wait, Backoff) else type(o.wait).__name__
        parts = [f"{o.attempts} attempts", f"on {on}", wait]
        if o.stop is not None:
            parts.append(f"stop {type(o.stop).__name__}")
        if o.idempotency_key is not None:
            parts.append("keyed")
        elif o.idempotent is False:
            parts.append("only what did not happen")
        if o.state is not None:
            parts.append(o.state)
        return f"Retry({', '.join(parts)})"

    def _looks_at_results(self) -> bool:
        on = self.options.on
        return looks_at_results(on) if is_strategy(on) else on.judges_result is not None

    # ------------------------------------------------------------------------------------------------ drivers
    def bind(self, inner: Callable[P, R], site: Site, /) -> Callable[P, R]:
        budget = self.budget_for(site.dependency if site.named else None)
        in_force, monotonic, looks = self._in_force, site.clock.monotonic, self._looks_at_results()
        runtime, watched, count, get, put = RUNTIME, site.watched, budget.count, CURRENT.get, CURRENT.set
        makes_key, checks = self._makes_key(site), _checks_deadline(site)

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if watched is not None and runtime.attention:
                return watched(*args, **kwargs)  # type: ignore[no-any-return]  # the user's own type
            outer = get()
            changes = makes_key or (outer.rest is not PLAIN and outer.rest.idempotency_key is not None)
            try:  # put back without a token, as in Timeout: a signal handler may raise before there is one
                if changes:
                    put(own_call(outer, makes_key, in_force.now, site, args, kwargs))
                started = monotonic()
                if checks and outer is not NO_CALL and is_over(outer, started):
                    raise too_late(site)
                try:
                    result = inner(*args, **kwargs)
                except Exception as exc:
                    if runtime.listeners:
                        tell(site, 1, started, exc)
                    story = Story(in_force.at(started), budget, site, started, args, kwargs, self)
                    try:
                        delay = story.failed(exc, monotonic(), now(story.wants(exc), site))
                    except BaseException:  # a predicate or strategy of the user's
                        if isinstance(exc, Discarded):
                            exc.discard(0.0)
                        raise
                    if delay is None:
                        raise
                    if isinstance(exc, Discarded):
                        delay = discard(exc, delay, site.clock, budget)
                else:
                    if result.__class__ is CoroutineType:
                        raise refuse_coroutine(result, site)
                    if runtime.listeners:
                        tell(site, 1, started, None)
                    if not looks:
                        if started < budget.edge:  # as Budget.succeeded, without its frame
                            count()
                        else:
                            budget.succeeded(started)
                        return result
                    story = Story(in_force.at(started), budget, site, started, args, kwargs, self)
                    delay = returned(story, result)
                    if delay is None:
                        return result
                return again(story, delay, args, kwargs)
            finally:
                if changes:
                    put(outer)

        def again(story: Story, delay: float, args: Any, kwargs: Any) -> R:
            while True:
                if delay > 0:
                    with budget.paid():
                        site.clock.sleep(delay)
                story.attempts += 1
                began = monotonic()
                try:
                    put(story.call.with_attempt(story.attempts, story.started))
                    result = inner(*args, **kwargs)
                except Exception as exc:
                    if runtime.listeners:
                        tell(site, story.attempts, began, exc)
                    try:
                        next_delay = story.failed(exc, monotonic(), now(story.wants(exc), site))
                    except BaseException:
                        if isinstance(exc, Discarded):
                            exc.discard(0.0)
                        raise
                    if next_delay is None:
                        raise
                    delay = (
                        discard(exc, next_delay, site.clock, budget)
                        if isinstance(exc, Discarded)
                        else next_delay
                    )
                else:
                    if runtime.listeners:
                        tell(site, story.attempts, began, None)
                    if not looks:
                        story.succeeded()
                        return result
                    next_delay = returned(story, result)
                    if next_delay is None:
                        return result
                    delay = next_delay
                finally:
                    put(story.call)

        def returned(story: Story, result: Any) -> float | None:
            held = result.__class__ is Unfinished
            try:
                delay = story.returned(monotonic(), now(story.wants_result(result), site))
            except BaseException:
                if held:
                    result.discard(0.0)
                raise
            return discard(result, delay, site.clock, budget) if held and delay is not None else delay

        return call

    def abind(self, inner: Callable[P, Awaitable[R]], site: Site, /) -> Callable[P, Coroutine[Any, Any, R]]:
        from ...core.loops import sleep

        budget = self.budget_for(site.dependency if site.named else None)
        in_force, monotonic, looks = self._in_force, site.clock.monotonic, self._looks_at_results()
        runtime, watched, count, get, put = RUNTIME, site.watched, budget.count, CURRENT.get, CURRENT.set
        makes_key, checks = self._makes_key(site), _checks_deadline(site)

        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if watched is not None and runtime.attention:
                return await watched(*args, **kwargs)  # type: ignore[no-any-return]  # the user's own type
            outer = get()
            token = None
            if makes_key or (outer.rest is not PLAIN and outer.rest.idempotency_key is not None):
                token = put(own_call(outer, makes_key, in_force.now, site, args, kwargs))
            try:
                started = monotonic()
                if checks and outer is not NO_CALL and is_over(outer, started):
                    raise too_late(site)
                try:
                    result = await inner(*args, **kwargs)
                except Exception as exc:
                    if runtime.listeners:
                        tell(site, 1, started, exc)
                    story = Story(in_force.at(started), budget, site, started, args, kwargs, self)
                    try:
                        wanted = story.wants(exc)
                        if wanted.__class__ is not bool:
                            wanted = await later(wanted)
                        delay = story.failed(exc, monotonic(), wanted)
                    except BaseException:
                        if isinstance(exc, Discarded):
                            await exc.adiscard(0.0)
                        raise
                    if delay is None:
                        raise
                    if isinstance(exc, Discarded):
                        delay = await adiscard(exc, delay, site.clock, budget)
                else:
                    if runtime.listeners:
                        tell(site, 1, started, None)
                    if not looks:
                        if started < budget.edge:  # as Budget.succeeded, without its frame
                            count()
                        else:
                            budget.succeeded(started)
                        return result
                    story = Story(in_force.at(started), budget, site, started, args, kwargs, self)
                    delay = await returned(story, result)
                    if delay is None:
                        return result
                return await again(story, delay, args, kwargs)
            finally:
                if token is not None:
                    put_back(token)

        async def again(story: Story, delay: float, args: Any, kwargs: Any) -> R:
            while True:
                if delay > 0:
                    with budget.paid():
                        await sleep(delay)
                story.attempts += 1
                began = monotonic()
                token = put(story.call.with_attempt(story.attempts, story.started))
                try:
                    result = await inner(*args, **kwargs)
                except Exception as exc:
                    if runtime.listeners:
                        tell(site, story.attempts, began, exc)
                    try:
                        next_delay = story.failed(exc, monotonic(), await later(story.wants(exc)))
                    except BaseException:
                        if isinstance(exc, Discarded):
                            await exc.adiscard(0.0)
                        raise
                    if next_delay is None:
                        raise
                    delay = (
                        await adiscard(exc, next_delay, site.clock, budget)
                        if isinstance(exc, Discarded)
                        else next_delay
                    )
                else:
                    if runtime.listeners:
                        tell(site, story.attempts, began, None)
                    if not looks:
                        story.succeeded()
                        return result
                    next_delay = await returned(story, result)
                    if next_delay is None:
                        return result
                    delay = next_delay
                finally:
                    put_back(token)

        async def returned(story: Story, result: Any) -> float | None:
            held = result.__class__ is Unfinished
            try:
                delay = story.returned(monotonic(), await later(story.wants_result(result)))
            except BaseException:
                if held:
                    await result.adiscard(0.0)
                raise
            return await adiscard(result, delay, site.clock, budget) if held and delay is not None else delay

        return call

    def _makes_key(self, site: Site) -> bool:
        # A client binding makes keys by itself: for the methods that take one.
        return self.options.idempotency_key is not None and site.repeatable is None

    # --------------------------------------------------------------------------------------------- block form
    def attempts(self, *, name: str = "block", clock: Clock = SYSTEM_CLOCK) -> Attempts:
        """The attempts of a block of code, for code that is no function of its own.

        Args:
            name: what notes and events call the block.
            clock: where time comes from.

        Raises:
            PolicyError: with ``idempotency_key=``, which is made of a function's arguments, or an ``on=`` that looks at
                results, of which a block has none.

        Example:
            >>> from resilient import Retry
            >>> for attempt in Retry(attempts=3, wait=0).attempts(name="fetch"):
            ...     with attempt:
            ...         if attempt.number < 2:
            ...             raise ConnectionError("down")
            ...         print("attempt", attempt.number)
            attempt 2
        """
        if self.options.idempotency_key is not None:
            rule = "is made of a function's arguments, and a block has none"
            self.options.refuse("idempotency_key", rule, "Retry(idempotent=True), and send a key of your own")
        if isinstance(self.options.on, When) and self.options.on.judges_result is not None:
            rule = "looks at results, and a block has none"
            self.options.refuse("on", rule, "a function under @Retry(...), or raise an error in the block")
        return Attempts(self.options, Site(name, name, clock, self.attempts), self.budget_for(None), self)


def _checks_deadline(site: Site) -> bool:
    """Whether nobody outside has looked at the deadline just before."""
    return not site.outer or site.outer[-1].kind != "timeout"
