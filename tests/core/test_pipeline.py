"""How policies compose: what is refused, what is warned of, how a pipeline binds, prints and tells."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tenacity import retry_if_exception_type

from resilient import (
    ANY_ERROR,
    Budget,
    Bulkhead,
    CircuitBreaker,
    DeadlineExceeded,
    Fallback,
    Gate,
    Pipeline,
    Policy,
    PolicyError,
    PolicyWarning,
    RateLimit,
    Rejected,
    Retry,
    Timeout,
    When,
    backoff,
    set_active,
)
from resilient.core.outcome import Unfinished
from resilient.core.pipeline import outcome_of
from resilient.core.registry import REGISTRY
from resilient.testing import ManualClock, capture_events
from tests.policies.modes import Script, both, call, raised

BREAKER, LIMIT, BULKHEAD, SHARED_RETRY = CircuitBreaker(), RateLimit("9/second"), Bulkhead(), Retry(1)


# ----------------------------------------------------------------------------------------------- orders refused
@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ([], "Pipeline: no policies; write Pipeline(Retry(), CircuitBreaker(), ...)"),
        ([Retry], "is not a policy; write Retry(), an object, not a class"),
        ([Retry(), len], "is not a policy; write an object such as Retry()"),
        ([[Retry()]], "write the policies one after the other: Pipeline(Retry(), CircuitBreaker())"),
        (["catalog", Retry()], "the name comes last: Pipeline(..., name='catalog')"),
        ([None], "is not a policy; write an object"),
        ([Retry(), Retry()], "would multiply attempts (3 x 3 = 9); keep one Retry"),
        ([Retry(), BREAKER, Retry()], "keep one Retry"),
        ([Retry(), Pipeline(BULKHEAD, Retry())], "keep one Retry"),
        ([SHARED_RETRY, SHARED_RETRY], "keep one Retry"),
        ([BREAKER, BREAKER], "the same CircuitBreaker object stands in it twice"),
        ([LIMIT, BULKHEAD, LIMIT], "the same RateLimit object stands in it twice"),
        ([BULKHEAD, Pipeline(BULKHEAD, LIMIT)], "the same Bulkhead object stands in it twice"),
        ([Retry(on=lambda exc: True), Fallback(0)], "a Fallback inside the Retry"),
        ([Retry(on=retry_if_exception_type(OSError)), Fallback(0)], "a Fallback inside the Retry"),
        ([Retry(), Fallback(0)], "put it outside: Fallback(...), Retry(...)"),
        ([Retry(), BREAKER, Fallback(0, on=TimeoutError)], "a Fallback inside the Retry"),
        ([Retry(on=KeyError), Fallback(0, on=LookupError)], "a Fallback inside the Retry"),
        ([Retry(on=LookupError), Fallback(0, on=KeyError)], "a Fallback inside the Retry"),
        ([Timeout(2), Timeout(1)], "Timeout(2) and Timeout(1) with no Retry between bound the same thing"),
        ([Timeout(2), BREAKER, Timeout(1), Retry(1)], "with no Retry between"),
        ([Timeout(9), Retry(1), Timeout(2), BULKHEAD, Timeout(1)], "with no Retry between"),
        ([Timeout(2), Retry(1), Timeout(2)], "the inner Timeout of 2 s is not below the outer one of 2 s"),
        ([Timeout(2), Retry(1), Timeout(3)], "it never fires; write a smaller one, such as Timeout(0.667)"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_write(policies: list[Any], says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Pipeline(*policies)
    assert str(caught.value).startswith("Pipeline: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "policies",
    [
        [Retry(on=KeyError), Fallback(0, on=ConnectionError)],
        [Retry(on=lambda exc: True), Fallback(0, on=KeyError)],
        [Fallback(0), Retry()],
        [Fallback(0), Retry(), Fallback(1, on=KeyError)],
        [CircuitBreaker(), CircuitBreaker()],
        [RateLimit("9/second"), RateLimit("99/minute")],
        [Timeout(5), Retry(2, wait=0), Timeout(2)],
        [Retry(), Timeout(2), Bulkhead()],
        [Bulkhead(), Retry()],
    ],
)
def test_what_makes_sense_is_not(policies: list[Policy]) -> None:
    assert Pipeline(*policies).policies == tuple(policies)


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        (
            [CircuitBreaker(), Retry()],
            "CircuitBreaker stands outside the Retry, so it sees calls, not attempts",
        ),
        ([CircuitBreaker(), Retry()], "put it inside: Retry(...), CircuitBreaker(...)"),
        ([RateLimit("9/second"), Timeout(9), Retry()], "put it inside: Retry(...), RateLimit(...)"),
        (
            [Timeout(2), Retry(3, wait=backoff(0.5, cap=1)), Timeout(0.5)],
            "3 attempts of 0.5 s and their backoff take up to 3 s, more than the deadline of 2 s: the last ones "
            "are cut short; write Timeout(0.167) inside, or fewer attempts",
        ),
        ([Timeout(2), Retry(3, wait=0), Timeout(0.7)], "up to 2.1 s, more than the deadline of 2 s"),
        ([Timeout(1), Retry(3, wait=5), Timeout(0.1)], "are cut short; write fewer attempts"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of_here(policies: list[Policy], says: str) -> None:
    with pytest.warns(PolicyWarning) as caught:
        Pipeline(*policies)
    assert any(says in str(each.message) for each in caught)
    assert {each.filename for each in caught} == {__file__}, "it points at who builds it"


@pytest.mark.parametrize(
    "policies",
    [
        [Timeout(2), Retry(4, wait=0), Timeout(0.5)],
        [Timeout(2), Retry(2, wait=backoff(1, cap=1, jitter="none")), Timeout(0.5)],
        [Timeout(2), Retry(9)],
        [Retry(9), Timeout(9)],
        [Timeout(2), Retry(9, wait=lambda state: 1.0), Timeout(1)],
        [Timeout(2), Retry(3, wait=0), CircuitBreaker(), RateLimit("9/second"), Bulkhead(), Timeout(0.5)],
        [Bulkhead(), Retry()],
    ],
)
def test_nothing_else_is(policies: list[Policy]) -> None:
    Pipeline(*policies)  # a warning is an error


# ---------------------------------------------------------------------------------------------------- its face
def test_it_reads_in_the_order_in_which_it_runs() -> None:
    inner = Pipeline(CircuitBreaker(), Pipeline(RateLimit("200/second", burst=50), Bulkhead(7)))
    pipeline = Pipeline(Fallback(0), Timeout(2.0), Retry(3), inner, Timeout(0.5), name="catalog")
    assert str(pipeline) == (
        "Fallback(a value) -> Timeout(total 2 s) -> Retry(3 attempts, on transient, backoff 25 ms..1 s x2 full "
        "jitter) -> CircuitBreaker(50% in 10 s from 20 calls, 10 in a row, open 5 s..60 s, 3 probes) -> "
        "RateLimit(200/second, burst 50) -> Bulkhead(7) -> Timeout(attempt 0.5 s)"
    )
    assert repr(pipeline) == f"<Pipeline catalog: {pipeline}>"
    assert repr(Pipeline(Bulkhead(7))) == "<Pipeline Bulkhead(7)>"
    assert repr(Bulkhead(7)) == "<Bulkhead(7)>"


def test_it_is_flat_and_its_parts_are_found_by_kind() -> None:
    total, attempt, breaker = Timeout(2.0), Timeout(0.5), CircuitBreaker()
    pipeline = Pipeline(total, Pipeline(Retry(1), Pipeline(breaker)), attempt)
    assert list(pipeline) == list(pipeline.policies)
    assert [policy.kind for policy in pipeline] == ["timeout", "retry", "breaker", "timeout"]
    assert pipeline["breaker"] is breaker
    assert pipeline["timeout"] is total, "the outermost"
    assert "breaker" in pipeline
    assert "bulkhead" not in pipeline
    with pytest.raises(
        KeyError, match=r"no 'bulkhead' in .*there are \['timeout', 'retry', 'breaker', 'timeout'\]"
    ):
        pipeline["bulkhead"]


# ------------------------------------------------------------------------------------------------- what it binds
class Shop:
    factor = 2

    def method(self, n: int) -> int:
        return self.factor * n

    async def amethod(self, n: int) -> int:
        return self.factor * n

    def __call__(self, n: int) -> int:
        return self.factor * n


class AsyncShop:
    async def __call__(self, n: int) -> int:
        return 2 * n


def double(n: int, *, times: int = 2) -> int:
    """Doubles."""
    return times * n


async def adouble(n: int, *, times: int = 2) -> int:
    """Doubles, later."""
    return times * n


CALLABLES: dict[str, Any] = {
    "def": double,
    "async def": adouble,
    "lambda": lambda n: 2 * n,
    "partial": functools.partial(double, times=2),
    "partial of async def": functools.partial(functools.partial(adouble), times=2),
    "bound method": Shop().method,
    "bound async method": Shop().amethod,
    "object": Shop(),
    "async object": AsyncShop(),
    "partial of async object": functools.partial(AsyncShop()),
    "class": str,
    "builtin": abs,
}
ROWS: dict[str, Any] = {
    "a gate": lambda: (Bulkhead(),),
    "gates": lambda: (Bulkhead(), CircuitBreaker(), RateLimit("99/second"), Bulkhead()),
    "a keyed gate": lambda: (RateLimit("99/second", key=lambda n: n),),
    "retry": lambda: (Retry(),),
    "keyed retry": lambda: (Retry(idempotency_key=str),),
    "timeout": lambda: (Timeout(9.0),),
    "fallback": lambda: (Fallback(0),),
    "all": lambda: (Fallback(0), Timeout(9.0), Retry(2, wait=0), CircuitBreaker(), Bulkhead(), Timeout(1.0)),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("kind", CALLABLES)
def test_it_binds_whatever_can_be_called(kind: str, row: str) -> None:
    fn, clock = CALLABLES[kind], ManualClock()
    bound = Pipeline(*ROWS[row](), clock=clock)(fn)
    is_async = "async" in kind
    assert inspect.iscoroutinefunction(bound) is is_async
    result = clock.run(bound(21)) if is_async else bound(21)
    assert result == {"class": "21", "builtin": 21}.get(kind, 42)


def test_the_signature_stays_and_the_pipeline_is_at_hand() -> None:
    pipeline = Pipeline(Retry(), Bulkhead())
    for fn in (double, adouble):
        bound: Any = pipeline(fn)
        assert inspect.signature(bound) == inspect.signature(fn)
        assert (bound.__name__, bound.__doc__, bound.__module__) == (fn.__name__, fn.__doc__, __name__)
        assert bound.__wrapped__ is fn
        assert bound.pipeline is pipeline
    alone: Any = CircuitBreaker()(double)
    assert alone.pipeline["breaker"].state == "closed"


def test_methods_of_all_kinds() -> None:
    pipeline, clock = Pipeline(Retry(), Bulkhead()), ManualClock()

    class Api:
        base = 40

        @pipeline
        def plain(self, n: int) -> int:
            return self.base + n

        @pipeline
        async def later(self, n: int) -> int:
            return self.base + n

        @pipeline
        @classmethod
        def of_class(cls, n: int) -> int:
            return cls.base + n

        @classmethod
        @pipeline
        def of_class_inside(cls, n: int) -> int:
            return cls.base + n

        @pipeline
        @staticmethod
        def static(n: int) -> int:
            return 40 + n

        @staticmethod
        @pipeline
        def static_inside(n: int) -> int:
            return 40 + n

        @pipeline
        @classmethod
        async def later_of_class(cls, n: int) -> int:
            return cls.base + n

    api: Any = Api()
    for name in ("plain", "of_class", "of_class_inside", "static", "static_inside"):
        assert getattr(api, name)(2) == 42, name
    for name in ("of_class", "static"):
        assert getattr(Api, name)(2) == 42, name
    for name in ("later", "later_of_class"):
        assert clock.run(getattr(api, name)(2)) == 42, name


def numbers() -> Iterator[int]:
    yield 1


async def anumbers() -> AsyncIterator[int]:
    yield 1


class Numbers:
    def __call__(self) -> Iterator[int]:
        yield 1

    def method(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "generator",
    [
        numbers,
        anumbers,
        functools.partial(numbers),
        Numbers(),
        Numbers().method,
        functools.partial(Numbers()),
    ],
    ids=["def", "async def", "partial", "object", "method", "partial of object"],
)
@pytest.mark.parametrize("policy", [Retry(), CircuitBreaker(), Pipeline(Timeout(1.0))], ids=str)
def test_generators_are_refused_when_decorated(policy: Policy, generator: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(generator)
    assert "is a generator function: its body runs after the call has returned" in str(caught.value)
    assert "for attempt in retry.attempts()" in str(caught.value)
    with pytest.raises(PolicyError, match="generator"):
        policy.call(generator)


@pytest.mark.parametrize("row", ROWS)
def test_a_def_that_returns_a_coroutine_is_refused_at_its_first_call(row: str) -> None:
    def hidden(n: int) -> Any:
        return adouble(n)

    bulkhead = Bulkhead(1)
    for policies in (ROWS[row](), (*ROWS[row](), bulkhead)):
        bound = Pipeline(*policies)(hidden)
        with pytest.raises(PolicyError) as caught:
            bound(1)
        assert "is a plain `def` that returned a coroutine" in str(caught.value)
        assert "write `async def`" in str(caught.value)
    assert bulkhead.in_flight == 0
    gc.collect()  # an unawaited coroutine would warn, and a warning is an error


def test_calling_without_decorating() -> None:
    pipeline, clock = Pipeline(Retry(), Bulkhead()), ManualClock()
    assert pipeline.call(double, 2, times=3) == 6
    assert clock.run(pipeline.acall(adouble, 2, times=3)) == 6
    with pytest.raises(PolicyError, match=r"adouble is async; write `await pipeline.acall\(adouble, ...\)`"):
        pipeline.call(adouble, 2)


# ----------------------------------------------------------------------------------------------- how it composes
@both
def test_the_first_is_outermost_and_neighbouring_gates_ask_in_order(mode: str) -> None:
    told: list[str] = []

    class Teller(Gate[str]):
        def __init__(self, name: str, closed: bool = False) -> None:
            self.name, self.closed = name, closed

        def admit(self, now: float, /) -> str:
            told.append(f"admit {self.name}")
            if self.closed:
                raise Rejected("closed", policy="teller", reason="closed")
            return self.name

        def record(self, permit: str, verdict: Any, latency: float, now: float, /) -> None:
            assert permit == self.name
            told.append(f"{verdict.value} {self.name}")

    clock = ManualClock()
    for count in (1, 2, 3, 4, 5):
        names = "abcde"[:count]
        told.clear()
        call(mode, Pipeline(*map(Teller, names), clock=clock), Script("ok"), clock)
        assert told == [f"admit {n}" for n in names] + [f"success {n}" for n in reversed(names)]
        told.clear()
        raised(mode, Pipeline(*map(Teller, names), clock=clock), Script(KeyError), clock)
        assert told == [f"admit {n}" for n in names] + [f"failure {n}" for n in reversed(names)]
        told.clear()
        raised(
            mode, Pipeline(*map(Teller, names), Teller("x", closed=True), clock=clock), Script("never"), clock
        )
        assert told == [f"admit {n}" for n in (*names, "x")] + [f"ignored {n}" for n in reversed(names)]


@both
def test_stacked_decorators_are_calls_of_their_own(mode: str) -> None:
    clock, fn = ManualClock(), Script(ConnectionError)
    outer, inner = (Pipeline(Retry(3, wait=0), clock=clock) for _ in range(2))
    with pytest.raises(ConnectionError):
        if mode == "sync":
            outer(inner(fn))()
        else:

            async def work() -> Any:
                return fn()

            clock.run(outer(inner(work))())
    assert fn.calls == 3, "the outer one does not start over what the inner one gave up on"


def test_functions_of_one_pipeline_share_its_state() -> None:
    breaker = CircuitBreaker(consecutive=2)
    pipeline = Pipeline(breaker)
    first, second = pipeline(Script(KeyError)), pipeline(Script(KeyError))
    for fn in (first, second):
        with pytest.raises(KeyError):
            fn()
    assert breaker.state == "open"


@pytest.mark.parametrize("error", [None, KeyError("broken off")])
@pytest.mark.parametrize("gates", [1, 3, 4])
@both
def test_a_result_that_is_still_arriving_keeps_its_permits(
    mode: str, gates: int, error: Exception | None
) -> None:
    clock = ManualClock()
    bulkheads = [Bulkhead(1) for _ in range(gates)]
    breaker = CircuitBreaker(consecutive=1)
    stream = Unfinished("body")
    with capture_events() as seen:
        result = call(mode, Pipeline(breaker, *bulkheads, clock=clock), lambda: stream, clock)
        assert result is stream
        assert [each.in_flight for each in bulkheads] == [1] * gates
        assert seen.names == []
        clock.advance(3.0)
        stream.end(error)
        stream.end(error)
    assert [each.in_flight for each in bulkheads] == [0] * gates
    assert breaker.state == ("closed" if error is None else "open")
    (finished,) = seen.named("resilient.call.finished")
    assert finished.duration == 3.0  # type: ignore[attr-defined]
    assert finished.outcome == ("success" if error is None else "error")  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------- what it tells
OUTCOMES = [
    (lambda: "ok", "success", None),
    (KeyError, "error", "KeyError"),
    (ValueError, "error", "ValueError"),
    (DeadlineExceeded, "timeout", "DeadlineExceeded"),
    (Rejected, "rejected", "Rejected"),
    (KeyboardInterrupt, "cancelled", "KeyboardInterrupt"),
]


@both
@pytest.mark.parametrize("row", ["a gate", "gates", "retry", "keyed retry", "timeout", "own policy"])
@pytest.mark.parametrize(
    ("outcome", "name", "error_type"), OUTCOMES, ids=[row[1] + str(row[2]) for row in OUTCOMES]
)
def test_each_call_is_told_once(mode: str, row: str, outcome: Any, name: str, error_type: str | None) -> None:
    class Own(Policy):
        def bind(self, inner: Any, site: Any, /) -> Any:
            return inner

        def abind(self, inner: Any, site: Any, /) -> Any:
            return inner

    clock = ManualClock()
    policies = (Own(), *ROWS["gates"]()) if row == "own policy" else ROWS[row]()
    pipeline = Pipeline(*policies, name="shop", clock=clock)
    with capture_events() as seen:
        fn = Script(outcome, clock=clock, takes=0.5)
        if error_type is None:
            assert call(mode, pipeline, fn, clock, 1) == "ok"
        else:
            with pytest.raises(outcome):
                call(mode, pipeline, fn, clock, 1)
    (finished,) = seen.named("resilient.call.finished")
    assert finished.fields().items() >= {
        "dependency": "shop", "outcome": name, "error_type": error_type, "duration": 0.5
    }.items()  # fmt: skip
    assert finished.operation.split(".")[-1] in ("Script", "work")


def test_outcomes_have_names() -> None:
    assert outcome_of(None) == "success"
    assert outcome_of(asyncio.CancelledError()) == "cancelled"
    assert outcome_of(ConnectionError()) == "error"


@both
def test_a_call_inside_a_call_that_falls_back_is_not_taken_for_it(mode: str) -> None:
    clock = ManualClock()
    inner = Pipeline(Fallback("stand-in"), name="inner", clock=clock)
    outer = Pipeline(Fallback("unused"), name="outer", clock=clock)
    with capture_events() as seen:
        assert call(mode, outer, lambda: inner.call(Script(KeyError)), clock) == "stand-in"
    finished = seen.named("resilient.call.finished")
    assert [(event.dependency, event.outcome) for event in finished] == [  # type: ignore[attr-defined]
        ("inner", "fallback"),
        ("outer", "success"),
    ]


@both
@pytest.mark.parametrize("row", ROWS)
def test_inactive_policies_step_aside(mode: str, row: str, resilient_inactive: None) -> None:
    clock = ManualClock()
    breaker = CircuitBreaker()
    breaker.force_open()
    fn = Script(ConnectionError)
    pipeline = Pipeline(*ROWS[row](), breaker, clock=clock)
    assert type(raised(mode, pipeline, fn, clock, 1)) is ConnectionError
    assert fn.calls == 1
    set_active(True)
    if row != "fallback" and row != "all":
        raised(mode, pipeline, fn, clock, 1)
    assert fn.calls == 1


# ------------------------------------------------------------------------------------------------ names and clocks
def test_named_pipelines_are_registered_for_as_long_as_they_live() -> None:
    pipeline = Pipeline(Bulkhead(), name="test_pipeline.registered")
    assert REGISTRY.pipelines("test_pipeline.registered") == [pipeline]
    Pipeline(Bulkhead())(double)
    assert all(each.name is not None for each in REGISTRY.pipelines())
    gone = weakref.ref(pipeline)
    del pipeline
    gc.collect()
    assert gone() is None
    assert REGISTRY.pipelines("test_pipeline.registered") == []


def test_an_unnamed_policy_is_called_as_the_first_function_that_it_is_put_on() -> None:
    breaker = CircuitBreaker()
    breaker(double)
    breaker(adouble)
    assert breaker.name == f"{__name__}.double"
    assert breaker.operation == "double"
    named, given = Bulkhead(), Bulkhead(name="db")
    Pipeline(named, given, name="shop")(double)
    assert (named.name, given.name) == ("shop", "db")


def test_the_budget_goes_by_the_pipelines_name() -> None:
    budget = Budget()
    REGISTRY.set_budget("test_pipeline.budget", budget)
    retry = Retry(1, wait=0, on=ANY_ERROR)
    for _ in range(3):
        with pytest.raises(KeyError):
            Pipeline(retry, name="test_pipeline.budget").call(Script(KeyError))
    assert sum(budget._calls) == 3


def test_a_failure_in_a_predicate_of_the_users_reaches_him() -> None:
    def asks(exc: Exception) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Pipeline(Retry(on=When(asks))).call(Script(KeyError))
