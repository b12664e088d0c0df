"""`answer(503, headers={"Retry-After": "7"})` sent no such header.

Headers were taken for pairs: a mapping gave its names alone, and what was no pair was dropped without a word."""

from __future__ import annotations

import httpx

from resilient.testing import Origin, answer, retry_later


def test_they_are_sent() -> None:
    with Origin() as origin, httpx.Client(base_url=origin.url) as client:
        origin.script(
            answer(503, headers={"X-A": "1", "Retry-After": "7"}), retry_later(2, headers={"X-B": "2"})
        )
        first, second = client.get("/"), client.get("/")
    assert (first.headers["X-A"], first.headers["Retry-After"]) == ("1", "7")
    assert (second.headers["X-B"], second.headers["Retry-After"]) == ("2", "2")
