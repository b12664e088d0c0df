"""Which request bodies are sent again: the same bytes, or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import OutcomeUnknown, PolicyError
from resilient.testing import ManualClock, Origin, answer
from resilient.testing.behaviours import Stepish
from tests.http.calls import Caller, both, policies, report, told
from tests.http.sdk import bound, httpx

FAULTS: list[Stepish] = ["reset_after_effect", 503]


def rows() -> Iterator[bytes]:
    yield b"a,1\n"
    yield b"b,2\n"


async def arows() -> AsyncIterator[bytes]:
    yield b"a,1\n"
    yield b"b,2\n"


class Rows:
    """Can be iterated anew."""

    def __iter__(self) -> Iterator[bytes]:
        return rows()


class AsyncRows:
    """The same, for async clients."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return arows()


def read_a_little(path: Path) -> io.BufferedIOBase:
    file = path.open("rb")
    file.read(2)
    return file


def in_memory(path: Path) -> io.BytesIO:
    return io.BytesIO(path.read_bytes())


# ------------------------------------------------------------------------------------------ what is sent again
@both
@pytest.mark.parametrize(
    "given",
    [
        {"content": b"bytes"},
        {"content": "text ü"},
        {"content": b""},
        {"content": b"x" * 3_000_000},
        {"json": {"b": 1, "a": [2.5, None]}},
        {"data": {"name": "value & more"}},
        {"files": {"file": ("name.txt", b"contents", "text/plain")}},
        {"files": {"file": b"contents"}, "data": {"field": "value"}},
    ],
    ids=["bytes", "text", "empty", "much", "json", "form", "multipart", "multipart with fields"],
)
def test_what_is_in_memory(given: dict[str, Any], mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(*FAULTS)
        assert caller.post(**given).status_code == 200
        assert len(origin.requests) == 3
        assert len({each.body for each in origin.requests}) == 1
        assert len({each.header("content-type") for each in origin.requests}) == 1
        assert len({each.header("content-length") for each in origin.requests}) == 1


@pytest.mark.parametrize("opened", [lambda path: path.open("rb"), read_a_little, in_memory])
def test_a_file_is_sent_again_from_where_it_stood(
    opened: Callable[[Path], Any], tmp_path: Path, manual_clock: ManualClock
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"0123456789" * 20_000)
    with (
        Origin(clock=manual_clock) as origin,
        Caller("sync", origin.url, manual_clock, profile="supported") as caller,
        opened(path) as file,
    ):
        expected = path.read_bytes()[file.tell() :]
        origin.script(*FAULTS)
        # The SDK tells the length of the whole file; from the middle of it, it is the caller's to say.
        response = caller.post(content=file, headers={"Content-Length": str(len(expected))})
        assert response.status_code == 200
        assert [each.body == expected for each in origin.requests] == [True, True, True]


@both
def test_files_of_a_form_are_sent_again(mode: str, tmp_path: Path, manual_clock: ManualClock) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"0123456789" * 20_000)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
        path.open("rb") as file,
    ):
        origin.script(*FAULTS)
        assert caller.post(files={"file": file}, data={"field": "value"}).status_code == 200
        assert len(origin.requests) == 3
        assert len({each.body for each in origin.requests}) == 1
        assert path.read_bytes() in origin.requests[2].body


@both
def test_what_can_be_iterated_anew(mode: str, manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        bodies: list[Any] = (
            [Rows(), bound.made_anew(rows)] if mode == "sync" else [AsyncRows(), bound.made_anew(arows)]
        )
        for body in bodies:
            origin.script(*FAULTS)
            assert caller.post(content=body).status_code == 200
        assert [each.body for each in origin.requests] == [b"a,1\nb,2\n"] * 6


def test_a_list_of_pieces(manual_clock: ManualClock) -> None:
    with (
        Origin(clock=manual_clock) as origin,
        Caller("sync", origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(*FAULTS)
        assert caller.post(content=[b"a", b"b"]).status_code == 200
        assert [each.body for each in origin.requests] == [b"ab"] * 3


def test_made_anew_wants_a_function() -> None:
    made: Any = bound.made_anew
    with pytest.raises(PolicyError, match=r"without calling it"):
        made(rows())


# ---------------------------------------------------------------------------------------- what is sent but once
@both
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_iterator_is_sent_once(method: str, mode: str, manual_clock: ManualClock) -> None:
    body: Any = rows if mode == "sync" else arows
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script("reset_after_effect")
        exc = caller.fails(method, content=body())
        assert isinstance(exc, httpx.ReadError)
        assert isinstance(exc, OutcomeUnknown) == (method == "POST")
        assert report(exc).why_not_retried == "body"
        assert "the request body cannot be sent again" in told(exc)
        assert "seekable file" in told(exc)
        assert len(origin.requests) == 1


@both
def test_an_error_answer_to_an_iterator_is_the_answer(mode: str, manual_clock: ManualClock) -> None:
    body: Any = rows if mode == "sync" else arows
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        origin.script(answer(503, b"busy"))
        response = caller.post(content=body())
        assert response.status_code == 503
        assert response.text == "busy"
        assert report(response).why_not_retried == "body"
        assert len(origin.requests) == 1


@both
def test_an_iterator_that_was_not_begun_is_sent(mode: str, manual_clock: ManualClock) -> None:
    # Nobody was there to send it to: it is as good as new.
    body: Any = rows if mode == "sync" else arows
    with Origin(clock=manual_clock) as origin:
        origin.refuse()
        manual_clock.call_at(0.5, origin.reopen)
        with Caller(mode, origin.url, manual_clock, policies=policies(manual_clock, wait=1.0)) as caller:
            response = caller.post(content=body())
        assert response.status_code == 200
        assert report(response).attempts > 1
        assert [each.body for each in origin.requests] == [b"a,1\nb,2\n"]


def test_a_pipe_is_sent_once(manual_clock: ManualClock) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)
    with (
        Origin(clock=manual_clock) as origin,
        Caller("sync", origin.url, manual_clock, profile="supported") as caller,
        open(reading, "rb") as pipe,  # noqa: PTH123
    ):
        origin.script("reset_after_effect")
        exc = caller.fails("POST", content=pipe, headers={"Content-Length": "11"})
        assert report(exc).why_not_retried == "body"
        assert len(origin.requests) == 1


@both
def test_a_body_that_fails_is_the_callers_error(mode: str, manual_clock: ManualClock) -> None:
    class Broken(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise Broken

    async def abroken() -> AsyncIterator[bytes]:
        yield b"a"
        raise Broken

    body: Any = broken if mode == "sync" else abroken
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, profile="supported") as caller,
    ):
        exc = caller.fails("POST", content=body())
        assert type(exc) is Broken
        assert len(origin.requests) <= 1
        assert caller.pool.in_use == 0
        assert caller.pool.idle == 0  # half a request went out on it
        assert caller.post().status_code == 200


# ---------------------------------------------------------------------------------------------------- redirects
def test_a_file_follows_a_redirect(tmp_path: Path, manual_clock: ManualClock) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"contents")
    with (
        Origin(clock=manual_clock) as origin,
        Caller("sync", origin.url, manual_clock, profile="supported", follow_redirects=True) as caller,
        path.open("rb") as file,
    ):
        origin.script(answer(307, headers={"Location": "/new"}), "reset_after_effect")
        assert caller.post("/old", content=file).status_code == 200
        assert [each.body for each in origin.requests] == [b"contents"] * 3


@both
def test_an_iterator_does_not_follow_a_redirect(mode: str, manual_clock: ManualClock) -> None:
    # As with a bare client.
    body: Any = rows if mode == "sync" else arows
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock, follow_redirects=True) as caller,
    ):
        origin.script(answer(307, headers={"Location": "/new"}))
        exc = caller.fails("POST", content=body())
        assert isinstance(exc, httpx.StreamConsumed)
        assert [each.target for each in origin.requests if each.complete] == ["/"]
        assert caller.pool.in_use == 0
