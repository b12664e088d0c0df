"""Who has not asked for tenacity, pybreaker or limits does not load them; who has, is understood in any order."""

from __future__ import annotations

import pytest

from tests.contracts.programs import run


def test_nothing_of_others_is_loaded_by_policies_that_do_not_use_them() -> None:
    run("""
        import sys
        from resilient import (
            Bulkhead, CircuitBreaker, CircuitOpen, Fallback, Pipeline, RateLimit, Retry, Timeout, backoff,
        )

        breaker = CircuitBreaker(consecutive=2)

        @Pipeline(Timeout(9.0), Retry(wait=backoff(0)), breaker, RateLimit("99/second"), Bulkhead(9), name="alone")
        def work(fails):
            if fails:
                raise ConnectionError
            return "done"

        assert work(False) == "done"
        for _ in range(3):
            try:
                work(True)
            except (ConnectionError, CircuitOpen):
                pass
        assert breaker.state == "open"
        loaded = {"tenacity", "pybreaker", "limits"} & set(sys.modules)
        assert not loaded, loaded
    """)


def test_who_asks_for_features_loads_no_parser_and_nothing_of_others() -> None:
    run("""
        import sys
        from resilient import degradable, features

        @degradable("search", fallback=[])
        def search(words):
            return [words]

        assert features.enabled("search", default=True)
        assert search("shoes") == ["shoes"]
        loaded = {"asyncio", "httpx", "msgspec", "opentelemetry", "tenacity", "limits"} & set(sys.modules)
        assert not loaded, loaded
    """)


def test_a_strategy_imported_after_us_is_understood() -> None:
    run("""
        from resilient import Retry
        from tenacity import retry_if_exception_type, wait_none, stop_after_attempt

        attempts = []

        @Retry(attempts=9, on=retry_if_exception_type(ValueError), wait=wait_none(), stop=stop_after_attempt(4))
        def work():
            attempts.append(1)
            raise ValueError

        try:
            work()
        except ValueError:
            pass
        assert len(attempts) == 4
    """)


OPEN = """
        from resilient import CircuitBreaker, CircuitOpen
        def rejected():
            breaker = CircuitBreaker(name="pay")
            breaker.force_open()
            breaker.call(lambda: 1)
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("\n        import pybreaker" + OPEN, id="before us"),
        pytest.param(OPEN + "\n        import pybreaker", id="after us"),
        pytest.param(
            OPEN
            + """
        try:
            rejected()
        except CircuitOpen:
            pass
        import pybreaker""",
            id="after a rejection that nobody of pybreaker's saw",
        ),
        pytest.param(
            OPEN
            + """
        import threading
        def load():
            global pybreaker
            import pybreaker
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()""",
            id="in another thread",
        ),
    ],
)
def test_pybreakers_error_catches_ours_whenever_pybreaker_was_imported_before_the_raise(program: str) -> None:
    run(
        program
        + """
        import pickle, copy
        for _ in range(2):
            try:
                rejected()
            except pybreaker.CircuitBreakerError as exc:
                caught = exc
            else:
                raise AssertionError("not caught")
            assert isinstance(caught, CircuitOpen)
            again = pickle.loads(pickle.dumps(caught))
            assert isinstance(again, pybreaker.CircuitBreakerError) and again.state == "forced_open"
            assert str(again) == str(caught)
        assert issubclass(CircuitOpen, pybreaker.CircuitBreakerError)
        assert not issubclass(pybreaker.CircuitBreakerError, CircuitOpen)
    """
    )


def test_an_error_that_was_raised_before_is_caught_when_it_is_raised_again() -> None:
    run(
        OPEN
        + """
        try:
            rejected()
        except CircuitOpen as exc:
            first = exc
        import pybreaker
        try:
            rejected()      # has ours take its place
        except pybreaker.CircuitBreakerError:
            pass
        try:
            raise first
        except pybreaker.CircuitBreakerError:
            pass
    """
    )


def test_pybreaker_is_loaded_by_the_first_listener_or_view_that_needs_it_and_not_before() -> None:
    run("""
        import sys
        from resilient import CircuitBreaker
        breaker = CircuitBreaker(consecutive=1)
        breaker.force_open()
        assert "pybreaker" not in sys.modules
        real = breaker.as_pybreaker()
        import pybreaker
        assert isinstance(real, pybreaker.CircuitBreaker)
        assert real.current_state == "open"
    """)
