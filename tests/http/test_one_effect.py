"""Whatever happens on the way: one key and one body per logical call on the wire, at most one effect, and one where the
caller saw success; an error says what may have happened. So it is too where the process is killed, and begins again."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient import Backoff, InProgress, OutcomeUnknown
from resilient.core.outcome import Evidence
from resilient.testing import ManualClock, Origin, answer, drip_body, stale
from resilient.testing.behaviours import Stepish, as_behaviour
from resilient.testing.exchange import Exchange, Request
from tests.http.calls import Bank, Caller, both, policies, report
from tests.http.sdk import bound, httpx
from tests.http.test_evidence import FAULTS

IN_PROGRESS = answer(409, headers={"Idempotency-Key-Status": "in-progress"})


class Ledger(Bank):
    """A server that does a thing once per key, and takes another body under a key for what it is."""

    def __init__(self, *, honours: bool = True) -> None:
        super().__init__(honours=honours)
        self.seen: dict[str, tuple[str | None, bytes]] = {}

    def do(self, request: Request) -> None:
        key = request.header("idempotency-key")
        if key is not None:
            what = (request.header("content-type"), request.body)
            assert self.seen.setdefault(key, what) == what, "another body under the same key"
        super().do(request)

    def charge(self, exchange: Exchange) -> None:
        request = exchange.read()
        again = self.effects[request.header("idempotency-key") or "no key"] and self.honours
        self.do(request)
        as_behaviour(answer(201, b"ok", {"Idempotent-Replayed": "true"} if again else {}))(exchange)


def done_then(ledger: Ledger, then: Stepish) -> Stepish:
    def run(exchange: Exchange) -> None:
        ledger.do(exchange.read())
        as_behaviour(then)(exchange)

    return run


def dying(ledger: Ledger, *, effect: bool) -> Stepish:
    """The server goes, and is back a moment later."""

    def run(exchange: Exchange) -> None:
        request = exchange.read()
        if effect:
            ledger.do(request)
        origin: Any = exchange.origin
        away(origin)
        exchange.reset()

    return run


def away(origin: Origin) -> None:
    assert origin.clock is not None
    origin.refuse()
    origin.clock.call_at(origin.clock.monotonic() + 0.15, origin.reopen)


STEPS: dict[str, Callable[[Ledger], Stepish]] = {
    "fine": lambda ledger: ledger.charge,
    "drips": lambda ledger: done_then(ledger, drip_body(0.01, answer(201, b"ok"))),
    "in progress": lambda ledger: IN_PROGRESS,
    "in progress, and done meanwhile": lambda ledger: done_then(ledger, IN_PROGRESS),
    "an empty quota": lambda ledger: answer(429, headers={"RateLimit": '"default";r=0;t=1'}),
    "stale": lambda ledger: stale(then=ledger.charge),
    "stale, reset": lambda ledger: stale(then=ledger.charge, ending="reset"),
    "goes": lambda ledger: dying(ledger, effect=False),
    "goes after the effect": lambda ledger: dying(ledger, effect=True),
    **{name: fault.makes for name, fault in FAULTS.items()},
}
IN_REAL_TIME = [name for name, fault in FAULTS.items() if fault.error is httpx.TimeoutException]
FOR = {"async": sorted(STEPS), "sync": sorted(STEPS.keys() - IN_REAL_TIME)}

BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "bytes": lambda: {"content": b"12"},
    "json": lambda: {"json": {"cents": 12}},
    "a form": lambda: {"files": {"scan": b"12"}, "data": {"order": "7"}},
    "kept": lambda: {"content": b"12"},
}


def body(kind: str, mode: str) -> dict[str, Any]:
    if kind != "kept":
        return BODIES[kind]()

    async def pieces() -> Any:
        for piece in (b"1", b"2"):
            yield piece

    made: Any = iter((b"1", b"2")) if mode == "sync" else pieces()
    return {"content": bound.buffered(made)}


def check(outcome: Any, effects: int, seen: list[Request]) -> None:
    """What holds for each logical call, whatever became of it.

    Args:
        outcome: its response, or what it raised; None: the caller left.
        effects: how often it was done.
        seen: its requests.
    """
    assert len({request.header("idempotency-key") for request in seen}) <= 1
    assert len({(each.header("content-type"), each.body) for each in seen if each.complete}) <= 1
    assert effects <= 1
    if outcome is None:
        return
    if isinstance(outcome, httpx.Response) and outcome.status_code == 201:
        assert effects == 1
    elif report(outcome).evidence in (Evidence.NOT_SENT, Evidence.REFUSED, Evidence.DECLINED):
        assert not effects, "it says that nothing happened"
    if isinstance(outcome, Exception) and not isinstance(outcome, (OutcomeUnknown, InProgress)):
        assert not effects, "only these two say that it may have"


def as_another_process(caller: Caller, url: str, error: Any, **given: Any) -> None:
    """Who finds the error where it was stored asks again, and gets the answer."""
    stored = pickle.loads(pickle.dumps(error))
    again = {"idempotency_key": stored.idempotency_key, "first_sent": stored.first_sent}
    assert caller.post(url, extensions={"resilient": again}, **given).status_code == 201


Call = tuple[str, bool, str | None]
"""The body, whether the server is away when it begins, and the caller's key."""


def calls(mode: str) -> st.SearchStrategy[tuple[str, list[str], list[Call]]]:
    call = st.tuples(st.sampled_from(sorted(BODIES)), st.booleans(), st.sampled_from([None, "order-7"]))
    return st.tuples(
        st.sampled_from(["none", "unknown", "supported"]),
        st.lists(st.sampled_from(FOR[mode]), max_size=6),
        st.lists(call, min_size=1, max_size=3),
    )


def holds(mode: str, profile: str, schedule: list[str], made: list[Call]) -> None:
    """One schedule of faults, met by one call after the other."""
    clock = ManualClock()
    ledger = Ledger(honours=profile == "supported")
    numbers = {"attempts": 4, "total": 1_000.0, "wait": Backoff(0.1, jitter="none"), "name": None}
    if mode == "async":
        numbers["attempt"] = 3.0
    with Origin(ledger.charge, clock=clock) as origin:
        origin.script(*(STEPS[name](ledger) for name in schedule))

        def client() -> Caller:
            return Caller(mode, origin.url, clock, profile=profile, policies=policies(clock, **numbers))  # type: ignore[arg-type]  # numbers

        with client() as caller:
            for n, (kind, gone, key) in enumerate(made):
                before, first = Counter(ledger.effects), len(origin.requests)
                extensions: dict[str, Any] = {}
                if key is not None and profile != "none":
                    extensions = {"resilient": {"idempotency_key": f"{key}-{n}"}}
                if gone:
                    away(origin)
                    origin.drop_connections()
                outcome: Any
                try:
                    outcome = caller.post("/charges", extensions=extensions, **body(kind, mode))
                except (httpx.TransportError, httpx.HTTPStatusError) as exc:
                    outcome = exc
                check(outcome, (ledger.effects - before).total(), origin.requests[first:])
                if isinstance(outcome, (OutcomeUnknown, InProgress)) and profile == "supported":
                    origin.always(ledger.charge)
                    if kind == "a form" and key is None:
                        continue  # the boundary of a key that was made up was made up too
                    with client() as other:
                        as_another_process(other, "/charges", outcome, **body(kind, mode))
                    assert (ledger.effects - before).total() == 1
            assert caller.pool.in_use == 0


@both
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_schedule(mode: str, data: st.DataObject) -> None:
    holds(mode, *data.draw(calls(mode)))


@pytest.mark.soak
@both
@settings(max_examples=5_000, deadline=None)
@given(data=st.data())
def test_any_schedule_for_long(mode: str, data: st.DataObject) -> None:
    holds(mode, *data.draw(calls(mode)))


# ------------------------------------------------------------------------------------------------------ SIGKILL
WORKER = textwrap.dedent(
    """
    import asyncio, json, sys
    import resilient.httpx
    from resilient import Pipeline, Retry, Timeout

    url, mode, order = sys.argv[1:]
    policies = Pipeline(
        Timeout(30.0), Retry(3, wait=0.01, idempotency_key=lambda request: request.headers["X-Order"]), name="bank"
    )
    given = {"files": {"scan": b"0123456789"}, "data": {"order": order}, "headers": {"X-Order": order}}

    def told(response):
        report = response.extensions["resilient"]
        return json.dumps([response.status_code, report.attempts, report.replayed])

    def sync():
        with resilient.httpx.client("bank", base_url=url, policies=policies, profile="supported") as client:
            response = client.post("/charges", **given)
            client.get("/written-down")
            return told(response)

    async def work():
        make = resilient.httpx.async_client
        async with make("bank", base_url=url, policies=policies, profile="supported") as client:
            response = await client.post("/charges", **given)
            await client.get("/written-down")
            return told(response)

    print(sync() if mode == "sync" else asyncio.run(work()))
    """
)


@both
def test_a_worker_that_is_killed_anywhere_and_begins_again(mode: str) -> None:
    ledger = Ledger()
    running: list[subprocess.Popen[str]] = []

    def kill(exchange: Exchange) -> None:
        os.kill(running[-1].pid, signal.SIGKILL)
        running[-1].wait()
        exchange.close()

    def at_its_first_bytes(exchange: Exchange) -> None:
        exchange.read_head()
        kill(exchange)

    def before_the_effect(exchange: Exchange) -> None:
        exchange.read()
        kill(exchange)

    def after_the_effect(exchange: Exchange) -> None:
        ledger.do(exchange.read())
        kill(exchange)

    def in_the_middle_of_the_answer(exchange: Exchange) -> None:
        ledger.do(exchange.read())
        exchange.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\no")
        kill(exchange)

    def between_two_attempts(exchange: Exchange) -> None:
        ledger.do(exchange.read())
        exchange.reset()

    points: list[list[Stepish]] = [
        [at_its_first_bytes],
        [before_the_effect],
        [after_the_effect],
        [between_two_attempts, before_the_effect],
        [in_the_middle_of_the_answer],
        [ledger.charge, before_the_effect],  # after the answer, before it was written down
    ]
    if mode == "async":
        points = points[2:4]  # a process takes a while to start, and dies in the same way
    sent = sum(map(len, points)) + 2  # and the last worker's two
    worker = WORKER.replace("resilient.httpx", bound.__name__)
    with Origin(clock=None) as origin:
        origin.handle(lambda request: ledger.charge if request.method == "POST" else 200)
        for steps in [*points, []]:
            origin.script(*steps)
            command = [sys.executable, "-c", worker, origin.url, mode, "order-7"]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            out, _ = running[-1].communicate(timeout=60)
            assert running[-1].returncode == (-signal.SIGKILL if steps else 0)
            assert sum(ledger.effects.values()) <= 1
        status, attempts, replayed = json.loads(out)
    assert (status, attempts, replayed) == (201, 1, True)
    assert list(ledger.effects.values()) == [1]
    charges = [request for request in origin.requests if request.method == "POST"]
    assert len(origin.requests) == sent
    assert len({request.header("idempotency-key") for request in charges}) == 1
    assert len({request.header("content-type") for request in charges}) == 1
    assert len({request.body for request in charges if request.complete}) == 1
