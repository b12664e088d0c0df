"""A key stands for the same bytes: the boundary of a form follows from the key, and iterators are kept."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import Budget, OutcomeUnknown, Pipeline, PolicyError, Retry, Timeout, report_of, standard
from resilient.core.clock import SYSTEM_CLOCK
from resilient.testing import ManualClock, Origin, answer, stall_upload
from tests.http.calls import Caller, both, policies, report
from tests.http.sdk import bound, httpx


def boundary(content_type: str | None) -> str:
    assert content_type is not None
    return content_type.partition("boundary=")[2]


# ---------------------------------------------------------------------------------------------------------- forms
@both
@pytest.mark.parametrize("source", ["caller's header", "caller's option", "business"])
def test_a_form_that_is_sent_by_another_process_is_the_same(
    source: str, mode: str, tmp_path: Path, manual_clock: ManualClock
) -> None:
    path = tmp_path / "scan"
    path.write_bytes(b"0123456789" * 20_000)
    given: dict[str, Any] = {}
    budget = Budget(ratio=10.0, floor=100.0, stock=1_000)
    retry = Retry(4, wait=0.0, idempotent=False, budget=budget)
    if source == "business":
        retry = Retry(4, wait=0.0, idempotency_key=lambda request: "order-7", budget=budget)
    elif source == "caller's header":
        given = {"headers": {"Idempotency-Key": "order-7"}}
    else:
        given = {"extensions": {"resilient": {"idempotency_key": "order-7"}}}
    with Origin(clock=manual_clock) as origin:
        for _ in range(2):  # two jobs, of which neither knows of the other
            with (
                path.open("rb") as file,
                Caller(
                    mode,
                    origin.url,
                    manual_clock,
                    profile="supported",
                    policies=Pipeline(Timeout(60.0), retry, clock=manual_clock),
                    follow_redirects=True,
                ) as caller,
            ):
                origin.script("reset_after_effect", answer(307, headers={"Location": "/next"}), 503)
                response = caller.post(files={"scan": file}, data={"order": "7"}, **given)
                assert response.status_code == 200
        assert len(origin.requests) == 8
        assert len({each.body for each in origin.requests}) == 1
        assert len({each.header("content-type") for each in origin.requests}) == 1
        assert len({each.header("idempotency-key") for each in origin.requests}) == 1
        first = origin.requests[0]
        key = first.header("idempotency-key")
        assert boundary(first.header("content-type")) != hashlib.sha256(str(key).encode()).hexdigest()[:32]
        assert int(str(first.header("content-length"))) == len(first.body)
        assert first.body.count(boundary(first.header("content-type")).encode()) == 3


def test_a_child_is_the_same_too(manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller("sync", origin.url, manual_clock) as caller:

        @standard("orders", idempotency_key=lambda order: order, clock=manual_clock)
        def settle(order: str) -> None:
            caller.post(files={"scan": b"x"})

        settle("order-7")
        settle("order-7")
        one, other = origin.requests
        assert (one.body, one.header("content-type")) == (other.body, other.header("content-type"))


@both
@pytest.mark.parametrize("profile", ["unknown", "none"])
def test_of_a_key_that_was_made_up_nothing_follows(
    profile: str, mode: str, manual_clock: ManualClock
) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile=profile) as caller,
    ):
        caller.post(files={"scan": b"x"})
        caller.post(files={"scan": b"x"})
        one, other = (boundary(each.header("content-type")) for each in origin.requests)
        assert one != other


@both
def test_a_boundary_of_the_callers_stays(mode: str, manual_clock: ManualClock) -> None:
    mine = {"Content-Type": "multipart/form-data; boundary=mine", "Idempotency-Key": "order-7"}
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        caller.post(files={"scan": b"x"}, headers=mine)
        assert origin.requests[0].header("content-type") == mine["Content-Type"]
        assert origin.requests[0].body.startswith(b"--mine\r\n")


# ------------------------------------------------------------------------------------------------------- iterators
def pieces(*sizes: int) -> Iterator[bytes]:
    for n, size in enumerate(sizes):
        yield bytes([65 + n]) * size


async def apieces(*sizes: int) -> AsyncIterator[bytes]:
    for piece in pieces(*sizes):
        yield piece


def kept(mode: str, *sizes: int, limit: int = 65_536) -> Any:
    made: Any = pieces(*sizes) if mode == "sync" else apieces(*sizes)
    return bound.buffered(made, limit)


@both
@pytest.mark.parametrize("faults", [["reset_after_effect", 503], [503, 429], ["reset_before_request"] * 2])
def test_an_iterator_that_is_kept_is_sent_again(faults: Any, mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            mode, origin.url, manual_clock, profile="supported", policies=policies(manual_clock, attempts=4)
        ) as caller,
    ):
        origin.script(*faults)
        assert caller.post(content=kept(mode, 3, 0, 2)).status_code == 200
        assert {each.body for each in origin.requests} == {b"AAACC"}


@both
def test_it_follows_a_redirect(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, follow_redirects=True) as caller,
    ):
        origin.script(answer(307, headers={"Location": "/next"}))
        assert caller.post(content=kept(mode, 3, 2)).status_code == 200
        assert [each.body for each in origin.requests] == [b"AAABB"] * 2
        origin.script(answer(307, headers={"Location": "/next"}))
        exc = caller.fails("POST", content=kept(mode, 3, 2, limit=4))
        assert isinstance(exc, PolicyError)
        assert "more than limit=4 bytes were read" in str(exc)
        assert len(origin.requests) == 3 or not origin.requests[-1].complete


@both
def test_one_that_proves_too_long_is_sent_once(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(503)
        response = caller.post(content=kept(mode, 3, 2, limit=4))
        assert (response.status_code, report(response).why_not_retried) == (503, "body")
        origin.script("reset_after_effect")
        exc = caller.fails("POST", content=kept(mode, 3, 2, limit=4))
        assert isinstance(exc, OutcomeUnknown)
        assert len(origin.requests) == 2
        origin.script(503)
        assert caller.post(content=kept(mode, 3, 2, limit=5)).status_code == 200


@both
def test_an_attempt_that_ends_in_the_middle_of_it_loses_nothing(mode: str, manual_clock: ManualClock) -> None:
    clock = manual_clock if mode == "async" else SYSTEM_CLOCK
    big = 12_000_000  # more than the kernel takes in
    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            mode,
            origin.url,
            manual_clock,
            profile="supported",
            policies=policies(clock, attempt=0.3 if mode == "sync" else 3.0, total=60.0),
        ) as caller,
    ):
        origin.script(stall_upload())
        response = caller.post(content=kept(mode, big, 5, limit=2 * big))
        assert (response.status_code, report(response).attempts) == (200, 2)
        assert origin.requests[-1].body == b"A" * big + b"BBBBB"


def test_one_that_was_interrupted_while_it_was_waited_for_is_not_sent_again(
    manual_clock: ManualClock,
) -> None:
    import asyncio

    async def slow() -> AsyncIterator[bytes]:
        yield b"A"
        await asyncio.sleep(5.0)  # cancelled with the attempt: it is over then, and what is left of it lost
        yield b"B"

    with (
        Origin(clock=manual_clock) as origin,
        Caller(
            "async",
            origin.url,
            manual_clock,
            profile="supported",
            policies=policies(manual_clock, attempt=1.0, total=60.0),
        ) as caller,
    ):
        exc = caller.fails("POST", content=bound.buffered(slow()))
        assert isinstance(exc, OutcomeUnknown)
        found = report_of(exc)
        assert found is not None
        assert found.why_not_retried == "body"
        assert [each.complete for each in origin.requests] == [False]


@both
def test_an_error_of_its_own_is_the_callers(mode: str, manual_clock: ManualClock) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"A"
        raise KeyError("mine")

    async def abreaks() -> AsyncIterator[bytes]:
        yield b"A"
        raise KeyError("mine")

    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        source: Any = breaks() if mode == "sync" else abreaks()
        assert isinstance(caller.fails("POST", content=bound.buffered(source)), KeyError)
        assert len(origin.requests) <= 1


@pytest.mark.parametrize("content", [b"bytes", "text", 7, None])
def test_what_is_no_iterator(content: Any) -> None:
    with pytest.raises(PolicyError, match=r"buffered: .* is no iterator of pieces"):
        bound.buffered(content)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "9"])
def test_a_limit_of_no_sense(limit: Any) -> None:
    with pytest.raises(PolicyError, match=r"must be bytes, at least 1; write limit=65_536"):
        bound.buffered(iter([b""]), limit)


def test_it_is_an_iterable_for_the_sdk() -> None:
    # The SDK's own client takes it too; there it is sent once, as ever.
    with Origin() as origin:
        assert httpx.post(origin.url, content=bound.buffered(pieces(3, 2))).status_code == 200
        assert origin.requests[0].body == b"AAABB"
