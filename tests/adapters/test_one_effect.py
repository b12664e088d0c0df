"""Whatever happens on the way: one key and one body per call on the wire, at most one effect, and one where the caller
saw success; an error says what may have happened. The faults are those that httpx meets."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resilient.aiohttp
import resilient.requests
from resilient import Backoff, InProgress, OutcomeUnknown
from resilient.core.outcome import Evidence
from resilient.testing import ManualClock, Origin
from tests.adapters.calls import BASE, Caller, each, report
from tests.http.calls import policies
from tests.http.test_one_effect import FOR, STEPS, Ledger, away

MODE = {"requests": "sync", "aiohttp": "async"}

Call = tuple[str, bool, str | None]
"""The body, whether the server is away when it begins, and the caller's key."""


def body(what: str, kind: str) -> dict[str, Any]:
    if what == "json":
        return {"json": {"cents": 12}}
    if what == "bytes":
        return {"data": b"12"}

    async def pieces() -> Any:
        for piece in (b"1", b"2"):
            yield piece

    if kind == "requests":
        return {"data": resilient.requests.buffered(iter((b"1", b"2")))}
    return {"data": resilient.aiohttp.buffered(pieces())}


def calls(kind: str) -> st.SearchStrategy[tuple[str, list[str], list[Call]]]:
    call = st.tuples(
        st.sampled_from(["bytes", "json", "kept"]), st.booleans(), st.sampled_from([None, "order-7"])
    )
    return st.tuples(
        st.sampled_from(["none", "unknown", "supported"]),
        st.lists(st.sampled_from(FOR[MODE[kind]]), max_size=6),
        st.lists(call, min_size=1, max_size=3),
    )


def holds(kind: str, profile: str, schedule: list[str], made: list[Call]) -> None:
    """One schedule of faults, met by one call after the other."""
    clock = ManualClock()
    ledger = Ledger(honours=profile == "supported")
    attempt = 3.0 if kind == "aiohttp" else None

    def client() -> Caller:
        numbers = policies(
            clock, attempts=4, total=1_000.0, wait=Backoff(0.1, jitter="none"), name=None, attempt=attempt
        )
        return Caller(kind, origin.url, clock, profile=profile, policies=numbers)

    with Origin(ledger.charge, clock=clock) as origin:
        origin.script(*(STEPS[name](ledger) for name in schedule))
        with client() as caller:
            for n, (what, gone, key) in enumerate(made):
                before, first = Counter(ledger.effects), len(origin.requests)
                said = {} if key is None or profile == "none" else {"idempotency_key": f"{key}-{n}"}
                if gone:
                    away(origin)
                    origin.drop_connections()
                error, ok = None, False
                try:
                    response = caller.send("POST", "/charges", said=said, **body(what, kind))
                    ok, told = response.status == 201, report(response)
                except BASE[kind] as exc:
                    error, told = exc, report(exc)
                done = ledger.effects - before
                mine = origin.requests[first:]
                assert len({request.header("idempotency-key") for request in mine}) <= 1
                assert len({(r.header("content-type"), r.body) for r in mine if r.complete}) <= 1
                assert done.total() <= 1
                if ok:
                    assert done.total() == 1
                elif told.evidence in (Evidence.NOT_SENT, Evidence.REFUSED, Evidence.DECLINED):
                    assert not done, "it says that nothing happened"
                if error is not None and not isinstance(error, (OutcomeUnknown, InProgress)):
                    assert not done, "only these two say that it may have"
                if isinstance(error, (OutcomeUnknown, InProgress)) and profile == "supported":
                    stored = pickle.loads(pickle.dumps(error))  # as another process has it
                    origin.always(ledger.charge)
                    again = {"idempotency_key": stored.idempotency_key, "first_sent": stored.first_sent}
                    with client() as other:
                        response = other.send("POST", "/charges", said=again, **body(what, kind))
                        assert response.status == 201
                    assert (ledger.effects - before).total() == 1


@each
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_schedule(kind: str, data: st.DataObject) -> None:
    holds(kind, *data.draw(calls(kind)))


@pytest.mark.soak
@each
@settings(max_examples=5_000, deadline=None)
@given(data=st.data())
def test_any_schedule_for_long(kind: str, data: st.DataObject) -> None:
    holds(kind, *data.draw(calls(kind)))
