"""The part to copy: an upload that is gone on with where it broke, by the same process or by the next one.

The protocol is tus 1.0 (https://tus.io), which many storage services speak: POST begins an upload, PATCH appends a
piece at an offset, HEAD tells how much is there. A piece may be received and its answer lost: after each failure the
server is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import httpx

import resilient.httpx
from resilient import DeadlineExceeded, backoff, standard
from resilient.core.clock import SYSTEM_CLOCK, Clock

PIECE = 4 * 1024 * 1024
"""Bytes of one request: what is lost at most, and what must pass within the time of an attempt."""
TRIES = 10
"""Failures in a row without a byte more at the server, after which it is given up. A later run goes on with it."""
TUS = {"Tus-Resumable": "1.0.0"}


def open_client(url: str, clock: Clock = SYSTEM_CLOCK) -> httpx.Client:
    """A client of the store: a piece takes longer than a usual call, and has no key; its offset says what it is."""
    policies = standard("files", deadline=200.0, attempt_timeout=60.0, clock=clock)
    return resilient.httpx.client("files", base_url=url, policies=policies, profile="none", clock=clock)


def upload(client: httpx.Client, file: Path, memo: Path, clock: Clock = SYSTEM_CLOCK) -> str:
    """Upload a file, or go on with it; its URL.

    Args:
        memo: a file in which stands what was begun; gone when it is done.

    Raises:
        httpx.HTTPError: it is given up, for now.
        RuntimeError: the file was changed in the meantime.
    """
    mark = fingerprint(file)
    known = json.loads(memo.read_text()) if memo.exists() else {}
    url = known.get("url") if known.get("file") == mark else None
    with file.open("rb") as data:
        if url is None or not send(client, url, data, mark["size"], clock):
            url = create(client, mark["size"])
            write(memo, {"url": url, "file": mark})
            if not send(client, url, data, mark["size"], clock):
                raise RuntimeError(f"{url} was there, and is not any more")
    memo.unlink()
    if fingerprint(file) != mark:
        raise RuntimeError(
            f"{file} was changed while it was sent: what is at {url} is neither the old one nor the new"
        )
    return url


def create(client: httpx.Client, size: int) -> str:
    """Begin an upload; its URL."""
    # Made twice, one stays empty, and the server forgets it: safe to repeat.
    options = {"resilient": {"idempotent": True}}
    response = client.post("/files", headers={**TUS, "Upload-Length": str(size)}, extensions=options)
    response.raise_for_status()
    return str(response.url.join(response.headers["Location"]))


def send(client: httpx.Client, url: str, data: BinaryIO, size: int, clock: Clock = SYSTEM_CLOCK) -> bool:
    """Send what is missing; False where there is no such upload any more."""
    offset: int | None = None  # None: only the server knows
    most, fruitless = -1, 0
    while offset is None or offset < size:
        try:
            offset = received(client, url) if offset is None else append(client, url, data, offset)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (404, 410):
                return False
            fruitless += 1
            if fruitless == TRIES or not passes(error):
                raise
            wait = backoff(1.0, cap=30.0, jitter="equal").delay(fruitless)
            clock.sleep(max(wait, min(asked_for(error), 300.0)))
            offset = None
        else:
            if offset > most:
                most, fruitless = offset, 0
    return True


def append(client: httpx.Client, url: str, data: BinaryIO, offset: int) -> int:
    """Send the piece that begins at ``offset``; where the next one does."""
    data.seek(offset)
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    response = client.patch(url, content=data.read(PIECE), headers=headers)
    response.raise_for_status()
    return int(response.headers["Upload-Offset"])


def received(client: httpx.Client, url: str) -> int:
    """How much the server has."""
    response = client.head(url, headers=TUS)
    response.raise_for_status()
    return int(response.headers["Upload-Offset"])


def passes(error: httpx.HTTPError) -> bool:
    """Whether asking again may help; 409: it has another offset than we thought, 423: it still writes."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (409, 423, 429) or error.response.is_server_error
    return not isinstance(error, DeadlineExceeded)


def asked_for(error: httpx.HTTPError) -> float:
    """For how many seconds the server, or our own breaker, wants to be left alone."""
    said = error.response.extensions["resilient"] if isinstance(error, httpx.HTTPStatusError) else error
    return getattr(said, "retry_after", None) or 0.0


def fingerprint(file: Path) -> dict[str, int]:
    """Tells a file from what it was before."""
    stat = file.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def write(memo: Path, said: dict[str, Any]) -> None:
    """Whole or not at all, also where the process is killed."""
    new = memo.with_suffix(".new")
    new.write_text(json.dumps(said))
    new.replace(memo)
