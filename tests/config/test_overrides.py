"""A person sets a number in one process, for a time.

The rows are numbered as in the table of what can go wrong between a ConfigMap and a process."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilient import Bulkhead, CircuitBreaker, ConfigError, Pipeline, RateLimit, Retry, configure, standard
from resilient.config import explain, history, load, override, status
from resilient.config.center import CENTER
from resilient.config.live import Live
from resilient.config.overrides import Overrides
from resilient.config.records import History
from resilient.core.events import RUNTIME
from resilient.core.registry import Registry
from resilient.discovery.refresher import Refresher
from resilient.testing import KubeletVolume, ManualClock, capture_events

from .test_history import attempts
from .test_live import snapshot


class Kit:
    """Overrides over one pipeline, in virtual time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = Registry()
        self.live = Live(self.registry)
        self.history = History()
        self.refresher = Refresher(self.clock)
        self.overrides = Overrides(self.live, self.history, self.refresher, self.clock)
        self.refresher._start = lambda: None  # type: ignore[method-assign]  # it is turned by hand
        self.pipeline = Pipeline(Retry(3), CircuitBreaker(), Bulkhead(10), name="payments", clock=self.clock)
        self.registry.add(self.pipeline)

    def put(self, leaf: str, value: Any, ttl: float = 600.0, reason: str = "INC-12") -> Any:
        return self.overrides.put(f"payments.{leaf}", value, ttl, reason)

    def after(self, seconds: float) -> None:
        """So much later, with what the thread has done by then."""
        self.clock.advance(seconds)
        self.refresher.run_due()

    @property
    def attempts(self) -> int:
        return int(self.pipeline["retry"].options.attempts)


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_row_31_it_stands_above_all_and_ends_by_the_clock(kit: Kit) -> None:
    kit.live.apply(snapshot(payments={"retry": {"attempts": 5}}))
    made = kit.put("retry.attempts", 1, 60.0)
    assert kit.attempts == 1
    assert kit.live.explain("payments.retry.attempts").layer == "override"
    kit.live.apply(snapshot(payments={"retry": {"attempts": 4}}))
    assert kit.attempts == 1, "a document does not end it"
    kit.after(59.9)
    assert (kit.attempts, kit.overrides.all) == (1, (made,))
    kit.after(0.2)
    assert (kit.attempts, kit.overrides.all) == (4, ())
    assert kit.overrides.asleep, "nothing is looked after any more"


def test_row_31_of_two_the_last_one_holds(kit: Kit) -> None:
    kit.put("retry.attempts", 1, 600.0)
    second = kit.put("retry.attempts", 2, 60.0)
    assert kit.attempts == 2
    kit.after(61.0)
    assert kit.attempts == 1, "the other one holds again"
    third = kit.put("retry.attempts", 7, 60.0)
    second.end()
    assert kit.attempts == 7
    third.end()
    third.end()
    assert kit.attempts == 1
    kit.after(600.0)
    assert kit.attempts == 3


def test_row_31_a_time_and_a_reason_must_be_given(kit: Kit) -> None:
    for ttl in (0, -1.0, 86_401, float("nan"), None, "60", True):
        with pytest.raises(ConfigError, match=r"override: ttl=.* must be .*; write ttl=600\.0"):
            kit.put("retry.attempts", 1, ttl)  # type: ignore[arg-type]  # what is tried
    for reason in ("", " ", "a\nb", None):
        with pytest.raises(ConfigError, match="must say why"):
            kit.put("retry.attempts", 1, reason=reason)  # type: ignore[arg-type]  # what is tried
    assert kit.put("retry.attempts", 1, reason="x" * 300).reason == "x" * 200
    with pytest.raises(TypeError):
        override("payments.retry.attempts", 1)  # type: ignore[call-arg]  # what is tried


def test_it_ends_with_its_block(kit: Kit) -> None:
    with kit.put("retry.attempts", 1) as made:
        assert (kit.attempts, made.value, made.key) == (1, 1, "payments.retry.attempts")
    assert kit.attempts == 3
    with pytest.raises(ZeroDivisionError), kit.put("retry.attempts", 1):
        raise ZeroDivisionError
    assert kit.attempts == 3


@pytest.mark.parametrize(
    ("leaf", "value", "said"),
    [
        ("retry.attempts", 0, "0 must be a whole number"),
        ("retry.attempts", 1.5, "must be a whole number"),
        ("retry.attempts", True, "must be a whole number"),
        ("retry.attempts", None, "must be a whole number"),
        ("retry.attempts", object(), "must be a whole number"),
        ("retry.wait.base", "50ms", "'50ms' must be a number"),
        ("retry.wait.base", -1.0, "must be"),
        ("retry.wait.base", float("inf"), "must be"),
        ("breaker.state", "open", "one of forced_open"),
        ("retry.wait.jitter", "much", "one of full"),
        ("bulkhead.limit", 0, "must be a whole number"),
    ],
)
def test_the_rules_of_the_option_hold(kit: Kit, leaf: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"override: payments.{leaf}: .*{said}"):
        kit.put(leaf, value)
    assert kit.overrides.all == ()


def test_what_a_pipeline_cannot_take_is_refused(kit: Kit) -> None:
    with pytest.raises(ConfigError, match=r"override: payments cannot take retry\.wait\.base=5\.0: .*cap"):
        kit.put("retry.wait.base", 5.0)
    kit.put("retry.wait.cap", 9.0)
    kit.put("retry.wait.base", 5.0)
    assert kit.pipeline["retry"].options.wait.base == 5.0


def test_numbers_that_are_not_there(kit: Kit) -> None:
    with pytest.raises(ConfigError, match=r"no pipeline named 'payments' that has ratelimit\.rate lives"):
        kit.put("ratelimit.rate", "5/second")
    with pytest.raises(ConfigError, match=r"no pipeline named 'payment' .*; did you mean 'payments'"):
        kit.overrides.put("payment.retry.attempts", 1, 60.0, "INC-12")
    with pytest.raises(ConfigError, match=r"override: key='payments\.retry\.atempts' names no number; write"):
        kit.put("retry.atempts", 1)
    with pytest.raises(ConfigError, match="names no number"):
        kit.overrides.put(None, 1, 60.0, "INC-12")  # type: ignore[arg-type]  # what is tried


def test_every_kind_of_number_can_be_set(kit: Kit) -> None:
    limit = Pipeline(RateLimit("100/second"), name="orders", clock=kit.clock)
    kit.registry.add(limit)
    kit.overrides.put("orders.ratelimit.rate", "20/second", 60.0, "INC-12")
    assert limit["ratelimit"].options.rate.text == "20/second"
    kit.put("breaker.state", "forced_open")
    assert kit.pipeline["breaker"].state == "forced_open"
    kit.put("breaker.slow_after", None)
    kit.put("breaker.open_for", 7)
    assert kit.pipeline["breaker"].options.open_for == 7.0
    kit.after(601.0)
    assert kit.pipeline["breaker"].state == "closed"


def test_a_document_that_does_not_go_with_it_is_taken_without_it(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    kit.put("retry.wait.base", 0.9)
    document = snapshot(payments={"retry": {"wait": {"cap": "500ms"}}})
    kit.live.check(document)
    kit.live.apply(document)
    wait = kit.pipeline["retry"].options.wait
    assert (wait.base, wait.cap) == (0.025, 0.5)
    assert "payments: the override is not applied to it: " in caplog.text
    kit.live.apply(snapshot(payments={}))
    assert kit.pipeline["retry"].options.wait.base == 0.9


def test_a_pipeline_that_is_made_later_has_it_too(kit: Kit) -> None:
    kit.put("retry.attempts", 1)
    later = Pipeline(Retry(9), name="payments", clock=kit.clock)
    kit.registry.add(later)
    kit.live.follow(later)
    assert later["retry"].options.attempts == 1
    kit.after(601.0)
    assert later["retry"].options.attempts == 9


def test_it_is_told(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    with capture_events() as seen:
        kit.put("retry.attempts", 1, 60.0)
        kit.after(61.0)
    begun, ended = seen.named("resilient.config.overridden")
    assert begun.fields() == {
        "dependency": "payments",
        "operation": "retry.attempts",
        "value": "1",
        "reason": "INC-12",
        "ttl": 60.0,
        "ended": False,
    }
    assert ended.ended  # type: ignore[attr-defined]
    assert [each.message for each in caplog.records] == [
        "config: the override payments.retry.attempts=1 (INC-12) is in force for 60 s",
        "config: the override payments.retry.attempts=1 (INC-12) has ended",
    ]
    set_, over = kit.history.changes()
    assert (set_.result, set_.source, set_.reason) == ("override", "payments.retry.attempts", "INC-12")
    assert [*map(str, set_.differences)] == ["payments.retry.attempts: 3 -> 1"]
    assert (over.result, over.count) == ("override_ended", 1)


def test_where_no_thread_can_be_started_it_is_refused(kit: Kit) -> None:
    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    kit.refresher._start = refuse  # type: ignore[method-assign]  # what is tried
    with pytest.raises(ConfigError, match="would not end, as no thread can be started: RuntimeError"):
        kit.put("retry.attempts", 1)
    assert (kit.attempts, kit.overrides.all) == (3, ())
    kit.live.refresh()
    assert kit.attempts == 3


def test_many_threads_set_and_end(kit: Kit) -> None:
    def some() -> None:
        for n in range(1, 20):
            with kit.put("retry.attempts", n), kit.put("bulkhead.limit", n):
                pass

    threads = [threading.Thread(target=some) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (kit.attempts, kit.pipeline["bulkhead"].options.limit, kit.overrides.all) == (3, 10, ())


@pytest.fixture
def alone(center: None) -> Iterator[None]:
    yield
    for each in status().overrides:
        each.end()


@pytest.mark.usefixtures("alone")
class TestProcess:
    """By the public function, with the real thread."""

    def test_it_needs_no_document(self) -> None:
        pipeline = standard("payments", attempts=3)
        with override("payments.retry.attempts", 1, ttl=600.0, reason="INC-12") as made:
            assert pipeline["retry"].options.attempts == 1
            assert status().overrides == (made,)
            assert status().state == "not_ready"
            told = str(explain("payments.retry.attempts"))
        assert told.startswith("payments.retry.attempts = 1 (from the override: INC-12, until 20")
        assert pipeline["retry"].options.attempts == 3
        assert status().overrides == ()
        assert [each.result for each in history()[-2:]] == ["override", "override_ended"]

    def test_it_stands_above_emergency_document_and_environment(
        self, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        monkeypatch.setenv("RESILIENT__PAYMENTS__RETRY__ATTEMPTS", "7")
        emergency = KubeletVolume(tmp_path / "emergency")
        emergency.write({"e.json": json.dumps(attempts(2))})
        volume.write({"a.json": json.dumps(attempts(5))})
        configure(volume.directory, emergency=emergency.directory)
        pipeline = standard("payments")
        load()
        assert explain("payments.retry.attempts").layer == "emergency"
        with override("payments.retry.attempts", 4, ttl=600.0, reason="INC-12"):
            assert (explain("payments.retry.attempts").layer, pipeline["retry"].options.attempts) == (
                "override",
                4,
            )
        assert pipeline["retry"].options.attempts == 2

    def test_it_ends_in_the_thread_of_the_process(self) -> None:
        pipeline = standard("payments", attempts=3)
        override("payments.retry.attempts", 1, ttl=0.05, reason="INC-12")
        ended = threading.Event()
        while status().overrides:
            ended.wait(0.005)
        while pipeline["retry"].options.attempts != 3:
            ended.wait(0.005)

    def test_it_is_a_metric(self) -> None:
        from tests.telemetry.collected import collecting

        pipeline = standard("payments")
        with collecting() as seen:
            assert seen.one("resilient.config.overrides") == 0
            with override("payments.retry.attempts", 1, ttl=600.0, reason="INC-12"):
                assert seen.one("resilient.config.overrides") == 1
        assert pipeline.name == "payments"

    def test_row_31_a_forked_child_ends_what_it_inherits(self) -> None:
        pipeline = standard("payments", attempts=3)
        made = override("payments.retry.attempts", 1, ttl=0.3, reason="INC-12")
        if os.fork() == 0:  # pragma: no cover - in the child
            code = 1
            try:
                assert status().overrides
                assert CENTER.overrides.asleep
                assert RUNTIME.pending is not None, "the first call starts the thread that ends it"
                call = pipeline(lambda: None)
                while pipeline["retry"].options.attempts != 3:
                    call()
                    threading.Event().wait(0.01)
                code = 0
            finally:
                os._exit(code)
        _, result = os.wait()
        assert os.waitstatus_to_exitcode(result) == 0
        made.end()
