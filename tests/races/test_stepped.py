"""Every async driver, cancelled at its n-th suspension for every n: permits, probes, tokens, budget, time limits and
the context are afterwards as if the call had never been made, but for what a function that ran has used up."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pybreaker
import pytest
import tenacity
import tenacity.asyncio

from resilient import (
    Budget,
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Pipeline,
    Policy,
    RateLimit,
    Retry,
    Timeout,
    Verdict,
    Wait,
    current_call,
    deadline,
    standard,
    subscribe,
)
from resilient.core.call import NO_CALL
from resilient.core.loops import Limit
from resilient.policies.breaker.state import Probe
from resilient.testing import ManualClock
from tests.races.stepping import Left, Step, cancel_everywhere

Call = Callable[[], Awaitable[Any]]


@dataclass
class Scene:
    """One call with the policies around it, and what must hold when it is over.

    Attributes:
        fails: how many attempts fail before one succeeds.
        started: how many times the function began.
        finished: how many times it came to its end, well or not.
    """

    clock: ManualClock
    fails: int = 0
    bulkhead: Bulkhead = field(default_factory=lambda: Bulkhead(2, queue=5, max_wait=1.0))
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    limit: RateLimit = field(default_factory=lambda: RateLimit("1/hour", burst=50))
    budget: Budget = field(default_factory=lambda: Budget(stock=100, cost=5))
    started: int = 0
    finished: int = 0
    checks: list[Callable[[], None]] = field(default_factory=list)

    async def work(self) -> str:
        self.started += 1
        await Step()
        await Step()
        self.finished += 1
        if self.started <= self.fails:
            raise ConnectionError("not yet")
        return "done"

    def retry(self, **options: Any) -> Retry:
        return Retry(**{"attempts": 3, "wait": 0.1, "budget": self.budget, **options})

    def decorate(self, *policies: Policy) -> Call:
        return Pipeline(*policies, clock=self.clock)(self.work)

    def check(self) -> None:
        for each in self.checks:
            each()
        task = running_task()
        assert task is None or task.cancelling() == 0
        assert current_call() is NO_CALL
        assert self.bulkhead.in_flight == 0
        assert self.bulkhead.waiting == 0

    def check_tokens(self) -> None:
        assert self.limit.available() == 50 - self.started, (
            "one token for each time the function ran, no more"
        )

    def check_breaker(self) -> None:
        failures = min(self.fails, self.finished)
        assert self.breaker.totals() == (self.finished, failures, 0), "who was cancelled counts neither way"

    def check_budget(self) -> None:
        retries = max(0, self.started - 1)
        recovered = retries > 0 and self.finished > self.fails
        assert self.budget._stock == 100 - 5 * (retries - recovered), (
            "only retries that were made are paid for"
        )
        assert sum(self.budget._retries) == retries, "and only these take room in the window"


def drivers() -> dict[str, Callable[[Scene], Call]]:
    """Every async driver there is, by name."""

    def lone_bulkhead(scene: Scene) -> Call:
        return scene.decorate(scene.bulkhead)

    def lone_breaker(scene: Scene) -> Call:
        scene.checks.append(scene.check_breaker)
        return scene.decorate(scene.breaker)

    def lone_limit(scene: Scene) -> Call:
        scene.checks.append(scene.check_tokens)
        return scene.decorate(scene.limit)

    def row(scene: Scene) -> Call:
        scene.checks += [scene.check_tokens, scene.check_breaker]
        return scene.decorate(scene.breaker, scene.limit, scene.bulkhead)

    def general_row_with_select(scene: Scene) -> Call:
        scene.limit = RateLimit("1/hour", burst=50, key=lambda: "ann")
        keyed = scene.limit.select((), {})
        scene.checks += [
            scene.check_breaker,
            lambda: [keyed.admit(0.0) for _ in range(50 - scene.started)] and None,
        ]
        return scene.decorate(scene.breaker, scene.limit, scene.bulkhead)

    def general_row_that_judges_results(scene: Scene) -> Call:
        class Judging(CircuitBreaker):
            def judge(self, result: Any, exc: Exception | None, /) -> Verdict:
                return Verdict.FAILURE if result == "done" else super().judge(result, exc)

        scene.breaker = Judging()
        scene.checks.append(lambda: assert_equal(scene.breaker.totals(), (scene.finished, scene.finished, 0)))
        return scene.decorate(scene.breaker, scene.bulkhead)

    def four_gates(scene: Scene) -> Call:
        scene.checks += [scene.check_tokens, scene.check_breaker]
        return scene.decorate(scene.breaker, scene.limit, scene.bulkhead, Bulkhead(9))

    def gate_as_a_block(scene: Scene) -> Call:
        async def call() -> str:
            async with scene.bulkhead.guard(clock=scene.clock), scene.breaker.guard(clock=scene.clock):
                return await scene.work()

        scene.breaker.clock = scene.clock
        scene.checks.append(scene.check_breaker)
        return call

    def breaker_with_per_call_listeners(scene: Scene) -> Call:
        class Counting(pybreaker.CircuitBreakerListener):
            before = after = 0

            def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
                self.before += 1

            def success(self, cb: Any) -> None:
                self.after += 1

        counting = Counting()
        scene.breaker = CircuitBreaker(listeners=[counting])
        scene.checks += [
            scene.check_breaker,
            lambda: assert_equal((counting.before, counting.after), (scene.started, scene.finished)),
        ]
        return scene.decorate(scene.breaker, scene.bulkhead)

    def probe_of_a_half_open_breaker(scene: Scene) -> Call:
        scene.breaker = CircuitBreaker(consecutive=1, open_for=1.0, probes=2)
        scene.breaker.record(
            scene.breaker.admit(scene.clock.monotonic()), Verdict.FAILURE, 0.0, scene.clock.monotonic()
        )
        scene.clock.advance(1.0)

        def place_is_free() -> None:
            permit = scene.breaker.admit(scene.clock.monotonic())
            assert isinstance(permit, Probe)
            assert scene.breaker._state._good == scene.finished

        scene.checks.append(place_is_free)
        return scene.decorate(scene.breaker)

    def bulkhead_queue(scene: Scene) -> Call:
        """The only place is taken, and becomes free in 0.2 s."""
        scene.bulkhead = bulkhead = Bulkhead(1, queue=5, max_wait=1.0)
        permit = bulkhead.admit(0.0)
        serve = asyncio.get_running_loop().call_later(0.2, bulkhead.record, permit, Verdict.SUCCESS, 0.0, 0.0)

        def free_in_the_end() -> None:
            assert bulkhead.waiting == 0
            if scene.clock.monotonic() < serve.when():
                assert bulkhead.in_flight == 1, "he who had it has it"
                serve.cancel()
                bulkhead.record(permit, Verdict.SUCCESS, 0.0, 0.0)

        scene.checks.insert(0, free_in_the_end)
        return scene.decorate(bulkhead)

    def limiter_wait(scene: Scene) -> Call:
        scene.limit = RateLimit("10/second", burst=1, max_wait=5.0)
        scene.limit.clock = scene.clock
        taken = scene.clock.monotonic()
        assert not isinstance(scene.limit.admit(taken), Wait)

        def given_back() -> None:
            waits = scene.limit.admit(taken)
            assert waits.ready_at == pytest.approx(taken + 0.1 * (1 + scene.started))  # type: ignore[union-attr]

        scene.checks.append(given_back)
        return scene.decorate(scene.limit)

    def limiter_wait_behind_a_breaker_and_a_bulkhead(scene: Scene) -> Call:
        limiter_wait(scene)
        scene.checks.append(scene.check_breaker)
        return scene.decorate(scene.breaker, scene.bulkhead, scene.limit)

    def retry(scene: Scene) -> Call:
        scene.fails = 2
        scene.checks.append(scene.check_budget)
        return scene.decorate(scene.retry())

    def retry_without_delay(scene: Scene) -> Call:
        scene.fails = 2
        scene.checks.append(scene.check_budget)
        return scene.decorate(scene.retry(wait=0))

    def retry_that_gives_up(scene: Scene) -> Call:
        scene.fails = 9
        scene.checks.append(scene.check_budget)
        return swallowing(scene.decorate(scene.retry()))

    def retry_with_a_key(scene: Scene) -> Call:
        scene.fails = 2
        scene.checks.append(scene.check_budget)
        return scene.decorate(scene.retry(idempotency_key=lambda: "order-7"))

    def retry_with_async_strategies(scene: Scene) -> Call:
        async def asks(exc: BaseException) -> bool:
            await Step()
            return isinstance(exc, ConnectionError)

        scene.fails = 2
        scene.checks.append(scene.check_budget)
        return scene.decorate(
            scene.retry(on=tenacity.asyncio.retry_if_exception(asks), wait=tenacity.wait_fixed(0.1))
        )

    def retry_on_results(scene: Scene) -> Call:
        async def asks(result: Any) -> bool:
            await Step()
            return result == "done" and scene.started < 3

        outcomes: list[str] = []
        inner = scene.decorate(scene.retry(on=tenacity.asyncio.retry_if_result(asks)))

        async def call() -> None:
            outcomes.append(await inner())

        def check_budget() -> None:
            retries, recovered = max(0, scene.started - 1), len(outcomes)
            assert scene.budget._stock == 100 - 5 * (retries - recovered)

        scene.checks.append(check_budget)
        return call

    def retry_as_a_block(scene: Scene) -> Call:
        retry_ = scene.retry()
        scene.fails = 2
        scene.checks.append(scene.check_budget)

        async def call() -> None:
            async for attempt in retry_.attempts(clock=scene.clock):
                with attempt:
                    await scene.work()

        return call

    def attempt_timeout(scene: Scene) -> Call:
        scene.checks.append(no_limit_runs)
        return scene.decorate(Timeout(5.0))

    def attempt_timeout_that_expires(scene: Scene) -> Call:
        async def forever() -> None:
            await scene.work()
            await asyncio.sleep(60.0)

        scene.checks.append(no_limit_runs)
        return swallowing(Pipeline(Timeout(0.5), clock=scene.clock)(forever))

    def total_and_attempt_timeouts(scene: Scene) -> Call:
        scene.fails = 2
        scene.checks += [scene.check_budget, no_limit_runs]
        return scene.decorate(Timeout(9.0), scene.retry(), Timeout(1.0))

    def deadline_of_the_caller(scene: Scene) -> Call:
        inner = scene.decorate(Timeout(5.0))
        scene.checks.append(no_limit_runs)

        async def call() -> None:
            with deadline(1.0, clock=scene.clock):
                await inner()

        return call

    def fallback(scene: Scene) -> Call:
        async def stand_in() -> str:
            await Step()
            return "instead"

        scene.fails = 9
        return scene.decorate(Fallback(stand_in))

    def watched(scene: Scene) -> Call:
        told: list[str] = []
        inner = scene.decorate(scene.retry(), scene.breaker, scene.bulkhead)
        scene.fails = 1
        scene.checks += [scene.check_breaker, scene.check_budget]

        async def call() -> None:
            stop = subscribe(lambda event: told.append(event.name))
            try:
                await inner()
            finally:
                stop()

        scene.checks.append(lambda: assert_equal(told.count("resilient.call.finished"), 1))
        return call

    def everything(scene: Scene) -> Call:
        scene.fails = 2
        scene.checks += [scene.check_breaker, scene.check_tokens, scene.check_budget]
        return scene.decorate(
            Fallback("instead"),
            Timeout(9.0),
            scene.retry(),
            scene.breaker,
            scene.limit,
            scene.bulkhead,
            Timeout(1.0),
        )

    def the_standard_pipeline(scene: Scene) -> Call:
        scene.fails = 2
        pipeline = standard("stepped", rate="1000/second", idempotent=True, clock=scene.clock)
        scene.bulkhead, scene.breaker = pipeline["bulkhead"], pipeline["breaker"]
        scene.budget = pipeline["retry"].budget_for("stepped")
        scene.checks += [scene.check_breaker, lambda: scene.budget.__init__()]  # type: ignore[misc]
        return pipeline(scene.work)

    return {name: value for name, value in locals().items() if callable(value)}


def no_limit_runs() -> None:
    """No time limit is left that would cancel a task later."""
    limits = [each for each in gc.get_objects() if type(each) is Limit]
    assert not [each for each in limits if each.task is not None or each.expired is not None]


def running_task() -> asyncio.Task[Any] | None:
    return asyncio.current_task() if asyncio._get_running_loop() else None


def assert_equal(a: object, b: object) -> None:
    assert a == b


def swallowing(call: Call) -> Call:
    """The call, for those whose ordinary end is a failure."""

    async def swallows() -> None:
        try:
            await call()
        except Exception:
            pass

    return swallows


DRIVERS = drivers()


@pytest.mark.parametrize("driver", DRIVERS)
def test_cancelled_at_every_suspension(driver: str) -> None:
    clock = ManualClock()

    async def main() -> int:
        def make() -> tuple[Call, Callable[[], None]]:
            scene = Scene(clock)
            scene.breaker.clock = scene.limit.clock = clock
            call = DRIVERS[driver](scene)
            return call, scene.check

        return await cancel_everywhere(make)

    assert clock.run(main()) >= 2


@pytest.mark.parametrize("driver", DRIVERS)
def test_left_behind_at_every_suspension(driver: str) -> None:
    """The loop ends while the call is suspended; the coroutine is closed later, with no loop, in another context: as
    the interpreter does with what it finds lying about."""
    for n in range(1, 60):
        clock = ManualClock()
        scene = Scene(clock)
        scene.breaker.clock = scene.limit.clock = clock
        made: list[Any] = []

        async def main(
            clock: ManualClock = clock, scene: Scene = scene, made: list[Any] = made, n: int = n
        ) -> bool:
            made.append(DRIVERS[driver](scene)())
            return await Left(made[0], n)

        left = clock.run(main())
        made[0].close()
        scene.check()
        if not left:
            return
    raise AssertionError("it is never over")
