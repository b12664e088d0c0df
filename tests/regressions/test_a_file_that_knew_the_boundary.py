"""The boundary of a form followed from the key alone, and a business key follows from what its owner knows: a file that
was passed on could end its part and add others, such as another amount."""

from __future__ import annotations

import hashlib
from email import message_from_bytes
from pathlib import Path

from resilient.testing import ManualClock, Origin
from resilient.testing.exchange import Request
from tests.http.calls import Caller, both

KEY = "order-7"


def parts(request: Request) -> list[str]:
    """The names of the parts, as a server reads them."""
    head = f"Content-Type: {request.header('content-type')}\r\n\r\n".encode()
    found = message_from_bytes(head + request.body).get_payload()
    assert isinstance(found, list)
    return [str(part.get_param("name", header="content-disposition")) for part in found]  # type: ignore[union-attr]


@both
def test_its_parts_are_the_senders(mode: str, tmp_path: Path, manual_clock: ManualClock) -> None:
    guess = hashlib.sha256(KEY.encode()).hexdigest()[:32]
    evil = f'x\r\n--{guess}\r\nContent-Disposition: form-data; name="amount"\r\n\r\n1\r\n'.encode()
    path = tmp_path / "scan"
    path.write_bytes(evil)
    with (
        Origin(clock=manual_clock) as origin,
        Caller(mode, origin.url, manual_clock) as caller,
        path.open("rb") as file,
    ):
        for scan in (evil, file):
            caller.post(files={"scan": scan}, headers={"Idempotency-Key": KEY})
        assert [parts(request) for request in origin.requests] == [["scan"], ["scan"]]
        in_memory, in_a_file = origin.requests
        assert in_memory.body.count(evil) == in_a_file.body.count(evil) == 1


@both
def test_what_is_in_the_form_counts(mode: str, manual_clock: ManualClock) -> None:
    with Origin(clock=manual_clock) as origin, Caller(mode, origin.url, manual_clock) as caller:
        for scan in (b"1", b"2", b"1"):
            caller.post(files={"scan": scan}, data={"of": "7"}, headers={"Idempotency-Key": KEY})
        one, other, again = origin.requests
        assert one.header("content-type") != other.header("content-type")
        assert one.body == again.body
