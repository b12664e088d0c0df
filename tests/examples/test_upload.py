"""A large upload: the same bytes arrive, once, through breaks in the middle, lost answers and killed processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from examples.promises import Promises
from examples.upload import __main__ as program
from examples.upload import uploader as recipe
from examples.upload.server import Store
from examples.upload.uploader import open_client, upload
from resilient import CircuitOpen, DeadlineExceeded, deadline
from resilient.testing import Exchange, ManualClock, Origin, answer
from tests.examples.programs import run

ODD_WORKER = """
import sys
from examples.upload import __main__ as program, uploader
uploader.write = lambda memo, said: memo.write_text("{}")  # nothing is written down
sys.exit(program.worker(*sys.argv[1:]))
"""
FILM = bytes(range(256)) * 10


class Place:
    """A small file, a store, and a client on a clock that jumps."""

    def __init__(self, path: Path) -> None:
        self.file, self.memo = path / "film", path / "film.memo"
        self.file.write_bytes(FILM)
        self.clock, self.store = ManualClock(), Store()
        self.origin = Origin(self.store.serves(), clock=self.clock)

    def upload(self) -> str:
        with open_client(self.origin.url, self.clock) as client:
            return upload(client, self.file, self.memo, self.clock)

    def methods(self) -> list[str]:
        return [request.method for request in self.origin.requests]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(recipe, "PIECE", 1_000)
    place = Place(tmp_path)
    with place.origin:
        yield place


def test_the_program_keeps_its_promises() -> None:
    told = run("upload")
    assert len(told) == 7
    assert all(line.startswith("  kept") for line in told[1:])
    assert told[-1].endswith("2.8 times its bytes")


# ------------------------------------------------------------------------------------- what each line is there for
def test_an_upload_that_trusts_itself_and_not_the_server_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the piece was received and the answer lost, the old offset is refused for ever."""
    said = 0
    monkeypatch.setattr(recipe, "received", lambda client, url: said)
    place.origin.script(place.store.serves(), place.store.then("reset_before_effect"))
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        place.upload()


def test_without_the_memo_a_killed_process_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "WORKER", [sys.executable, "-c", ODD_WORKER])
    file = tmp_path / "film"
    file.write_bytes(FILM)
    monkeypatch.setattr(recipe, "PIECE", 1_000)
    promises = Promises("a recipe without one of its lines")
    program.killed(promises, file)
    assert promises.status == 1


def test_a_file_that_was_changed_is_another_upload(place: Place) -> None:
    place.origin.script(place.store.serves(), place.store.serves(), place.store.serves(), 403)
    with pytest.raises(httpx.HTTPStatusError):
        place.upload()
    assert place.store.files["/files/1"] == FILM[:1_000]
    place.file.write_bytes(b"x" + FILM)
    url = place.upload()
    assert url.endswith("/files/2")
    assert place.store.files["/files/2"] == b"x" + FILM


def test_a_file_that_is_changed_meanwhile_is_told(place: Place) -> None:
    def changed(exchange: Exchange) -> None:
        exchange.read()
        place.file.write_bytes(b"y" * len(FILM))
        place.store.serves()(exchange)

    place.origin.script(place.store.serves(), place.store.serves(), changed)
    with pytest.raises(RuntimeError, match="changed while it was sent"):
        place.upload()
    assert not place.memo.exists()


# ---------------------------------------------------------------------------------------------- what the store saw
def test_a_piece_is_sent_once_and_the_rest_of_it_when_half_was_kept(place: Place) -> None:
    place.origin.script(place.store.serves(), place.store.serves(), place.store.breaks(400))
    place.upload()
    assert place.store.files == {"/files/1": FILM}
    assert place.store.sent == len(FILM)
    offsets = [each.header("upload-offset") for each in place.origin.requests if each.method == "PATCH"]
    assert offsets == ["0", "400", "1400", "2400"]


def test_a_lost_answer_costs_one_question(place: Place) -> None:
    place.origin.script(place.store.serves(), place.store.serves(), place.store.then("reset_before_effect"))
    place.upload()
    assert place.methods() == ["POST", "HEAD", "PATCH", "HEAD", "PATCH", "PATCH"]
    assert place.store.files == {"/files/1": FILM}


def test_what_was_begun_is_gone_on_with_by_the_next_run(place: Place) -> None:
    place.origin.script(place.store.serves(), place.store.serves(), place.store.serves(), 403)
    with pytest.raises(httpx.HTTPStatusError):
        place.upload()
    assert json.loads(place.memo.read_text())["url"] == f"{place.origin.url}/files/1"
    place.upload()
    assert place.methods() == ["POST", "HEAD", "PATCH", "PATCH", "HEAD", "PATCH", "PATCH"]
    assert place.store.files == {"/files/1": FILM}
    assert not place.memo.exists()


def test_an_upload_that_the_store_has_forgotten_begins_anew(place: Place) -> None:
    place.origin.script(place.store.serves(), 403)
    with pytest.raises(httpx.HTTPStatusError):
        place.upload()
    place.store.files.clear()
    place.upload()
    assert place.store.files == {"/files/2": FILM}


def test_an_upload_that_is_begun_twice_is_one_file(place: Place) -> None:
    def begun(exchange: Exchange) -> None:
        place.store.handle(exchange.read())
        exchange.reset()

    place.origin.script(begun)
    place.upload()
    assert place.store.files == {"/files/1": b"", "/files/2": FILM}


def test_an_empty_file_is_a_file(place: Place) -> None:
    place.file.write_bytes(b"")
    place.upload()
    assert place.store.files == {"/files/1": b""}


def test_a_store_that_stays_down_ends_it_for_now(place: Place) -> None:
    place.origin.always(503)
    place.origin.script(place.store.serves())
    with pytest.raises((httpx.HTTPStatusError, CircuitOpen)):
        place.upload()
    assert len(place.clock.sleeps) < 40
    assert len(place.origin.requests) < 30
    assert place.memo.exists()


def test_what_asking_again_does_not_change_is_raised_at_once(place: Place) -> None:
    place.origin.script(place.store.serves(), place.store.serves(), 403)
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        place.upload()
    assert place.methods() == ["POST", "HEAD", "PATCH"]
    assert place.clock.sleeps == []


def test_a_deadline_around_it_holds(place: Place) -> None:
    place.origin.always(503)
    place.origin.script(place.store.serves())
    with deadline(20.0, clock=place.clock), pytest.raises(DeadlineExceeded):
        place.upload()


def test_a_store_that_asks_for_time_gets_it(place: Place) -> None:
    place.origin.script(
        place.store.serves(), place.store.serves(), answer(503, headers={"Retry-After": "17"})
    )
    place.upload()
    assert place.clock.sleeps == [17.0]
