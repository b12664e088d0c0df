"""The config center of the process: followed from the first call on, in the refresher's thread, also after a fork."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import resilient.httpx
from resilient import (
    CircuitOpen,
    ConfigError,
    DocumentError,
    Pipeline,
    Retry,
    Timeout,
    configure,
    outbound,
    set_active,
    standard,
)
from resilient.config import Status, explain, load, status
from resilient.config.center import CENTER
from resilient.config.source import Changing, Directory
from resilient.core.events import RUNTIME
from resilient.discovery.refresher import REFRESHER
from resilient.testing import KubeletVolume, ManualClock, Origin, capture_events

PATIENCE = 20.0


def saying(**targets: Any) -> dict[str, str]:
    return {"a.json": json.dumps({"resiliency": {"targets": targets}})}


def attempts(n: int) -> dict[str, str]:
    return saying(payments={"retry": {"attempts": n}})


def eventually(seen: Any) -> None:
    """Wait for another thread of ours, which nothing tells us of."""
    until = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < until, "it never came"
        threading.Event().wait(0.005)


@pytest.mark.usefixtures("center")
class TestFollowing:
    def test_nothing_is_started_before_the_first_call(self, volume: KubeletVolume) -> None:
        volume.write(attempts(5))
        pipeline = standard("payments")
        configure(volume.directory)
        work = pipeline(lambda: "done")
        assert status() == Status()
        assert RUNTIME.attention
        assert work() == "done"
        assert not RUNTIME.attention, "calls are as quick as before"
        eventually(lambda: status().state == "ready")
        assert pipeline["retry"].options.attempts == 5

    def test_the_environment_names_the_directory_too(
        self, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        volume.write(attempts(5))
        monkeypatch.setenv("RESILIENT_CONFIG_DIR", str(volume.directory))
        pipeline = standard("payments")
        assert RUNTIME.attention
        assert pipeline.call(lambda: 1) == 1
        eventually(lambda: pipeline["retry"].options.attempts == 5)

    def test_what_was_configured_wins_over_the_environment(
        self, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("RESILIENT_CONFIG_DIR", str(tmp_path / "other"))
        configure(volume.directory)
        assert CENTER.followed.directory == volume.directory

    def test_without_a_directory_nothing_is_pending(self) -> None:
        standard("payments")
        assert RUNTIME.pending is None
        with pytest.raises(ConfigError, match=r"write configure\(directory='/etc/resilient'\)"):
            load()

    def test_an_async_call_starts_it_too_and_waits_for_nothing(self, volume: KubeletVolume) -> None:
        volume.write(attempts(5))
        pipeline = standard("payments")
        configure(volume.directory)

        async def work() -> str:
            return "done"

        assert asyncio.run(pipeline.acall(work)) == "done"
        eventually(lambda: pipeline["retry"].options.attempts == 5)

    def test_a_change_is_seen_within_two_seconds(self, volume: KubeletVolume) -> None:
        pipeline = standard("payments")
        configure(volume.directory)
        volume.write(attempts(5))
        load()
        volume.write(attempts(6))
        eventually(lambda: pipeline["retry"].options.attempts == 6)

    def test_it_is_loaded_at_once_where_somebody_asks(self, volume: KubeletVolume) -> None:
        pipeline = standard("payments")
        configure(volume.directory)
        for n in (4, 5, 6):
            volume.write(attempts(n))
            found = load()
            assert (found.state, found.generation) == ("ready", n - 3)
            assert pipeline["retry"].options.attempts == n
        assert load() == found, "again, without a change"

    def test_who_asks_is_told_what_is_wrong(self, volume: KubeletVolume) -> None:
        pipeline = standard("payments")
        configure(volume.directory)
        with pytest.raises(ConfigError, match="there is no directory"):
            load()
        volume.write(attempts(0))
        with pytest.raises(DocumentError, match="0 must be a whole number"):
            load()
        with pytest.raises(DocumentError) as first:
            load()
        with pytest.raises(DocumentError) as second:
            load()
        assert first.value is not second.value is not status().problem
        assert str(first.value) == str(status().problem)
        assert status().state == "not_ready"
        assert pipeline.call(lambda: "done") == "done", "no call sees it"

    def test_who_asks_while_it_changes_without_end_is_told(
        self, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def busy(self: Directory) -> Any:
            raise Changing("faster")

        configure(volume.directory)
        volume.write(attempts(5))
        monkeypatch.setattr(Directory, "read", busy)
        with pytest.raises(ConfigError, match="changes faster than it can be read"):
            load()

    def test_another_directory_takes_over_when_it_has_a_document(
        self, volume: KubeletVolume, tmp_path: Path
    ) -> None:
        pipeline, other = standard("payments"), KubeletVolume(tmp_path / "other")
        volume.write(attempts(5))
        configure(volume.directory)
        load()
        configure(volume.directory)  # the same again changes nothing
        assert status().generation == 1
        configure(other.directory)
        assert status() == Status()
        assert pipeline["retry"].options.attempts == 5, (
            "what was in force stays until there is something else"
        )
        other.write(attempts(6))
        load()
        assert pipeline["retry"].options.attempts == 6
        configure()
        assert pipeline["retry"].options.attempts == 3, "nothing is followed: the code decides"

    @pytest.mark.parametrize("directory", ["", 7, b"/etc"])
    def test_what_is_no_path_is_refused(self, directory: Any) -> None:
        with pytest.raises(ConfigError, match="must be a path"):
            configure(directory)

    def test_what_cannot_be_started_is_logged_and_the_call_goes_on(
        self, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(thing: Any) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("resilient.discovery.refresher.REFRESHER.watch", fails)
        configure(volume.directory)
        assert standard("payments").call(lambda: "done") == "done"
        assert "can't start new thread" in caplog.text

    def test_where_no_thread_can_be_started_calls_try_again_once_a_second(
        self, volume: KubeletVolume, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried: list[Any] = []

        def no_thread(thing: Any) -> str:
            tried.append(thing)
            return "can't start new thread"

        clock = ManualClock(start=1_000.0)
        monkeypatch.setattr("resilient.config.center.SYSTEM_CLOCK", clock)
        volume.write(attempts(5))
        pipeline = standard("payments")
        configure(volume.directory)
        with monkeypatch.context() as patched:
            patched.setattr("resilient.discovery.refresher.REFRESHER.watch", no_thread)
            for _ in range(5):
                assert pipeline.call(lambda: "done") == "done"
            assert len(tried) == 1
            clock.advance(1.0)
            assert pipeline.call(lambda: "done") == "done"
            assert len(tried) == 2
            assert pipeline["retry"].options.attempts == 3
            for n in (5, 6):
                volume.write(attempts(n))
                assert load().state == "ready", "row 42: who asks reads it himself"
                assert pipeline["retry"].options.attempts == n
            volume.write(attempts(0))
            with pytest.raises(DocumentError, match="0 must be a whole number"):
                load()
        volume.write(attempts(7))
        clock.advance(1.0)
        assert pipeline.call(lambda: "done") == "done"
        eventually(lambda: pipeline["retry"].options.attempts == 7)
        assert not RUNTIME.attention

    def test_the_end_of_the_thread_has_the_next_call_begin_another(self, volume: KubeletVolume) -> None:
        volume.write(attempts(5))
        pipeline = standard("payments")
        configure(volume.directory)
        load()
        loader = CENTER._loader
        assert loader is not None
        for each in REFRESHER._ended(REFRESHER._thread):  # type: ignore[arg-type]
            each.broke(RuntimeError("whatever ended it"))
        assert RUNTIME.attention
        volume.write(attempts(6))
        assert pipeline.call(lambda: "done") == "done"
        eventually(lambda: pipeline["retry"].options.attempts == 6)

    def test_inactive_policies_start_it_too(self, volume: KubeletVolume) -> None:
        configure(volume.directory)
        pipeline = standard("payments")
        set_active(False)
        try:
            assert pipeline.call(lambda: "done") == "done"
            assert RUNTIME.pending is None
        finally:
            set_active(True)


@pytest.mark.usefixtures("center")
class TestWho:
    def test_a_pipeline_written_by_hand_follows_by_its_name(self, volume: KubeletVolume) -> None:
        before = Pipeline(Retry(2), name="payments")
        configure(volume.directory)
        volume.write(attempts(5))
        load()
        after = Pipeline(Retry(2), name="payments")
        assert [each["retry"].options.attempts for each in (before, after)] == [5, 5]
        assert explain("payments.retry.attempts").layer == "document"

    def test_a_client_follows_by_its_name(self, volume: KubeletVolume) -> None:
        configure(volume.directory)
        with Origin() as origin, resilient.httpx.client("payments", base_url=origin.url) as client:
            assert client.get("/").status_code == 200
            volume.write(saying(payments={"breaker": {"state": "forced_open"}}))
            load()
            with pytest.raises(CircuitOpen) as caught:
                client.get("/")
            assert caught.value.dependency == "payments"
            volume.write(saying(payments={"bulkhead": {"limit": 7}}))
            load()
            assert client.get("/").status_code == 200
            assert len(origin.requests) == 2

    def test_the_breakers_of_endpoints_follow_too(self, volume: KubeletVolume) -> None:
        configure(volume.directory)
        with Origin() as one, Origin() as two:
            addresses = [f"127.0.0.1:{each.port}" for each in (one, two)]
            client = resilient.httpx.client("payments", base_url="http://payments", endpoints=addresses)
            with client:
                client.get("/")
                breaker = {
                    "consecutive": 1,
                    "state": "observe",
                }  # endpoints are ejected all the same
                volume.write(saying(payments={"breaker": breaker, "retry": {"attempts": 1}}))
                load()
                one.always(503)
                answers = [client.get("/").status_code for _ in range(30)]
        assert answers.count(503) == 1, "one failure ejects it"

    def test_functions_of_one_name_share_all_but_their_retry(self, volume: KubeletVolume) -> None:
        @outbound("payments", idempotency_key=lambda order: order)
        def charge(order: str) -> str:
            return order

        @outbound("payments")
        def refund(order: str) -> str:
            raise ConnectionError(order)

        @outbound("shipping")
        async def ship(order: str) -> str:
            return order

        one, two, three = (each.pipeline for each in (charge, refund, ship))  # type: ignore[attr-defined]
        kinds = ["timeout", "retry", "breaker", "bulkhead", "timeout"]
        assert [each.kind for each in one] == [each.kind for each in two] == kinds
        assert [a is b for a, b in zip(one, two, strict=True)] == [True, False, True, True, True]
        assert not any(a is b for a, b in zip(one, three, strict=True))
        assert str(one).replace("keyed", "only what did not happen") == str(two) == str(standard("payments"))
        configure(volume.directory)
        volume.write(saying(payments={"retry": {"attempts": 2}, "breaker": {"consecutive": 1}}))
        load()
        assert [each["retry"].options.attempts for each in (one, two, three)] == [2, 2, 3]
        with pytest.raises(ConnectionError):
            refund("7")
        with pytest.raises(CircuitOpen):
            charge("7")
        assert asyncio.run(ship("7")) == "7"

    def test_what_was_shared_lives_as_long_as_one_of_the_functions(self) -> None:
        first = outbound("payments")
        second = outbound("payments")
        breaker = first["breaker"]
        del first
        assert outbound("payments")["breaker"] is breaker
        del second

    def test_whether_a_function_may_be_repeated_is_said_in_code(self) -> None:
        options = [
            outbound("payments")["retry"].options,
            outbound("payments", idempotent=True)["retry"].options,
            outbound("payments", idempotency_key=str)["retry"].options,
        ]
        assert [each.idempotent for each in options] == [False, True, None]
        with pytest.raises(ConfigError, match="must be True or False"):
            outbound("payments", idempotent="no")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="must be a text"):
            outbound(7)  # type: ignore[arg-type]

    def test_one_call_sees_one_set_of_numbers(self, volume: KubeletVolume) -> None:
        configure(volume.directory)
        volume.write(attempts(4))
        load()
        seen = []

        @outbound("payments", idempotent=True)
        def work() -> None:
            seen.append(1)
            if len(seen) == 1:
                volume.write(attempts(1))
                load()
            raise ConnectionRefusedError

        for expected in (4, 1):
            seen[:] = [0] * (expected == 1)
            with pytest.raises(ConnectionRefusedError):
                work()
            assert len(seen) - (expected == 1) == expected

    def test_a_forced_breaker_holds_between_the_attempts_of_a_call(self, volume: KubeletVolume) -> None:
        configure(volume.directory)
        calls = []

        @outbound("payments", idempotent=True)
        def work() -> None:
            calls.append(1)
            volume.write(saying(payments={"breaker": {"state": "forced_open"}}))
            load()
            raise ConnectionRefusedError

        with pytest.raises(CircuitOpen):
            work()
        assert calls == [1]

    def test_everybody_hears_of_it(self, volume: KubeletVolume) -> None:
        configure(volume.directory)
        volume.write(attempts(2))
        with capture_events() as seen:
            load()
        assert [each.operation for each in seen.named("resilient.config.applied")] == [str(volume.directory)]


def program(text: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text)],
        env={**os.environ, "RESILIENT_CONFIG_DIR": str(directory)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("called_before", [False, True])
def test_a_forked_child_follows_too(volume: KubeletVolume, called_before: bool) -> None:
    volume.write(attempts(4))
    said = program(
        f"""
        import json, os, threading
        from resilient import standard
        from resilient.config import load, status
        from resilient.testing import KubeletVolume

        pipeline = standard("payments")
        if {called_before}:
            assert pipeline.call(lambda: 1) == 1
            assert load().generation == 1
        child = os.fork()
        if child == 0:
            assert pipeline.call(lambda: 1) == 1
            load()
            volume = KubeletVolume({str(volume.directory)!r})
            volume.write(json.loads({json.dumps(json.dumps(attempts(9)))}))
            while pipeline["retry"].options.attempts != 9:
                threading.Event().wait(0.01)
            os._exit(7)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status))
        """,
        volume.directory,
    )
    assert said == "7"


def test_a_program_that_ends_while_it_looks_ends_quietly(volume: KubeletVolume) -> None:
    volume.write(attempts(4))
    for _ in range(3):
        said = program(
            """
            from resilient import standard
            print(standard("payments").call(lambda: "done"))
            """,
            volume.directory,
        )
        assert said == "done"


def test_nothing_is_imported_before_the_first_call(volume: KubeletVolume) -> None:
    program(
        """
        import sys
        from resilient import configure, outbound, standard, Pipeline, Retry
        configure()
        standard("payments"), outbound("payments"), Pipeline(Retry(), name="payments")
        heavy = {"yaml", "msgspec", "dns", "asyncio", "resilient.config.loader", "resilient.config.live"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """,
        volume.directory,
    )


@pytest.mark.usefixtures("center")
def test_the_state_is_a_metric(volume: KubeletVolume) -> None:
    from tests.telemetry.collected import collecting

    with collecting() as seen:
        assert seen.points("resilient.config.state") == []
        configure(volume.directory)
        assert seen.one("resilient.config.state", state="not_ready") == 1
        assert seen.points("resilient.config.generation.info") == []
        volume.write({**attempts(4), "b.yaml": "metadata: {version: '7'}\n...\n"})
        digest = (load().digest or "")[:12]
        assert seen.points("resilient.config.generation.info") == [
            ({"digest": digest, "version": "7", "source": "document"}, 1)
        ]
        volume.write(attempts(0))
        with pytest.raises(DocumentError):
            load()
        states = {each["state"]: value for each, value in seen.points("resilient.config.state")}
        assert states == {"not_ready": 0, "ready": 0, "stale": 1, "error": 0}
        volume.write({**attempts(4), "b.yaml": "metadata: {version: '7'}\n...\n"})
        load()
        results = {tuple(each.values()): value for each, value in seen.points("resilient.config.reloads")}
        assert results == {("applied",): 1, ("rejected", "structure"): 1, ("recovered",): 1}


@pytest.mark.usefixtures("center")
def test_a_time_out_that_is_the_only_one_is_the_attempts(volume: KubeletVolume) -> None:
    configure(volume.directory)
    pipeline = Pipeline(Timeout(1.0), name="payments")
    volume.write(saying(payments={"timeout": {"attempt": "300ms"}}))
    load()
    assert str(pipeline) == "Timeout(0.3 s)"
