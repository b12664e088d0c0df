"""httpx-retries, urllib3 and clientwright: what becomes of connections, bodies and `Retry-After`."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from resilient.testing import Origin
from tests.peers.peer import defect, peer


@pytest.mark.peers
def test_httpx_retries_takes_a_new_connection_for_every_attempt() -> None:
    module = peer("httpx_retries")
    transport = module.RetryTransport(retry=module.Retry(total=5, backoff_factor=0.0))
    with Origin() as origin, httpx.Client(transport=transport) as client:
        origin.script(503, 503, 503, 503, 503)
        assert client.get(origin.url).status_code == 200
        used = origin.connections
    defect(used == 6, "httpx-retries", f"6 attempts over {used} connections")


def test_our_attempts_share_one_connection() -> None:
    import resilient.httpx

    with Origin() as origin, resilient.httpx.client("peers-keep-alive", base_url=origin.url) as client:
        origin.script(503, 503)
        assert client.get("/").status_code == 200
        assert len(origin.requests) == 3
        assert origin.connections == 1


@pytest.mark.peers
def test_httpx_retries_hides_the_answer_behind_a_stream_consumed() -> None:
    module = peer("httpx_retries")
    transport = module.RetryTransport(
        retry=module.Retry(total=2, backoff_factor=0.0, allowed_methods=["POST"])
    )

    def body() -> Iterator[bytes]:
        yield b"once"

    with Origin() as origin, httpx.Client(transport=transport) as client:
        origin.script(503, 503, 503)
        with pytest.raises(Exception) as caught:
            client.post(origin.url, content=body())
    defect(
        isinstance(caught.value, httpx.StreamConsumed),
        "httpx-retries",
        f"{caught.value!r} in place of the 503",
    )


def test_a_body_that_cannot_be_sent_again_leaves_us_the_answer() -> None:
    import resilient.httpx

    def body() -> Iterator[bytes]:
        yield b"once"

    with Origin() as origin, resilient.httpx.client("peers-body", base_url=origin.url) as client:
        origin.script(503, 503, 503)
        response = client.put("/", content=body())
        assert response.status_code == 503
        assert len(origin.requests) == 1


def test_a_server_cannot_hold_us_for_hours() -> None:
    """urllib3 honours a `Retry-After` of up to 6 hours."""
    import resilient.httpx

    with Origin() as origin, resilient.httpx.client("peers-retry-after", base_url=origin.url) as client:
        from resilient.testing import answer

        origin.script(answer(503, headers={"Retry-After": "21600"}))
        assert client.get("/").status_code == 503
        assert len(origin.requests) == 1
