"""The decision after each failure: again or not, and when. No I/O; the time is passed in."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ...core.backoff import Backoff
from ...core.budget import Budget
from ...core.call import CURRENT, Call
from ...core.clock import Clock
from ...core.errors import DeadlineExceeded, PolicyError, Rejected, ResilientError, TimedOut
from ...core.events import (
    RUNTIME,
    RetryExhausted,
    RetryFinished,
    RetryScheduled,
    RetrySuppressed,
    emit,
    logger,
)
from ...core.options import DISABLED, OBSERVE, seconds
from ...core.outcome import FAILURE, Evidence, Report, Unfinished, Verdict, attach, error_type, report_of
from ...core.policy import Site, verdict_on
from ...core.when import When
from .options import RETRY_AFTER_CEILING, RetryOptions
from .strategies import Strategies, wants_again

THROTTLED_BASE = 1.0
"""Seconds: the base of the backoff after an answer that asks for less (AWS' standard mode of 2026)."""


class GaveUp:
    """The mark of a retry that has decided: another one outside must not start over.

    It holds when it was made after the outer call began; so an exception object that is raised again by a
    later call (a constant, a cached failure) is judged anew."""

    __slots__ = ("at", "clock", "owner")

    def __init__(self, at: float = 0.0, clock: Clock | None = None, owner: object = None) -> None:
        self.at = at
        self.clock = clock
        self.owner = owner

    def __reduce__(self) -> tuple[Any, ...]:
        return GaveUp, ()  # in another process no clock is ours: the mark holds

    def holds(self, started: float, clock: Clock, owner: object) -> bool:
        if self.clock is not clock:
            return self.clock is None  # times of another clock (of another test) say nothing
        return self.at > started or (self.at == started and self.owner is not owner)


MARK = "_resilient_gave_up"
"""Where the mark stands: on the exception, and in the extensions of the answer that an exception held."""


def gave_up_inside(exc: BaseException, started: float, clock: Clock, owner: object, /) -> bool:
    """Whether a retry inside this attempt gave up on ``exc``, or on what it was raised from or during."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [exc]
    while todo and len(seen) < 32:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        mark: GaveUp | None = each.__dict__.get(MARK) or _mark_on_answer(each)
        if mark is not None and mark.holds(started, clock, owner):
            return True
        todo += (each.__cause__, each.__context__)
    return False


def _mark_on_answer(exc: BaseException) -> GaveUp | None:
    """The mark on the answer that an error was made of (``response.raise_for_status()``), if a client's retry gave up
    on that."""
    extensions = getattr(exc.__dict__.get("response"), "extensions", None)
    mark = extensions.get(MARK) if isinstance(extensions, dict) else None
    return mark if isinstance(mark, GaveUp) else None


class Story:
    """One logical call after its first failure.

    Args:
        options: the retry's.
        budget: the dependency's.
        site: where the retry is bound.
        started: when the first attempt began.
        args, kwargs: the call's, for strategies that look at them.
        owner: the retry itself.
        rand: gives numbers in [0, 1).
    """

    __slots__ = (
        "_args",
        "_kwargs",
        "_strategies",
        "attempts",
        "budget",
        "call",
        "failure",
        "last_delay",
        "options",
        "owner",
        "rand",
        "site",
        "started",
        "waited",
        "why",
    )

    def __init__(
        self,
        options: RetryOptions,
        budget: Budget,
        site: Site,
        started: float,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        owner: object,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.options = options
        self.budget = budget
        self.site = site
        self.started = started
        self.owner = owner
        self.rand = rand
        self._args, self._kwargs = args, kwargs
        self.call: Call = CURRENT.get()
        self.attempts = 1
        self.last_delay = 0.0
        self.failure: str | None = None  # what the last failure that was retried is called
        self.waited = 0.0
        self.why: str | None = None
        self._strategies: Strategies | None = None
        own_wait = isinstance(options.wait, Backoff)
        if not (own_wait and options.stop is None and isinstance(options.on, When)):
            self._strategies = Strategies(
                options.on,
                None if own_wait else options.wait,
                options.stop,
                site.function,
                args,
                kwargs,
                site.clock.monotonic() - started,
            )

    # ------------------------------------------------------------------------------------------- the decision
    def wants(self, exc: Exception, /) -> Any:
        """Whether ``on=`` names this failure; may be an awaitable with a strategy of ``tenacity.asyncio``."""
        strategies = self._strategies
        if strategies is None:
            return self.options.on.covers(exc) or wants_again(exc)
        strategies.failed(exc)
        if wants_again(exc):
            return True
        wanted = strategies.wants()
        return self.options.on.covers(exc) if wanted is None else wanted

    def wants_result(self, result: Any, /) -> Any:
        """Whether ``on=`` names this result; may be an awaitable."""
        if isinstance(result, Unfinished):
            result = result.result
        strategies = self._strategies
        if strategies is not None:
            strategies.returned(result)
            wanted = strategies.wants()
            if wanted is not None:
                return wanted
        judge = self.options.on.judges_result
        return judge is not None and bool(judge(result))

    def failed(self, exc: Exception, now: float, wanted: bool, /) -> float | None:
        """The delay before the next attempt; None: give up, and the exception tells why."""
        report = report_of(exc)
        if self.attempts == 1 and not isinstance(exc, Rejected):
            self.budget.failed(now)
        why = self._against(exc, report, wanted)
        delay = 0.0
        if why is None:
            delay, why = self._delay(report, now)
        if why is not None:
            self._give_up(exc, report, why, now)
            return None
        self._go_on(exc, delay)
        return delay

    def returned(self, now: float, wanted: bool, /) -> float | None:
        """As `failed`, for a result; None: return it as it is."""
        if not wanted:
            self.succeeded()
            return None
        if self.attempts == 1:
            self.budget.failed(now)
        why = self._limits(None)
        delay = 0.0
        if why is None:
            delay, why = self._delay(None, now)
        if why is not None:
            self.why = why
            if RUNTIME.listeners:
                self._tell_end(None, why)
            return None
        self._go_on(None, delay)
        return delay

    def _against(self, exc: Exception, report: Report | None, wanted: bool) -> str | None:
        if isinstance(exc, ResilientError):
            if isinstance(exc, DeadlineExceeded):
                return "deadline"
            if isinstance(exc, Rejected):
                return "rejected"
            if not isinstance(exc, TimedOut):
                return "final"
        # Most failures were raised from nothing and bear no mark: there is nothing to walk through.
        known = exc.__dict__
        plain = (
            exc.__cause__ is None
            and exc.__context__ is None
            and MARK not in known
            and "response" not in known
        )
        if not plain and gave_up_inside(exc, self.started, self.site.clock, self.owner):
            return "nested"
        if report is not None and report.why_not_retried is not None and MARK not in exc.__dict__:
            return report.why_not_retried  # a client binding knows that it cannot be repeated, and why
        if not wanted:
            return "not_transient"
        return self._limits(report)

    def _limits(self, report: Report | None) -> str | None:
        suspended = self._suspended()
        if suspended == DISABLED:
            return suspended
        if self.attempts >= self.options.attempts:
            return "attempts"
        if self.call.attempt > 1:
            return "nested"
        options, knows = self.options, self.site.repeatable
        if knows is not None:
            repeatable = knows(*self._args, **self._kwargs)
        else:
            repeatable = options.idempotent is not False or options.idempotency_key is not None
        if not repeatable and not (report is not None and report.evidence.proves_nothing_happened):
            return "not_idempotent"
        return None

    def _delay(self, report: Report | None, now: float) -> tuple[float, str | None]:
        wait, strategies = self.options.wait, self._strategies
        retry_after = report.retry_after if report is not None else None
        if not isinstance(wait, Backoff) or wait.base == 0:
            delay = 0.0
        elif report is None:
            delay = wait.delay(self.attempts, self.last_delay, rand=self.rand)
        else:
            delay = self._own_delay(wait, report)
        if strategies is not None:
            delay = strategies.delay(delay, now, self.started)
            if strategies.stops():
                return 0.0, "stop"
        if retry_after is not None:
            if retry_after > RETRY_AFTER_CEILING:
                return 0.0, "retry_after"
            # On top of what was asked for, so that the callers whom one server turned away do not come back
            # as one.
            delay = max(delay, retry_after + self.rand() * max(0.1 * retry_after, 0.05))
        deadline = self.call.deadline
        if deadline is not None and now + delay >= deadline:
            return 0.0, "deadline"
        if self._suspended() == OBSERVE:
            return 0.0, OBSERVE
        if not self.budget.withdraw(now):
            return 0.0, "budget"
        return delay, None

    def _suspended(self) -> str | None:
        """What an operator has made of it, now: an incident does not wait for calls that are under way."""
        in_force: RetryOptions = getattr(self.owner, "options", self.options)
        return in_force.state

    def _own_delay(self, wait: Backoff, report: Report) -> float:
        evidence = report.evidence
        if self.attempts == 1 and evidence in (Evidence.NOT_SENT, Evidence.REFUSED):
            return 0.0
        base = THROTTLED_BASE if evidence is Evidence.DECLINED else None
        return wait.delay(self.attempts, self.last_delay, base=base, rand=self.rand)

    # ---------------------------------------------------------------------------------------- what follows it
    def _go_on(self, exc: Exception | None, delay: float) -> None:
        self.failure = error = "result" if exc is None else error_type(exc)
        self.last_delay = delay
        self.waited += delay
        if self._strategies is not None:
            self._strategies.next_attempt()
        site = self.site
        log = logger()
        if log.isEnabledFor(30) or RUNTIME.listeners:
            event = RetryScheduled(
                site.dependency, site.operation, attempt=self.attempts, delay=delay, error_type=error
            )
            emit(event)
            log.warning(
                "%s: attempt %d of %d of %s failed with %s; again in %s",
                site.dependency,
                self.attempts,
                self.options.attempts,
                site.operation,
                error,
                seconds(round(delay, 4)),
                extra=event.attributes(),
            )

    def _give_up(self, exc: Exception, report: Report | None, why: str, now: float) -> None:
        self.why = why
        self._strategies = None  # it holds the exception, whose traceback holds this frame
        if why == "rejected":
            self.attempts -= 1  # the last one was turned away before it was made
        if report is None:
            verdict = verdict_on(exc) if isinstance(exc, ResilientError) else FAILURE
            exc.__dict__["resilient"] = _first_report(self.attempts, why, verdict)
        elif why != "nested":
            attach(exc, attempts=self.attempts, why_not_retried=why)
        exc.__dict__[MARK] = GaveUp(now, self.site.clock, self.owner)
        if self.failure is not None or why not in ("not_transient", "rejected", "nested", "final"):
            self._note(exc, why, now)
        if RUNTIME.listeners:
            self._tell_end(exc, why)

    def _note(self, exc: Exception, why: str, now: float) -> None:
        head = f"resilient: {self.site.dependency}: "
        times = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        waited = f", {seconds(round(self.waited, 3))} of it waiting" if self.waited else ""
        took = f"{now - self.started:.3f} s{waited}"
        before = f" (before that, {self.failure})" if why == "rejected" else ""
        text = f"{head}{times} of {self.site.operation} in {took}; {_WHY.get(why, why)}{before}"
        known = getattr(exc, "__notes__", None)
        others = [note for note in known if not str(note).startswith(head)] if known else []
        exc.__dict__["__notes__"] = [*others, text]

    def _tell_end(self, exc: Exception | None, why: str) -> None:
        site, error = self.site, "result" if exc is None else error_type(exc)
        if why == "attempts":
            emit(RetryExhausted(site.dependency, site.operation, attempts=self.attempts, error_type=error))
        elif why not in ("not_transient", "rejected", "final"):
            emit(
                RetrySuppressed(
                    site.dependency, site.operation, attempt=self.attempts, error_type=error, reason=why
                )
            )
        self._finished()

    def succeeded(self) -> None:
        """An attempt succeeded: one that was paid for gets back what it cost."""
        if self.attempts == 1:
            self.budget.succeeded(self.started)
            return
        self.budget.refund()
        if RUNTIME.listeners:
            self._finished()

    def _finished(self) -> None:
        if self.attempts > 1:
            site = self.site
            emit(RetryFinished(site.dependency, site.operation, retries=self.attempts - 1, delay=self.waited))


@lru_cache(maxsize=256)
def _first_report(attempts: int, why: str, verdict: Verdict) -> Report:
    """What there is to say of a failure of which nothing else is known. A report never changes: one serves all."""
    evidence = Evidence.NOT_SENT if why == "rejected" else Evidence.UNKNOWN
    return Report(evidence, attempts, why_not_retried=why, verdict=verdict)


_WHY = {
    "attempts": "no attempts left",
    "body": "not retried: the request body cannot be sent again (give bytes, a seekable file, or a function)",
    "budget": "not retried: the retry budget is spent",
    "disabled": "not retried: an operator has switched retries off",
    "observe": "not retried: an operator has it observed only",
    "deadline": "not retried: the deadline leaves no time for it",
    "not_idempotent": "not retried: it may have happened, and repeating it is not known to be safe",
    "final": "not retried: an error of ours that is final",
    "not_transient": "not retried: the last failure is none that on= names",
    "rejected": "not retried: a policy inside said no",
    "retry_after": f"not retried: the server asks for more than {RETRY_AFTER_CEILING:g} s",
    "nested": "not retried: another retry is at work already",
    "server": "not retried: the server said not to",
    "stop": "not retried: the stop strategy ended it",
}


def key_of(
    options: RetryOptions, dependency: str, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any], /
) -> str:
    """The idempotency key of a call with these arguments."""
    from ...core.keys import business_key

    make = options.idempotency_key
    assert make is not None
    value = make(*args, **kwargs)
    if not isinstance(value, str) or not value:
        raise PolicyError(
            f"Retry: idempotency_key gave {value!r} for {operation}; it must give a text that names "
            "the intent and "
            "is the same when the intent comes again; write idempotency_key=lambda order: order.id"
        )
    return business_key(dependency, operation, value)
