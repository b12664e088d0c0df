"""What pybreaker's users hold goes on working: listeners see what pybreaker itself would have told them, storages get
the states, their `except` catches ours, and a real `pybreaker.CircuitBreaker` follows ours."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from typing import Any

import pybreaker
import pytest

from resilient import CircuitBreaker, CircuitOpen, Pipeline, PolicyError, Retry
from resilient.testing import ManualClock

RESET = 10.0
"""Seconds that both stay open. Time passes in steps far below and far above, so that our jitter changes nothing."""


class Recorder(pybreaker.CircuitBreakerListener):
    """Notes every call of a hook, and what the breaker says of itself at that moment."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.log.append(("before_call", cb.current_state, func.__name__, args, kwargs))

    def success(self, cb: Any) -> None:
        self.log.append(("success", cb.current_state))

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.log.append(("failure", cb.current_state, type(exc).__name__))

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.log.append(("state_change", old_state and old_state.name, new_state.name))


class Transitions(pybreaker.CircuitBreakerListener):
    """As most listeners are: it wants to know of transitions alone."""

    def __init__(self) -> None:
        self.seen: list[tuple[str | None, str]] = []

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.seen.append((old_state and old_state.name, new_state.name))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """One clock for both: pybreaker reads the date."""
    clock = ManualClock()

    class Datetime(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.fromtimestamp(clock.time(), tz)

    monkeypatch.setattr(pybreaker, "datetime", Datetime)
    return clock


def script_of(seed: int) -> list[str]:
    """Runs of successes and failures, and time that passes, a moment or long enough to try again."""
    rand = random.Random(seed)
    steps: list[str] = []
    while len(steps) < 120:
        steps += [rand.choice(["ok", "fail", "moment", "long", "fail"])] * rand.randint(1, 4)
    return steps


def play(
    steps: list[str], call: Callable[..., Any], clock: ManualClock, note: Callable[[], object]
) -> list[str]:
    """What the caller sees of each step: a result, a failure, or a rejection."""

    ends = []
    for n, step in enumerate(steps):
        if step in ("moment", "long"):
            clock.advance(0.001 if step == "moment" else 100.0)
            continue
        try:
            ends.append(call(step == "fail", n=n))
        except pybreaker.CircuitBreakerError as exc:
            ends.append("failed" if exc.__context__ is not None else "rejected")
        except ConnectionError:
            ends.append("failed")
        note()
    return ends


def work(fails: bool, *, n: int) -> str:
    if fails:
        raise ConnectionError(n)
    return "done"


def ours(threshold: int, successes: int, **options: Any) -> CircuitBreaker:
    return CircuitBreaker(
        consecutive=threshold,
        minimum_calls=10**6,
        probes=successes,
        open_for=RESET,
        max_open=RESET,
        **options,
    )


@pytest.mark.parametrize(("threshold", "successes"), [(1, 1), (1, 3), (2, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("seed", range(20))
def test_a_listener_sees_what_pybreaker_would_have_told_it(
    threshold: int, successes: int, seed: int, clock: ManualClock
) -> None:
    steps = script_of(seed)

    theirs_heard, theirs_states = Recorder(), []
    storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
    reference = pybreaker.CircuitBreaker(
        fail_max=threshold,
        success_threshold=successes,
        reset_timeout=RESET,
        listeners=[theirs_heard],
        state_storage=storage,
    )
    their_ends = play(steps, reference(work), clock, lambda: theirs_states.append(storage.state))

    heard, states = Recorder(), []
    storage_of_ours = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
    breaker = ours(threshold, successes, listeners=[heard], storage=storage_of_ours)
    ends = play(
        steps, Pipeline(breaker, clock=clock)(work), clock, lambda: states.append(storage_of_ours.state)
    )

    assert heard.log == theirs_heard.log
    assert states == theirs_states
    assert ends == their_ends
    assert {line[0] for line in heard.log} >= {"before_call", "failure", "state_change"}


@pytest.mark.parametrize("seed", range(5))
def test_a_listener_of_transitions_sees_them_and_costs_no_frame(seed: int, clock: ManualClock) -> None:
    steps = script_of(seed)
    theirs_heard, heard = Transitions(), Transitions()
    reference = pybreaker.CircuitBreaker(fail_max=2, reset_timeout=RESET, listeners=[theirs_heard])
    play(steps, reference(work), clock, lambda: None)
    breaker = ours(2, 1, listeners=[heard])
    assert breaker.binds_itself is False
    play(steps, Pipeline(breaker, clock=clock)(work), clock, lambda: None)
    assert heard.seen == theirs_heard.seen
    assert len(heard.seen) > 3


@pytest.mark.parametrize(
    ("hooks", "frame"),
    [
        ([], False),
        (["state_change"], False),
        (["before_call"], True),
        (["success"], True),
        (["failure"], True),
    ],
)
def test_only_listeners_that_hear_of_calls_have_a_frame_of_their_own(hooks: list[str], frame: bool) -> None:
    listener = type(
        "Some", (pybreaker.CircuitBreakerListener,), dict.fromkeys(hooks, lambda self, *a, **k: None)
    )()
    assert CircuitBreaker(listeners=[listener]).binds_itself is frame
    derived = type("Derived", (type(listener),), {})()
    assert CircuitBreaker(listeners=[derived]).binds_itself is frame


def test_in_async_code_too(clock: ManualClock) -> None:
    heard = Recorder()
    breaker = ours(1, 1, listeners=[heard])

    @Pipeline(breaker, clock=clock)
    async def awork(fails: bool) -> str:
        return work(fails, n=0)

    async def main() -> None:
        assert await awork(False) == "done"
        with pytest.raises(ConnectionError):
            await awork(True)
        with pytest.raises(pybreaker.CircuitBreakerError):
            await awork(False)
        clock.advance(100.0)
        assert await awork(False) == "done"

    clock.run(main())
    assert [line[:1] + line[1:3] if line[0] == "state_change" else line[:1] for line in heard.log] == [
        ("before_call",),
        ("success",),
        ("before_call",),
        ("failure",),
        ("state_change", "closed", "open"),
        ("state_change", "open", "half-open"),
        ("before_call",),
        ("state_change", "half-open", "closed"),
        ("success",),
    ]


def test_several_listeners_hear_in_their_order_and_the_same_breaker() -> None:
    order: list[tuple[str, int]] = []

    class Named(pybreaker.CircuitBreakerListener):
        def __init__(self, name: str) -> None:
            self.name = name

        def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
            order.append((self.name, id(cb)))

        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            order.append((self.name, id(cb)))

    breaker = CircuitBreaker(consecutive=1, listeners=[Named("first"), Named("second")])
    with pytest.raises(ConnectionError):
        breaker(work)(True, n=0)
    assert [name for name, _ in order] == ["first", "second"] * 2
    assert {cb for _, cb in order} == {id(breaker.as_pybreaker())}


def test_our_lock_is_free_while_a_listener_runs() -> None:
    """A listener may look at the breaker, press its buttons, and take its time."""
    states: list[str] = []

    class Nosy(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            assert not breaker._state._lock._is_owned()  # type: ignore[attr-defined]
            states.append(breaker.state)
            if new_state.name == "open":
                breaker.reset()

    breaker = CircuitBreaker(consecutive=1, listeners=[Nosy()])
    with pytest.raises(ConnectionError):
        breaker(work)(True, n=0)
    assert states == ["open", "closed"]


def test_a_listener_or_storage_that_fails_at_a_transition_harms_no_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fails(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            raise RuntimeError("listener")

    breaker = CircuitBreaker(consecutive=1, listeners=[Fails()])
    with pytest.raises(ConnectionError):
        breaker(work)(True, n=0)
    assert breaker.state == "open"
    assert "a pybreaker listener or storage failed" in caplog.text


class Hears:
    """Looks like a listener, and is none of pybreaker's."""

    def state_change(self, *_: object) -> None: ...


def test_what_is_no_listener_is_refused_with_what_to_write() -> None:
    for listener in (object(), print):
        with pytest.raises(PolicyError, match=r"resilient\.subscribe"):
            CircuitBreaker(listeners=[listener])
    breaker = CircuitBreaker(listeners=[Hears()])
    with pytest.raises(PolicyError, match=r"resilient\.subscribe"):
        breaker.as_pybreaker()


def test_what_is_no_storage_is_refused_with_what_to_write() -> None:
    with pytest.raises(
        PolicyError, match=r"^CircuitBreaker: storage='redis' is no pybreaker\.CircuitBreakerStorage"
    ):
        CircuitBreaker(storage="redis")


def test_a_storage_gets_every_state_and_when_it_opened(clock: ManualClock) -> None:
    storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
    breaker = ours(1, 1, storage=storage)
    call = Pipeline(breaker, clock=clock)(work)
    assert storage.state == "closed"
    with pytest.raises(ConnectionError):
        call(True, n=0)
    assert storage.state == "open"
    assert storage.opened_at is not None
    assert storage.opened_at.timestamp() == pytest.approx(clock.time())
    clock.advance(100.0)
    with pytest.raises(ConnectionError):
        call(True, n=0)
    assert storage.opened_at.timestamp() == pytest.approx(clock.time())
    clock.advance(100.0)
    call(False, n=0)
    assert storage.state == "closed"


def test_a_storage_is_never_read_or_written_by_a_call_that_succeeds() -> None:
    class Counting(pybreaker.CircuitMemoryStorage):
        touched = 0

        def __getattribute__(self, name: str) -> Any:
            type(self).touched += not name.startswith("__")
            return super().__getattribute__(name)

    call = CircuitBreaker(storage=Counting(pybreaker.STATE_CLOSED))(work)
    Counting.touched = 0
    assert [call(False, n=0) for _ in range(3)] == ["done"] * 3
    assert Counting.touched == 0


def test_as_pybreaker_follows_from_the_moment_it_is_asked_for(clock: ManualClock) -> None:
    breaker = ours(1, 1)
    call = Pipeline(breaker, clock=clock)(work)
    with pytest.raises(ConnectionError):
        call(True, n=0)
    real = breaker.as_pybreaker()
    heard = Transitions()
    real.add_listener(heard)
    assert real is breaker.as_pybreaker()
    assert real.current_state == "open"
    clock.advance(100.0)
    call(False, n=0)
    assert real.current_state == "closed"
    breaker.force_open()
    assert real.current_state == "open"
    breaker.disable()
    assert real.current_state == "closed"
    breaker.reset()
    assert heard.seen == [
        ("open", "half-open"),
        ("half-open", "closed"),
        ("closed", "open"),
        ("open", "closed"),
    ]


def test_as_pybreaker_of_one_that_only_observes_shows_nothing_of_it(clock: ManualClock) -> None:
    breaker = ours(1, 1)
    breaker.observe()
    real = breaker.as_pybreaker()
    call = Pipeline(breaker, clock=clock)(work)
    with pytest.raises(ConnectionError):
        call(True, n=0)
    assert (breaker.state, real.current_state) == ("open", "closed")


def test_their_except_clause_catches_our_rejection_also_through_a_retry() -> None:
    breaker = CircuitBreaker()
    breaker.force_open()
    with pytest.raises(pybreaker.CircuitBreakerError) as caught:
        Pipeline(Retry(), breaker)(work)(False, n=0)
    assert type(caught.value) is CircuitOpen
    assert caught.value.reason == "forced open"


def test_what_an_excluded_exception_is_there_is_ignored_here() -> None:
    """There it counts as a success, and closes a half-open breaker; here it counts neither way, on purpose."""
    heard = Recorder()
    breaker = CircuitBreaker(consecutive=2, ignore=ConnectionError, listeners=[heard])
    for _ in range(3):
        with pytest.raises(ConnectionError):
            breaker(work)(True, n=0)
    assert breaker.state == "closed"
    assert [line[0] for line in heard.log] == ["before_call"] * 3
